//! A data set's file, as it stands in the lineage.

use serde::{Deserialize, Serialize};

use crate::files::FileEntry;

/// What a data set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Trained on.
    Train,
    /// Measured on.
    Validation,
}

impl Role {
    /// Its name, which is also that of the split that is read unless another is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
        }
    }
}

/// A data set file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpusFile {
    /// Name, size and digest of the bytes that were read.
    #[serde(flatten)]
    pub file: FileEntry,
    /// Where anyone finds these bytes again, if they came from a hub: as `huggingface_hub` writes
    /// it, `hf://datasets/owner/name@commit/path`.
    pub uri: Option<String>,
    /// What it is for.
    pub role: Role,
    /// The shape of its records.
    pub format: String,
    /// How many records it holds, bad ones included.
    pub rows: u64,
}
