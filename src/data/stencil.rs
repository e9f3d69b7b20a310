//! What a chat template writes of all conversations with the same roles, but for their contents.
//!
//! Most templates do little with contents but write them, and what they do is found by following
//! the template through a conversation whose contents are not known ([`Trace`]). That says what
//! stands between the contents of any conversation with these roles, what is taken away at the ends
//! of contents, and what a content must be like for it (`</think>` stands in none, say). A
//! rendering with a probe in the place of each content must say the same. To put contents between
//! these texts then runs none of the template: it needs no process with limits, and takes a
//! hundredth of the time of a rendering.
//!
//! What is put together so is what a rendering would have given, to the byte. Where that is not
//! certain there is no stencil, or it does not fit: then the conversation is rendered.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::formats::Conversation;
use super::handed::{Handed, hand};
use super::mask::{self, Rendered, Turn};
use super::template::{ChatTemplate, Given, Guard, Strip, Text, TextPart, Trace};
use crate::files::long_integer;

/// Begins and ends a probe.
const SIGN: char = '\u{f8ff}';
/// White space around a probe, to see whether it is kept.
const SPACE: char = '\u{2003}';
/// Of so many conversations, one is rendered though a stencil fits.
const SAMPLED: u64 = 512;
/// So many bytes at each end of a content decide of that.
const HASHED: usize = 32;
/// Conversations with more messages are too rarely alike.
const MESSAGES_MAX: usize = 32;
/// What is written around contents is not larger, in bytes.
const SCAFFOLD_MAX: usize = 1 << 20;
/// What is longer is left to the template, which has a limit.
const TEXT_MAX: usize = 16 << 20;

/// What all conversations with the same roles have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Outline {
    /// The roles of the messages.
    roles: Vec<String>,
    /// The assistant's messages that are no targets.
    not_targets: BTreeSet<usize>,
    /// Whether the assistant's turns are looked for.
    find_turns: bool,
}

/// A conversation of which nothing but roles and contents is to be written.
#[derive(Debug)]
pub struct Plain<'a> {
    messages: &'a [Value],
    /// Role and content of each message.
    texts: Vec<(&'a str, &'a str)>,
    not_targets: &'a BTreeSet<usize>,
    find_turns: bool,
}

/// What stands around the contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stencil {
    /// What stands before each content, and what is taken away at its ends.
    before: Vec<(String, Vec<Strip>)>,
    /// What stands behind the last.
    after: String,
    /// The turns that are targets: message, begin, end of what is said, end.
    turns: Vec<(usize, [Mark; 3])>,
    /// Names that the template printed though they were undefined.
    undefined: BTreeSet<String>,
    /// What must hold of the contents.
    guards: Vec<Guard>,
}

/// A place in a text: in what stands before the content of this number, so many bytes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    piece: usize,
    offset: usize,
}

impl<'a> Plain<'a> {
    /// Looks at a conversation; `None` if it has more than roles and contents, or contents that a
    /// template may be told of in another way than as they are.
    pub fn of(conversation: &'a Conversation, find_turns: bool) -> Option<Self> {
        let Conversation { messages, tools, template_args, not_targets } = conversation;
        if tools.is_some() || !template_args.is_empty() || messages.len() > MESSAGES_MAX {
            return None;
        }
        let mut texts = Vec::with_capacity(messages.len());
        for message in messages {
            let fields = message.as_object().filter(|fields| fields.len() == 2)?;
            let text = |name| fields.get(name).and_then(Value::as_str);
            let role = text("role").filter(|role| !role.contains('\0'))?;
            texts.push((role, text("content").filter(|text| is_plain(text))?));
        }
        Some(Self { messages, texts, not_targets, find_turns })
    }

    /// Whether it is one of those that are rendered as well, to compare: about one of
    /// [`SAMPLED`], always the same ones.
    pub fn is_sampled(&self) -> bool {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u64| hash = (hash ^ byte).wrapping_mul(0x0100_0000_01b3);
        for (_, content) in &self.texts {
            add(content.len() as u64);
            content
                .bytes()
                .take(HASHED)
                .chain(content.bytes().rev().take(HASHED))
                .for_each(|byte| add(u64::from(byte)));
        }
        (hash >> 32) % SAMPLED == 0
    }

    /// What it has in common with others, written as one text: to find a stencil by.
    pub fn key(&self) -> String {
        let mut key = String::with_capacity(16 * self.texts.len());
        key.push(if self.find_turns { 'a' } else { 'b' });
        for (index, (role, _)) in self.texts.iter().enumerate() {
            key.push(if self.not_targets.contains(&index) { 'c' } else { 'd' });
            key.push_str(role);
            key.push('\0'); // which no role holds
        }
        key
    }

    /// The same, to have a stencil made of it.
    pub fn outline(&self) -> Outline {
        Outline {
            roles: self.texts.iter().map(|(role, _)| (*role).to_owned()).collect(),
            not_targets: self.not_targets.clone(),
            find_turns: self.find_turns,
        }
    }
}

/// Whether a content is not empty, and is the same to every part of the program that looks at it:
/// no whole number in disguise, which begins with a sign, not even without what is before the sign;
/// and no white space that Python alone takes for that.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(SIGN)
        && long_integer(text).is_none()
        && !text.bytes().any(|byte| matches!(byte, 0x1c..=0x1f))
}

impl Stencil {
    /// What the template writes around contents; `None` if that depends on them in a way that
    /// cannot be told.
    pub fn new(template: &ChatTemplate, outline: &Outline) -> Option<Self> {
        let count = outline.roles.len();
        if template.source().contains([SIGN, SPACE]) || count > MESSAGES_MAX {
            return None;
        }
        let contents: Vec<String> = (0..count).map(content).collect();
        let special = template.special();
        let given = Given { roles: &outline.roles, contents: &contents, special: &special };
        let mut trace = Trace::new(template.source(), given)?;
        let traced = trace.write(count, false)?;
        let message =
            |(role, content): (&String, &String)| json!({ "role": role, "content": content });
        let conversation = Conversation {
            messages: outline.roles.iter().zip(&contents).map(message).collect(),
            not_targets: outline.not_targets.clone(),
            ..Conversation::default()
        };
        let (taken, handed) = hand(template, &conversation, outline.find_turns).ok()?;
        let owned = match outline.find_turns {
            true => mask::by_prefixes(template, &conversation)?,
            false => Vec::new(),
        };
        if outline.find_turns && !are_traced(&mut trace, outline, &traced, &owned)? {
            return None;
        }
        let turns: Vec<Turn> = owned.iter().map(|(_, turn)| turn.clone()).collect();
        let rendered = Rendered::of_turns(handed.rendered.text.clone(), turns);
        if *taken != conversation || !handed.unused.is_empty() || handed.rendered != rendered {
            return None;
        }
        let guards = trace.guards.into_iter().collect();
        Self::cut(&rendered.text, &traced, count, &owned, (handed.undefined, guards))
    }

    /// Cuts what was written at the contents, of which each must stand in it once.
    fn cut(
        text: &str,
        traced: &Text,
        count: usize,
        owned: &[(usize, Turn)],
        (undefined, guards): (BTreeSet<String>, Vec<Guard>),
    ) -> Option<Self> {
        let (mut before, mut ranges) = (Vec::with_capacity(count), Vec::new());
        let (mut fixed, mut at) = (String::new(), 0);
        for piece in &traced.0 {
            let written = match piece {
                TextPart::Fixed(part) => {
                    fixed.push_str(part);
                    part.clone()
                }
                TextPart::Slot(slot) if slot.message == before.len() => {
                    ranges.push(at - fixed.len()..at);
                    before.push((std::mem::take(&mut fixed), slot.strips.clone()));
                    slot.of(&content(slot.message)).to_owned()
                }
                TextPart::Slot(_) => return None,
            };
            text.get(at..)?.starts_with(&written).then_some(())?;
            at += written.len();
        }
        ranges.push(at - fixed.len()..at);
        let after = fixed;
        if at != text.len() || before.len() != count {
            return None;
        }
        let scaffold = before.iter().map(|(text, _)| text).chain([&after]);
        let foreign = |text: &String| text.contains([SIGN, SPACE]);
        if scaffold.clone().any(foreign) || scaffold.map(String::len).sum::<usize>() > SCAFFOLD_MAX
        {
            return None;
        }
        let mark = |at: usize| {
            let piece = ranges.iter().position(|it| it.start <= at && at <= it.end)?;
            Some(Mark { piece, offset: at - ranges[piece].start })
        };
        let marks = |(index, turn): &(usize, Turn)| {
            Some((*index, [mark(turn.said.start)?, mark(turn.said.end)?, mark(turn.end)?]))
        };
        let turns = owned.iter().map(marks).collect::<Option<_>>()?;
        Some(Self { before, after, turns, undefined, guards })
    }

    /// What the template makes of a conversation; `None` if it must be asked itself.
    pub fn fill(&self, plain: &Plain) -> Option<Handed> {
        let admits = |guard: &Guard| {
            plain.texts.get(guard.message()).is_some_and(|(_, content)| guard.admits(content))
        };
        if self.before.len() != plain.texts.len() || !self.guards.iter().all(admits) {
            return None;
        }
        let most =
            self.before.iter().zip(&plain.texts).map(|((it, _), (_, text))| it.len() + text.len());
        let most = most.sum::<usize>() + self.after.len();
        if most > TEXT_MAX {
            return None;
        }
        let mut text = String::with_capacity(most);
        let mut starts = Vec::with_capacity(self.before.len() + 1);
        for ((before, strips), (_, content)) in self.before.iter().zip(&plain.texts) {
            starts.push(text.len());
            text.push_str(before);
            text.push_str(strips.iter().fold(*content, |text, strip| strip.apply(text)));
        }
        starts.push(text.len());
        text.push_str(&self.after);
        let place = |mark: &Mark| Some(starts.get(mark.piece)? + mark.offset);
        let mut owned = Vec::with_capacity(self.turns.len());
        for (message, [start, said, end]) in &self.turns {
            let turn = Turn { said: place(start)?..place(said)?, end: place(end)? };
            // Where the assistant says nothing, a turn is looked for in another way.
            if turn.said.is_empty() {
                return None;
            }
            owned.push((*message, turn));
        }
        if plain.find_turns && mask::has_suspects(plain.messages, &text, &owned) {
            return None;
        }
        let turns = owned.into_iter().map(|(_, turn)| turn).collect();
        let rendered = Rendered::of_turns(text, turns);
        Some(Handed { rendered, unused: Vec::new(), undefined: self.undefined.clone() })
    }
}

/// Whether the texts that turns are found by are what the whole text begins with for all contents,
/// and end where the turns were found; `None` where that cannot be told.
fn are_traced(
    trace: &mut Trace,
    outline: &Outline,
    traced: &Text,
    owned: &[(usize, Turn)],
) -> Option<bool> {
    let size = |text: &Text| {
        let size = |piece: &TextPart| match piece {
            TextPart::Fixed(text) => text.len(),
            TextPart::Slot(slot) => slot.of(&content(slot.message)).len(),
        };
        text.0.iter().map(size).sum::<usize>()
    };
    let count = outline.roles.len();
    for (index, _) in outline.roles.iter().enumerate().filter(|(_, role)| *role == "assistant") {
        let start = trace.write(index, true)?;
        let last = index + 1 == count;
        let end = if last { traced.clone() } else { trace.write(index + 1, false)? };
        let found = owned.iter().find(|(message, _)| *message == index);
        let same = found.is_none_or(|(_, turn)| turn.said == (size(&start)..size(&end)));
        if !same || !start.begins(traced) || !end.begins(traced) {
            return Some(false);
        }
    }
    Some(true)
}

/// What stands for the content of a message: a probe with white space around it.
fn content(index: usize) -> String {
    format!("{SPACE}{SIGN}{index}{SIGN}{SPACE}")
}

#[cfg(test)]
#[path = "stencil_tests.rs"]
mod tests;
