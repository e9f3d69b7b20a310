//! How a stencil is made: where the template is, which is in a process of its own.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value};

use super::outline::{MESSAGES_MAX, Outline, is_bare};
use super::{Beside, Foretold, Mark, Pieces, Stencil};
use crate::data::coverage::KNOWN;
use crate::data::formats::Conversation;
use crate::data::handed::hand;
use crate::data::mask;
use crate::data::template::{
    ChatTemplate, Given, Hole, SIGN, Shape, Text, TextPart, Trace, Traced, Turns, Whole,
    take_undefined,
};
use crate::data::unused::{Loss, TEMPLATE, Unused};

/// White space around a probe, to see whether it is kept.
const SPACE: char = '\u{2003}';
/// What is written around contents is not larger, in bytes.
const SCAFFOLD_MAX: usize = 1 << 20;

/// What stands for the content of a hole: a probe with white space around it.
pub(super) fn probe(index: usize) -> String {
    format!("{SPACE}{SIGN}{index}{SIGN}{SPACE}")
}

/// More conditions are not looked at for each conversation.
const GUARDS_MAX: usize = 1024;

/// A template with a conversation of probes.
struct Making<'a> {
    template: &'a ChatTemplate,
    trace: Trace<'a>,
    turns: &'a Turns,
    count: usize,
    /// Bytes that may still be written around contents.
    left: usize,
}

impl Stencil {
    /// What the template makes of conversations of this outline, in which values are like these
    /// where there is one; `None` if that depends on them in a way that cannot be told.
    pub fn new(template: &ChatTemplate, outline: &str, samples: &[Option<Value>]) -> Option<Self> {
        let read = Outline::read(outline)?;
        let count = read.messages.len();
        if template.source().contains([SIGN, SPACE]) || count > MESSAGES_MAX {
            return None;
        }
        let hole = |(index, sample): (usize, &Option<Value>)| match sample {
            Some(value) => Hole::Value(Cow::Owned(value.clone())),
            None => Hole::Text(Cow::Owned(probe(index))),
        };
        let holes: Vec<Hole<'static>> = samples.iter().enumerate().map(hole).collect();
        let conversation = conversation(&read, &holes)?;
        let special = template.special();
        let (tools, args) = (read.tools, read.args.into_iter().collect());
        let given = Given { messages: read.messages, tools, args, holes, special: &special };
        let trace = Trace::new(template.source(), given)?;
        let turns = Turns::new(&conversation);
        let mut making = Making { template, trace, turns: &turns, count, left: SCAFFOLD_MAX };
        let mut stencil = Self {
            outline: outline.to_owned(),
            texts: Vec::new(),
            turns: None,
            marks: None,
            is_bare: [false; 2],
            beside: Vec::new(),
            unused: Vec::new(),
            undefined: BTreeSet::new(),
            guards: Vec::new(),
            prompt: template.generation_prompt().map(str::to_owned),
        };
        making.texts(&mut stencil, &conversation)?;
        stencil.guards = making.trace.guards.iter().cloned().collect();
        (stencil.guards.len() <= GUARDS_MAX).then_some(())?;
        let given = making.trace.given();
        if let Some((contents, beside)) = fields(&given.messages, template.source()) {
            (stencil.is_bare, stencil.beside) = ([true; 2], beside);
            stencil.is_bare = [false, true].map(|find_turns| {
                stencil.agrees(template, &conversation, (&given.holes, &contents), find_turns)
            });
        }
        Some(stencil)
    }

    /// Whether it is enough to put contents between the texts: nothing of such a conversation is
    /// left out then, in whatever form, but fields that are not written; since each content stands
    /// there once and in its order.
    fn agrees(
        &mut self,
        template: &ChatTemplate,
        conversation: &Conversation,
        (holes, contents): (&[Hole], &[usize]),
        find_turns: bool,
    ) -> bool {
        let Some(Foretold::Text(pieces)) = self.foretold(conversation.messages.len(), false) else {
            return false;
        };
        let each = pieces.before.iter().map(|(_, slot)| slot.hole());
        let in_order = each.eq(contents.iter().copied().map(Some));
        if !(in_order && is_bare(conversation)) {
            return false;
        }
        // Probes are no words that could stand there by accident: that they are not written is
        // what `hand` finds.
        let filled = pieces.write(holes);
        let Ok((taken, handed)) = hand(template, conversation, find_turns) else { return false };
        let detail = |unused: &Unused| unused.loss == Loss::Detail && unused.by == TEMPLATE;
        if !handed.unused.iter().all(detail) {
            return false;
        }
        if !find_turns {
            self.unused.clone_from(&handed.unused);
        }
        let filled = filled.and_then(|filled| self.handed(conversation, filled, find_turns));
        *taken == *conversation && filled == Some(handed)
    }
}

impl Making<'_> {
    /// All that is known of texts.
    fn texts(&mut self, stencil: &mut Stencil, conversation: &Conversation) -> Option<()> {
        let (text, marks) = match self.trace.write(self.count, false)? {
            Traced::Text(text, marks) => (text, marks),
            Traced::Refused => {
                self.template.render(self.turns, self.count, false).is_err().then_some(())?;
                stencil.texts.push((self.count, false, Foretold::Refused));
                return Some(());
            }
        };
        take_undefined();
        let written = self.template.render_whole(self.turns).ok()?;
        stencil.undefined = take_undefined();
        let (pieces, ranges) = self.cut(&written, &text)?;
        if self.template.has_marks() {
            let (marked, spans) = self.template.render_marked(self.turns).ok()?;
            let found = marks.iter().map(|[a, b]| Some(self.at(&text, *a)?..self.at(&text, *b)?));
            (marked == written && found.eq(spans.iter().cloned().map(Some))).then_some(())?;
            stencil.marks =
                Some(spans.iter().map(|span| mark(&ranges, span)).collect::<Option<_>>()?);
        } else {
            let whole = Whole::new(self.template, self.turns).ok()?.into_text();
            (whole == written).then_some(())?;
            stencil.turns = self.turns_of(conversation, &text, &ranges);
        }
        take_undefined();
        stencil.texts.push((self.count, false, Foretold::Text(pieces)));
        if stencil.turns.is_none() && stencil.marks.is_none() {
            self.prefixes(stencil)?;
        }
        Some(())
    }

    /// What the assistant's messages say, if that lies between beginnings of the whole text for
    /// all contents, and there where it is found in the conversation of probes.
    fn turns_of(
        &mut self,
        conversation: &Conversation,
        whole: &Text,
        ranges: &[Range<usize>],
    ) -> Option<Vec<(usize, [Mark; 2])>> {
        let mut turns = Vec::new();
        for (index, said) in mask::by_prefixes(self.template, conversation)? {
            let start = self.trace.text(index, true)?;
            let last = index + 1 == self.count;
            let end = if last { whole.clone() } else { self.trace.text(index + 1, false)? };
            let found = self.size(&start)?..self.size(&end)?;
            (found == said && start.begins(whole) && end.begins(whole)).then_some(())?;
            turns.push((index, mark(ranges, &said)?));
        }
        Some(turns)
    }

    /// What the template makes of the first turns, where turns must be looked for.
    fn prefixes(&mut self, stencil: &mut Stencil) -> Option<()> {
        let whole = self.count;
        let all = (0..=whole).flat_map(|count| [(count, false), (count, true)]);
        for (count, generation) in all.filter(|one| *one != (whole, false)) {
            let Some(traced) = self.trace.write(count, generation) else { continue };
            let foretold = match (traced, self.template.render(self.turns, count, generation)) {
                (Traced::Text(text, _), Ok(written)) => {
                    Foretold::Text(self.cut(&written, &text)?.0)
                }
                (Traced::Refused, Err(_)) => Foretold::Refused,
                _ => return None,
            };
            stencil.texts.push((count, generation, foretold));
        }
        Some(())
    }

    /// Cuts what was written at the contents; where each piece that stands around them is.
    fn cut(&mut self, written: &str, traced: &Text) -> Option<(Pieces, Vec<Range<usize>>)> {
        let holes = &self.trace.given().holes;
        let (mut before, mut ranges) = (Vec::new(), Vec::new());
        let (mut fixed, mut at) = (String::new(), 0);
        for piece in &traced.0 {
            match piece {
                TextPart::Fixed(part) => {
                    written.get(at..)?.starts_with(part.as_str()).then_some(())?;
                    at += part.len();
                    fixed.push_str(part);
                }
                TextPart::Slot(slot) => {
                    let part = slot.of(holes)?;
                    written.get(at..)?.starts_with(&*part).then_some(())?;
                    ranges.push(at - fixed.len()..at);
                    before.push((std::mem::take(&mut fixed), slot.clone()));
                    at += part.len();
                }
            }
        }
        ranges.push(at - fixed.len()..at);
        let pieces = Pieces { before, after: fixed };
        let scaffold = || pieces.before.iter().map(|(text, _)| text).chain([&pieces.after]);
        let size = scaffold().map(String::len).sum::<usize>() + 64 * pieces.before.len();
        let foreign = scaffold().any(|text| text.contains([SIGN, SPACE]));
        self.left = self.left.checked_sub(size)?;
        (at == written.len() && !foreign).then_some((pieces, ranges))
    }

    fn size(&self, text: &Text) -> Option<usize> {
        let sizes = text.0.iter().map(|part| self.size_of(part));
        sizes.sum()
    }

    fn size_of(&self, part: &TextPart) -> Option<usize> {
        match part {
            TextPart::Fixed(text) => Some(text.len()),
            TextPart::Slot(slot) => slot.of(&self.trace.given().holes).map(|text| text.len()),
        }
    }

    /// Where a place in a piece of a text is in what was written.
    fn at(&self, text: &Text, (piece, offset): (usize, usize)) -> Option<usize> {
        let before = text.0.get(..piece)?.iter().map(|part| self.size_of(part));
        Some(before.sum::<Option<usize>>()? + offset)
    }
}

/// The holes of contents, and the texts that messages have beside them; `None` where a content has
/// none. What is said of `id` and the like is not looked for.
fn fields(messages: &[Shape], source: &str) -> Option<(Vec<usize>, Vec<Beside>)> {
    let (mut contents, mut beside) = (Vec::new(), Vec::new());
    for message in messages {
        let Shape::Object(fields) = message else { return None };
        for (name, shape) in fields.iter() {
            match (name.as_str(), shape) {
                ("content", Shape::Text(hole)) => contents.push(*hole),
                ("content", _) => return None,
                (name, Shape::Text(hole)) if !KNOWN.contains(&name) => {
                    let unasked = (!source.contains(name)).then(|| name.to_owned());
                    beside.push(Beside { hole: *hole, unasked });
                }
                _ => {}
            }
        }
    }
    (contents.len() == messages.len()).then_some((contents, beside))
}

/// A part of what was written, by what stands around contents.
fn mark(ranges: &[Range<usize>], of: &Range<usize>) -> Option<[Mark; 2]> {
    let mark = |at: usize| {
        let piece = ranges.iter().position(|it| it.start <= at && at <= it.end)?;
        Some(Mark { piece, offset: at - ranges[piece].start })
    };
    Some([mark(of.start)?, mark(of.end)?])
}

/// A conversation of this outline.
fn conversation(outline: &Outline, holes: &[Hole]) -> Option<Conversation> {
    let messages = outline.messages.iter().map(|message| value(message, holes));
    let args = outline.args.iter().map(|(name, arg)| Some((name.clone(), value(arg, holes)?)));
    Some(Conversation {
        messages: messages.collect::<Option<_>>()?,
        tools: match &outline.tools {
            Shape::Null => None,
            tools => Some(value(tools, holes)?),
        },
        template_args: args.collect::<Option<_>>()?,
        not_targets: BTreeSet::new(),
    })
}

fn value(shape: &Shape, holes: &[Hole]) -> Option<Value> {
    Some(match shape {
        Shape::Null => Value::Null,
        Shape::Bool(truth) => (*truth).into(),
        Shape::Number(number) => (*number).into(),
        Shape::Known(text) => text.as_str().into(),
        Shape::Text(hole) | Shape::Opaque(hole) => match holes.get(*hole)? {
            Hole::Text(text) => text.as_ref().into(),
            Hole::Value(value) => value.as_ref().clone(),
        },
        Shape::List(items) => {
            Value::Array(items.iter().map(|item| value(item, holes)).collect::<Option<_>>()?)
        }
        Shape::Object(fields) => {
            let fields =
                fields.iter().map(|(name, item)| Some((name.clone(), value(item, holes)?)));
            Value::Object(fields.collect::<Option<Map<String, Value>>>()?)
        }
    })
}
