//! Attention as tensor operations, for any device: scores under a mask, softmax, mix.

use burn::tensor::{Device, Tensor, activation::softmax};

use super::{Documents, Heads};
use crate::ops::from_vec;

/// Added to the scores that a query may not see; exp() of it is exactly zero in f32.
const HIDDEN: f32 = f32::MIN;

/// `[rows, 1, length, length]`: zero where a query (row) may see a key (column), else [`HIDDEN`].
///
/// A query sees the keys of its own document up to its own place. Padding sees padding, so that
/// no row of scores is empty.
pub(super) fn mask(numbers: &[u32], rows: usize, length: usize, device: &Device) -> Tensor<4> {
    let mut mask = vec![HIDDEN; rows * length * length];
    for (row, numbers) in numbers.chunks_exact(length).enumerate() {
        for query in 0..length {
            let start = (row * length + query) * length;
            for key in 0..=query {
                if numbers[key] == numbers[query] {
                    mask[start + key] = 0.0;
                }
            }
        }
    }
    from_vec(mask, [rows, 1, length, length], device)
}

/// Attention inside the documents of packed rows; `[tokens, …]` in and out.
pub(super) fn packed(
    [q, k, v]: [Tensor<2>; 3],
    heads: Heads,
    documents: &Documents,
    device: &Device,
) -> Tensor<2> {
    let (rows, length) = (documents.rows, documents.length);
    let place = |x: Tensor<2>, heads_of: usize| x.reshape([rows, length, heads_of, heads.width]);
    let mask = documents.mask(device);
    let mixed = attention(
        place(q, heads.queries),
        place(k, heads.groups),
        place(v, heads.groups),
        Some(&mask),
    );
    mixed.reshape([rows * length, heads.queries * heads.width])
}

/// The gradients, from a tape over [`packed`].
pub(super) fn backward(
    inputs: [&Tensor<2>; 3],
    d_output: Tensor<2>,
    heads: Heads,
    documents: &Documents,
    device: &Device,
) -> [Tensor<2>; 3] {
    let leaves = inputs.map(|x| x.clone().autodiff().require_grad());
    let mixed = packed(leaves.clone(), heads, documents, device);
    let mut tape = (mixed * d_output).backward();
    leaves.map(|leaf| leaf.grad_remove(&mut tape).expect("all three are leaves of the tape"))
}

/// Attention of `q: [rows, length, heads, width]` over `k, v: [rows, keys, groups, width]` with an
/// additive mask of `[rows, 1, length, keys]`; without one, every key is seen. Returns
/// `[rows, length, heads · width]`.
///
/// Queries of one group are folded into the length, so keys and values are never repeated.
pub(super) fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: Option<&Tensor<4>>,
) -> Tensor<3> {
    let [rows, length, heads, width] = q.dims();
    let [_, keys, groups, _] = k.dims();
    let repeat = heads / groups;
    #[expect(clippy::cast_precision_loss)] // head sizes are small
    let scale = 1.0 / (width as f64).sqrt();

    let q = q
        .mul_scalar(scale)
        .swap_dims(1, 2) // [rows, heads, length, width]; a group's heads are neighbours
        .reshape([rows, groups, repeat * length, width]);
    let k = k.swap_dims(1, 2); // [rows, groups, keys, width]
    let v = v.swap_dims(1, 2);

    let scores: Tensor<4> = q.matmul(k.transpose()); // [rows, groups, repeat · length, keys]
    let mut scores = scores.reshape([rows, heads, length, keys]);
    if let Some(mask) = mask {
        scores = scores + mask.clone();
    }
    let weights = softmax(scores, 3).reshape([rows, groups, repeat * length, keys]);
    weights
        .matmul(v) // [rows, groups, repeat · length, width]
        .reshape([rows, heads, length, width])
        .swap_dims(1, 2)
        .reshape([rows, length, heads * width])
}
