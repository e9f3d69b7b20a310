//! What a step takes on a GPU: one phase after the other, of which the largest is the peak.

use super::tapes::scores_by_tensors;
use super::{AdapterMemory, F32, Step, Workload};
use crate::config::Recompute;
use crate::model::Description;
use crate::model::description::{GpuPass, PassMemory, TrainedLinear};

/// Rows of the hidden states of a chunk of targets that its loss has at once: as they are,
/// normalised, and their gradients.
const HIDDEN_ROWS: u64 = 5;

/// Measured: pages of the allocator that are used in part. Those of small tensors have 8 MiB, and a
/// step begins a second one (`cubecl-server`, `AdaptiveMemory`).
pub(super) const PAGES: u64 = 17_000_000;

/// A step, phase by phase.
pub(super) fn step(description: &Description, work: &Workload, adapted: &AdapterMemory) -> Step {
    let (loss, backward) = passes(description, work, adapted);
    let gradients = work.trained.count * F32;
    let summed = if work.accumulates { gradients } else { 0 };
    let state = work.state_bytes();
    let held = summed + if work.several_steps { state } else { 0 };
    // All gradients, and new values beside the old ones.
    let update = state + 2 * gradients + work.brought_bytes();
    Step {
        optimizer: held + update.saturating_sub(held + backward.max(loss)),
        activations: backward + PAGES,
        logits: loss.saturating_sub(backward),
    }
}

/// Bytes of the loss, with all that was kept before it, and of the backward pass.
fn passes(description: &Description, work: &Workload, adapted: &AdapterMemory) -> (u64, u64) {
    let tokens = (work.rows * work.length) as u64;
    let stream = tokens * description.hidden as u64 * F32;
    let trained = |path: &str| match work.adapted {
        true => adapted.linears.get(path).copied().unwrap_or_default(),
        false => TrainedLinear { whole: true, ..TrainedLinear::default() },
    };
    let factor = work.arithmetic.frozen_bytes(false);
    let pass = GpuPass { tokens, factor, mlp_tile: work.mlp_tile, trained: &trained };
    let of_layers = description.layers.iter();
    let of_layers: Vec<PassMemory> =
        of_layers.map(|layer| layer.gpu_memory(description.hidden, &pass)).collect();
    // Gradients of layers come one after the other.
    let count = of_layers.len().max(1) as u64;
    let of_layer = work.trained.count * F32 / count;
    let moved = work.moves_inputs();
    let came = if moved { work.inputs_at_once(count) * stream } else { 0 };
    let (mut kept, mut backward) = (0, 0);
    for (number, layer) in (0..).zip(&of_layers) {
        let again = match work.recompute {
            Recompute::None => {
                kept += layer.kept;
                0
            }
            Recompute::Layers => {
                kept += if moved { 0 } else { stream };
                // Its input becomes what it keeps.
                layer.kept - stream.min(layer.kept)
            }
        };
        let gradients = of_layer * (count - number);
        backward = backward.max(kept + came + again + layer.backward + gradients);
    }
    // What leaves the last layer, and its gradient.
    let loss = kept + 2 * stream + loss(description, work, adapted);
    // Of the streams beside the residual one, and their gradients; and numbers of codes.
    let beside = 2 * tokens * description.beside_stream() as u64 * F32 + work.dequantised * factor;
    (loss + beside, backward + beside)
}

/// What the loss of a chunk of positions takes: by a kernel the scores and their gradient as a
/// factor; where the output projection learns, tensor operations.
fn loss(description: &Description, work: &Workload, adapted: &AdapterMemory) -> u64 {
    let targets = (work.micro_batches * work.chunk_of_each()) as u64;
    let (hidden, outputs) = (description.hidden as u64, description.outputs() as u64);
    let scores = match work.adapted && !adapted.beside_head {
        true => F32 + work.arithmetic.frozen_bytes(false),
        false => scores_by_tensors(description) * F32,
    };
    targets * (scores * outputs + HIDDEN_ROWS * hidden * F32) + work.table_gradient(description)
}
