//! What Firebrand itself has put into the hub's cache: only that may be removed to make room, for
//! the rest belongs to other tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::files::{Digest, write_atomic};

/// Where the notes lie in our own cache.
const FOLDER: &str = "downloads";

/// A data file that was downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// What people know it by.
    pub name: String,
    /// Its content.
    pub blob: PathBuf,
    /// Its name in the snapshot.
    pub link: PathBuf,
    /// The note about it.
    pub note: PathBuf,
    /// Bytes.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Note {
    name: String,
    blob: PathBuf,
    link: PathBuf,
}

/// Notes a download, or that one is used again.
pub fn note(cache: &Path, name: &str, link: &Path, new: bool) -> Result<()> {
    let Ok(blob) = fs::canonicalize(link) else { return Ok(()) };
    let key = Digest::of(blob.as_os_str().as_encoded_bytes()).to_string();
    let path = cache.join(FOLDER).join(format!("{key}.json"));
    if !new {
        // The time of the last use is a hint; without it the file is just old.
        let file = fs::File::options().append(true).open(&path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        return Ok(());
    }
    fs::create_dir_all(cache.join(FOLDER)).context_at("cannot make the cache folder", cache)?;
    let note = Note { name: name.to_owned(), blob, link: link.to_owned() };
    write_atomic(&path, &serde_json::to_vec(&note).context("cannot note a download")?)
}

/// Every download that is still there. Notes of those that are gone are swept.
pub fn downloads(cache: &Path) -> Result<Vec<Downloaded>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(cache.join(FOLDER)).into_iter().flatten().flatten() {
        let path = entry.path();
        let note = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        let Some(note) = note else { continue };
        let Ok(blob) = fs::metadata(&note.blob) else {
            let _ = fs::remove_file(&path);
            continue;
        };
        let used = entry.metadata().and_then(|note| note.modified());
        found.push(Downloaded {
            name: note.name,
            blob: note.blob,
            link: note.link,
            note: path,
            bytes: blob.len(),
            used: used.unwrap_or(SystemTime::UNIX_EPOCH),
        });
    }
    Ok(found)
}
