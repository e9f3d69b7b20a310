//! The list of what a checkpoint holds, with digests; written last, read first.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::FORMAT;
use crate::error::{Context, Error, Result};
use crate::files::{FileEntry, hash_file};

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

impl Manifest {
    /// Reads the list of a checkpoint and checks every byte that it names.
    ///
    /// # Errors
    /// When a file is missing, damaged or unknown: the first such file is named.
    pub fn verify(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = std::fs::read(&path).context_at("no manifest", &path)?;
        let manifest: Self = serde_json::from_slice(&bytes).context_at("broken manifest", &path)?;
        if manifest.format > FORMAT {
            return Err(Error::new(format!(
                "checkpoint format {} is newer than this program, which reads up to {FORMAT}",
                manifest.format
            ))
            .at(folder));
        }
        let mut names: Vec<String> = vec![MANIFEST.to_owned()];
        for entry in &manifest.files {
            let found = hash_file(&folder.join(&entry.path), &entry.path)?;
            if found != *entry {
                return Err(Error::new(format!(
                    "`{}` is damaged: {} bytes with digest {} instead of {} with {}",
                    entry.path,
                    found.size,
                    found.sha256.short(),
                    entry.size,
                    entry.sha256.short()
                ))
                .at(folder));
            }
            names.push(entry.path.clone());
        }
        for found in std::fs::read_dir(folder).context_at("cannot list the folder", folder)? {
            let found = found.context_at("cannot list the folder", folder)?;
            let name = found.file_name().to_string_lossy().into_owned();
            if !names.contains(&name) {
                return Err(Error::new(format!("`{name}` is not in the manifest")).at(folder));
            }
        }
        Ok(manifest)
    }
}
