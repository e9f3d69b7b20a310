//! `<model>.sigstore.jsonl`: what is signed about a model, a bundle a line. Lines are only added.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::envelope::Bundle;
use super::signature::attestations_of;
use crate::error::{Context, Error, Result};
use crate::files::{is_still, open_unlinked, remove_file, write_atomic};

/// The largest file of attestations that is read.
pub const BYTES_MAX: u64 = 64 << 20;
/// Whoever adds a line needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Adds lines to the attestations of a model, all of them or none. Others who add at the same time
/// wait; a crash leaves the file as it was before.
///
/// # Errors
/// When the file cannot be written, is damaged, or someone else does not let go of it.
pub fn append(directory: &Path, bundles: &[Bundle]) -> Result<PathBuf> {
    let lines: Vec<String> = bundles.iter().map(Bundle::to_json).collect();
    append_lines(directory, &lines)
}

/// What is attested of a model, a line each; nothing where nobody said anything.
///
/// # Errors
/// When there is such a file and it cannot be read, or is too large.
pub fn lines(directory: &Path) -> Result<Vec<String>> {
    let path = attestations_of(directory).filter(|path| path.symlink_metadata().is_ok());
    let Some(path) = path else { return Ok(Vec::new()) };
    let mut text = String::new();
    open_unlinked(&path)?
        .take(BYTES_MAX + 1)
        .read_to_string(&mut text)
        .context_at("cannot read the attestations", &path)?;
    if text.len() as u64 > BYTES_MAX {
        let what = format!("attestations of more than {BYTES_MAX} bytes are refused");
        return Err(Error::signature(what).at(path));
    }
    Ok(text.lines().map(str::to_owned).collect())
}

/// The same for bundles that others wrote, byte for byte.
pub fn append_lines(directory: &Path, lines: &[impl AsRef<str>]) -> Result<PathBuf> {
    let path = attestations_of(directory)
        .ok_or_else(|| Error::signature("the model's folder has no name").at(directory))?;
    let lock = lock(&path)?;
    let result = add(&path, lines);
    let _ = remove_file(&lock.path); // still locked: nobody takes one that is being removed
    drop(lock);
    result.map(|()| path)
}

fn add(path: &Path, lines: &[impl AsRef<str>]) -> Result<()> {
    let mut text = match path.symlink_metadata() {
        Err(_) => String::new(),
        Ok(found) if !found.is_file() => {
            return Err(Error::signature("the attestations are not a regular file").at(path));
        }
        Ok(found) if found.len() > BYTES_MAX => {
            return Err(
                Error::signature(format!("the file has more than {BYTES_MAX} bytes")).at(path)
            );
        }
        Ok(_) => fs::read_to_string(path).context_at("cannot read the attestations", path)?,
    };
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(Error::signature("the attestations end in the middle of a line")
            .at(path)
            .hint("someone wrote them in part; get the model again from where it was published"));
    }
    for line in lines {
        text += line.as_ref();
        text.push('\n');
    }
    if text.len() as u64 > BYTES_MAX {
        return Err(Error::signature("the file of attestations is full").at(path));
    }
    write_atomic(path, text.as_bytes())
}

/// A file that is locked beside another one, for as long as it lives.
struct AppendLock {
    path: PathBuf,
    _file: File,
}

fn lock(beside: &Path) -> Result<AppendLock> {
    let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = beside.with_file_name(format!(".{name}.lock"));
    let begun = Instant::now();
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .context_at("cannot write beside the model", &path)?;
        match file.try_lock() {
            // Whoever had it has removed it: what is locked must be what others will open.
            Ok(()) if is_still(&file, &path) => return Ok(AppendLock { path, _file: file }),
            Ok(()) => continue,
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {}
            Err(TryLockError::WouldBlock) => {
                return Err(
                    Error::already_running("someone else is writing the attestations").at(&path)
                );
            }
            Err(TryLockError::Error(error)) => {
                let what = "cannot lock the attestations";
                return Err(Error::signature(what).at(&path).because(error));
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::artifact::envelope::IN_TOTO;
    use crate::artifact::keys::tests::known_key;
    use crate::files::{Call, watch};
    use crate::snapshots::says;

    fn bundle(text: &str) -> Bundle {
        Bundle::sign(IN_TOTO, text.as_bytes().to_vec(), &known_key()).unwrap()
    }

    #[test]
    fn many_who_add_at_once_lose_nothing_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        fs::create_dir(&model).unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let model = &model;
                scope.spawn(move || {
                    for more in 0..5 {
                        let pair = [bundle(&format!("{number} {more} a")), bundle("b")];
                        append(model, &pair).unwrap();
                    }
                });
            }
        });
        let text = fs::read_to_string(folder.path().join("model.sigstore.jsonl")).unwrap();
        let payloads: Vec<Vec<u8>> =
            text.lines().map(|line| Bundle::parse(line.as_bytes()).unwrap().payload).collect();
        assert_eq!(payloads.len(), 80);
        assert!(payloads.chunks(2).all(|pair| pair[0].ends_with(b"a") && pair[1] == b"b"));
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        names.retain(|entry| entry.file_name().to_string_lossy().ends_with("lock"));
        assert!(names.is_empty(), "{names:?}");
    }

    #[test]
    fn a_crash_at_any_call_leaves_the_old_lines_or_all_of_the_new() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        fs::create_dir(&model).unwrap();
        let path = append(&model, &[bundle("first")]).unwrap();
        let before = fs::read_to_string(&path).unwrap();
        for call in [Call::Open, Call::Write, Call::Sync, Call::Rename, Call::SyncDir] {
            let fail = move |made: Call, _: &Path| match made == call {
                true => Err(io::ErrorKind::Other.into()),
                false => Ok(()),
            };
            let watch = watch(folder.path(), fail);
            append(&model, &[bundle("second"), bundle("third")]).unwrap_err();
            drop(watch);
            let after = fs::read_to_string(&path).unwrap();
            let lines = after.lines().count();
            assert!(after.starts_with(&before) && (lines == 1 || lines == 3), "{call:?}: {lines}");
            fs::write(&path, &before).unwrap();
        }
        fs::write(&path, before.trim_end()).unwrap();
        let error = append(&model, &[bundle("second")]).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[signature]: the attestations end in the middle of a line
  at [FOLDER]/model.sigstore.jsonl

hint: someone wrote them in part; get the model again from where it was published
"#]],
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), before.trim_end());
    }
}
