//! How well a record was predicted, as sums.

use serde::{Deserialize, Serialize};

/// How well the judged tokens of a record were predicted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Sum of negative log-likelihoods, in nats.
    pub loss_sum: f64,
    /// Judged tokens.
    pub targets: u64,
    /// Those that were the likeliest.
    pub correct: u64,
}
