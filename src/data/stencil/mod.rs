//! What a chat template writes of all conversations of one outline, but for what is their own.
//!
//! Most templates do little with contents but write them, and what they do is found by following
//! the template through a conversation whose contents are not known ([`Trace`]). That says what
//! stands between the contents of any conversation of this outline, what is taken away at the ends
//! of contents, which values are written as JSON, and what a content must be like for it
//! (`</think>` stands in none, say). A rendering with a probe in the place of each content must say
//! the same. To put contents between these texts then runs none of the template: it needs no
//! process with limits, and takes a hundredth of the time of a rendering.
//!
//! What is put together so is what a rendering would have given, to the byte. Where that is not
//! certain there is no stencil, or it does not fit: then the conversation is rendered.
//!
//! Of conversations of roles and contents alone it is also known once for all where the turns are
//! and that all is written ([`Stencil::fill`]). Of others the texts are known ([`foreseen`]), and
//! turns and coverage are found as they are of rendered ones.
//!
//! [`Trace`]: super::template::Trace

mod collection;
mod foreseen;
mod layout;
mod make;
mod outline;

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::formats::Conversation;
use super::handed::Handed;
use super::mask::{self, Owned, Rendered, Turn};
use super::regions::stands;
use super::template::{Guard, Hole, Slot, Unlike};
use super::unused::Unused;

pub use collection::{Filled, Stencils};
pub use outline::Plain;

/// Of so many conversations, one is rendered though a stencil fits.
const SAMPLED: u64 = 512;
/// So many bytes at each end of a content decide of that.
const HASHED: usize = 32;
/// What is longer is left to the template, which has a limit.
const TEXT_MAX: usize = 16 << 20;

/// What stands around the contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stencil {
    /// The outline.
    outline: String,
    /// What becomes of the first so many turns, without or with what precedes an answer.
    texts: Vec<(usize, bool, Foretold)>,
    /// What the assistant's messages say, where that is known for all contents: message, begin and
    /// end.
    turns: Option<Vec<(usize, [Mark; 2])>>,
    /// What the template marks, if it marks anything.
    marks: Option<Vec<[Mark; 2]>>,
    /// Whether it is enough to put contents between the texts, without and with turns.
    is_bare: [bool; 2],
    /// What else conversations say then, which the template does not write.
    beside: Vec<Beside>,
    /// How that is told.
    unused: Vec<Unused>,
    /// Names that the template printed though they were undefined.
    undefined: BTreeSet<String>,
    /// What must hold of the contents.
    guards: Vec<Guard>,
    /// What introduces an answer to a single turn of the user.
    prompt: Option<String>,
}

/// A field of a message that is not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Beside {
    hole: usize,
    /// Its name, where the template does not ask for it; otherwise it may stand in other words.
    unasked: Option<String>,
}

impl Beside {
    /// Whether it is certain that a text does not say it, not even by accident.
    fn is_missing(&self, text: &str, holes: &[Hole]) -> bool {
        let Some(Hole::Text(piece)) = holes.get(self.hole) else { return false };
        let piece = piece.trim();
        let plain = |byte: u8| byte.is_ascii() && !matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f);
        !piece.is_empty()
            && piece.bytes().all(plain)
            && !stands(text, piece, self.unasked.as_deref())
    }
}

/// What a template does with all conversations of an outline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Foretold {
    /// It writes a text.
    Text(Pieces),
    /// It refuses them.
    Refused,
}

/// A text in which contents stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pieces {
    /// What stands before each, and which it is.
    before: Vec<(String, Slot)>,
    /// What stands behind the last.
    after: String,
}

/// A place in a text: in what stands before the content of this number, so many bytes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    piece: usize,
    offset: usize,
}

/// A text, and where in it what stands before each content begins.
struct Written {
    text: String,
    starts: Vec<usize>,
}

impl Written {
    fn range(&self, [start, end]: &[Mark; 2]) -> Option<Range<usize>> {
        let place = |mark: &Mark| Some(self.starts.get(mark.piece)? + mark.offset);
        Some(place(start)?..place(end)?)
    }
}

impl Pieces {
    fn write(&self, holes: &[Hole]) -> Option<Written> {
        let mut text = String::with_capacity(1024);
        let mut starts = Vec::with_capacity(self.before.len() + 1);
        for (before, slot) in &self.before {
            starts.push(text.len());
            text.push_str(before);
            text.push_str(&slot.of(holes)?);
            (text.len() <= TEXT_MAX).then_some(())?;
        }
        starts.push(text.len());
        text.push_str(&self.after);
        Some(Written { text, starts })
    }
}

impl Stencil {
    /// Whether it says what becomes of a conversation of this outline with these contents.
    ///
    /// # Errors
    /// When it does not, and why.
    pub fn admits(&self, holes: &[Hole]) -> Result<(), Unlike> {
        self.guards.iter().try_for_each(|guard| guard.check(holes))
    }

    /// Bytes of text in it.
    fn size(&self) -> usize {
        let text = |(_, _, foretold): &(usize, bool, Foretold)| match foretold {
            Foretold::Text(Pieces { before, after }) => {
                before.iter().map(|(text, _)| text.len() + 64).sum::<usize>() + after.len()
            }
            Foretold::Refused => 0,
        };
        self.texts.iter().map(text).sum::<usize>() + 64 * self.guards.len()
    }

    fn foretold(&self, count: usize, generation: bool) -> Option<&Foretold> {
        let found =
            self.texts.iter().find(|(turns, asked, _)| (*turns, *asked) == (count, generation));
        found.map(|(_, _, foretold)| foretold)
    }

    /// What the template makes of a conversation of roles and contents that it admits; `None`
    /// where more must be known.
    pub fn fill(
        &self,
        conversation: &Conversation,
        holes: &[Hole],
        find_turns: bool,
    ) -> Option<Handed> {
        self.is_bare.get(usize::from(find_turns)).filter(|bare| **bare)?;
        let Foretold::Text(pieces) = self.foretold(conversation.messages.len(), false)? else {
            return None;
        };
        let filled = pieces.write(holes)?;
        let is_missing = |beside: &Beside| beside.is_missing(&filled.text, holes);
        self.beside.iter().all(is_missing).then_some(())?;
        self.handed(conversation, filled, find_turns)
    }

    /// The turns of what was put together, where what stands beside the contents is missing.
    fn handed(
        &self,
        conversation: &Conversation,
        filled: Written,
        find_turns: bool,
    ) -> Option<Handed> {
        let Conversation { messages, not_targets, .. } = conversation;
        let mut owned = Owned::new();
        if let (Some(marks), true) = (&self.marks, find_turns) {
            for mark in marks.iter().map(|mark| filled.range(mark)) {
                let said = mark.filter(|_| not_targets.is_empty())?;
                owned.push((None, Turn { end: said.end, said }));
            }
        } else if find_turns {
            for (message, mark) in self.turns.as_ref()? {
                // Where the assistant says nothing, a turn is looked for in another way.
                let said = filled.range(mark).filter(|said| !said.is_empty())?;
                if !not_targets.contains(message) {
                    owned.push((Some(*message), Turn { end: said.end, said }));
                }
            }
        }
        if find_turns && mask::has_suspects(messages, &filled.text, &owned) {
            return None;
        }
        let turns = owned.into_iter().map(|(_, turn)| turn).collect();
        let marked = find_turns && self.marks.is_some();
        let rendered = Rendered::of_turns(filled.text, turns, marked);
        let (unused, undefined) = (self.unused.clone(), self.undefined.clone());
        Some(Handed { rendered, unused, undefined })
    }
}

/// Whether a conversation is one of those that are rendered as well, to compare: about one of
/// [`SAMPLED`], always the same ones.
pub fn is_sampled(conversation: &Conversation) -> bool {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |byte: u64| hash = (hash ^ byte).wrapping_mul(0x0100_0000_01b3);
    for message in &conversation.messages {
        let content = message["content"].as_str().unwrap_or_default();
        add(content.len() as u64);
        content
            .bytes()
            .take(HASHED)
            .chain(content.bytes().rev().take(HASHED))
            .for_each(|byte| add(u64::from(byte)));
    }
    (hash >> 32).is_multiple_of(SAMPLED)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tool_tests;
