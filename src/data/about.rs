//! What is known of a data file once it was read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::example::{Example, RecordOutcome};
use super::statistics::Statistics;
use super::unused::Count;
use crate::files::{Digest, FileEntry};

/// So many unusable records are kept to be shown; the rest is counted.
pub const SHOWN: usize = 10;

/// What is known of a data file once it was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Size and digest of the bytes that were read; the path is empty, since any name will do.
    pub file: FileEntry,
    /// The shape of its records; empty when none could be read.
    pub format: String,
    /// Why that shape.
    pub reason: String,
    /// Whether there are conversations, written by a chat template.
    pub chat: bool,
    /// The tokens at which an answer or a text ends, of those that are targets.
    pub ends: BTreeSet<u32>,
    /// Whether there is text that no chat template writes.
    pub plain: bool,
    /// What was counted.
    pub statistics: Statistics,
    /// The first unusable records.
    pub problems: Vec<Problem>,
    /// What records hold and the model does not get.
    pub unused: Vec<Count>,
    /// Line of the first record that was cut off.
    pub truncated: Option<u64>,
    /// Line of the first record that was left out as too long.
    pub dropped: Option<u64>,
    /// Line of the first record without target tokens.
    pub nothing: Option<u64>,
    /// Names that the chat template printed though they were undefined, and the first line.
    pub undefined: BTreeMap<String, u64>,
    /// What would end a run that reads the file; an examination went on.
    #[serde(default)]
    pub refusal: Option<String>,
}

/// An unusable record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where it stands.
    pub line: u64,
    /// Why it cannot be used.
    pub reason: String,
    /// What holds for all records, of which this one is an exception.
    pub rule: Option<String>,
}

impl About {
    pub(super) fn new() -> Self {
        Self {
            file: FileEntry { path: String::new(), size: 0, sha256: Digest::of(b"") },
            format: String::new(),
            reason: String::new(),
            chat: false,
            ends: BTreeSet::new(),
            plain: false,
            statistics: Statistics::default(),
            problems: Vec::new(),
            unused: Vec::new(),
            truncated: None,
            dropped: None,
            nothing: None,
            undefined: BTreeMap::new(),
            refusal: None,
        }
    }

    /// Counts an example, and which of `ends` are targets in it.
    pub(super) fn add(&mut self, example: &Example, ends: &BTreeSet<u32>) {
        let targets = example.tokens.iter().zip(&example.loss_mask).filter(|(_, it)| **it);
        self.ends.extend(targets.map(|(token, _)| *token).filter(|it| ends.contains(it)));
        let counts = &mut self.statistics;
        counts.examples += 1;
        counts.tokens += example.tokens.len() as u64;
        counts.target_tokens += example.target_count() as u64;
        counts.longest = counts.longest.max(example.tokens.len() as u64);
    }

    /// Counts what became of a record; returns its examples.
    pub(super) fn count(
        &mut self,
        line: u64,
        outcome: RecordOutcome,
        rule: Option<String>,
    ) -> Box<dyn Iterator<Item = Example>> {
        let counts = &mut self.statistics;
        counts.records += 1;
        match outcome {
            RecordOutcome::Whole(example) => return Box::new(std::iter::once(example)),
            RecordOutcome::Truncated(example) => {
                counts.truncated += 1;
                self.truncated.get_or_insert(line);
                return Box::new(std::iter::once(example));
            }
            RecordOutcome::Pieces(pieces) => {
                counts.split += 1;
                return pieces.into_iter();
            }
            RecordOutcome::Dropped => {
                counts.dropped += 1;
                self.dropped.get_or_insert(line);
            }
            RecordOutcome::NothingToLearn => {
                counts.no_targets += 1;
                self.nothing.get_or_insert(line);
            }
            RecordOutcome::Bad(reason) => {
                counts.bad_rows += 1;
                if self.problems.len() < SHOWN {
                    self.problems.push(Problem { line, reason, rule });
                }
            }
        }
        Box::new(std::iter::empty())
    }
}
