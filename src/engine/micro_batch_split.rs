//! How a micro-batch is worked on in parts, when a device has no memory for the whole: the same
//! tokens per step, the same update up to rounding.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Recompute;

/// What is computed at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MicroBatchSplit {
    /// At most so many rows; whole micro-batches where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Layers are computed again in the backward pass, whatever the configuration says.
    #[serde(default)]
    pub recompute: bool,
    /// At most so many target positions per chunk of the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_chunk: Option<usize>,
}

/// Chunks of the loss are not made smaller than this: it would not help any more.
const LEAST_CHUNK: usize = 32;

impl MicroBatchSplit {
    /// The next smaller one for micro-batches of `rows` rows; `None` when there is none.
    #[must_use]
    pub fn smaller(self, rows: usize, recompute: Recompute, chunk: usize) -> Option<Self> {
        let rows = self.rows.unwrap_or(rows).min(rows);
        let chunk = self.loss_chunk.unwrap_or(chunk).min(chunk);
        if rows > 1 {
            return Some(Self { rows: Some(rows.div_ceil(2)), ..self });
        }
        if recompute == Recompute::None && !self.recompute {
            return Some(Self { recompute: true, ..self });
        }
        (chunk > LEAST_CHUNK)
            .then(|| Self { loss_chunk: Some((chunk / 2).max(LEAST_CHUNK)), ..self })
    }

    /// The same with at most so many of the rows of micro-batches.
    #[must_use]
    pub fn at_most(self, rows: usize, of: usize) -> Self {
        let whole = self.rows.unwrap_or(of).min(of);
        if rows < whole { Self { rows: Some(rows), ..self } } else { self }
    }

    /// Whether anything is divided.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for MicroBatchSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows.map(|rows| match rows {
            1 => "one row at once".to_owned(),
            rows => format!("{rows} rows at once"),
        });
        let recompute = self.recompute.then(|| "layers computed again".to_owned());
        let chunk = self.loss_chunk.map(|chunk| format!("the loss of {chunk} tokens at once"));
        let all: Vec<String> = [rows, recompute, chunk].into_iter().flatten().collect();
        f.write_str(if all.is_empty() { "whole micro-batches" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_halved_first_and_then_layers_are_computed_again() {
        let mut micro_batch_split = MicroBatchSplit::default();
        let mut said = vec![micro_batch_split.to_string()];
        while let Some(smaller) = micro_batch_split.smaller(5, Recompute::None, 100) {
            micro_batch_split = smaller;
            said.push(micro_batch_split.to_string());
        }
        assert_eq!(
            said,
            [
                "whole micro-batches",
                "3 rows at once",
                "2 rows at once",
                "one row at once",
                "one row at once, layers computed again",
                "one row at once, layers computed again, the loss of 50 tokens at once",
                "one row at once, layers computed again, the loss of 32 tokens at once",
            ]
        );
        let done = MicroBatchSplit { rows: Some(1), ..MicroBatchSplit::default() };
        assert_eq!(done.smaller(8, Recompute::Layers, 32), None);
    }
}
