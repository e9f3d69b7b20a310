//! Between the products of attention: the softmax of scores within documents and windows, and its
//! gradient. A workgroup per row of scores; what a query may not see is compared here, from the
//! numbers of documents, so that no mask is made or uploaded.

use burn::tensor::{DType, Int, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::launch::{elem, empty, grid, max_of_units, moves, sum_of_units, units_of_row};
use super::{cube, plain};

/// Less than any score.
pub(super) const HIDDEN: f32 = -3.0e38;

/// Which rows of scores there are and what they may see.
#[derive(Debug, Clone, Copy)]
pub struct ScoreRows {
    /// Heads of queries, and queries of each.
    pub heads: usize,
    /// Queries of a head.
    pub queries: usize,
    /// Positions in a row of the micro-batch.
    pub length: usize,
    /// The first row, query and key.
    pub first: [usize; 3],
    /// Keys that a query sees at most; all before it where this is `None`.
    pub window: Option<usize>,
    /// What scores are multiplied with.
    pub scale: f32,
    /// What they stay below.
    pub soft_cap: Option<f32>,
}

/// The position of a query of this workgroup, and where the numbers of its row's documents begin.
#[cube]
fn query_of(
    first_row: u32,
    first_query: u32,
    #[comptime] heads: usize,
    #[comptime] queries: usize,
    #[comptime] length: usize,
) -> (usize, usize) {
    let row = CUBE_POS / comptime!(heads * queries) + first_row as usize;
    (CUBE_POS % queries + first_query as usize, row * length)
}

/// Whether the query at a position sees a key; `documents` is where the numbers of its row begin.
#[cube]
fn sees(
    position: usize,
    documents: usize,
    key: usize,
    numbers: &[i32],
    #[comptime] window: usize,
) -> bool {
    let same = numbers[documents + key] == numbers[documents + position];
    same && key <= position && key + window > position
}

/// A score, scaled and capped.
#[cube]
pub(super) fn score(raw: f32, scale: f32, cap: f32, #[comptime] capped: bool) -> f32 {
    if comptime!(capped) { (raw * scale / cap).tanh() * cap } else { raw * scale }
}

/// The largest score that the query of this workgroup sees: its row of scores begins at `start`,
/// with that of the key `first`.
#[cube]
fn largest_seen(
    room: &mut Shared<[f32]>,
    scores: &[f32],
    numbers: &[i32],
    start: usize,
    position: usize,
    documents: usize,
    first: usize,
    scale: f32,
    cap: f32,
    #[comptime] keys: usize,
    #[comptime] window: usize,
    #[comptime] capped: bool,
    #[comptime] units: usize,
) -> f32 {
    let mut most = f32::new(HIDDEN);
    let mut key = UNIT_POS as usize;
    while key < keys {
        if sees(position, documents, first + key, numbers, window) {
            most = max(most, score(scores[start + key], scale, cap, capped));
        }
        key += units;
    }
    max_of_units(room, most)
}

#[cube(launch)]
fn attention_weights<O: Float>(
    scores: &[f32],
    numbers: &[i32],
    weights: &mut [O],
    first_row: u32,
    first_query: u32,
    first_key: u32,
    scale: f32,
    cap: f32,
    #[comptime] shape: [usize; 5],
    #[comptime] capped: bool,
    #[comptime] units: usize,
    #[define(O)] _to: ElemType,
) {
    let [heads, queries, keys, length, window] = comptime!(shape);
    let start = CUBE_POS * keys;
    if start >= weights.len() {
        terminate!();
    }
    let (position, documents) = query_of(first_row, first_query, heads, queries, length);
    let first = first_key as usize;
    let mut room = Shared::<[f32]>::new_slice(units);
    let most = largest_seen(
        &mut room, scores, numbers, start, position, documents, first, scale, cap, keys, window,
        capped, units,
    );
    let mut sum = f32::new(0.0);
    let mut key = UNIT_POS as usize;
    while key < keys {
        if sees(position, documents, first + key, numbers, window) {
            sum += (score(scores[start + key], scale, cap, capped) - most).exp();
        }
        key += units;
    }
    let total = sum_of_units(&mut room, sum);
    let mut key = UNIT_POS as usize;
    while key < keys {
        let mut weight = f32::new(0.0);
        if sees(position, documents, first + key, numbers, window) {
            weight = (score(scores[start + key], scale, cap, capped) - most).exp() / total;
        }
        weights[start + key] = O::cast_from(weight);
        key += units;
    }
}

/// Weights again, and the gradient of scores before scale and cap, from that of the weights:
/// `P ⊙ (dP − Σ dP ⊙ P)`, times the slopes of both.
#[cube(launch)]
fn attention_weights_backward<O: Float>(
    scores: &[f32],
    d_weights: &[f32],
    numbers: &[i32],
    weights: &mut [O],
    d_scores: &mut [O],
    first_row: u32,
    first_query: u32,
    first_key: u32,
    scale: f32,
    cap: f32,
    #[comptime] shape: [usize; 5],
    #[comptime] capped: bool,
    #[comptime] units: usize,
    #[define(O)] _to: ElemType,
) {
    let [heads, queries, keys, length, window] = comptime!(shape);
    let start = CUBE_POS * keys;
    if start >= weights.len() {
        terminate!();
    }
    let (position, documents) = query_of(first_row, first_query, heads, queries, length);
    let first = first_key as usize;
    let mut room = Shared::<[f32]>::new_slice(units);
    let most = largest_seen(
        &mut room, scores, numbers, start, position, documents, first, scale, cap, keys, window,
        capped, units,
    );
    let mut sum = f32::new(0.0);
    let mut along = f32::new(0.0);
    let mut key = UNIT_POS as usize;
    while key < keys {
        if sees(position, documents, first + key, numbers, window) {
            let weight = (score(scores[start + key], scale, cap, capped) - most).exp();
            sum += weight;
            along += weight * d_weights[start + key];
        }
        key += units;
    }
    let total = sum_of_units(&mut room, sum);
    let along = sum_of_units(&mut room, along) / total;
    let mut key = UNIT_POS as usize;
    while key < keys {
        let mut weight = f32::new(0.0);
        let mut slope = f32::new(0.0);
        if sees(position, documents, first + key, numbers, window) {
            let seen = score(scores[start + key], scale, cap, capped);
            weight = (seen - most).exp() / total;
            slope = weight * (d_weights[start + key] - along) * scale;
            if comptime!(capped) {
                slope *= f32::new(1.0) - (seen / cap) * (seen / cap);
            }
        }
        weights[start + key] = O::cast_from(weight);
        d_scores[start + key] = O::cast_from(slope);
        key += units;
    }
}

impl ScoreRows {
    fn shape(&self, keys: usize) -> [usize; 5] {
        let window = self.window.unwrap_or(self.length).min(self.length);
        [self.heads, self.queries, keys, self.length, window]
    }

    fn first(&self) -> [u32; 3] {
        self.first.map(|first| u32::try_from(first).expect("rows stay below 2^32 positions"))
    }
}

fn dims(x: &CubeTensor) -> [usize; 4] {
    [0, 1, 2, 3].map(|axis| x.meta.shape()[axis])
}

fn integers(numbers: &Tensor<1, Int>) -> CubeTensor {
    let found = numbers.clone().try_into_primitive::<CubeBackend>();
    found.expect("numbers of documents are where the scores are")
}

/// Weights of `scores: [rows, …, queries, keys]`, of the same shape, in a format.
pub fn weights(scores: Tensor<4>, numbers: &Tensor<1, Int>, of: ScoreRows, to: DType) -> Tensor<4> {
    let scores = into_contiguous(cube(scores));
    let dims = dims(&scores);
    let keys = dims[3];
    let (weights, dim) = (empty(&scores, dims, to), units_of_row(keys));
    let ([row, query, key], client) = (of.first(), scores.client.clone());
    let numbers = integers(numbers);
    let flops = 8 * scores.meta.num_elements();
    moves("AttentionWeights", &[&scores, &numbers], &[&weights], flops);
    attention_weights::launch(
        &client,
        grid(dims[..3].iter().product()),
        dim,
        scores.into_buffer_arg(),
        numbers.into_buffer_arg(),
        weights.clone().into_buffer_arg(),
        row,
        query,
        key,
        of.scale,
        of.soft_cap.unwrap_or(1.0),
        of.shape(keys),
        of.soft_cap.is_some(),
        dim.x as usize,
        elem(to),
    );
    plain(weights)
}

/// The same weights, and the gradient of the scores for that of the weights.
pub fn weights_backward(
    scores: Tensor<4>,
    d_weights: Tensor<4>,
    numbers: &Tensor<1, Int>,
    of: ScoreRows,
    to: DType,
) -> [Tensor<4>; 2] {
    let (scores, d) = (into_contiguous(cube(scores)), into_contiguous(cube(d_weights)));
    let dims = dims(&scores);
    let (keys, dim) = (dims[3], units_of_row(dims[3]));
    let both = [(); 2].map(|()| empty(&scores, dims, to));
    let ([row, query, key], client) = (of.first(), scores.client.clone());
    let numbers = integers(numbers);
    let written = [&both[0], &both[1]];
    let flops = 14 * scores.meta.num_elements();
    moves("AttentionWeightsBackward", &[&scores, &d, &numbers], &written, flops);
    attention_weights_backward::launch(
        &client,
        grid(dims[..3].iter().product()),
        dim,
        scores.into_buffer_arg(),
        d.into_buffer_arg(),
        numbers.into_buffer_arg(),
        both[0].clone().into_buffer_arg(),
        both[1].clone().into_buffer_arg(),
        row,
        query,
        key,
        of.scale,
        of.soft_cap.unwrap_or(1.0),
        of.shape(keys),
        of.soft_cap.is_some(),
        dim.x as usize,
        elem(to),
    );
    both.map(plain)
}
