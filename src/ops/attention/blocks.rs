//! The queries that attention computes at once, and what they may see.

use std::ops::Range;

#[cfg(feature = "gpu")]
use burn::tensor::Int;
use burn::tensor::{Device, Tensor};

use super::Documents;
use crate::device::DeviceLimits;
use crate::ops::{AttentionConfig, from_vec};
#[cfg(feature = "gpu")]
use crate::ops::{gpu, indices};

/// Added to the scores that a query may not see; exp() of it is exactly zero in f32.
const HIDDEN: f32 = f32::MIN;
/// Queries of a block at most: longer ones would look at more keys that they may not see.
const QUERIES: usize = 512;

/// Queries that are computed at once, and what they may see.
#[derive(Debug, Clone)]
pub(super) struct QueryBlock {
    /// First row, and number of rows.
    pub rows: (usize, usize),
    /// First query of each row, and number of queries.
    pub queries: (usize, usize),
    /// First key, and number of keys: up to the last query, from the first that any of them sees.
    pub keys: (usize, usize),
    /// What they may see.
    pub seen: Seen,
}

/// What queries may see.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// `[rows, 1, queries, keys]`: zero where a query may see a key, else [`HIDDEN`].
    Mask(Tensor<4>),
    /// The number of the document of each position, which kernels of a GPU compare.
    #[cfg(feature = "gpu")]
    Numbers(Tensor<1, Int>),
}

impl QueryBlock {
    /// Where its queries and keys end.
    pub fn end(&self) -> usize {
        self.queries.0 + self.queries.1
    }

    /// The rows of its scores.
    #[cfg(feature = "gpu")]
    pub fn score_rows(&self, config: AttentionConfig, documents: &Documents) -> gpu::ScoreRows {
        gpu::ScoreRows {
            heads: config.heads.queries,
            queries: self.queries.1,
            length: documents.length,
            first: [self.rows.0, self.queries.0, self.keys.0],
            window: config.window,
            scale: config.scale,
            soft_cap: config.soft_cap,
        }
    }

    /// Scores that are computed for a query head.
    #[cfg(test)]
    pub fn scores(&self) -> usize {
        self.rows.1 * self.queries.1 * self.keys.1
    }
}

/// Rows and queries of a block, the largest that the device takes.
fn block_size(
    rows: usize,
    length: usize,
    config: AttentionConfig,
    limits: DeviceLimits,
) -> (usize, usize) {
    let heads = config.heads;
    let (mut rows, mut queries) = (rows, length.min(QUERIES));
    let fits = |rows: usize, queries: usize| {
        let keys = config.window.map_or(length, |window| length.min(window + queries));
        let scores = (rows * heads.queries * queries) as u64 * keys as u64;
        limits.holds(scores)
            && scores.saturating_mul(2 * heads.width as u64) <= limits.dispatch_flops
    };
    while !fits(rows, queries) && rows * queries > 1 {
        if rows > 1 {
            rows = rows.div_ceil(2);
        } else {
            queries = queries.div_ceil(2);
        }
    }
    (rows, queries)
}

/// The blocks of all queries.
pub(super) fn blocks(
    documents: &Documents,
    config: AttentionConfig,
    limits: DeviceLimits,
    (device, sinks): (&Device, bool),
) -> Vec<QueryBlock> {
    #[cfg(feature = "gpu")]
    let numbers = compares_numbers(device, sinks, documents)
        .then(|| indices(documents.numbers.iter().copied(), device));
    #[cfg(not(feature = "gpu"))]
    let _ = sinks;
    let (rows, length) = (documents.rows, documents.length);
    let (step_rows, step) = block_size(rows, length, config, limits);
    let mut blocks = Vec::new();
    for row in (0..rows).step_by(step_rows) {
        for query in (0..length).step_by(step) {
            let rows = (row, step_rows.min(rows - row));
            let queries = (query, step.min(length - query));
            let first = config.window.map_or(0, |window| (query + 1).saturating_sub(window));
            let keys = (first, query + queries.1 - first);
            let extents = (rows, queries, keys);
            let of = || Seen::Mask(mask(documents, config.window, extents, device));
            #[cfg(feature = "gpu")]
            let seen = numbers.clone().map_or_else(of, Seen::Numbers);
            #[cfg(not(feature = "gpu"))]
            let seen = of();
            blocks.push(QueryBlock { rows, queries, keys, seen });
        }
    }
    blocks
}

/// Kernels of a GPU know no sinks and no branches.
#[cfg(feature = "gpu")]
fn compares_numbers(device: &Device, sinks: bool, documents: &Documents) -> bool {
    *device != Device::flex() && !sinks && documents.branches.is_empty()
}

/// First and number of rows, queries and keys.
type Extents = ((usize, usize), (usize, usize), (usize, usize));

/// A query sees the keys of its own document up to its own place, the last of them where there is
/// a window. Padding sees padding, so that no row of scores is empty.
fn mask(
    documents: &Documents,
    window: Option<usize>,
    ((first_row, rows), (first, queries), (first_key, keys)): Extents,
    device: &Device,
) -> Tensor<4> {
    let (numbers, length) = (documents.numbers.as_slice(), documents.length);
    let mut mask = vec![HIDDEN; rows * queries * keys];
    for row in 0..rows {
        let numbers = &numbers[(first_row + row) * length..][..length];
        for query in 0..queries {
            let start = (row * queries + query) * keys;
            let seen = first + query + 1;
            for key in seen.saturating_sub(window.unwrap_or(seen))..seen {
                if numbers[key] == numbers[first + query] {
                    mask[start + key - first_key] = 0.0;
                }
            }
        }
    }
    for branch in &documents.branches {
        let first_token = documents.spans[branch.document].0;
        let (row, start) = (first_token / length, first_token % length);
        let Some(row) = row.checked_sub(first_row).filter(|row| *row < rows) else { continue };
        let within = |places: &Range<usize>, (first, count): (usize, usize)| {
            let from = (start + places.start).max(first);
            from..(start + places.end).min(first + count).max(from)
        };
        let hidden = within(&branch.hidden, (first_key, keys));
        for query in within(&branch.places, (first, queries)) {
            let begin = (row * queries + query - first) * keys;
            mask[begin..][hidden.start - first_key..hidden.end - first_key].fill(HIDDEN);
        }
    }
    from_vec(mask, [rows, 1, queries, keys], device)
}
