//! What becomes of a record: tokens, and which of them are targets.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::tokens::CompactTokens;
use crate::files::Digest;

/// The tokens of a record, or of a piece of a long text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Which tokens are targets, each predicted from those before it; never the first.
    pub loss_mask: Vec<bool>,
}

impl Example {
    /// How many tokens are trained on.
    pub fn target_count(&self) -> usize {
        self.loss_mask.iter().filter(|loss_mask| **loss_mask).count()
    }

    pub(super) fn has_targets(&self) -> bool {
        self.loss_mask.contains(&true)
    }

    /// Removes ends of turns that stand twice: in the record, and again by the template.
    pub(super) fn end_once(&mut self, ends: &BTreeSet<u32>) {
        for at in (1..self.tokens.len()).rev() {
            let twice = self.tokens[at] == self.tokens[at - 1] && ends.contains(&self.tokens[at]);
            if twice && self.loss_mask[at] && self.loss_mask[at - 1] {
                self.tokens.remove(at);
                self.loss_mask.remove(at);
            }
        }
    }

    pub(super) fn cut(&mut self, length: usize) {
        self.tokens.truncate(length);
        self.loss_mask.truncate(length);
    }
}

/// A long text, which is taken apart when its pieces are asked for: side by side with it they would
/// take as much memory again.
///
/// Each piece begins with the last token of the one before it, as something to predict from: so
/// every token but the text's first is trained on exactly once.
#[derive(Debug)]
pub struct TextPieces {
    tokens: CompactTokens,
    /// So many at the beginning are given.
    given: usize,
    max: usize,
}

impl TextPieces {
    /// Pieces of at most `max` tokens; the first `given` of the text are no targets.
    pub(super) fn new(tokens: CompactTokens, given: usize, max: usize) -> Self {
        Self { tokens, given, max }
    }
}

impl IntoIterator for TextPieces {
    type Item = Example;
    type IntoIter = Box<dyn Iterator<Item = Example>>;

    fn into_iter(self) -> Self::IntoIter {
        let Self { tokens, given, max } = self;
        let starts = (0..tokens.len().saturating_sub(1)).step_by(max - 1);
        let piece = move |start: usize| {
            let end = (start + max).min(tokens.len());
            let loss_mask = (start..end).map(|at| at > start && at >= given).collect();
            Example { tokens: tokens.range(start..end), loss_mask }
        };
        Box::new(starts.map(piece))
    }
}

/// Which record an example comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    /// The file, as the configuration names it.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a record says of how it is trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecordNumbers {
    /// What its loss is multiplied with.
    pub weight: f32,
    /// Its place in a curriculum: the smallest comes first.
    pub order: f64,
    /// By how much more its chosen answer is to be scored, of a pair.
    pub margin: f32,
}

impl Default for RecordNumbers {
    fn default() -> Self {
        Self { weight: 1.0, order: 0.0, margin: 0.0 }
    }
}

/// An example with where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct CorpusEntry {
    /// Its record.
    pub record: RecordId,
    /// The digest of the record's bytes.
    pub digest: Digest,
    /// What the loss of its targets is multiplied with.
    pub weight: f32,
    /// By how much more its chosen answer is to be scored, of a pair.
    pub margin: f32,
    /// Its tokens.
    pub example: Example,
}

/// What became of a record.
#[derive(Debug)]
pub enum RecordOutcome {
    /// One example.
    Whole(Example),
    /// One example whose end was cut off.
    Truncated(Example),
    /// A long text in consecutive pieces.
    Pieces(TextPieces),
    /// Left out since it is longer than a row.
    Dropped,
    /// Left out since no token of it is trained on.
    NothingToLearn,
    /// Cannot be used, and why.
    Bad(String),
}
