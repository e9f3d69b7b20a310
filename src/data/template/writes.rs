//! What the rest of the program asks of a chat template, be it rendered or foreseen.
//!
//! Masks, forms and coverage are found by having a template write a conversation, its beginnings,
//! and the same conversation with other words in it. [`ChatTemplate`] renders them. What a stencil
//! tells of a template answers the same questions without running it.

use std::ops::Range;

use super::{ChatTemplate, Turns, Whole};
use crate::data::formats::Conversation;

/// A chat template.
pub trait Writes {
    /// A conversation as it is handed over.
    type Turns<'c>: Variants;
    /// The text of a conversation.
    type Whole<'w>: WholeText
    where
        Self: 'w;

    /// A conversation, to be written.
    fn turns<'c>(&self, conversation: &'c Conversation) -> Self::Turns<'c>;

    /// Writes the first `count` turns; `generation` adds what precedes the assistant's answer. The
    /// error is the reason, in one line.
    fn render(
        &self,
        turns: &Self::Turns<'_>,
        count: usize,
        generation: bool,
    ) -> Result<String, String>;

    /// Writes all turns, and notes which names were printed undefined.
    fn render_whole(&self, turns: &Self::Turns<'_>) -> Result<String, String>;

    /// The same, and says where in the text the marks of the template stand.
    fn render_marked(&self, turns: &Self::Turns<'_>)
    -> Result<(String, Vec<Range<usize>>), String>;

    /// Writes all turns, to be compared with the texts of the first ones.
    fn whole<'w>(&'w self, turns: &'w Self::Turns<'_>) -> Result<Self::Whole<'w>, String>;

    /// Whether it marks what the model writes with `{% generation %}`.
    fn has_marks(&self) -> bool;

    /// What introduces an answer to a single turn of the user, if the template writes that.
    fn generation_prompt(&self) -> Option<&str>;

    /// The template's text.
    fn source(&self) -> &str;

    /// Whether something was asked that it cannot tell: then all that it said is void.
    fn gave_up(&self) -> bool {
        false
    }
}

/// A conversation of which others are made that differ in a few words.
pub trait Variants: Clone {
    /// How many turns there are.
    fn count(&self) -> usize;

    /// The same conversation with other text in one message, whose other fields stay.
    #[must_use]
    fn with_content(&self, index: usize, content: &str) -> Self;

    /// Conversations that each have `text` in another field of a message: first in its content,
    /// if it has any, then in what it calls and thinks.
    fn probes<'a>(&'a self, index: usize, text: &'a str) -> impl Iterator<Item = Self> + 'a;

    /// The same conversation with one message more: a copy of one, behind it, with other content.
    #[must_use]
    fn doubled(&self, index: usize, content: &str) -> Self;
}

/// The text of a conversation.
pub trait WholeText {
    /// What the template wrote.
    fn text(&self) -> &str;

    /// What the template wrote.
    fn into_text(self) -> String;

    /// Where the text of the first `count` turns ends in `text`, if `text` begins with it;
    /// `generation` adds what precedes the assistant's answer.
    fn prefix(&self, text: &str, count: usize, generation: bool) -> Option<usize>;

    /// Where a message stands of which it is known that its turn lies between two such beginnings:
    /// what is said.
    fn known_turn(&self, _index: usize) -> Option<Range<usize>> {
        None
    }
}

impl Writes for ChatTemplate {
    type Turns<'c> = Turns;
    type Whole<'w> = Whole<'w>;

    fn turns(&self, conversation: &Conversation) -> Turns {
        Turns::new(conversation)
    }

    fn render(&self, turns: &Turns, count: usize, generation: bool) -> Result<String, String> {
        Self::render(self, turns, count, generation)
    }

    fn render_whole(&self, turns: &Turns) -> Result<String, String> {
        Self::render_whole(self, turns)
    }

    fn render_marked(&self, turns: &Turns) -> Result<(String, Vec<Range<usize>>), String> {
        Self::render_marked(self, turns)
    }

    fn whole<'w>(&'w self, turns: &'w Turns) -> Result<Whole<'w>, String> {
        Whole::new(self, turns)
    }

    fn has_marks(&self) -> bool {
        Self::has_marks(self)
    }

    fn generation_prompt(&self) -> Option<&str> {
        Self::generation_prompt(self)
    }

    fn source(&self) -> &str {
        Self::source(self)
    }
}

impl Variants for Turns {
    fn count(&self) -> usize {
        Self::count(self)
    }

    fn with_content(&self, index: usize, content: &str) -> Self {
        Self::with_content(self, index, content)
    }

    fn probes<'a>(&'a self, index: usize, text: &'a str) -> impl Iterator<Item = Self> + 'a {
        Self::probes(self, index, text)
    }

    fn doubled(&self, index: usize, content: &str) -> Self {
        Self::doubled(self, index, content)
    }
}

impl WholeText for Whole<'_> {
    fn text(&self) -> &str {
        Self::text(self)
    }

    fn into_text(self) -> String {
        Self::into_text(self)
    }

    fn prefix(&self, text: &str, count: usize, generation: bool) -> Option<usize> {
        Self::prefix(self, text, count, generation)
    }
}
