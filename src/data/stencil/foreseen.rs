//! A chat template of which it is known what it writes, without running it.
//!
//! It answers what [`Writes`] asks from stencils: the whole text, those of beginnings, and those of
//! the same conversation with other words in it. What no stencil tells it gives up: all that it
//! said of the conversation is void then, and the template must be asked itself.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::ops::Range;
use std::sync::Arc;

use serde_json::json;

use super::layout::{MessageLayout, Target, layouts};
use super::outline::Plain;
use super::{Foretold, Stencil, Written};
use crate::data::formats::Conversation;
use crate::data::template::{Hole, Variants, WholeText, Writes, note_undefined};

/// A stencil, and where other words can be put in its conversations.
#[derive(Debug)]
pub struct Known {
    /// The stencil.
    pub stencil: Stencil,
    layouts: Vec<MessageLayout>,
}

impl Known {
    /// Reads the outline of a stencil; `None` if it has none.
    pub fn new(stencil: Stencil) -> Option<Self> {
        let layouts = layouts(&stencil.outline)?;
        Some(Self { stencil, layouts })
    }
}

/// Finds the stencil that admits a conversation.
type Find<'r> = &'r dyn Fn(&Plain) -> Option<Arc<Known>>;

/// What is known of a template.
pub struct Foreseen<'r> {
    find: Find<'r>,
    source: &'r str,
    has_marks: bool,
    prompt: OnceCell<Option<String>>,
    has_given_up: Cell<bool>,
}

/// A conversation, taken apart.
#[derive(Clone)]
pub struct KnownTurns<'c> {
    known: Option<Arc<Known>>,
    holes: Vec<Hole<'c>>,
    count: usize,
    /// Whether other words stand in it, for which the stencil may not hold.
    is_changed: bool,
}

/// The text of a conversation that is known.
pub struct KnownWhole<'w> {
    template: &'w Foreseen<'w>,
    turns: &'w KnownTurns<'w>,
    filled: Written,
}

impl<'r> Foreseen<'r> {
    /// With what finds stencils of the template, and its text.
    pub fn new(find: Find<'r>, source: &'r str, has_marks: bool) -> Self {
        let (prompt, has_given_up) = (OnceCell::new(), Cell::new(false));
        Self { find, source, has_marks, prompt, has_given_up }
    }

    fn give_up<T>(&self) -> Result<T, String> {
        self.has_given_up.set(true);
        Err("it is not known".to_owned())
    }

    fn filled(
        &self,
        turns: &KnownTurns,
        count: usize,
        generation: bool,
    ) -> Result<Written, String> {
        let Some(known) = &turns.known else { return self.give_up() };
        if turns.is_changed && known.stencil.admits(&turns.holes).is_err() {
            return self.give_up();
        }
        match known.stencil.foretold(count, generation) {
            Some(Foretold::Refused) => Err("it refuses the conversation".to_owned()),
            Some(Foretold::Text(pieces)) => match pieces.write(&turns.holes) {
                Some(filled) => Ok(filled),
                None => self.give_up(),
            },
            None => self.give_up(),
        }
    }

    fn note(&self, turns: &KnownTurns) {
        if let Some(known) = &turns.known {
            note_undefined(known.stencil.undefined.clone());
        }
    }
}

impl Writes for Foreseen<'_> {
    type Turns<'c> = KnownTurns<'c>;
    type Whole<'w>
        = KnownWhole<'w>
    where
        Self: 'w;

    fn turns<'c>(&self, conversation: &'c Conversation) -> KnownTurns<'c> {
        let plain = Plain::of(conversation);
        let known = plain.as_ref().and_then(|plain| (self.find)(plain));
        match &known {
            Some(known) => {
                self.prompt.get_or_init(|| known.stencil.prompt.clone());
            }
            None => self.has_given_up.set(true),
        }
        let holes = plain.map(|plain| plain.holes).unwrap_or_default();
        KnownTurns { known, holes, count: conversation.messages.len(), is_changed: false }
    }

    fn render(
        &self,
        turns: &KnownTurns<'_>,
        count: usize,
        generation: bool,
    ) -> Result<String, String> {
        self.filled(turns, count, generation).map(|filled| filled.text)
    }

    fn render_whole(&self, turns: &KnownTurns<'_>) -> Result<String, String> {
        let filled = self.filled(turns, turns.count, false)?;
        self.note(turns);
        Ok(filled.text)
    }

    fn render_marked(&self, turns: &KnownTurns<'_>) -> Result<(String, Vec<Range<usize>>), String> {
        let filled = self.filled(turns, turns.count, false)?;
        self.note(turns);
        let marks = turns.known.as_ref().and_then(|known| known.stencil.marks.as_ref());
        let spans = marks.into_iter().flatten().map(|mark| filled.range(mark)).collect();
        match spans {
            Some(spans) => Ok((filled.text, spans)),
            None => self.give_up(),
        }
    }

    fn whole<'w>(&'w self, turns: &'w KnownTurns<'_>) -> Result<KnownWhole<'w>, String> {
        let filled = self.filled(turns, turns.count, false)?;
        self.note(turns);
        Ok(KnownWhole { template: self, turns, filled })
    }

    fn has_marks(&self) -> bool {
        self.has_marks
    }

    fn generation_prompt(&self) -> Option<&str> {
        match self.prompt.get() {
            Some(prompt) => prompt.as_deref(),
            None => {
                self.has_given_up.set(true);
                None
            }
        }
    }

    fn source(&self) -> &str {
        self.source
    }

    fn gave_up(&self) -> bool {
        self.has_given_up.get()
    }
}

impl KnownTurns<'_> {
    fn changed(&self, target: Option<Target>, text: &str) -> Self {
        let hole = match target {
            Some(Target::Hole(hole)) => hole,
            _ => return self.lost(),
        };
        let mut changed = Self { is_changed: true, ..self.clone() };
        match changed.holes.get_mut(hole) {
            Some(hole @ Hole::Text(_)) => *hole = Hole::Text(Cow::Owned(text.to_owned())),
            // Arguments that are an object.
            Some(Hole::Value(value)) if value.is_object() => {
                *value = Cow::Owned(json!({ text: 1 }));
            }
            _ => return self.lost(),
        }
        changed
    }

    /// A conversation of which nothing is known.
    fn lost(&self) -> Self {
        Self { known: None, ..self.clone() }
    }

    fn layout(&self, index: usize) -> Option<&MessageLayout> {
        self.known.as_ref()?.layouts.get(index)
    }
}

impl Variants for KnownTurns<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn with_content(&self, index: usize, content: &str) -> Self {
        self.changed(self.layout(index).map(|layout| layout.content), content)
    }

    fn probes<'a>(&'a self, index: usize, text: &'a str) -> impl Iterator<Item = Self> + 'a {
        let probes = self.layout(index).map(|layout| layout.probes.as_slice());
        probes.unwrap_or_default().iter().map(move |target| self.changed(Some(*target), text))
    }

    fn doubled(&self, _index: usize, _content: &str) -> Self {
        self.lost()
    }
}

impl WholeText for KnownWhole<'_> {
    fn text(&self) -> &str {
        &self.filled.text
    }

    fn into_text(self) -> String {
        self.filled.text
    }

    fn prefix(&self, text: &str, count: usize, generation: bool) -> Option<usize> {
        let prefix = self.template.filled(self.turns, count, generation).ok()?.text;
        text.starts_with(&prefix).then_some(prefix.len())
    }

    fn known_turn(&self, index: usize) -> Option<Range<usize>> {
        let turns = self.turns.known.as_ref()?.stencil.turns.as_ref()?;
        let (_, mark) = turns.iter().find(|(message, _)| *message == index)?;
        self.filled.range(mark).filter(|said| !said.is_empty())
    }
}
