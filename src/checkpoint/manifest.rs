//! The list of what a checkpoint holds, with digests; written last, read first.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::FORMAT;
use crate::error::{Context, Error, ErrorCode};
use crate::files::{FileEntry, Hashing};

/// Name of the list.
pub const MANIFEST: &str = "MANIFEST.json";

/// A checkpoint's list of contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub format: u32,
    /// Steps done.
    pub step: u64,
    /// Every other file of the folder.
    pub files: Vec<FileEntry>,
}

/// Why a checkpoint is not used.
#[derive(Debug)]
pub enum Unusable {
    /// It is not whole; the word says in what way, and ends up in the name it gets.
    Bad(&'static str, Error),
    /// It may be whole, and cannot be used as things are: nothing is done to it.
    Refused(Error),
}

impl Unusable {
    /// What there is to say, whichever it is.
    pub fn into_error(self) -> Error {
        match self {
            Self::Bad(_, error) | Self::Refused(error) => error,
        }
    }

    /// An error while reading: of the file, or of this process?
    fn reading(path: &Path, error: &io::Error) -> Self {
        const TOO_MANY_OPEN_FILES: [i32; 2] = [23, 24]; // ENFILE, EMFILE
        let told = Error::checkpoint("cannot read the file").at(path).because(error);
        let of_process = error.kind() == ErrorKind::PermissionDenied
            || (cfg!(unix)
                && error.raw_os_error().is_some_and(|code| TOO_MANY_OPEN_FILES.contains(&code)));
        match error.kind() {
            _ if of_process => Self::Refused(told),
            ErrorKind::NotFound => Self::Bad("incomplete", told),
            _ => Self::Bad("unreadable", told),
        }
    }
}

/// Bytes of a small file of a checkpoint.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    std::fs::read(path).map_err(|error| Unusable::reading(path, &error))
}

impl Manifest {
    /// Reads the list of a checkpoint and checks every byte that it names.
    ///
    /// # Errors
    /// When a file is missing, damaged or unknown: the first such file is named.
    pub fn verify(folder: &Path) -> Result<Self, Unusable> {
        let path = folder.join(MANIFEST);
        let damaged = |error: Error| Unusable::Bad("damaged", error.at(folder));
        let bytes = read(&path)?;
        let json: serde_json::Value = serde_json::from_slice(&bytes)
            .context_code(ErrorCode::Checkpoint, "broken manifest")
            .map_err(damaged)?;
        if let Some(format) = json["format"].as_u64()
            && format > u64::from(FORMAT)
        {
            return Err(Unusable::Refused(
                Error::checkpoint(format!(
                    "checkpoint format {format} is newer than this program, which reads up to \
                     {FORMAT}"
                ))
                .at(folder)
                .hint("continue with the newer program that wrote it"),
            ));
        }
        let manifest: Self = serde_json::from_value(json)
            .context_code(ErrorCode::Checkpoint, "broken manifest")
            .map_err(damaged)?;
        let mut names: Vec<&str> = vec![MANIFEST];
        for entry in &manifest.files {
            if entry.path.contains(['/', '\\']) || entry.path.starts_with('.') {
                return Err(damaged(Error::checkpoint("the manifest names files elsewhere")));
            }
            let found = hash(&folder.join(&entry.path), &entry.path)?;
            if found != *entry {
                return Err(damaged(Error::checkpoint(format!(
                    "`{}` is damaged: {} bytes with digest {} instead of {} with {}",
                    entry.path,
                    found.size,
                    found.sha256.short(),
                    entry.size,
                    entry.sha256.short()
                ))));
            }
            names.push(&entry.path);
        }
        for found in std::fs::read_dir(folder).map_err(|e| Unusable::reading(folder, &e))? {
            let found = found.map_err(|error| Unusable::reading(folder, &error))?;
            let name = found.file_name().to_string_lossy().into_owned();
            if !names.contains(&name.as_str()) {
                let error =
                    Error::checkpoint(format!("`{name}` is not in the manifest")).at(folder);
                return Err(Unusable::Bad("altered", error));
            }
        }
        Ok(manifest)
    }
}

fn hash(path: &Path, name: &str) -> Result<FileEntry, Unusable> {
    let read = || -> io::Result<FileEntry> {
        let mut source = Hashing::new(File::open(path)?);
        let mut buffer = vec![0; 1 << 20];
        while source.read(&mut buffer)? > 0 {}
        let (_, size, sha256) = source.finish();
        Ok(FileEntry { path: name.to_owned(), size, sha256 })
    };
    read().map_err(|error| Unusable::reading(path, &error))
}
