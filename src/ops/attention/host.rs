//! Attention on the CPU: one task per document and head, working on what a query may see and
//! nothing else. Backward recomputes the weights from saved norms (Dao et al. 2022, without
//! the tiling: a document's scores fit into cache). Sums run in a fixed order, so results do not
//! depend on the number of threads.

use burn::tensor::Tensor;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::{Documents, Heads};
use crate::ops::{from_vec, host};

/// The rows of one head of one document, copied out of the interleaved layout.
struct Head {
    /// `[length, width]`.
    rows: Vec<f32>,
    /// `[width, length]`: inner loops over keys run along memory.
    columns: Vec<f32>,
}

impl Head {
    fn gather(
        source: &[f32],
        stride: usize,
        at: usize,
        width: usize,
        span: (usize, usize),
    ) -> Self {
        let (start, length) = span;
        let mut rows = Vec::with_capacity(length * width);
        let mut columns = vec![0.0; length * width];
        for place in 0..length {
            let from = (start + place) * stride + at;
            let row = &source[from..from + width];
            rows.extend_from_slice(row);
            for (column, value) in row.iter().enumerate() {
                columns[column * length + place] = *value;
            }
        }
        Self { rows, columns }
    }
}

/// `target += factor · source`.
#[inline(always)]
fn add_scaled(target: &mut [f32], factor: f32, source: &[f32]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += factor * source;
    }
}

/// `target[j] = Σ_c row[c] · columns[c][j]` for the first `target.len()` columns.
#[inline(always)]
fn scores(target: &mut [f32], row: &[f32], columns: &[f32], length: usize) {
    target.fill(0.0);
    let seen = target.len();
    for (column, factor) in row.iter().enumerate() {
        add_scaled(target, *factor, &columns[column * length..column * length + seen]);
    }
}

/// Scores of one query, scaled; `row` is scratch. Forward and backward use this one function, so
/// that both see the same bits.
#[inline(always)]
fn scaled_scores(target: &mut [f32], row: &mut [f32], query: &[f32], k: &Head, scale: f32) {
    for (scaled, value) in row.iter_mut().zip(query) {
        *scaled = value * scale;
    }
    scores(target, row, &k.columns, k.columns.len() / row.len());
}

fn scale_of(width: usize) -> f32 {
    #[expect(clippy::cast_precision_loss)] // head sizes are small
    let width = width as f32;
    1.0 / width.sqrt()
}

/// The tasks: every document with every head of `count`.
fn tasks(documents: &Documents, count: usize) -> Vec<((usize, usize), usize)> {
    let spans = documents.spans.iter();
    spans.flat_map(|span| (0..count).map(move |head| (*span, head))).collect()
}

/// Output `[tokens, queries · width]` and norms `[queries][tokens]`.
pub(super) fn forward(
    inputs: [&Tensor<2>; 3],
    heads: Heads,
    documents: &Documents,
) -> (Tensor<2>, Vec<(f32, f32)>) {
    let device = inputs[0].device();
    let [q, k, v] = inputs.map(|x| host(x.clone()));
    let tokens = documents.rows * documents.length;
    let (wide, narrow) = (heads.queries * heads.width, heads.groups * heads.width);
    let repeat = heads.queries / heads.groups;
    let tasks = tasks(documents, heads.queries);
    let parts: Vec<(Vec<f32>, Vec<(f32, f32)>)> = tasks
        .par_iter()
        .map(|&(span, head)| {
            let group = head / repeat;
            let q = Head::gather(&q, wide, head * heads.width, heads.width, span);
            let k = Head::gather(&k, narrow, group * heads.width, heads.width, span);
            let v = Head::gather(&v, narrow, group * heads.width, heads.width, span);
            Arch::new().dispatch(Forward {
                q: &q,
                k: &k,
                v: &v,
                width: heads.width,
                length: span.1,
            })
        })
        .collect();

    let mut output = vec![0.0; tokens * wide];
    let mut norms = vec![(0.0, 1.0); heads.queries * tokens];
    for (((start, length), head), (mixed, sums)) in tasks.into_iter().zip(parts) {
        scatter(&mut output, &mixed, wide, head * heads.width, heads.width, start);
        let at = head * tokens + start;
        norms[at..at + length].copy_from_slice(&sums);
    }
    (from_vec(output, [tokens, wide], &device), norms)
}

/// Puts `[length, width]` into the interleaved layout.
fn scatter(target: &mut [f32], rows: &[f32], stride: usize, at: usize, width: usize, start: usize) {
    for (place, row) in rows.chunks_exact(width).enumerate() {
        let to = (start + place) * stride + at;
        target[to..to + width].copy_from_slice(row);
    }
}

/// One head of one document. A struct with an inlined body rather than a closure, so that the loops
/// are compiled for the vector instructions that are found at run time.
struct Forward<'a> {
    q: &'a Head,
    k: &'a Head,
    v: &'a Head,
    width: usize,
    length: usize,
}

impl NullaryFnOnce for Forward<'_> {
    type Output = (Vec<f32>, Vec<(f32, f32)>);

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Self { q, k, v, width, length } = self;
        let scale = scale_of(width);
        let mut mixed = vec![0.0; length * width];
        let mut norms = Vec::with_capacity(length);
        let mut weights = vec![0.0; length];
        let mut row = vec![0.0; width];
        for query in 0..length {
            let weights = &mut weights[..=query];
            let place = query * width..(query + 1) * width;
            scaled_scores(weights, &mut row, &q.rows[place], k, scale);
            let max = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for weight in weights.iter_mut() {
                *weight = (*weight - max).exp();
                sum += *weight;
            }
            norms.push((max, sum));
            let mixed = &mut mixed[query * width..(query + 1) * width];
            for (key, weight) in weights.iter().enumerate() {
                add_scaled(mixed, weight / sum, &v.rows[key * width..(key + 1) * width]);
            }
        }
        (mixed, norms)
    }
}

/// Gradients of q, k and v.
pub(super) fn backward(
    inputs: [&Tensor<2>; 3],
    output: &Tensor<2>,
    norms: &[(f32, f32)],
    d_output: Tensor<2>,
    heads: Heads,
    documents: &Documents,
) -> [Tensor<2>; 3] {
    let device = inputs[0].device();
    let [q, k, v] = inputs.map(|x| host(x.clone()));
    let (output, d_output) = (host(output.clone()), host(d_output));
    let tokens = documents.rows * documents.length;
    let (width, wide, narrow) =
        (heads.width, heads.queries * heads.width, heads.groups * heads.width);
    let repeat = heads.queries / heads.groups;
    // One task per group: its queries add to the same keys and values, in a fixed order.
    let tasks = tasks(documents, heads.groups);
    let parts: Vec<(Vec<Vec<f32>>, Vec<f32>, Vec<f32>)> = tasks
        .par_iter()
        .map(|&(span, group)| {
            let k = Head::gather(&k, narrow, group * width, width, span);
            let v = Head::gather(&v, narrow, group * width, width, span);
            let mut dk = vec![0.0; span.1 * width];
            let mut dv = vec![0.0; span.1 * width];
            let dq = (group * repeat..(group + 1) * repeat)
                .map(|head| {
                    let gather = |source| Head::gather(source, wide, head * width, width, span);
                    let (q, o, d) = (gather(&q), gather(&output), gather(&d_output));
                    let at = head * tokens + span.0;
                    let norms = &norms[at..at + span.1];
                    Arch::new().dispatch(Backward {
                        inputs: [&q, &k, &v],
                        output: &o,
                        d_output: &d,
                        norms,
                        width,
                        dk: &mut dk,
                        dv: &mut dv,
                    })
                })
                .collect();
            (dq, dk, dv)
        })
        .collect();

    let mut dq = vec![0.0; tokens * wide];
    let mut dk = vec![0.0; tokens * narrow];
    let mut dv = vec![0.0; tokens * narrow];
    for (((start, _), group), (queries, keys, values)) in tasks.into_iter().zip(parts) {
        for (number, rows) in queries.iter().enumerate() {
            let head = group * repeat + number;
            scatter(&mut dq, rows, wide, head * width, width, start);
        }
        scatter(&mut dk, &keys, narrow, group * width, width, start);
        scatter(&mut dv, &values, narrow, group * width, width, start);
    }
    [
        from_vec(dq, [tokens, wide], &device),
        from_vec(dk, [tokens, narrow], &device),
        from_vec(dv, [tokens, narrow], &device),
    ]
}

/// With weights P: dV += Pᵀ·dO; dS = P ⊙ (dO·Vᵀ − rowsum(dO ⊙ O)); dQ = s·dS·K; dK += s·dSᵀ·Q.
/// The gradients of a group's keys and values are summed over its queries.
struct Backward<'a> {
    inputs: [&'a Head; 3],
    output: &'a Head,
    d_output: &'a Head,
    norms: &'a [(f32, f32)],
    width: usize,
    dk: &'a mut [f32],
    dv: &'a mut [f32],
}

impl NullaryFnOnce for Backward<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn call(self) -> Vec<f32> {
        let Self { inputs: [q, k, v], output, d_output, norms, width, dk, dv } = self;
        let length = norms.len();
        let scale = scale_of(width);
        let mut dq = vec![0.0; length * width];
        let mut weights = vec![0.0; length];
        let mut d_weights = vec![0.0; length];
        let mut row = vec![0.0; width];
        for query in 0..length {
            let place = query * width..(query + 1) * width;
            let q = &q.rows[place.clone()];
            let d_mixed = &d_output.rows[place.clone()];
            let weights = &mut weights[..=query];
            let d_weights = &mut d_weights[..=query];
            scaled_scores(weights, &mut row, q, k, scale);
            let (max, sum) = norms[query];
            for weight in weights.iter_mut() {
                *weight = (*weight - max).exp() / sum;
            }
            scores(d_weights, d_mixed, &v.columns, length);
            let mixed = &output.rows[place.clone()];
            let shared: f32 = d_mixed.iter().zip(mixed).map(|(d, o)| d * o).sum();
            let dq = &mut dq[place];
            for key in 0..=query {
                let row = key * width..(key + 1) * width;
                add_scaled(&mut dv[row.clone()], weights[key], d_mixed);
                let d_score = weights[key] * (d_weights[key] - shared) * scale;
                add_scaled(dq, d_score, &k.rows[row.clone()]);
                add_scaled(&mut dk[row], d_score, q);
            }
        }
        dq
    }
}
