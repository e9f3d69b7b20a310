//! The files of a model as checks see them.

use crate::files::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::files::FileEntry;

/// How many file names one line shows.
const MAX_NAMES: usize = 5;

/// Files by name.
pub(super) type Files = BTreeMap<String, FileEntry>;

/// What is not held against a model.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowed {
    /// Files that nobody signed.
    pub unsigned: bool,
    /// Signed files that were not fetched: what is here came from a hub, of which no more is
    /// fetched than is used.
    pub not_fetched: bool,
}

/// The metadata of each weights file.
pub(super) type Metadata = BTreeMap<String, BTreeMap<String, String>>;

/// Names for one line, the first few of them.
pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    let shown = names.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Reads a file whose digest is known; it must not have changed since.
pub(super) fn read_hashed(directory: &Path, entry: &FileEntry, limit: u64) -> Result<Vec<u8>> {
    let path = directory.join(&entry.path);
    if entry.size > limit {
        return Err(Error::signature(format!("the file has more than {limit} bytes")).at(path));
    }
    let bytes = fs::read(&path).context_at("cannot read the file", &path)?;
    if Digest::of(&bytes) != entry.sha256 {
        return Err(Error::changed("the file changed while it was checked").at(path));
    }
    Ok(bytes)
}
