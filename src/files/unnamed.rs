//! Files without a name, for what is computed with and never kept: nothing else changes what is in
//! them, and they are gone with the process.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{NewFile, failed, remove_file};
use crate::error::{Context, Result};

/// A file without a name, read and written at any place.
#[derive(Debug)]
pub struct UnnamedFile {
    writer: NewFile,
    reader: File,
    path: PathBuf,
    what: &'static str,
}

impl UnnamedFile {
    /// A new one in a folder; `name` is what it has while it is made, `what` is said to be in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn within(folder: &Path, name: &str, what: &'static str) -> Result<Self> {
        // A resume removes what ends so: a kill may come before the name is gone.
        let path = folder.join(format!(".{name}.{}.tmp", std::process::id()));
        if path.exists() {
            remove_file(&path)?; // a leftover of a process that had the same number
        }
        let cannot_write = |error| failed(&format!("cannot write {what} to disk"), &path, &error);
        let writer = NewFile::begin(&path).map_err(cannot_write)?;
        let reader = File::open(&path).context_at(format!("cannot read {what}"), &path)?;
        remove_file(&path)?;
        Ok(Self { writer, reader, path, what })
    }

    /// Sets room aside, so that a full disk is met before anything is written. Where the file
    /// system cannot, nothing happens.
    ///
    /// # Errors
    /// When the disk has no room.
    pub fn reserve(&self, bytes: u64) -> Result<()> {
        self.writer.reserve(bytes).map_err(|error| self.cannot_write(&error))
    }

    /// Writes bytes at a place.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.writer.write_at(bytes, at).map_err(|error| self.cannot_write(&error))
    }

    /// Reads what was written.
    ///
    /// # Panics
    /// When the disk fails: what is computed cannot go on without it.
    pub fn read_at(&self, target: &mut [u8], at: u64) {
        let read = read_at(&self.reader, target, at);
        read.unwrap_or_else(|error| {
            panic!("{} cannot be read back from the disk: {error}", self.what)
        });
    }

    /// Reads what was written, where the run can be stopped.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn try_read_at(&self, target: &mut [u8], at: u64) -> Result<()> {
        let read = read_at(&self.reader, target, at);
        read.context_at(format!("cannot read {} back from disk", self.what), &self.path)
    }

    /// The file itself, to read from it.
    pub fn reader(&self) -> &File {
        &self.reader
    }

    fn cannot_write(&self, error: &io::Error) -> crate::error::Error {
        failed(&format!("cannot write {} to disk", self.what), &self.path, error)
    }
}

#[cfg(unix)]
fn read_at(file: &File, target: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, target, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut target: &mut [u8], mut at: u64) -> io::Result<()> {
    while !target.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, target, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => (target, at) = (&mut target[count..], at + count as u64),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use crate::files::{Call, watch};

    #[test]
    fn it_is_read_and_written_at_any_place_and_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = UnnamedFile::within(folder.path(), "scratch", "what is here").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        file.reserve(100).unwrap();
        file.write_at(&[1, 2, 3], 50).unwrap();
        file.write_at(&[4, 5], 0).unwrap();
        file.write_at(&[9], 51).unwrap();
        let read = |at, count| {
            let mut target = vec![0; count];
            file.read_at(&mut target, at);
            target
        };
        assert_eq!((read(50, 3), read(0, 3)), (vec![1, 9, 3], vec![4, 5, 0]));
        let mut target = [0; 2];
        file.try_read_at(&mut target, 50).unwrap();
        assert_eq!(target, [1, 9]);
        // As of a disk that lost it.
        let error = file.try_read_at(&mut target, 1000).unwrap_err();
        assert_eq!(error.code, ErrorCode::File);
        assert_eq!(error.what, "cannot read what is here back from disk");
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let folder = tempfile::tempdir().unwrap();
        let file = UnnamedFile::within(folder.path(), "scratch", "what is here").unwrap();
        let _watch = watch(folder.path(), |call, _| match call {
            Call::Write | Call::Reserve => Err(io::ErrorKind::StorageFull.into()),
            Call::Open => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        });
        for error in [file.write_at(&[1, 2], 0).unwrap_err(), file.reserve(10).unwrap_err()] {
            assert_eq!(error.code, ErrorCode::DiskFull);
            assert_eq!(error.what, "cannot write what is here to disk");
        }
        let error = UnnamedFile::within(folder.path(), "other", "what is here").unwrap_err();
        assert_eq!(error.code, ErrorCode::File);
        assert_eq!(error.what, "cannot write what is here to disk");
    }
}
