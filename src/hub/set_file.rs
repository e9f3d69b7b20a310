//! A file of a data set, wherever it is.

use std::path::PathBuf;
use std::sync::Arc;

use super::RemoteFile;
use super::names::RepoName;
use crate::files::Digest;

/// Where a file is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Here(PathBuf),
    Hub { repo: RepoName, commit: String, file: RemoteFile },
}

/// A file of a data set.
#[derive(Debug, Clone)]
pub struct SetFile {
    /// Its path in the set; of a single file, as the configuration names it.
    pub path: String,
    /// What people know it by.
    pub name: Arc<str>,
    /// Bytes.
    pub size: u64,
    /// What its bytes must be, where that is known beforehand.
    pub sha256: Option<Digest>,
    pub(super) place: Place,
}

impl SetFile {
    /// The file, of which the bytes must have this digest.
    #[must_use]
    pub fn expecting(&self, sha256: Digest) -> Self {
        Self { sha256: Some(sha256), ..self.clone() }
    }
}
