//! `[[task]]`: something that the model has to do, and how its answers are evaluated.

use crate::document::{Placed, Values};
use crate::scorers::Scorer;

/// Something that the model has to do: its answers are looked at.
#[derive(Debug, Clone)]
pub struct Task {
    /// What it is called in reports and policies.
    pub name: String,
    /// How an answer is evaluated.
    pub scorer: Scorer,
    /// Longest answer in tokens.
    pub max_tokens: usize,
    /// Records that are asked; 0 means all.
    pub max_records: u64,
}

/// Reads a task.
pub(super) fn read(entry: &Values) -> Placed<Task> {
    Ok(Task {
        scorer: Scorer::read(entry)?,
        name: entry.text("name"),
        max_tokens: entry.size("max_tokens"),
        max_records: entry.integer("max_records"),
    })
}
