//! Writes that are either wholly there or not at all, also after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::error::{Context, Error, Result};

/// Writes a new file and waits until the disk has it. Not atomic: for files inside a directory
/// that is itself committed by a rename.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().context_at("cannot write the file", path)
}

/// Replaces `path` by `bytes` in one step: scratch file, fsync, rename, fsync of the folder.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = folder_of(path);
    let name = path.file_name().ok_or_else(|| Error::new("not a file name").at(path))?;
    let scratch = folder.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let _ = fs::remove_file(&scratch); // a leftover of a process that had the same number
    let result = write_synced(&scratch, bytes)
        .and_then(|()| fs::rename(&scratch, path).context_at("cannot rename the file", path))
        .and_then(|()| sync_dir(folder));
    if result.is_err() {
        let _ = fs::remove_file(&scratch);
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

/// Makes the names inside a directory durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .context_at("cannot sync the folder", path)?;
    #[cfg(not(unix))]
    let _ = (path, File::open::<&Path>);
    Ok(())
}

/// Makes a directory that must not exist yet; its parents may.
pub fn create_dir_new(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).context_at("cannot make the folder", parent)?;
    }
    fs::create_dir(path).context_at("cannot make the folder", path)
}

/// Renames without ever replacing what is already there: the commit point of a directory.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
            other => return other.context_at("cannot rename into place", to),
        }
    }
    // Elsewhere (and on file systems without the flag): a run directory has one writer, which
    // holds its lock, so looking first is safe.
    if to.exists() {
        return Err(Error::new("refusing to replace what is already there").at(to));
    }
    fs::rename(from, to).context_at("cannot rename into place", to)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn rename_new_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        assert!(rename_new(&a, &b).is_err());
        assert!(a.exists() && b.exists());
    }
}
