//! Scaled dot-product attention with grouped queries, inside documents only, with its gradient.
//!
//! Two implementations: on the CPU loops over documents that never touch what a query may not see;
//! elsewhere tensor operations under a mask. Both are compared in the tests.

mod host;
mod portable;

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor};

use crate::device::Computing;

/// How queries, keys and values are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Heads of keys and values; divides `queries`.
    pub groups: usize,
    /// Width of a head.
    pub width: usize,
}

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
    /// For the portable implementation: made when it is needed, and then for all layers.
    blocks: Arc<OnceLock<Vec<portable::Block>>>,
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

    /// All layers of a model have the same heads and limits.
    fn blocks(&self, heads: Heads, computing: Computing, device: &Device) -> &[portable::Block] {
        self.blocks.get_or_init(|| portable::blocks(self, heads, computing.limits, device))
    }
}

/// What attention returns, with what its gradient needs besides the inputs.
pub struct Attended {
    /// `[tokens, queries · width]`; zero at padding on the CPU.
    pub output: Tensor<2>,
    /// Largest score and sum of exponentials of each query, `[queries][tokens]`; CPU only. Kept
    /// apart, so that the backward pass has the weights of the forward pass bit for bit.
    norms: Vec<(f32, f32)>,
}

/// Attention of plain tensors: `q: [tokens, queries · width]` over
/// `k, v: [tokens, groups · width]`. The CPU computes it in f32 whatever the arithmetic is.
pub fn attend(
    q: &Tensor<2>,
    k: &Tensor<2>,
    v: &Tensor<2>,
    heads: Heads,
    documents: &Documents,
    computing: Computing,
) -> Attended {
    let device = q.device();
    if is_cpu(&device) {
        let (output, norms) = host::forward([q, k, v], heads, documents);
        return Attended { output, norms };
    }
    let blocks = documents.blocks(heads, computing, &device);
    let output = portable::packed([q, k, v], heads, documents, blocks, computing);
    Attended { output, norms: Vec::new() }
}

/// Gradients of q, k and v for the gradient `d_output` of [`Attended::output`].
pub fn attend_backward(
    [q, k, v]: [&Tensor<2>; 3],
    attended: &Attended,
    d_output: Tensor<2>,
    heads: Heads,
    documents: &Documents,
    computing: Computing,
) -> [Tensor<2>; 3] {
    let device = q.device();
    if is_cpu(&device) {
        let norms = &attended.norms;
        return host::backward([q, k, v], &attended.output, norms, d_output, heads, documents);
    }
    let blocks = documents.blocks(heads, computing, &device);
    portable::backward([q, k, v], &d_output, heads, documents, blocks, computing)
}

/// The same as tensor operations, which a tape can follow; the reference for tests.
pub fn attend_composed(inputs: [Tensor<2>; 3], heads: Heads, documents: &Documents) -> Tensor<2> {
    let device = inputs[0].device().inner();
    let plain = Computing::default();
    let blocks = portable::blocks(documents, heads, plain.limits, &device);
    portable::packed(inputs.each_ref(), heads, documents, &blocks, plain)
}

/// What other devices than the CPU compute, here: for comparisons of the two.
pub fn attend_portable(
    [q, k, v]: [&Tensor<2>; 3],
    d_output: &Tensor<2>,
    heads: Heads,
    documents: &Documents,
    computing: Computing,
) -> (Tensor<2>, [Tensor<2>; 3]) {
    let blocks = portable::blocks(documents, heads, computing.limits, &q.device());
    let output = portable::packed([q, k, v], heads, documents, &blocks, computing);
    let inputs = [q, k, v];
    (output, portable::backward(inputs, d_output, heads, documents, &blocks, computing))
}

/// One new query per row over all keys of a cache: `q: [rows, queries · width]`,
/// `k, v: [rows, keys, groups, width]`.
pub fn attend_cached(q: Tensor<2>, k: Tensor<4>, v: Tensor<4>, heads: Heads) -> Tensor<2> {
    let rows = q.dims()[0];
    let q = q.reshape([rows, 1, heads.queries, heads.width]);
    portable::over_cache(q, k, v, heads).reshape([rows, heads.queries * heads.width])
}

fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Limits;
    use crate::ops::{from_vec, host};
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

    /// The loops of the CPU against the composed tensor operations and Burn's own gradients.
    #[test]
    fn the_cpu_implementation_equals_the_portable_one_forward_and_backward() {
        let device = Device::flex();
        for (queries, groups, width) in [(4, 2, 6), (3, 3, 8), (6, 1, 5)] {
            let heads = Heads { queries, groups, width };
            let numbers = [1, 1, 1, 2, 2, 2, 2, 3, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2];
            let documents = Documents::new(&numbers, 2, 10);
            let q = random([20, queries * width], "q");
            let k = random([20, groups * width], "k");
            let v = random([20, groups * width], "v");
            // Padding: the portable one lets padding see padding, ours leaves it zero.
            let real = numbers.iter().map(|n| if *n > 0 { 1.0 } else { 0.0 }).collect();
            let real: Tensor<2> = from_vec(real, [20, 1], &device);
            let d_output = random([20, queries * width], "d") * real.clone();

            let plain = Computing::default();
            let ours = attend(&q, &k, &v, heads, &documents, plain);
            let reference = attend_composed([q.clone(), k.clone(), v.clone()], heads, &documents);
            near("output", &ours.output, &(reference * real));

            // Burn's own gradients of the composed operations.
            let leaves = [&q, &k, &v].map(|x| x.clone().autodiff().require_grad());
            let mixed = attend_composed(leaves.clone(), heads, &documents);
            let mut tape = (mixed * d_output.clone()).backward();
            let reference = leaves.map(|leaf| leaf.grad_remove(&mut tape).unwrap());
            let inputs = [&q, &k, &v];
            let d = d_output.clone();
            let here = attend_backward(inputs, &ours, d, heads, &documents, plain);
            let (_, by_hand) = attend_portable(inputs, &d_output, heads, &documents, plain);
            for number in 0..3 {
                near(&format!("gradient {number}"), &here[number], &reference[number]);
                near(&format!("by hand {number}"), &by_hand[number], &reference[number]);
            }
        }
    }

    #[test]
    fn blocks_of_queries_and_rows_change_nothing() {
        let heads = Heads { queries: 4, groups: 2, width: 6 };
        let numbers = [[1_u32; 11], [2; 11], [3; 11]].concat();
        let mut numbers: Vec<u32> = numbers.iter().map(|n| n % 3).collect();
        numbers[4..11].fill(7);
        let documents = Documents::new(&numbers, 3, 11);
        let [q, d] = ["q", "d"].map(|name| random([33, 24], name));
        let [k, v] = ["k", "v"].map(|name| random([33, 12], name));
        let all = |limits| {
            let computing = Computing { limits, ..Computing::default() };
            attend_portable([&q, &k, &v], &d, heads, &documents, computing)
        };
        let (output, gradients) = all(Limits::NONE);
        let bytes = |bytes| Limits { tensor_bytes: bytes, ..Limits::NONE };
        let work = Limits { dispatch_flops: 2 * 6 * 4 * 4 * 11, ..Limits::NONE };
        for limits in [bytes(1), bytes(4 * 4 * 3 * 11), bytes(2 * 4 * 4 * 11 * 11), work] {
            let (parts, part_gradients) = all(limits);
            near("output", &parts, &output);
            for (ours, reference) in part_gradients.iter().zip(&gradients) {
                near("gradient", ours, reference);
            }
        }
    }

    #[test]
    fn documents_are_found_and_padding_is_none() {
        let documents = Documents::new(&[1, 1, 2, 0, 1, 1, 1, 1], 2, 4);
        assert_eq!(documents.spans, [(0, 2), (2, 1), (4, 4)]);
    }
}
