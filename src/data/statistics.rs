//! What is counted while data is read.

use serde::{Deserialize, Serialize};

/// What was counted while reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Records read, bad ones included.
    pub records: u64,
    /// Records that could not be used.
    pub bad_rows: u64,
    /// Records left out since they are longer than a row.
    pub dropped: u64,
    /// Records whose end was cut off.
    pub truncated: u64,
    /// Long texts cut into pieces.
    pub split: u64,
    /// Records left out since no token of them is trained on.
    pub no_targets: u64,
    /// Different records moved from training to validation.
    pub held_out: u64,
    /// Different training records left out since they are also validation records.
    pub overlapping: u64,
    /// Examples left out since an equal record comes earlier.
    pub duplicates: u64,
    /// Examples that were retracted.
    #[serde(default)]
    pub retracted: u64,
    /// Examples that came of it all.
    pub examples: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Tokens that are trained on.
    pub target_tokens: u64,
    /// The longest example in tokens.
    pub longest: u64,
}

impl Statistics {
    /// Adds what was counted in another file.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bad_rows += other.bad_rows;
        self.dropped += other.dropped;
        self.truncated += other.truncated;
        self.split += other.split;
        self.no_targets += other.no_targets;
        self.examples += other.examples;
        self.tokens += other.tokens;
        self.target_tokens += other.target_tokens;
        self.longest = self.longest.max(other.longest);
    }
}
