//! Is a file in the cache what its name says? Its bytes are read, once: what was found is noted
//! with size, times and inode, so that a large file that nobody touched is not read again.
//!
//! Whoever writes into a file or puts another in its place changes its `ctime`, which no program
//! can set back. That holds for changes at least one tick of the clock apart, so a note is taken
//! only of a file that has been still for longer.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::file::{Digester, RemoteFile};
use super::http::BUFFER_BYTES;
use super::refusal::stopped;
use crate::error::{Context, Result};
use crate::files::{Digest, hash_file, read_json, write_atomic};

/// Where notes lie in the cache.
pub(super) const NOTES: &str = "checked";

/// Below this size, hashing costs less than the note.
const NOTED_BYTES_MIN: u64 = 4 << 20;

/// Longer than a tick of any system's clock (10 ms at 100 Hz).
const STILL: Duration = Duration::from_millis(12);

/// The SHA-256 of the content if the file is what was listed, else nothing.
///
/// # Errors
/// When it cannot be read, or the user wants to stop.
pub(super) fn check(
    path: &Path,
    file: &RemoteFile,
    notes: Option<&Path>,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Digest>> {
    let found = fs::metadata(path).context_at("cannot look at the file", path)?;
    if !found.is_file() || found.len() != file.size {
        return Ok(None);
    }
    if let Some(sha256) = noted(path, &found, file, notes) {
        return Ok(Some(sha256));
    }
    let mut source = File::open(path).context_at("cannot read the file", path)?;
    let mut digester = Digester::new(file);
    let capacity = usize::try_from(file.size.max(1)).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
    let mut buffer = vec![0; capacity];
    loop {
        if stop() {
            return Err(stopped());
        }
        match source.read(&mut buffer).context_at("cannot read the file", path)? {
            0 => break,
            count => digester.update(&buffer[..count]),
        }
    }
    let digests = digester.finish();
    if file.accepts(&digests).is_none() {
        return Ok(None);
    }
    note(path, &found, &file.oid, digests.sha256, notes);
    Ok(Some(digests.sha256))
}

/// The SHA-256 of any file, with a note as above in the cache folder.
pub fn sha256_of(path: &Path, cache: &Path) -> Result<Digest> {
    let notes = cache.join(NOTES);
    let notes = notes.as_path();
    let found = fs::metadata(path).context_at("cannot look at the file", path)?;
    let known = note_of(path, &found, notes).and_then(|(note, state)| {
        let read = read_json(&note, 64 << 10).ok()?;
        (read.get("state") == Some(&state)).then_some(())?;
        read.get("sha256")?.as_str()?.parse().ok()
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let sha256 = hash_file(path, "")?.sha256;
    note(path, &found, "", sha256, Some(notes));
    Ok(sha256)
}

/// Notes that a file was just written and is what was listed.
pub(super) fn note_written(path: &Path, file: &RemoteFile, sha256: Digest, notes: Option<&Path>) {
    if let Ok(found) = fs::metadata(path) {
        note(path, &found, &file.oid, sha256, notes);
    }
}

fn noted(path: &Path, found: &Metadata, file: &RemoteFile, notes: Option<&Path>) -> Option<Digest> {
    let (note, state) = note_of(path, found, notes?)?;
    let read = read_json(&note, 64 << 10).ok()?;
    if read.get("state") != Some(&state) || read.get("oid")?.as_str()? != file.oid {
        return None;
    }
    let sha256: Digest = read.get("sha256")?.as_str()?.parse().ok()?;
    file.sha256.is_none_or(|listed| listed == sha256).then_some(sha256)
}

/// Failing to note costs time at the next start, nothing else.
fn note(path: &Path, found: &Metadata, oid: &str, sha256: Digest, notes: Option<&Path>) {
    let Some(notes) = notes else { return };
    let Some((note, state)) = note_of(path, found, notes) else { return };
    let still = changed(found).and_then(|at| SystemTime::now().duration_since(at).ok());
    std::thread::sleep(STILL.saturating_sub(still.unwrap_or_default()));
    let unchanged = fs::metadata(path).ok().and_then(|now| note_of(path, &now, notes));
    if unchanged.is_none_or(|(_, now)| now != state) {
        return;
    }
    let text = json!({ "state": state, "oid": oid, "sha256": sha256 }).to_string();
    if note.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok()) {
        let _ = write_atomic(&note, text.as_bytes());
    }
}

/// Where the note about a file lies, and what the file looks like now.
#[cfg(unix)]
fn note_of(path: &Path, found: &Metadata, notes: &Path) -> Option<(PathBuf, Value)> {
    use std::os::unix::fs::MetadataExt;
    if found.len() < NOTED_BYTES_MIN {
        return None;
    }
    let path = fs::canonicalize(path).ok()?;
    let name = Digest::of(path.as_os_str().as_encoded_bytes()).to_string();
    let state = json!({
        "path": path.to_string_lossy(),
        "size": found.len(),
        "modified": [found.mtime(), found.mtime_nsec()],
        "changed": [found.ctime(), found.ctime_nsec()],
        "inode": [found.dev(), found.ino()],
    });
    Some((notes.join(format!("{name}.json")), state))
}

/// Without a `ctime` there is nothing to trust: files are read each time.
#[cfg(not(unix))]
fn note_of(_path: &Path, _found: &Metadata, _notes: &Path) -> Option<(PathBuf, Value)> {
    None
}

#[cfg(unix)]
fn changed(found: &Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    let seconds = u64::try_from(found.ctime()).ok()?;
    let nanoseconds = u32::try_from(found.ctime_nsec()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds))
}

#[cfg(not(unix))]
fn changed(_found: &Metadata) -> Option<SystemTime> {
    None
}
