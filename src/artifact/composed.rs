//! What a composition states, as far as a merge of it needs that: which adapters are added to which
//! base, in which order, and what every file of them must be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::origin::Origin;
use super::score_head;
use crate::error::{Error, ErrorCode, Result};
use crate::files::{Digest, FileEntry};
use crate::hub::Supply;

/// A composition whose parts are here and were checked.
#[derive(Debug, Clone)]
pub struct ComposedParts {
    /// The file with the signed statement, as read.
    pub statement: FileEntry,
    /// Where the base lies, and its files as stated.
    pub base: (PathBuf, BTreeMap<String, Digest>),
    /// Where the adapters lie, in the order in which they are added, and their files as stated.
    pub adapters: Vec<(PathBuf, BTreeMap<String, Digest>)>,
    /// Where the part lies that has the tokenizer.
    pub tokenizer: PathBuf,
}

impl ComposedParts {
    /// The adapter that is found by a name, beside the stated base, and those after it. What one
    /// stands on is stated before it.
    pub(super) fn origins(
        &self,
        name: &str,
        base: Option<&str>,
        supply: &Supply,
    ) -> Result<(Origin, Vec<Origin>)> {
        let origin = Origin::beside_base(name, base, supply)?;
        Ok((self.beside_base(origin), self.further(supply)?))
    }

    /// The adapters after the first one, as they are added one after the other.
    fn further(&self, supply: &Supply) -> Result<Vec<Origin>> {
        let base = self.base.0.display().to_string();
        let open = |(path, _): &(PathBuf, BTreeMap<String, Digest>)| {
            let origin = Origin::beside_base(&path.display().to_string(), Some(&base), supply)?;
            match score_head::find(path)? {
                None => Ok(origin),
                Some(_) => Err(Error::adapter("an adapter with a head of its own is merged alone")
                    .at(path)
                    .because("its head scores labels by what the adapters before it do not know")),
            }
        };
        self.adapters.iter().skip(1).map(open).collect()
    }

    /// The first adapter, or the one at whose name `origin` was found, beside the stated base.
    fn beside_base(&self, origin: Origin) -> Origin {
        let mut past = origin.past.clone();
        past.base_files = self.base.1.clone();
        Origin { past, ..origin }
    }

    /// Names the files of adapters by their part, and adds the statement; refuses those that are
    /// not as stated.
    ///
    /// # Errors
    /// When a file was changed since the composition was checked.
    pub(super) fn named(&self, files: Vec<FileEntry>) -> Result<Vec<FileEntry>> {
        let mut named = Vec::new();
        for (number, (file, (path, stated))) in (1..).zip(files.into_iter().zip(&self.adapters)) {
            if stated.get(&file.path) != Some(&file.sha256) {
                return Err(Error::refused(
                    ErrorCode::Adapter,
                    format!("`{}` is not what the composition states", file.path),
                )
                .at(path));
            }
            let path = format!("adapters/{number}/{}", file.path);
            named.push(FileEntry { path, ..file });
        }
        named.push(self.statement.clone());
        Ok(named)
    }
}
