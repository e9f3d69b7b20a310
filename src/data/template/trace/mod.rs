//! What a template does with contents, found by following it through a conversation whose contents
//! are not known.
//!
//! A value in which a content stands is a text of pieces: what is known, and contents from which
//! something is taken at their ends. Only what is listed here is done with it: it is put together
//! with other texts, stripped, printed, or asked a question that has an answer for every content
//! ([`Question`]). The answers of the conversation at hand decide how the template goes on, and
//! are noted: for other contents that answer the same, the template does the same. Whatever else a
//! template does, with contents or without, is not followed, and nothing is said of it.

mod calls;
mod expression;
mod parse;
mod run;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use parse::Statement;
use run::Run;
pub use value::{Question, Slot, Strip, Text, TextPart};

/// What a content must answer for a template to do the same as with the one that was there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Guard {
    /// The content that is asked, or what is left of it.
    slot: Slot,
    question: Question,
    holds: bool,
}

impl Guard {
    /// The message whose content it asks.
    pub fn message(&self) -> usize {
        self.slot.message
    }

    /// Whether this content gives the answer.
    pub fn admits(&self, content: &str) -> bool {
        self.question.ask(self.slot.of(content)) == self.holds
    }
}

/// A conversation that a template is followed through.
pub struct Given<'a> {
    /// The roles of its messages.
    pub roles: &'a [String],
    /// Contents whose answers are taken: none is empty.
    pub contents: &'a [String],
    /// The special tokens, by name.
    pub special: &'a BTreeMap<String, String>,
}

/// A template that is followed through conversations.
pub struct Trace<'a> {
    given: Given<'a>,
    template: Vec<Statement>,
    /// What was asked of contents in all renderings.
    pub guards: BTreeSet<Guard>,
}

impl<'a> Trace<'a> {
    /// Reads a template; `None` where it has more in it than can be followed.
    pub fn new(source: &str, given: Given<'a>) -> Option<Self> {
        let template = parse::parse(&super::environment::one_kind_of_line_end(source))?;
        Some(Self { given, template, guards: BTreeSet::new() })
    }

    /// What it writes of the first `count` messages; `generation` adds what precedes an answer.
    /// `None` where that cannot be followed, or is refused.
    pub fn write(&mut self, count: usize, generation: bool) -> Option<Text> {
        Run::write(&self.given, &self.template, (count, generation), &mut self.guards)
    }
}
