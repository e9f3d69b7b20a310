//! A model with the record of what it was read from.

use std::collections::BTreeMap;

use crate::files::{Digest, FileEntry};
use crate::model::{Model, ModelJson};
use crate::weights::Element;

/// A model together with the record of what it was read from.
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// Its `config.json`.
    pub config: ModelJson,
    /// The files that were read, with the digests of the bytes that were used.
    pub files: Vec<FileEntry>,
    /// The number format of each weight in those files.
    pub elements: BTreeMap<String, Element>,
    /// The digest of all matrices that were coded while they were read.
    pub quantised: Option<Digest>,
    /// The digest of all matrices that are kept in the blocks that files have.
    pub in_blocks: Option<Digest>,
    /// What a user should know about the model.
    pub note: Option<String>,
}

impl Loaded {
    /// The same once more, with weights that are in memory once; for models of which nothing is
    /// trained yet.
    #[must_use]
    pub fn sharing(&self) -> Self {
        Self {
            model: self.model.sharing(),
            config: self.config.clone(),
            files: self.files.clone(),
            elements: self.elements.clone(),
            quantised: self.quantised,
            in_blocks: self.in_blocks,
            note: self.note.clone(),
        }
    }
}
