//! What a step takes by tensor operations on the CPU, whose tapes are counted about.

use super::{Estimate, F32, Workload};
use crate::config::Recompute;
use crate::model::Description;

impl Estimate {
    /// With what a step takes by tensor operations, on the CPU.
    pub(super) fn with_tapes(
        self,
        description: &Description,
        work: Workload,
        of_adapter: u64,
    ) -> Self {
        let Workload { rows, length, trained, .. } = work;
        let tokens = (rows * length) as u64;
        let of_layers = description.layers.iter().map(|layer| layer.taped(description.hidden));
        let all: u64 = of_layers.map(|kept| kept as u64).sum();
        let most = work.most_taped(description);
        let input = tokens * description.hidden as u64 * F32;
        let layers = description.layers.len() as u64;
        // Until the last gradient has come back; it and its gradient.
        let beside = 2 * tokens * description.beside_stream() as u64 * F32;
        // The gradient of the embedding is made before it is added to that of the output
        // projection.
        let table = work.table_gradient(description);
        let of_logits = scores_by_tensors(description);
        let targets = (work.micro_batches * work.chunk_of_each()) as u64;
        Self {
            optimizer: trained.count * F32 + work.state_bytes() + work.brought_bytes() + table,
            activations: match work.recompute {
                Recompute::None => tokens * all * F32,
                Recompute::Layers => work.inputs_at_once(layers) * input + most * F32,
            } + beside
                + of_adapter,
            logits: of_logits * targets * description.outputs() as u64 * F32,
            ..self
        }
    }
}

/// Tensors of the size of scores that a loss by tensor operations has at the same time. A cap keeps
/// the scores, and the slope at each of them.
pub(super) fn scores_by_tensors(description: &Description) -> u64 {
    if description.logits.soft_cap.is_some() { 6 } else { 4 }
}
