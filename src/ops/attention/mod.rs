//! Scaled dot-product attention with grouped queries, inside documents only, with its gradient.
//!
//! Two implementations: tensor operations under a mask, for any device; and the kernels of the CPU
//! (`cpu/attention.rs`), which never touch what a query may not see. Tests compare both.

mod portable;

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Tensor};

use crate::device::ComputeConfig;
use crate::ops::{AttentionConfig, cpu};

/// Queries that are computed at once, all of them.
type Blocks = Arc<[portable::QueryBlock]>;

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
    /// For the portable implementation: made when they are needed, and then for all layers of the
    /// same kind.
    blocks: Arc<Mutex<Vec<(AttentionConfig, Blocks)>>>,
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
        Self { rows, length, numbers, spans, blocks: Arc::default() }
    }

    /// First position (flat) and length of each document, padding left out.
    pub fn spans(&self) -> &[(usize, usize)] {
        &self.spans
    }

    /// Limits are those of the device, the same in all layers of a model.
    fn blocks(&self, config: AttentionConfig, computing: ComputeConfig, device: &Device) -> Blocks {
        let mut made = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, blocks)) = made.iter().find(|(of, _)| *of == config) {
            return blocks.clone();
        }
        let blocks: Blocks = portable::blocks(self, config, computing.limits, device).into();
        made.push((config, blocks.clone()));
        blocks
    }
}

/// Attention of plain tensors: `q: [tokens, queries · width]` over
/// `k, v: [tokens, kv_heads · width]`, `[tokens, queries · width]`. What padding gets is left open.
pub fn attend(
    inputs: [&Tensor<2>; 3],
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
) -> Tensor<2> {
    if let Some(output) = cpu::attend(inputs, config, documents.spans(), computing) {
        return output;
    }
    let blocks = documents.blocks(config, computing, &inputs[0].device());
    portable::packed(inputs, config, documents, &blocks, computing)
}

/// Gradients of q, k and v for the gradient `d_output` of what [`attend`] gave, in the portable
/// implementation; the kernels of the CPU have theirs where a whole block is theirs.
pub fn attend_backward(
    inputs: [&Tensor<2>; 3],
    d_output: &Tensor<2>,
    config: AttentionConfig,
    documents: &Documents,
    computing: ComputeConfig,
) -> [Tensor<2>; 3] {
    let blocks = documents.blocks(config, computing, &inputs[0].device());
    portable::backward(inputs, d_output, config, documents, &blocks, computing)
}

/// The same as tensor operations, which a tape can follow; the reference for tests.
pub fn attend_composed(
    inputs: [Tensor<2>; 3],
    config: AttentionConfig,
    documents: &Documents,
) -> Tensor<2> {
    let device = inputs[0].device().inner();
    let plain = ComputeConfig::default();
    let blocks = portable::blocks(documents, config, plain.limits, &device);
    portable::packed(inputs.each_ref(), config, documents, &blocks, plain)
}

/// One new query per row over all keys of a cache: `q: [rows, queries · width]`,
/// `k, v: [rows, keys, kv_heads, width]`. The cache holds what the query sees.
pub fn attend_cached(
    q: Tensor<2>,
    k: Tensor<4>,
    v: Tensor<4>,
    config: AttentionConfig,
) -> Tensor<2> {
    let (rows, heads) = (q.dims()[0], config.heads);
    let q = q.reshape([rows, 1, heads.queries, heads.width]);
    portable::over_cache(q, k, v, config).reshape([rows, config.query_width()])
}

#[cfg(test)]
mod tests {
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

                let inputs = [&q, &k, &v];
                let ours = attend(inputs, config, &documents, ComputeConfig::default());
                let composed = inputs.map(Clone::clone);
                let reference = attend_composed(composed, config, &documents);
                near("output", &ours, &(reference * real));

                // Burn's own gradients of the composed operations.
                let leaves = [&q, &k, &v].map(|x| x.clone().autodiff().require_grad());
                let mixed = attend_composed(leaves.clone(), config, &documents);
                let mut tape = (mixed * d_output.clone()).backward();
                let reference = leaves.map(|leaf| leaf.grad_remove(&mut tape).unwrap());
                let plain = ComputeConfig::default();
                let by_hand = attend_backward(inputs, &d_output, config, &documents, plain);
                for number in 0..3 {
                    near(&format!("by hand {number}"), &by_hand[number], &reference[number]);
                }
            }
        }
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
                for (ours, reference) in part_gradients.iter().zip(&gradients) {
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
