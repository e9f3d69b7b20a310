//! Stop and go on, exactly: what is saved, how it is committed, and how it is found again.

mod manifest;
mod metrics;
mod restore;
mod save;
mod tensors;

use serde::{Deserialize, Serialize};

use crate::data::{CorpusFile, Cursor};
use crate::event::{Evaluation, Sample};
use crate::files::Digest;

pub use manifest::Manifest;
pub use metrics::Metrics;
pub use restore::{Found, newest, restore};
pub use save::{Saved, file_name_of, save};
pub use tensors::{learning_specs, learning_values, put};

/// Version of the format; a newer one is refused by name.
pub const FORMAT: u32 = 1;

/// What determines a run; a checkpoint is only continued under an equal identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Digest of the resolved configuration.
    pub config: Digest,
    /// Digest over the base model's files.
    pub base: Digest,
    /// Digest over the data files.
    pub data: Digest,
    /// Digest over tokenizer and chat template.
    #[serde(default)]
    pub codec: Option<Digest>,
    /// Version of the program.
    pub code: String,
    /// Backend that computes.
    pub device: String,
    /// Number formats.
    pub precision: String,
}

/// Everything besides tensors that a run needs to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of this format.
    pub format: u32,
    /// Steps done.
    pub step: u64,
    /// Updates that the optimiser has made.
    pub updates: u64,
    /// First row of the next step.
    pub cursor: Cursor,
    /// Length of `metrics.jsonl` at this step; what follows is cut off on resume.
    pub metrics_bytes: u64,
    /// Learnt tokens so far.
    pub target_tokens: u64,
    /// Tokens so far.
    pub tokens: u64,
    /// Validation results so far.
    pub evaluations: Vec<Evaluation>,
    /// Answers so far.
    pub samples: Vec<Sample>,
    /// The data files of which rows were used so far.
    #[serde(default)]
    pub files: Vec<CorpusFile>,
    /// Digest of the batches of the next step; `None` at the end of the run, and where they could
    /// not be had.
    pub next_batches: Option<Digest>,
    /// What the run is.
    pub identity: Identity,
}

/// The folder of a step.
pub fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}
