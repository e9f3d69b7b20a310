//! What there is before the first step and after the last, and what is saved between steps.

use super::{
    Estimate, F32, HOLES, LARGE_PAGES, PROGRAM, QUERIES_AT_ONCE, SHARE_OF_HOLES, TOKEN_READ,
    TrainedParameters, Workload,
};
use crate::config::{Kernels, Recompute};
use crate::device::Arithmetic;
use crate::engine::checked_chunk;
use crate::model::{Description, Streamed, TABLE_ROWS_AT_ONCE};
use crate::ops::CODED_NUMBERS_AT_ONCE;
use crate::ops::cpu::PACKED_OUTPUTS;

/// Tensors of the size of the scores of all heads that tensor operations have at once: scores,
/// weights, and their gradients.
const SCORES_OF_HEADS: u64 = 5;
/// Copies of what is read from codes: numbers, turned ones, and those rounded and widened again.
const COPIES_OF_CODES: u64 = 4;

/// Numbers of the largest matrix of a layer.
fn largest_matrix(description: &Description) -> u64 {
    let sizes = description.matrices().map(|(_, [outputs, inputs])| (outputs * inputs) as u64);
    sizes.max().unwrap_or(0)
}

/// What the comparison of gradients takes.
fn gradient_check(description: &Description, work: &Workload) -> u64 {
    // Tensor operations take matrices in 32 bits, and turned: some rows of the output projection at
    // once, or one of a layer. Of those in 16 bits a tape in 32 has the layer's as well. Of codes
    // some rows are numbers, turned and rounded.
    let rows = description.outputs().min(TABLE_ROWS_AT_ONCE);
    let copies = if work.coded.0 > 0 { COPIES_OF_CODES } else { 2 };
    let strip = copies * (rows * description.hidden) as u64;
    let tables = description.tables().map(|(_, [rows, columns])| (rows * columns) as u64);
    let tables: u64 = tables.sum();
    let on_disk = if work.streamed.is_some() { tables } else { 0 };
    let coded = work.coded.0.saturating_sub(on_disk);
    let layers = description.parameters.saturating_sub(tables + coded);
    let layer = layers / (description.layers.len() as u64).max(1);
    let largest = largest_matrix(description).min(layers);
    let layer = match (work.stays(description), work.arithmetic) {
        (true, Arithmetic::F32) => layer + largest,
        (true, _) => 2 * largest,
        (false, _) => largest,
    };
    let strips = if work.coded.0 > 0 { copies * CODED_NUMBERS_AT_ONCE as u64 } else { 0 };
    let tokens = work.checked as u64;
    let chunk = checked_chunk(description.outputs()).min(work.checked);
    let scores = 4 * (chunk * description.outputs()) as u64;
    // Inputs of all layers, and the tape of one with scores of its heads.
    let taped = description.layers.iter().map(|layer| layer.taped(description.hidden) as u64);
    let kept = (description.layers.len() * description.hidden) as u64;
    // On the CPU tensor operations hold scores however short rows are.
    let of_block = (description.heads() * work.checked.min(QUERIES_AT_ONCE)) as u64;
    let scores_of_heads = SCORES_OF_HEADS * of_block;
    let passes = tokens * (kept + taped.max().unwrap_or(0) + scores_of_heads);
    // Gradients of both kinds of kernels, two of which are compared as numbers of the host, or are
    // made of those of a table.
    let gradients = 2 * work.trained.count;
    let at_work = (strip + scores).max(layer.max(strips) + passes).max(3 * work.trained.largest);
    (gradients + at_work) * F32
}

/// What the host takes to compare so many tokens of a run on a GPU with tensor operations: the
/// model once more, its frozen matrices on disk but for the scales of codes.
pub fn beside_gpu(
    description: &Description,
    (trained, adapted): (TrainedParameters, bool),
    arithmetic: Arithmetic,
    checked: usize,
) -> u64 {
    const NUMBERS_OF_A_BYTE_OF_SCALES: u64 = 16;
    let parameters = description.parameters;
    let work = Workload {
        trained,
        adapted,
        checked,
        streamed: adapted.then_some(Streamed::All),
        coded: match adapted {
            true => (parameters, parameters / NUMBERS_OF_A_BYTE_OF_SCALES),
            false => (0, 0),
        },
        ..Workload::on(false, arithmetic, Kernels::Portable)
    };
    let learning = if adapted { trained.count } else { parameters };
    work.frozen(description) + learning * F32 + gradient_check(description, &work)
}

/// What the effect of what was trained takes, which is computed for the artifact: some tokens in 32
/// bits.
fn published(description: &Description, work: &Workload) -> u64 {
    // Of a row, and three of their scores: with what was trained, without it, and for a digest.
    const TOKENS: u64 = 32;
    const SCORES: u64 = 3;
    let (outputs, hidden) = (description.outputs() as u64, description.hidden as u64);
    // Gate and up, packed at the same time.
    let pair = 2 * largest_matrix(description);
    let layer = pair * F32 + work.read(pair);
    let head = outputs.min(PACKED_OUTPUTS as u64) * (hidden + TOKENS) * F32;
    work.state_bytes() + layer.max(head) + SCORES * TOKENS * outputs * F32
}

impl Estimate {
    /// With what there is before the first step and after the last, as far as it is more than a
    /// step takes, and what is saved between steps.
    pub(super) fn around_steps(mut self, description: &Description, work: &Workload) -> Self {
        if !work.on_gpu {
            let step = self.on_device() - self.weights;
            let holes = if work.streamed.is_some() { HOLES + HOLES / 2 } else { HOLES };
            self.program += holes.min(step / SHARE_OF_HOLES);
            if work.recompute == Recompute::Layers {
                self.program -= LARGE_PAGES;
            }
            let check = match work.checked {
                0 => 0,
                _ => gradient_check(description, work),
            };
            let most = check.max(work.loaded).max(published(description, work));
            self.program += most.saturating_sub(step);
            // Before weights are loaded.
            let start = PROGRAM + work.tokenizer * TOKEN_READ;
            self.program += start.saturating_sub(self.total());
        }
        if work.saves {
            // On the host it shares what an update has not changed, and waits for none before that.
            let before = if work.on_gpu { 0 } else { self.activations + self.logits };
            // State that is elsewhere is read as it is written, a tensor at a time.
            let elsewhere = work.trained.state_bytes - work.state_bytes();
            let read = if elsewhere > 0 { work.trained.largest * F32 } else { 0 };
            let saved = work.trained.checkpoint_bytes() - elsewhere + read;
            self.checkpoint = saved.saturating_sub(before);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelJson, families};
    use crate::weights::Element;

    fn description(heads: usize) -> Description {
        let json = serde_json::json!({
            "model_type": "llama", "hidden_size": 64, "num_attention_heads": heads,
            "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 256,
            "num_hidden_layers": 2, "vocab_size": 32,
        });
        let mut description = families::describe(&ModelJson::from_value(json)).unwrap();
        description.element = Element::F32;
        description
    }

    #[test]
    fn beside_a_gpu_the_host_has_what_is_trained_and_little_of_what_is_frozen() {
        let of = description(4);
        let all = of.parameters;
        let takes = |count, adapted| {
            let trained = TrainedParameters { count, largest: 0, ..TrainedParameters::default() };
            beside_gpu(&of, (trained, adapted), Arithmetic::F32, 16)
        };
        // Values, and the gradients of both sides.
        assert_eq!(takes(1000, true) - takes(0, true), 3 * 1000 * F32);
        assert!(takes(all, false) >= 3 * all * F32);
    }

    /// Of 512 queries at most.
    #[test]
    fn the_comparison_has_scores_of_all_heads_of_a_layer() {
        let [few, many] = [2, 4].map(description);
        let taped = |of: &Description| of.layers[0].taped(of.hidden) as u64;
        for (checked, queries) in [(256, 256), (1024, 512)] {
            let device = Workload::on(false, Arithmetic::F32, Kernels::Fast);
            let work = Workload { checked, adapted: true, ..device };
            let of_token = 2 * SCORES_OF_HEADS * queries + taped(&many) - taped(&few);
            let more = gradient_check(&many, &work) - gradient_check(&few, &work);
            assert_eq!(more, of_token * checked as u64 * F32, "{checked}");
        }
    }
}
