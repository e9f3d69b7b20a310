//! Writes that are either wholly there or not at all, also after a power cut.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{NewFile, failed, remove_file, rename, sync_dir};
use crate::error::{Error, Result};

/// Writes a new file and waits until the disk has it. Not atomic: for files inside a directory
/// that is itself committed by a rename.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = NewFile::begin(path)?;
        file.write_all(bytes)?;
        file.sync()
    };
    write().map_err(|error| failed("cannot write the file", path, &error))
}

/// Replaces `path` by `bytes` in one step: scratch file, fsync, rename, fsync of the folder.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = folder_of(path);
    let name = path.file_name().ok_or_else(|| Error::file("not a file name").at(path))?;
    // Threads may write the same file: the last one to be done wins.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (name, process) = (name.to_string_lossy(), std::process::id());
    let scratch = folder.join(format!(".{name}.{process}-{number}.tmp"));
    if scratch.exists() {
        remove_file(&scratch)?; // a leftover of a process that had the same number
    }
    let result = write_synced(&scratch, bytes)
        .and_then(|()| rename(&scratch, path))
        .and_then(|()| sync_dir(folder));
    if result.is_err() {
        let _ = remove_file(&scratch);
    }
    result
}

/// The folder that a path lies in; a bare name lies in the current one.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
