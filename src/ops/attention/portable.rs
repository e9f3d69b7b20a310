//! Attention as tensor operations, for any device: scores under a mask, softmax, mix. A block of
//! queries at a time, so that scores stay within what the device takes, and keys that come after
//! a block are never looked at. The gradient is taken by hand: a block's weights are computed
//! again instead of being kept.

#[cfg(feature = "gpu")]
use burn::tensor::Int;
use burn::tensor::{Tensor, activation::softmax};

use super::blocks::{QueryBlock, Seen};
use super::{AttentionGradients, AttentionInputs, Documents};
use crate::device::ComputeConfig;
#[cfg(feature = "gpu")]
use crate::ops::gpu;
use crate::ops::{AttentionConfig, Heads, product};

/// Rows `[tokens, heads · width]` of a block as `[rows, queries, heads, width]`.
fn part(
    x: &Tensor<2>,
    documents: &Documents,
    heads: usize,
    (first_row, rows): (usize, usize),
    (first, count): (usize, usize),
) -> Tensor<4> {
    let (all, length, wide) = (documents.rows, documents.length, x.dims()[1]);
    x.clone()
        .reshape([all, length, wide])
        .slice([first_row..first_row + rows, first..first + count])
        .reshape([rows, count, heads, wide / heads])
}

/// Attention inside the documents of packed rows; `[tokens, …]` in and out.
pub(super) fn packed(
    AttentionInputs { qkv: [q, k, v], sinks }: AttentionInputs,
    config: AttentionConfig,
    documents: &Documents,
    blocks: &[QueryBlock],
    computing: ComputeConfig,
) -> Tensor<2> {
    let (heads, wide) = (config.heads, config.query_width());
    let outputs = blocks.iter().map(|block| {
        let q = fold(part(q, documents, heads.queries, block.rows, block.queries), heads);
        let k = part(k, documents, heads.kv_heads, block.rows, block.keys).swap_dims(1, 2);
        let v = part(v, documents, heads.kv_heads, block.rows, block.keys).swap_dims(1, 2);
        let weights = match &block.seen {
            Seen::Mask(mask) => {
                weights(scores(q, k, config, computing), Some(mask), sinks, heads).0
            }
            #[cfg(feature = "gpu")]
            Seen::Numbers(numbers) => {
                let raw = product(q, k.transpose(), computing.arithmetic);
                let rows = block.score_rows(config, documents);
                gpu::weights(raw, numbers, rows, computing.arithmetic.factors())
            }
        };
        let mixed = product(weights, v, computing.arithmetic);
        unfold(mixed, heads).reshape([block.rows.1 * block.queries.1, wide])
    });
    joined(outputs.collect(), documents, blocks)
}

/// One after the other; the only one as it is.
fn whole(mut parts: Vec<Tensor<2>>) -> Tensor<2> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
}

/// Blocks one after the other as rows of the whole: `[tokens, wide]`.
fn joined(parts: Vec<Tensor<2>>, documents: &Documents, blocks: &[QueryBlock]) -> Tensor<2> {
    if parts.len() == 1 {
        return whole(parts);
    }
    let wide = parts[0].dims()[1];
    let mut rows: Vec<Tensor<2>> = Vec::new();
    let mut row: Vec<Tensor<3>> = Vec::new();
    for (part, block) in parts.into_iter().zip(blocks) {
        row.push(part.reshape([block.rows.1, block.queries.1, wide]));
        if block.end() == documents.length {
            let whole = Tensor::cat(std::mem::take(&mut row), 1);
            rows.push(whole.reshape([block.rows.1 * documents.length, wide]));
        }
    }
    Tensor::cat(rows, 0)
}

/// `[rows, length, heads, width]` to `[rows, kv_heads, repeat · length, width]`: queries of a group
/// are folded into the length, so that keys and values are never repeated.
fn fold(x: Tensor<4>, heads: Heads) -> Tensor<4> {
    let [rows, length, count, width] = x.dims();
    let repeat = count / heads.kv_heads;
    x.swap_dims(1, 2).reshape([rows, heads.kv_heads, repeat * length, width])
}

/// Back to `[rows, length, heads · width]`.
fn unfold(x: Tensor<4>, heads: Heads) -> Tensor<3> {
    let [rows, kv_heads, folded, width] = x.dims();
    let length = folded * kv_heads / heads.queries;
    x.reshape([rows, heads.queries, length, width]).swap_dims(1, 2).reshape([
        rows,
        length,
        heads.queries * width,
    ])
}

/// Scores, `[rows, kv_heads, repeat · queries, keys]`, of folded queries and
/// `k: [rows, kv_heads, keys, width]`.
fn scores(
    q: Tensor<4>,
    k: Tensor<4>,
    config: AttentionConfig,
    computing: ComputeConfig,
) -> Tensor<4> {
    let scores = product(q.mul_scalar(config.scale), k.transpose(), computing.arithmetic);
    match config.soft_cap {
        None => scores,
        Some(cap) => scores.div_scalar(cap).tanh().mul_scalar(cap),
    }
}

/// Their softmax under a mask, of the same shape; and the weights of the sinks, if there are some,
/// with a single key.
fn weights(
    scores: Tensor<4>,
    mask: Option<&Tensor<4>>,
    sinks: Option<&Tensor<1>>,
    heads: Heads,
) -> (Tensor<4>, Option<Tensor<4>>) {
    let [rows, kv_heads, folded, keys] = scores.dims();
    let queries = folded * kv_heads / heads.queries;
    let mut scores = scores.reshape([rows, heads.queries, queries, keys]);
    if let Some(mask) = mask {
        scores = scores + mask.clone();
    }
    let folded_again = |x: Tensor<4>, keys| x.reshape([rows, kv_heads, folded, keys]);
    let Some(sinks) = sinks else { return (folded_again(softmax(scores, 3), keys), None) };
    let sinks = sinks.clone().reshape([1, heads.queries, 1, 1]);
    let sinks = sinks.expand([rows, heads.queries, queries, 1]);
    let weights = softmax(Tensor::cat(vec![scores, sinks], 3), 3);
    let of_sinks = folded_again(weights.clone().narrow(3, keys, 1), 1);
    (folded_again(weights.narrow(3, 0, keys), keys), Some(of_sinks))
}

/// The gradients of q, k and v. With weights P: dV = Pᵀ·dO; dS = P ⊙ (dP − rowsum(dP ⊙ P)) where
/// dP = dO·Vᵀ; dQ = s·dS·K; dK = s·dSᵀ·Q. A cap c of scores S makes dS of (1 − (S/c)²) ⊙ dS. A
/// sink has a weight p of which nothing is mixed: its gradient is the sum of −p · rowsum(dP ⊙ P).
pub(super) fn backward(
    AttentionInputs { qkv: [q, k, v], sinks }: AttentionInputs,
    d_output: &Tensor<2>,
    config: AttentionConfig,
    documents: &Documents,
    blocks: &[QueryBlock],
    computing: ComputeConfig,
) -> AttentionGradients {
    let heads = config.heads;
    let (wide, narrow) = (config.query_width(), config.key_width());
    let mut d_queries = Vec::new();
    // Gradients of keys and values of the rows that are worked on, and of those that are done.
    let mut open: Option<[Tensor<4>; 2]> = None;
    let mut done: [Vec<Tensor<2>>; 2] = [Vec::new(), Vec::new()];
    let mut d_sinks: Option<Tensor<1>> = None;
    for block in blocks {
        let q = fold(part(q, documents, heads.queries, block.rows, block.queries), heads);
        let k = part(k, documents, heads.kv_heads, block.rows, block.keys).swap_dims(1, 2);
        let v = part(v, documents, heads.kv_heads, block.rows, block.keys).swap_dims(1, 2);
        let d = fold(part(d_output, documents, heads.queries, block.rows, block.queries), heads);

        let [d_q, d_k, d_v] = match &block.seen {
            Seen::Mask(mask) => {
                let of = (mask, sinks, &mut d_sinks);
                backward_masked([q, k, v], d, of, (config, block), computing)
            }
            #[cfg(feature = "gpu")]
            Seen::Numbers(numbers) => {
                let rows = block.score_rows(config, documents);
                backward_on_gpu([q, k, v], d, (numbers, rows), computing)
            }
        };

        d_queries.push(unfold(d_q, heads).reshape([block.rows.1 * block.queries.1, wide]));
        open = Some(match open.take() {
            Some([keys, values]) => {
                [(keys, d_k), (values, d_v)].map(|(sum, more)| longer(sum, more, block.keys.0))
            }
            None => [d_k, d_v],
        });
        if block.end() == documents.length {
            let sums = open.take().expect("it was put there just now");
            for (sum, done) in sums.into_iter().zip(&mut done) {
                let tokens = block.rows.1 * documents.length;
                done.push(sum.swap_dims(1, 2).reshape([tokens, narrow]));
            }
        }
    }
    let [d_keys, d_values] = done.map(whole);
    let qkv = [joined(d_queries, documents, blocks), d_keys, d_values];
    AttentionGradients { qkv, sinks: d_sinks }
}

/// The gradients of a block by tensor operations; that of the sinks is added to the others.
fn backward_masked(
    [q, k, v]: [Tensor<4>; 3],
    d: Tensor<4>,
    (mask, sinks, d_sinks): (&Tensor<4>, Option<&Tensor<1>>, &mut Option<Tensor<1>>),
    (config, block): (AttentionConfig, &QueryBlock),
    computing: ComputeConfig,
) -> [Tensor<4>; 3] {
    let (heads, arithmetic) = (config.heads, computing.arithmetic);
    let scores = scores(q.clone(), k.clone(), config, computing);
    let (weights, of_sinks) = weights(scores.clone(), Some(mask), sinks, heads);
    let d_v = product(weights.clone().transpose(), d.clone(), arithmetic);
    let d_weights = product(d, v.transpose(), arithmetic);
    let shared = (d_weights.clone() * weights.clone()).sum_dim(3);
    if let Some(weights) = of_sinks {
        let d = (weights * shared.clone()).neg();
        let d = d.reshape([block.rows.1, heads.queries, block.queries.1]);
        let d = d.sum_dim(2).sum_dim(0).reshape([heads.queries]);
        *d_sinks = Some(d_sinks.take().map_or(d.clone(), |sum| sum + d));
    }
    let mut d_scores = weights * (d_weights - shared);
    if let Some(cap) = config.soft_cap {
        let slope = scores.div_scalar(cap).square().neg().add_scalar(1.0);
        d_scores = d_scores * slope;
    }
    let d_q = product(d_scores.clone(), k, arithmetic).mul_scalar(config.scale);
    let d_k = product(d_scores.transpose(), q, arithmetic).mul_scalar(config.scale);
    [d_q, d_k, d_v]
}

/// The same, with one kernel between the products.
#[cfg(feature = "gpu")]
fn backward_on_gpu(
    [q, k, v]: [Tensor<4>; 3],
    d: Tensor<4>,
    (numbers, rows): (&Tensor<1, Int>, gpu::ScoreRows),
    computing: ComputeConfig,
) -> [Tensor<4>; 3] {
    let arithmetic = computing.arithmetic;
    // Two products take the keys: they are put in order once.
    let k = gpu::in_order(k);
    let raw = product(q.clone(), k.clone().transpose(), arithmetic);
    let d_weights = product(d.clone(), v.transpose(), arithmetic);
    let [weights, d_scores] =
        gpu::weights_backward(raw, d_weights, numbers, rows, arithmetic.factors());
    let d_v = product(weights.transpose(), d, arithmetic);
    let d_q = product(d_scores.clone(), k, arithmetic);
    let d_k = product(d_scores.transpose(), q, arithmetic);
    [d_q, d_k, d_v]
}

/// `sum + more`, `[rows, kv_heads, keys, width]`, where `more` begins at a key and goes on for
/// longer.
fn longer(sum: Tensor<4>, more: Tensor<4>, first: usize) -> Tensor<4> {
    let (old, new) = (sum.dims()[2], more.dims()[2]);
    let both = old - first;
    let mut parts = Vec::with_capacity(3);
    if first > 0 {
        parts.push(sum.clone().narrow(2, 0, first));
    }
    if both > 0 {
        parts.push(sum.narrow(2, first, both) + more.clone().narrow(2, 0, both));
    }
    if new > both {
        parts.push(more.narrow(2, both, new - both));
    }
    Tensor::cat(parts, 2)
}

/// Attention of one query per row `[rows, 1, heads, width]` over all keys of a cache,
/// `k, v: [rows, keys, kv_heads, width]`; `[rows, 1, heads · width]`.
pub(super) fn over_cache(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    sinks: Option<&Tensor<1>>,
    config: AttentionConfig,
) -> Tensor<3> {
    let (plain, heads) = (ComputeConfig::default(), config.heads);
    let scores = scores(fold(q, heads), k.swap_dims(1, 2), config, plain);
    let (weights, _) = weights(scores, None, sinks, heads);
    unfold(product(weights, v.swap_dims(1, 2), plain.arithmetic), heads)
}
