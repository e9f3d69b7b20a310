//! Every change that a run makes to its directory, call by call: so that a test can make any one
//! of them fail, or let the process die at it, and a full disk is told from other failures.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorCode, Result};

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// A folder is made.
    CreateDir,
    /// A file is made, or opened to be written to.
    Open,
    /// Room for a file is set aside.
    Reserve,
    /// Bytes are written; one that fails has written half of them.
    Write,
    /// A file is cut to a length.
    Truncate,
    /// A file is made durable.
    Sync,
    /// The names in a folder are made durable.
    SyncDir,
    /// A file or folder gets another name.
    Rename,
    /// A file gets a second name.
    Link,
    /// A file or folder is removed.
    Remove,
}

type Hook = Arc<dyn Fn(Call, &Path) -> io::Result<()> + Send + Sync>;

static WATCHERS: Mutex<Vec<(usize, PathBuf, Hook)>> = Mutex::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Someone is asked before each call under a folder, until this is dropped. For tests.
#[must_use]
pub struct Watch(usize);

/// Asks `hook` before each call on a path under `root`; what it refuses is not done.
pub fn watch(
    root: &Path,
    hook: impl Fn(Call, &Path) -> io::Result<()> + Send + Sync + 'static,
) -> Watch {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut watchers = WATCHERS.lock().unwrap_or_else(PoisonError::into_inner);
    watchers.push((number, root.to_owned(), Arc::new(hook)));
    COUNT.store(watchers.len(), Ordering::Release);
    Watch(number)
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = WATCHERS.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|(number, _, _)| *number != self.0);
        COUNT.store(watchers.len(), Ordering::Release);
    }
}

/// Asks those who watch; nobody does outside tests, and then this is one load.
fn ask(call: Call, path: &Path) -> io::Result<()> {
    if COUNT.load(Ordering::Acquire) == 0 {
        return Ok(());
    }
    let watchers = WATCHERS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut hooks = watchers.iter().filter(|(_, root, _)| path.starts_with(root));
    hooks.try_for_each(|(_, _, hook)| hook(call, path))
}

/// The error of a failed call; whether the disk is full, or became read-only, is remembered.
pub fn failed(what: &str, path: &Path, cause: &io::Error) -> Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let error = Error::file(what).at(path).because(cause);
    match cause.kind() {
        StorageFull | QuotaExceeded | ReadOnlyFilesystem | FileTooLarge => {
            error.code(ErrorCode::DiskFull)
        }
        _ => error,
    }
}

/// A file that is written from front to back.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
}

impl NewFile {
    /// Makes a file that must not exist yet.
    pub fn begin(path: &Path) -> io::Result<Self> {
        ask(Call::Open, path)?;
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Opens a file at its end, and makes it if need be.
    pub fn append(path: &Path) -> io::Result<Self> {
        ask(Call::Open, path)?;
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Opens a file to be written anywhere in, and makes it if need be.
    pub fn open(path: &Path) -> io::Result<Self> {
        ask(Call::Open, path)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Sets room aside, so that a full disk is met before anything is written. Where the file
    /// system cannot, nothing happens.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        ask(Call::Reserve, &self.path)?;
        #[cfg(target_os = "linux")]
        if bytes > 0 {
            use rustix::fs::{FallocateFlags, fallocate};
            use rustix::io::Errno;
            // A hint only: other refusals come again, and clearer, when it is written.
            if fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes) == Err(Errno::NOSPC) {
                return Err(Errno::NOSPC.into());
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
        Ok(())
    }

    /// Waits until the disk has it.
    pub fn sync(&self) -> io::Result<()> {
        ask(Call::Sync, &self.path)?;
        self.file.sync_all()
    }

    /// Cuts it off, or fills it up with zeros.
    pub fn truncate(&self, bytes: u64) -> io::Result<()> {
        ask(Call::Truncate, &self.path)?;
        self.file.set_len(bytes)
    }

    /// Writes bytes at a place, whatever was written before.
    pub fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if let Err(error) = ask(Call::Write, &self.path) {
            write_all_at(&self.file, &bytes[..bytes.len() / 2], at)?;
            return Err(error);
        }
        write_all_at(&self.file, bytes, at)
    }

    /// The file itself, to read about it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// A second handle to the same file.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, path: self.path.clone() })
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, at)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => (bytes, at) = (&bytes[count..], at + count as u64),
        }
    }
    Ok(())
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = ask(Call::Write, &self.path) {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Seek for NewFile {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Makes a directory that must not exist yet; its parents may.
pub fn create_dir_new(path: &Path) -> Result<()> {
    let make = || -> io::Result<()> {
        ask(Call::CreateDir, path)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::create_dir(path)
    };
    make().map_err(|error| failed("cannot make the folder", path, &error))
}

/// Makes the names inside a directory durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    let sync = || -> io::Result<()> {
        ask(Call::SyncDir, path)?;
        #[cfg(unix)]
        File::open(path)?.sync_all()?;
        Ok(())
    };
    sync().map_err(|error| failed("cannot sync the folder", path, &error))
}

/// Renames, replacing a file of the new name.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    let rename = || -> io::Result<()> {
        ask(Call::Rename, to)?;
        fs::rename(from, to)
    };
    rename().map_err(|error| failed("cannot rename into place", to, &error))
}

/// Renames without ever replacing what is already there: the commit point of a directory.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    let rename = || -> io::Result<()> {
        ask(Call::Rename, to)?;
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
                other => return Ok(other?),
            }
        }
        // Elsewhere (and on file systems without the flag) a second name for a file does the same.
        if from.is_file() {
            match fs::hard_link(from, to) {
                Ok(()) => return fs::remove_file(from),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {} // no such names there either
            }
        }
        // A run directory has one writer, which holds its lock, so looking first is safe.
        if to.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(from, to)
    };
    rename().map_err(|error| failed("cannot rename into place", to, &error))
}

/// Gives a file a second name, or copies it where that cannot be done. Whoever changes a file of a
/// checkpoint is found out by its digest, so sharing the bytes is safe.
pub fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    let link = || -> io::Result<()> {
        ask(Call::Link, to)?;
        match fs::hard_link(from, to) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) => fs::copy(from, to).map(drop),
        }
    };
    link().map_err(|error| failed("cannot copy the file", to, &error))
}

/// Removes a folder with everything in it.
pub fn remove_dir(path: &Path) -> Result<()> {
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?.path();
            if !entry.is_symlink() && entry.is_dir() {
                fs::remove_dir_all(&entry)?;
            } else {
                ask(Call::Remove, &entry)?;
                fs::remove_file(&entry)?;
            }
        }
        ask(Call::Remove, path)?;
        fs::remove_dir(path)
    };
    remove().map_err(|error| failed("cannot remove the folder", path, &error))
}

/// Removes a file.
pub fn remove_file(path: &Path) -> Result<()> {
    let remove = || -> io::Result<()> {
        ask(Call::Remove, path)?;
        fs::remove_file(path)
    };
    remove().map_err(|error| failed("cannot remove the file", path, &error))
}

/// Bytes that an ordinary user can still write to the disk that a path lies on; `None` where the
/// system does not tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(path).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Bytes of all files in a folder and its folders; what cannot be read counts nothing.
pub fn size_of_dir(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of_dir(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Whether an open file is still the one of this name: a lock on a file that was removed or
/// replaced keeps nobody out.
#[cfg(unix)]
pub fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|held| fs::metadata(path).is_ok_and(|there| same(held, there)))
}

/// A locked file cannot be removed here.
#[cfg(not(unix))]
pub fn is_still(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rename_new_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        assert!(rename_new(&a, &b).is_err());
        assert!(a.exists() && b.exists());
    }

    #[test]
    fn a_watcher_is_asked_of_its_own_folder_and_a_failed_write_is_half_done() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, other) = (folder.path().join("mine"), folder.path().join("other"));
        fs::create_dir(&mine).unwrap();
        fs::create_dir(&other).unwrap();
        let watch = watch(&mine, |call, _| match call {
            Call::Write => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        });
        NewFile::begin(&other.join("a")).unwrap().write_all(b"abcd").unwrap();
        let error = NewFile::begin(&mine.join("a")).unwrap().write_all(b"abcd").unwrap_err();
        assert_eq!(failed("x", &mine, &error).code, ErrorCode::DiskFull);
        assert_eq!(fs::read(mine.join("a")).unwrap(), b"ab");
        drop(watch);
        NewFile::begin(&mine.join("b")).unwrap().write_all(b"abcd").unwrap();
    }

    #[test]
    fn the_size_of_a_folder_is_that_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), b"abc").unwrap();
        fs::write(folder.path().join("c"), b"de").unwrap();
        assert_eq!(size_of_dir(folder.path()), 5);
        assert!(free_bytes(folder.path()).is_none_or(|free| free > 0));
    }
}
