//! What a step takes by the kernels of the CPU: one phase after the other, of which the largest is
//! the peak.

use super::tapes::scores_by_tensors;
use super::{AdapterMemory, F32, Step, Workload};
use crate::config::Recompute;
use crate::model::Description;
use crate::model::description::{CpuPass, PassMemory, TrainedLinear};
use crate::ops::cpu::{HEAD_ROWS, Products};

/// Tensors of the size of the largest trained one that are there while it is moved, beside its
/// gradient, its value and its state. The gradient of a table is made with as many.
const MOVED: u64 = 2;

/// A step, phase by phase.
pub(super) fn step(description: &Description, work: &Workload, adapted: &AdapterMemory) -> Step {
    let micro_batches = work.micro_batches.max(1) as u64;
    let of_one = Passes::of(description, work, adapted);
    let gradients = work.trained.count * F32;
    let summed = if work.accumulates { gradients } else { 0 };
    let (backward, loss) = (micro_batches * of_one.backward, micro_batches * of_one.loss);
    let state = work.state_bytes();
    let held = summed + if work.several_steps { state } else { 0 };
    // Gradients of each micro-batch until they are summed. Then they are moved by, one after the
    // other, and the state takes their place in the first step.
    let merged = held + micro_batches * gradients;
    let moved = match work.several_steps {
        true => state + gradients,
        false => state.max(gradients),
    };
    let update = merged.max(moved) + work.brought_bytes() + MOVED * work.trained.largest * F32;
    Step {
        optimizer: held + update.saturating_sub(held + backward.max(loss)),
        activations: backward,
        logits: loss.saturating_sub(backward),
    }
}

/// The passes of a micro-batch.
struct Passes {
    loss: u64,
    backward: u64,
}

impl Passes {
    fn of(description: &Description, work: &Workload, adapted: &AdapterMemory) -> Self {
        let micro_batches = work.micro_batches.max(1);
        let rows = (work.rows / micro_batches).max(1);
        let tokens = (rows * work.length) as u64;
        let stream = tokens * description.hidden as u64 * F32;
        let factor = match Products::of(work.computing()) {
            Some(Products::Bf16) => 2,
            _ => F32,
        };
        let trained = |path: &str| match work.adapted {
            true => adapted.linears.get(path).copied().unwrap_or_default(),
            false => TrainedLinear { whole: true, ..TrainedLinear::default() },
        };
        let read = |[outputs, inputs]: [usize; 2]| work.read((outputs * inputs) as u64);
        let pass = CpuPass {
            rows: (rows, work.length),
            factor,
            mlp_tile: work.mlp_tile,
            threads: work.threads.div_ceil(micro_batches).max(1),
            trained: &trained,
            read: &read,
        };
        let of_layers = description.layers.iter();
        let of_layers: Vec<PassMemory> =
            of_layers.map(|layer| layer.pass_memory(description.hidden, &pass)).collect();
        // Gradients of layers come one after the other.
        let count = of_layers.len().max(1) as u64;
        let of_layer = work.trained.count * F32 / count;
        let (mut kept, mut backward) = (0, 0);
        // Where inputs leave the memory, that of one layer is there, and the next one on its way.
        let moved = work.moves_inputs();
        let came = if moved { work.inputs_at_once(count) * stream } else { 0 };
        for (number, layer) in (0..).zip(&of_layers) {
            kept += match work.recompute {
                Recompute::None => layer.kept,
                Recompute::Layers if moved => 0,
                Recompute::Layers => stream,
            };
            let again = match work.recompute {
                Recompute::None => 0,
                // Its input becomes what it keeps.
                Recompute::Layers => layer.kept - stream.min(layer.kept),
            };
            let gradients = of_layer * (count - number);
            backward = backward.max(kept + came + again + layer.backward + gradients);
        }
        // Of the streams beside the residual one, and their gradients.
        let beside = 2 * tokens * description.beside_stream() as u64 * F32;
        let of_loss = match adapted.beside_head {
            true => loss_by_tensors(description, work, tokens),
            false => loss(description, work, (tokens, factor, pass.threads)),
        };
        let loss = kept + 2 * stream + of_loss;
        Self { loss: loss + beside, backward: backward + beside }
    }
}

/// What it takes by tensor operations: the table in 32 bits, once more where it is kept otherwise.
fn loss_by_tensors(description: &Description, work: &Workload, tokens: u64) -> u64 {
    let positions = tokens.min(work.chunk as u64);
    let (hidden, outputs) = (description.hidden as u64, description.outputs() as u64);
    let scores = scores_by_tensors(description) * positions * outputs;
    (scores + 5 * positions * hidden + outputs * hidden) * F32
}

/// What the loss of a chunk of positions takes.
fn loss(
    description: &Description,
    work: &Workload,
    (tokens, factor, threads): (u64, u64, usize),
) -> u64 {
    let (hidden, outputs) = (description.hidden as u64, description.outputs() as u64);
    let positions = tokens.min(work.chunk as u64);
    let scores = positions * outputs * F32;
    // Rows of the stream, normalised, packed, and their gradients.
    let rows = positions * hidden * (5 * F32 + factor);
    // Rows of the table as they are multiplied with, by each thread; then packed, with the gradient
    // of their scores turned.
    let group = outputs.min(HEAD_ROWS as u64);
    let coded = work.streamed.is_some() || !description.in_blocks.is_empty();
    let converted = match coded {
        true => factor + F32,
        false if work.adapted && work.frozen_bytes(description) == factor => 0,
        false if !work.adapted && factor == F32 => 0,
        false => factor,
    };
    let converted = threads as u64 * group * hidden * converted;
    let packed = group * (hidden + positions) * factor;
    // The gradient of the table, and the sum of those of other chunks.
    let table = match (work.adapted, factor) {
        (true, _) => 0,
        (false, F32) => 2 * outputs * hidden * F32,
        (false, _) => 2 * outputs * hidden * F32 + positions * outputs * factor,
    };
    scores + rows + converted.max(packed).max(table)
}
