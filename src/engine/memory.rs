//! How much memory a run will take, by part, before anything is loaded.

use crate::config::Recompute;
use crate::model::Facts;

/// Bytes by part; an estimate for f32 on the CPU backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// All weights in f32.
    pub weights: u64,
    /// Gradients and two moments of what learns.
    pub optimizer: u64,
    /// What the forward pass keeps for the backward pass.
    pub activations: u64,
    /// One chunk of logits, with its softmax and temporaries.
    pub logits: u64,
    /// The copy that is written as a checkpoint while training goes on.
    pub checkpoint: u64,
    /// Windows of data: the one in use, the one before it, and those that are made ready.
    pub data: u64,
}

impl Estimate {
    /// All parts together.
    pub fn total(&self) -> u64 {
        self.weights + self.optimizer + self.activations + self.logits + self.checkpoint + self.data
    }
}

/// Estimates a run with micro-batches of `rows` rows of at most `length` tokens; `data` bytes of
/// examples are at hand at once.
pub fn estimate(
    facts: &Facts,
    learning: u64,
    rows: usize,
    length: usize,
    chunk: usize,
    recompute: Recompute,
    data: u64,
) -> Estimate {
    const F32: u64 = 4;
    // What a layer's tapes hold per token, counted in the code of `families::llama` and of the
    // operations: about 16 tensors of the hidden width and 8 of the gated width. Attention keeps
    // no scores. A LoRA step of SmolLM2-135M on 512 tokens: estimated 2.3 GB, measured 1.95 GB.
    let tokens = (rows * length) as u64;
    let per_token = 16 * facts.hidden + 8 * facts.intermediate;
    let layer = tokens * per_token as u64 * F32;
    let input = tokens * facts.hidden as u64 * F32;
    let layers = facts.layers as u64;
    Estimate {
        weights: facts.parameters * F32,
        optimizer: 3 * learning * F32,
        activations: match recompute {
            Recompute::None => layers * layer,
            Recompute::Layers => layers * input + layer,
        },
        checkpoint: 3 * learning * F32,
        logits: 4 * (chunk.min(rows * length) * facts.vocabulary) as u64 * F32,
        data,
    }
}
