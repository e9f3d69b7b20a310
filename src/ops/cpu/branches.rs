//! Scores of documents that go on in several ways.

use super::tasks::QueryBlock;
use crate::ops::Branch;

/// The score of what is not seen: its weight is exactly zero, and its square is finite.
const HIDDEN: f32 = -1e15;

/// Puts out of sight what the queries of a block do not see of other branches, in the scores of the
/// block, `[queries, keys]`.
pub fn hide(block: QueryBlock, branch: &Branch, scores: &mut [f32]) {
    let end = block.first_key + block.keys;
    let from = branch.hidden.start.clamp(block.first_key, end) - block.first_key;
    let to = branch.hidden.end.clamp(block.first_key, end) - block.first_key;
    for (query, row) in (block.first..).zip(scores.chunks_exact_mut(block.keys)) {
        if branch.places.contains(&query) {
            row[from..to.max(from)].fill(HIDDEN);
        }
    }
}
