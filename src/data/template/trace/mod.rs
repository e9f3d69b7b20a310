//! What a template does with contents, found by following it through a conversation whose contents
//! are not known.
//!
//! A value in which a content stands is a text of pieces: what is known, and contents from which
//! something is taken at their ends. Only what is listed here is done with it: it is put together
//! with other texts, stripped, printed, written as JSON, or asked a question that has an answer for
//! every content (`Question`). Of a number, a list or an object that is not known it may be asked
//! of which kind it is, and what lies in it. The answers of the conversation at hand decide how the
//! template goes on, and are noted: for other contents that answer the same, the template does the
//! same. Whatever else a template does, with contents or without, is not followed, and nothing is
//! said of it.

mod asked;
mod calls;
mod expression;
mod given;
mod json;
mod parse;
mod run;
mod value;

use std::collections::BTreeSet;

pub use given::{Given, Guard, Hole, SIGN, Shape, Slot, Unlike, is_plain};
use parse::Statement;
use run::Run;
pub use value::{Text, TextPart};

/// What a template does with a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traced {
    /// It writes a text, in which it marks what the model writes: begins and ends, each as the
    /// number of a piece and the bytes before it there.
    Text(Text, Vec<[(usize, usize); 2]>),
    /// It refuses it.
    Refused,
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

    /// What it does with the first `count` messages; `generation` adds what precedes an answer.
    /// `None` where that cannot be followed.
    pub fn write(&mut self, count: usize, generation: bool) -> Option<Traced> {
        let mut guards = self.guards.clone();
        let traced = Run::write(&self.given, &self.template, (count, generation), &mut guards)?;
        self.guards = guards;
        Some(traced)
    }

    /// The same, where it writes a text.
    pub fn text(&mut self, count: usize, generation: bool) -> Option<Text> {
        match self.write(count, generation)? {
            Traced::Text(text, _) => Some(text),
            Traced::Refused => None,
        }
    }

    /// What is known of the conversation, and what is not.
    pub fn given(&self) -> &Given<'a> {
        &self.given
    }
}
