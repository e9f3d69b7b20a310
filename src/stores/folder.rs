//! A folder as a store: objects are files, written beside their place and renamed into it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::objects::{ObjectInfo, Objects, slashed};
use super::traffic::TrafficCount;
use crate::error::{Context, Error, Result};
use crate::files::{
    NewFile, failed, folder_of, open_regular, read_bytes, remove_file, rename, sync_dir,
};

/// Deeper ones were not written by this program.
const DEPTH: usize = 12;

/// A folder. Keys are paths.
#[derive(Debug)]
pub(super) struct FolderStore {
    root: PathBuf,
}

impl FolderStore {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Writes beside the place of an object, and puts it there.
    fn write(
        path: &Path,
        fill: impl Fn(&mut NewFile) -> io::Result<()>,
        place: impl Fn(&Path) -> Result<bool>,
    ) -> Result<bool> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let folder = folder_of(path);
        fs::create_dir_all(folder).context_at("cannot make the folder", folder)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Machines that share a folder have processes with the same numbers.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unique = format!("{}-{number}-{}", std::process::id(), now.as_nanos());
        let scratch = folder.join(format!(".{unique}.tmp"));
        let write = || -> io::Result<()> {
            let mut file = NewFile::begin(&scratch)?;
            fill(&mut file)?;
            file.sync()
        };
        let written = write().map_err(|error| failed("cannot write the object", path, &error));
        let placed = written.and_then(|()| place(&scratch));
        if !matches!(placed, Ok(true)) {
            let _ = remove_file(&scratch);
        }
        if matches!(placed, Ok(true)) {
            sync_dir(folder)?;
        }
        placed
    }

    fn look(folder: &Path, depth: usize, found: &mut Vec<ObjectInfo>) -> Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(Error::store("cannot list the store").at(folder).because(error));
            }
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth > 0 {
                Self::look(&entry.path(), depth - 1, found)?;
            } else if kind.is_file()
                && let (Ok(about), Some(key)) = (entry.metadata(), entry.path().to_str())
            {
                found.push(ObjectInfo {
                    key: slashed(key),
                    bytes: about.len(),
                    modified: about.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                });
            }
        }
        Ok(())
    }
}

impl Objects for FolderStore {
    fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let path = Path::new(key);
        let replace = |scratch: &Path| rename(scratch, path).map(|()| true);
        Self::write(path, |file| file.write_all(&bytes), replace).map(drop)
    }

    fn put_new(&self, key: &str, bytes: Vec<u8>) -> Result<bool> {
        let path = Path::new(key);
        // A second name fails where there is one, also over a network.
        let link = |scratch: &Path| match fs::hard_link(scratch, path) {
            Ok(()) => remove_file(scratch).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            // No second names there: the last one to come stays.
            Err(_) if path.exists() => Ok(false),
            Err(_) => rename(scratch, path).map(|()| true),
        };
        Self::write(path, |file| file.write_all(&bytes), link)
    }

    fn put_file(&self, key: &str, from: &Path, size: u64) -> Result<()> {
        let path = Path::new(key);
        let copy = |file: &mut NewFile| {
            let copied = io::copy(&mut File::open(from)?.take(size), file)?;
            match copied == size {
                true => Ok(()),
                false => Err(io::Error::other("the file became shorter")),
            }
        };
        Self::write(path, copy, |scratch| rename(scratch, path).map(|()| true)).map(drop)
    }

    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let path = Path::new(key);
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => read_bytes(path, limit).map(Some),
        }
    }

    fn read(&self, key: &str, size: u64, sink: &mut dyn Write) -> Result<()> {
        let path = Path::new(key);
        let file = open_regular(path)?;
        let copied = io::copy(&mut file.take(size + 1), sink);
        let copied = copied.context_at("cannot read the object", path)?;
        match copied == size {
            true => Ok(()),
            false => Err(Error::store("an object of the store has another size").at(path)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        // The part behind the last slash is the beginning of a name.
        let folder = prefix.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let folder = if folder.is_empty() { "/" } else { folder };
        if Path::new(folder).starts_with(&self.root) || self.root.starts_with(folder) {
            Self::look(Path::new(folder), DEPTH, &mut found)?;
        }
        found.retain(|object| object.key.starts_with(prefix));
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = Path::new(key);
        match path.symlink_metadata() {
            Err(_) => Ok(()),
            Ok(_) => remove_file(path),
        }
    }

    fn traffic(&self) -> TrafficCount {
        TrafficCount::default() // nothing goes over a network that this program knows of
    }
}
