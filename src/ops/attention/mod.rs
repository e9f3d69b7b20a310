//! Scaled dot-product attention with grouped queries, inside documents only, with its gradient.
//!
//! Three implementations: tensor operations under a mask, for any device; the kernels of the CPU
//! (`cpu/attention.rs`), which never touch what a query may not see; and those of GPUs
//! (`fused`), which keep no scores, as far as a device works at once. Tests compare them.

mod blocks;
mod fused;
mod portable;

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;

pub use fused::{attend_beside, attend_beside_backward, keeps_no_scores};

use crate::device::ComputeConfig;
use crate::ops::sequences::Sequences;
use crate::ops::{AttentionConfig, Branch, cpu};

/// Queries that are computed at once, all of them.
type Blocks = Arc<[blocks::QueryBlock]>;

/// Which positions belong together.
#[derive(Debug, Clone)]
pub struct Documents {
    /// Rows of the micro-batch.
    pub rows: usize,
    /// Positions in each row.
    pub length: usize,
    /// Number of the document at each position; 0 is padding.
    numbers: Vec<u32>,
    /// First position (flat) and length of each document, padding left out.
    spans: Vec<(usize, usize)>,
    branches: Vec<Branch>,
    /// For the portable implementation: made when they are needed, and then for all layers of the
    /// same kind.
    blocks: Arc<Mutex<Vec<((AttentionConfig, bool), Blocks)>>>,
    /// For the kernels of GPUs, likewise.
    kernels: fused::MadeKernels,
    /// For what goes through each document from its beginning.
    sequences: Arc<Sequences>,
}

impl Documents {
    /// From the document numbers of all positions, row after row.
    pub fn new(numbers: &[u32], rows: usize, length: usize) -> Self {
        assert_eq!(numbers.len(), rows * length, "one document number per position");
        let mut spans = Vec::new();
        for row in 0..rows {
            let end = (row + 1) * length;
            let mut start = row * length;
            while start < end {
                let same = numbers[start..end].iter().take_while(|n| **n == numbers[start]);
                let count = same.count();
                if numbers[start] != 0 {
                    spans.push((start, count));
                }
                start += count;
            }
        }
        let numbers = numbers.to_vec();
        let sequences = Arc::new(Sequences::new(&spans, rows * length));
        let (branches, blocks, kernels) = (Vec::new(), Arc::default(), Arc::default());
        Self { rows, length, numbers, spans, branches, blocks, kernels, sequences }
    }

    /// The same, in which documents go on in several ways: for attention alone, since what goes
    /// through a document from its beginning takes it as it lies there.
    #[must_use]
    pub fn with_branches(self, branches: Vec<Branch>) -> Self {
        Self { branches, blocks: Arc::default(), kernels: Arc::default(), ..self }
    }

    /// How documents go on in several ways.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// First position (flat) and length of each document, padding left out.
    pub fn spans(&self) -> &[(usize, usize)] {
        &self.spans
    }

    /// How each is gone through from its beginning.
    pub fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// Limits are those of the device, the same in all layers of a model.
    fn blocks(
        &self,
        config: AttentionConfig,
        computing: ComputeConfig,
        inputs: AttentionInputs,
    ) -> Blocks {
        let key = (config, inputs.sinks.is_some());
        let mut made = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, blocks)) = made.iter().find(|(of, _)| *of == key) {
            return blocks.clone();
        }
        let on = (&inputs.qkv[0].device(), key.1);
        let blocks: Blocks = blocks::blocks(self, config, computing.limits, on).into();
        made.push((key, blocks.clone()));
        blocks
    }
}

/// What attention is given: `q: [tokens, queries · width]`, and `k, v: [tokens, kv_heads · width]`.
#[derive(Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// Queries, keys and values.
    pub qkv: [&'a Tensor<2>; 3],
    /// For each query head a score of nothing, which takes its share of the weights, `[queries]`.
    pub sinks: Option<&'a Tensor<1>>,
}

/// Gradients of [`AttentionInputs`].
pub struct AttentionGradients {
    /// Of queries, keys and values.
    pub qkv: [Tensor<2>; 3],
    /// Of the sinks, if there are some.
    pub sinks: Option<Tensor<1>>,
}

impl<'a> From<[&'a Tensor<2>; 3]> for AttentionInputs<'a> {
    fn from(qkv: [&'a Tensor<2>; 3]) -> Self {
        Self { qkv, sinks: None }
    }
}

/// Attention of plain tensors, `[tokens, queries · width]`. What padding gets is left open.
pub fn attend<'a>(
    inputs: impl Into<AttentionInputs<'a>>,
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
) -> Tensor<2> {
    let inputs = inputs.into();
    let AttentionInputs { qkv, sinks } = inputs;
    if let Some(output) =
        cpu::attend((qkv, sinks), config, (&documents.spans, &documents.branches), computing)
    {
        return output;
    }
    if let Some(output) = fused::attend(inputs, config, documents, computing) {
        return output;
    }
    let blocks = documents.blocks(config, computing, inputs);
    portable::packed(inputs, config, documents, &blocks, computing)
}

/// Gradients for the gradient `d_output` of what [`attend`] gave; the kernels of the CPU have
/// theirs where a whole block is theirs.
pub fn attend_backward<'a>(
    inputs: impl Into<AttentionInputs<'a>>,
    d_output: &Tensor<2>,
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
) -> AttentionGradients {
    let inputs = inputs.into();
    if let Some(gradients) = fused::attend_backward(inputs, d_output, config, documents, computing)
    {
        return gradients;
    }
    let blocks = documents.blocks(config, computing, inputs);
    portable::backward(inputs, d_output, config, documents, &blocks, computing)
}

/// The same as tensor operations, which a tape can follow; the reference for tests.
pub fn attend_composed<'a>(
    inputs: impl Into<AttentionInputs<'a>>,
    config: AttentionConfig,
    documents: &Documents,
) -> Tensor<2> {
    let inputs = inputs.into();
    // By a mask on every device: a tape follows no kernel here.
    let (device, by_mask) = (inputs.qkv[0].device().inner(), true);
    let plain = ComputeConfig::default();
    let blocks = blocks::blocks(documents, config, plain.limits, (&device, by_mask));
    portable::packed(inputs, config, documents, &blocks, plain)
}

/// One new query per row over all keys of a cache: `q: [rows, queries · width]`,
/// `k, v: [rows, keys, kv_heads, width]`. The cache holds what the query sees.
pub fn attend_cached(
    q: Tensor<2>,
    [k, v]: [Tensor<4>; 2],
    sinks: Option<&Tensor<1>>,
    config: AttentionConfig,
) -> Tensor<2> {
    let (rows, heads) = (q.dims()[0], config.heads);
    let q = q.reshape([rows, 1, heads.queries, heads.width]);
    portable::over_cache(q, k, v, sinks, config).reshape([rows, config.query_width()])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::device::DeviceLimits;
    use crate::ops::{Heads, from_vec, host};
    use crate::random::Stream;

    fn random(shape: [usize; 2], name: &str) -> Tensor<2> {
        let stream = Stream::new(3).site(name);
        let count = (shape[0] * shape[1]) as u64;
        let values = (0..count).map(|i| stream.normal(i) as f32).collect();
        from_vec(values, shape, &Device::flex())
    }

    fn near(what: &str, ours: &Tensor<2>, reference: &Tensor<2>) {
        let (ours, reference) = (host(ours.clone()), host(reference.clone()));
        for (a, b) in ours.iter().zip(&reference) {
            assert!((a - b).abs() < 2e-5, "{what}: {a} for {b}");
        }
    }

    /// Attention without a window, with one of a few keys, with another scale, and with a cap.
    fn configs(heads: Heads) -> [AttentionConfig; 4] {
        let plain = AttentionConfig::of(heads);
        [
            plain,
            AttentionConfig { window: Some(3), ..plain },
            AttentionConfig { scale: 0.2, ..plain },
            AttentionConfig { window: Some(4), scale: 0.7, soft_cap: Some(1.5), ..plain },
        ]
    }

    /// The kernels of the CPU against the composed tensor operations and Burn's own gradients.
    #[test]
    fn the_cpu_implementation_equals_the_portable_one_forward_and_backward() {
        let device = Device::flex();
        for (queries, kv_heads, width) in [(4, 2, 6), (3, 3, 8), (6, 1, 4)] {
            for config in configs(Heads { queries, kv_heads, width }) {
                let numbers = [1, 1, 1, 2, 2, 2, 2, 3, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2];
                let documents = Documents::new(&numbers, 2, 10);
                let q = random([20, queries * width], "q");
                let k = random([20, kv_heads * width], "k");
                let v = random([20, kv_heads * width], "v");
                // Padding: the portable one lets padding see padding, ours leaves it zero.
                let real = numbers.iter().map(|n| if *n > 0 { 1.0 } else { 0.0 }).collect();
                let real: Tensor<2> = from_vec(real, [20, 1], &device);
                let d_output = random([20, queries * width], "d") * real.clone();

                let sinks = random([1, queries], "sinks").reshape([queries]);
                for sinks in [None, Some(&sinks)] {
                    let inputs = AttentionInputs { qkv: [&q, &k, &v], sinks };
                    let ours = attend(inputs, config, &documents, ComputeConfig::default());
                    let reference = attend_composed(inputs, config, &documents);
                    near("output", &ours, &(reference * real.clone()));
                    gradients_are_those_of_a_tape(inputs, &d_output, config, &documents);
                }
            }
        }
    }

    /// Against Burn's own gradients of the composed operations.
    fn gradients_are_those_of_a_tape(
        inputs: AttentionInputs,
        d_output: &Tensor<2>,
        config: AttentionConfig,
        documents: &Documents,
    ) {
        let leaves = inputs.qkv.map(|x| x.clone().autodiff().require_grad());
        let sinks = inputs.sinks.map(|sinks| sinks.clone().autodiff().require_grad());
        let on_tape = AttentionInputs { qkv: leaves.each_ref(), sinks: sinks.as_ref() };
        let mixed = attend_composed(on_tape, config, documents);
        let mut tape = (mixed * d_output.clone()).backward();
        let plain = ComputeConfig::default();
        let by_hand = attend_backward(inputs, d_output, config, documents, plain);
        for (number, (leaf, ours)) in leaves.into_iter().zip(&by_hand.qkv).enumerate() {
            near(&format!("by hand {number}"), ours, &leaf.grad_remove(&mut tape).unwrap());
        }
        assert_eq!(sinks.is_some(), by_hand.sinks.is_some());
        if let (Some(leaf), Some(ours)) = (sinks, by_hand.sinks) {
            let reference = leaf.grad_remove(&mut tape).unwrap();
            near("of sinks", &ours.unsqueeze(), &reference.unsqueeze());
        }
    }

    /// Blocks of queries look at the keys of the window of their first query and no others.
    #[test]
    fn keys_outside_of_a_window_are_not_computed() {
        let (length, window) = (4000, 100);
        let heads = Heads { queries: 2, kv_heads: 1, width: 4 };
        let config = AttentionConfig { window: Some(window), ..AttentionConfig::of(heads) };
        let documents = Documents::new(&vec![1; length], 1, length);
        let limits = DeviceLimits::NONE;
        let scores = |config| {
            let blocks = blocks::blocks(&documents, config, limits, (&Device::flex(), false));
            blocks.iter().map(blocks::QueryBlock::scores).sum::<usize>()
        };
        assert!(scores(config) <= length * (window + 512));
        assert!(scores(AttentionConfig { window: None, ..config }) >= length * length / 2);
        // What is not computed cannot spoil what is.
        let [q, d] = ["q", "d"].map(|name| random([length, 8], name));
        let [k, v] = ["k", "v"].map(|name| random([length, 4], name));
        let spoilt = |x: &Tensor<2>| {
            let nan = Tensor::full([1000, 4], f32::NAN, &Device::flex());
            Tensor::cat(vec![nan, x.clone().narrow(0, 1000, length - 1000)], 0)
        };
        let (broken_k, broken_v) = (spoilt(&k), spoilt(&v));
        let late = |x: Tensor<2>| x.narrow(0, 1700, length - 1700);
        let kernels = crate::config::Kernels::Portable;
        let computing = ComputeConfig { kernels, ..ComputeConfig::default() };
        let [ours, reference] = [[&q, &broken_k, &broken_v], [&q, &k, &v]].map(|inputs| {
            let mixed = attend(inputs, config, &documents, computing);
            let [d_q, ..] = attend_backward(inputs, &d, config, &documents, computing).qkv;
            [late(mixed), late(d_q)].map(host)
        });
        assert_eq!(ours, reference);
    }

    #[test]
    fn blocks_of_queries_and_rows_change_nothing() {
        let numbers = [[1_u32; 11], [2; 11], [3; 11]].concat();
        let mut numbers: Vec<u32> = numbers.iter().map(|n| n % 3).collect();
        numbers[4..11].fill(7);
        let [q, d] = ["q", "d"].map(|name| random([33, 24], name));
        let [k, v] = ["k", "v"].map(|name| random([33, 12], name));
        for config in configs(Heads { queries: 4, kv_heads: 2, width: 6 }) {
            let all = |limits| {
                let documents = Documents::new(&numbers, 3, 11);
                let kernels = crate::config::Kernels::Portable;
                let computing = ComputeConfig { limits, kernels, ..ComputeConfig::default() };
                let output = attend([&q, &k, &v], config, &documents, computing);
                (output, attend_backward([&q, &k, &v], &d, config, &documents, computing))
            };
            let (output, gradients) = all(DeviceLimits::NONE);
            let bytes = |bytes| DeviceLimits { tensor_bytes: bytes, ..DeviceLimits::NONE };
            let work = DeviceLimits { dispatch_flops: 2 * 6 * 4 * 4 * 11, ..DeviceLimits::NONE };
            for limits in [bytes(1), bytes(4 * 4 * 3 * 11), bytes(2 * 4 * 4 * 11 * 11), work] {
                let (parts, part_gradients) = all(limits);
                near("output", &parts, &output);
                for (ours, reference) in part_gradients.qkv.iter().zip(&gradients.qkv) {
                    near("gradient", ours, reference);
                }
            }
        }
    }

    #[test]
    fn documents_are_found_and_padding_is_none() {
        let documents = Documents::new(&[1, 1, 2, 0, 1, 1, 1, 1], 2, 4);
        assert_eq!(documents.spans, [(0, 2), (2, 1), (4, 4)]);
    }
}
