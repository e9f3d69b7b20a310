//! Stop and go on, exactly: what is saved, how it is committed, and how it is found again.

mod adopt;
mod best;
mod chain;
mod history;
mod identity;
mod manifest;
mod metrics;
mod mirror;
mod named;
mod restore;
mod retention;
mod room;
mod shared_steps;
mod step_cache;
mod seal;
mod save;
mod saver;
mod snapshot;
mod tensors;
mod uploads;

use serde::{Deserialize, Serialize};

use crate::data::{CorpusFile, Cursor};
use crate::engine::{LossScale, MicroBatchSplit};
use crate::event::{Evaluation, Sample};
use crate::files::Digest;

pub use best::{EarlyStopping, best_first};
pub use chain::{Chain, batches_digest};
pub use history::{History, HistoryEntry, HistoryEvent, now};
pub use identity::{Allowed, Difference, Identity, IdentityPart, option_for, settings_differences};
pub use manifest::{Manifest, Unusable};
pub use metrics::{LinesState, Metrics, line, steps_of};
pub use mirror::{Mirror, Mirrored, RECORDS};
pub use named::NamedCheckpoint;
pub use restore::{BAD, RestoredCheckpoint, newest, restore, restore_weights, unchecked_state};
pub use retention::{Retention, remove};
pub use room::check_free;
pub use save::{Job, Saved};
pub use saver::Saver;
pub use seal::manifest_digest;
pub use shared_steps::{SharedSteps, chain_name};
pub use snapshot::Snapshot;
pub use step_cache::{CachedSteps, StepCache, StepCacheItem, items as kept_steps};
pub use tensors::{Pieces, joined, learning_specs, learning_values, put, put_stacked, trainable};
pub use uploads::Uploads;

/// Version of the format; a newer one is refused by name.
pub const FORMAT: u32 = 1;

/// Everything besides tensors that a run needs to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
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
    /// Digest of that; unknown in checkpoints of before it was kept.
    #[serde(default)]
    pub metrics_sha256: Option<Digest>,
    /// What `rollouts.jsonl` is at this step, in a run that has it; what follows is cut off on
    /// resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollouts: Option<LinesState>,
    /// Target tokens so far.
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
    /// What determined the steps so far; unknown in checkpoints of before it was kept.
    #[serde(default)]
    pub chain: Option<Chain>,
    /// Digest of settings, program and kind of device, if they were the same for all steps so far.
    #[serde(default)]
    pub made_by: Option<Digest>,
    /// Digest of the batches of the next step; `None` at the end of the run, and where they could
    /// not be had.
    pub next_batches: Option<Digest>,
    /// Scale of the loss, in arithmetic that needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// How micro-batches are worked on in parts, where memory does not suffice for whole ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Option<MicroBatchSplit>,
    /// What the run is.
    pub identity: Identity,
}

impl RunState {
    /// The state of the same step in the middle of a longer run: without what is evaluated and
    /// asked only at a run's end. `every` is `eval.every_steps`.
    #[must_use]
    pub fn in_the_middle(mut self, every: u64) -> Self {
        // What was measured earlier stays, whatever `every` was then.
        self.evaluations.retain(|found| found.step < self.step || found.is_due(every));
        self.samples.retain(|sample| sample.step < self.step || sample.step == 0);
        self
    }
}

/// The folder of a step.
pub fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}
