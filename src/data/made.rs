//! Records on their way to examples, and what came of each.

use std::collections::BTreeSet;

use super::example::{RecordId, RecordNumbers, RecordOutcome};
use super::finding::Examined;
use super::formats::{Content, Fields};
use super::unused::Unused;

/// What became of a record, and what of it the model does not get.
#[derive(Debug)]
pub struct Made {
    /// What became of it.
    pub outcome: RecordOutcome,
    /// What is left out of it, which is too little to refuse it.
    pub unused: Vec<Unused>,
    /// Names that the chat template printed though they were undefined.
    pub undefined: BTreeSet<String>,
    /// Whether it is unusable since too much of it would be left out.
    pub lossy: bool,
    /// What is odd about it, where that is looked for.
    pub examined: Examined,
    /// What would end a run, where an examination goes on.
    pub refusal: Option<String>,
    /// What it says of how it is trained on.
    pub numbers: RecordNumbers,
}

impl Made {
    pub(super) fn bad(reason: String) -> Self {
        Self {
            outcome: RecordOutcome::Bad(reason),
            unused: Vec::new(),
            undefined: BTreeSet::new(),
            lossy: false,
            examined: Examined::default(),
            refusal: None,
            numbers: RecordNumbers::default(),
        }
    }

    /// The same with these numbers; what weighs nothing is not trained on.
    pub(super) fn with(&mut self, numbers: RecordNumbers) {
        self.numbers = numbers;
        let used = matches!(
            self.outcome,
            RecordOutcome::Whole(_) | RecordOutcome::Truncated(_) | RecordOutcome::Pieces(_)
        );
        if used && numbers.weight == 0.0 {
            self.outcome = RecordOutcome::NothingToLearn;
        }
    }

    /// An error that ends a run, as what is wrong with one record.
    pub(super) fn refused(what: String) -> Self {
        Self { refusal: Some(what.clone()), ..Self::bad(what) }
    }
}

/// A record of which an example is to be made.
#[derive(Debug)]
pub struct Record {
    /// Where it stands.
    pub id: RecordId,
    /// What it says, and what its shape did not read; or why it cannot be read.
    pub content: std::result::Result<(Content, Fields), String>,
}
