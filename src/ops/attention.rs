//! Scaled dot-product attention with grouped queries, inside documents only.

use burn::tensor::{Device, Tensor, activation::softmax};

use crate::ops::from_vec;

/// Added to the scores that a query may not see; exp() of it is exactly zero in f32.
const HIDDEN: f32 = f32::MIN;

/// `[rows, 1, length, length]`: zero where a query (row) may see a key (column), else [`HIDDEN`].
///
/// A query sees the keys of its own document up to its own place. Padding sees padding, so that
/// no row of scores is empty.
pub fn attention_mask(documents: &[u32], rows: usize, length: usize, device: &Device) -> Tensor<4> {
    assert_eq!(documents.len(), rows * length, "one document number per position");
    let mut mask = vec![HIDDEN; rows * length * length];
    for (row, documents) in documents.chunks_exact(length).enumerate() {
        for query in 0..length {
            let start = (row * length + query) * length;
            for key in 0..=query {
                if documents[key] == documents[query] {
                    mask[start + key] = 0.0;
                }
            }
        }
    }
    from_vec(mask, [rows, 1, length, length], device)
}

/// Attention of `q: [rows, length, heads, head_dim]` over
/// `k, v: [rows, keys, groups, head_dim]`; heads are a multiple of groups. With a mask of
/// `[rows, 1, length, keys]`; without one, every key is seen. Returns `[rows, length, heads · head_dim]`.
///
/// Queries of one group are folded into the length, so keys and values are never repeated.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<&Tensor<4>>) -> Tensor<3> {
    let [rows, length, heads, width] = q.dims();
    let [_, keys, groups, _] = k.dims();
    let repeat = heads / groups;
    #[expect(clippy::cast_precision_loss)] // head sizes are small
    let scale = 1.0 / (width as f64).sqrt();

    let q = q
        .mul_scalar(scale)
        .reshape([rows, length, groups, repeat * width])
        .swap_dims(1, 2) // [rows, groups, length, repeat · width]
        .reshape([rows, groups, length, repeat, width].map(|n| n as i32))
        .swap_dims(2, 3)
        .reshape([rows, groups, repeat * length, width]);
    let k = k.swap_dims(1, 2); // [rows, groups, keys, width]
    let v = v.swap_dims(1, 2);

    let scores: Tensor<4> = q.matmul(k.transpose()); // [rows, groups, repeat · length, keys]
    let scores = match mask {
        Some(mask) => {
            scores.reshape([rows, groups * repeat, length, keys]) + mask.clone()
        }
        None => scores.reshape([rows, groups * repeat, length, keys]),
    };
    let weights = softmax(scores, 3).reshape([rows, groups, repeat * length, keys]);
    weights
        .matmul(v) // [rows, groups, repeat · length, width]
        .reshape([rows, heads, length, width])
        .swap_dims(1, 2)
        .reshape([rows, length, heads * width])
}
