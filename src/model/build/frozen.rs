//! What is known of weights before they are loaded.

use std::path::Path;

use crate::random::Stream;
use crate::weights::formats::WeightFormat;

/// What is known of the weights before they are loaded: matrices that are not trained may be kept
/// in other formats than f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrozenWeights<'a> {
    /// Whether they stay as they are for good.
    pub frozen: bool,
    /// How those of linear layers are kept, if not as the arithmetic takes them.
    pub linears: Option<&'static dyn WeightFormat>,
    /// The head that scores labels, where the weights may have none.
    pub head: Option<NewHead>,
    /// Which of them are left on disk, and the folder; on the CPU.
    pub on_disk: Option<(Streamed, &'a Path)>,
    /// Whether they are rounded as on a GPU; on the CPU, to be compared with one.
    pub as_on_gpu: bool,
}

/// Frozen matrices that are left on disk, and are in memory while they are multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streamed {
    /// Those with a row for each token: embedding and output head.
    Tables,
    /// All of them.
    All,
}

/// A head that scores labels, drawn where the weights have none.
#[derive(Debug, Clone, Copy)]
pub struct NewHead {
    /// How many labels.
    pub labels: usize,
    /// What it is drawn from: normal numbers with `initializer_range`, as transformers does.
    pub stream: Stream,
}

impl From<bool> for FrozenWeights<'_> {
    fn from(frozen: bool) -> Self {
        Self { frozen, ..Self::default() }
    }
}
