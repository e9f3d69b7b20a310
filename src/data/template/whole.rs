//! The text of a conversation, with what the texts of its first turns would be.
//!
//! What is trained on of a conversation is found by comparing its text with those of its prefixes.
//! Rendering every prefix takes a time that grows with the square of the number of turns. Where
//! the template writes turn by turn ([`super::shape`]), one rendering says what all prefixes are:
//! the messages are handed to it as an object that notes how much was written when each is taken,
//! and which prefixes would have been written otherwise, since the template looked ahead.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};

use super::shape::WATCHER;
use super::{ChatTemplate, Turns};

/// The rendered text of a conversation.
pub struct Whole<'a> {
    template: &'a ChatTemplate,
    turns: &'a Turns,
    text: String,
    /// How much was written before each turn, and before what follows the last, if one rendering
    /// tells it; `None` for turns before which the template looked ahead.
    starts: Vec<Option<usize>>,
    /// What follows the turns where a generation prompt is asked for.
    prompt: OnceLock<Option<Arc<str>>>,
}

impl<'a> Whole<'a> {
    /// Renders a conversation. The error is the reason, in one line.
    pub fn new(template: &'a ChatTemplate, turns: &'a Turns) -> Result<Self, String> {
        let watched = template.watches().then(|| watch(template, turns)).flatten();
        let (text, starts) = match watched {
            Some(found) => found,
            None => (template.render_whole(turns)?, Vec::new()),
        };
        Ok(Self { template, turns, text, starts, prompt: OnceLock::new() })
    }

    /// What the template wrote.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the template wrote.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Where the text of the first `count` turns ends in `text`, if `text` begins with it;
    /// `generation` adds what precedes the assistant's answer.
    pub fn prefix(&self, text: &str, count: usize, generation: bool) -> Option<usize> {
        if let Some((head, tail)) = self.known(count, generation) {
            // Comparing a text with itself would take a time that grows with the square again.
            let same = std::ptr::eq(text, self.text.as_str());
            let rest = if same { text.get(head.len()..) } else { text.strip_prefix(head) };
            return rest?.starts_with(tail).then(|| head.len() + tail.len());
        }
        let prefix = self.template.render(self.turns, count, generation).ok()?;
        text.starts_with(&prefix).then_some(prefix.len())
    }

    /// The text of the first turns in two parts, if it is known without rendering it.
    fn known(&self, count: usize, generation: bool) -> Option<(&str, &str)> {
        let start = (*self.starts.get(count)?)?;
        let tail = match generation {
            true => self.prompt(count, start)?,
            false => self.text.get((*self.starts.last()?)?..)?,
        };
        Some((self.text.get(..start)?, tail))
    }

    /// What follows the turns where a generation prompt is asked for: the same after any of them.
    fn prompt(&self, count: usize, start: usize) -> Option<&str> {
        let render = || -> Option<Arc<str>> {
            let prefix = self.template.render(self.turns, count, true).ok()?;
            Some(prefix.strip_prefix(self.text.get(..start)?)?.into())
        };
        let prompt = self.prompt.get_or_init(|| match self.template.plain_prompt(self.turns) {
            // It does not depend on the conversation either.
            Some(prompt) => prompt.get_or_init(render).clone(),
            None => render(),
        });
        prompt.as_deref()
    }
}

/// Renders a whole conversation and notes how its turns are taken; `None` if that tells nothing,
/// or if there is an error, which is then found again without watching.
fn watch(template: &ChatTemplate, turns: &Turns) -> Option<(String, Vec<Option<usize>>)> {
    let count = turns.count();
    let watcher = Arc::new(Watcher {
        messages: turns.messages().to_vec(),
        written: Arc::default(),
        notes: Mutex::new(Notes { ahead: vec![false; count + 1], ..Notes::default() }),
    });
    let written = watcher.written.clone();
    let messages = Value::from_dyn_object(watcher.clone());
    let watched = [(WATCHER, messages.clone()), ("messages", messages)];
    let text = template.render_watched(turns, &watched, written).ok()?;
    let notes = watcher.notes();
    if notes.broken || notes.loops != 1 || notes.starts.len() != count + 1 {
        return None;
    }
    let starts = notes.starts.iter().zip(&notes.ahead).enumerate();
    // Before the first turn a template often says something of its own.
    Some((text, starts.map(|(k, (start, ahead))| (k > 0 && !ahead).then_some(*start)).collect()))
}

/// The messages of a conversation, as an object that notes what is asked of it.
struct Watcher {
    messages: Vec<Value>,
    /// How many bytes the template has written.
    written: Arc<AtomicUsize>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// How much was written when each message was taken, and when there was none left.
    starts: Vec<usize>,
    /// For each number of turns, whether so many would have been written otherwise.
    ahead: Vec<bool>,
    loops: usize,
    /// Something was asked that these notes cannot express.
    broken: bool,
}

impl Notes {
    /// The template asked for what differs where there are only `first..=last` turns. Where there
    /// are fewer than were taken by now, it would not have come here.
    fn look_ahead(&mut self, last: usize) {
        // The last entry is that of the whole conversation, which is what is rendered.
        let end = (last + 1).min(self.ahead.len().saturating_sub(1));
        if let Some(ahead) = self.ahead.get_mut(self.starts.len()..end) {
            ahead.fill(true);
        }
    }
}

impl Watcher {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An iterator over the messages from `from` on.
    fn take(self: &Arc<Self>, from: usize) -> Enumerator {
        self.notes().loops += 1;
        Enumerator::Iter(Box::new(Taken { watcher: self.clone(), from, next: 0 }))
    }

    /// `loop.last`: so many turns as were taken by now are the only case in which it holds.
    fn last(&self, arguments: &[Value]) -> Result<Value, Error> {
        let taken = self.notes().starts.len();
        self.notes().look_ahead(taken);
        arguments.first().map_or(Ok(Value::UNDEFINED), |of| of.get_attr("last"))
    }

    /// `messages[1:]`.
    fn rest(self: &Arc<Self>, arguments: &[Value]) -> Result<Value, Error> {
        let whole = arguments.first().and_then(|list| list.downcast_object_ref::<Self>());
        let from = arguments.get(1).and_then(Value::as_usize);
        match (whole, from) {
            (Some(_), Some(from)) => Ok(Value::from_object(Rest { whole: self.clone(), from })),
            _ => {
                self.notes().broken = true;
                Err(Error::from(ErrorKind::InvalidOperation))
            }
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.messages.fmt(f)
    }
}

impl Object for Watcher {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = key.as_usize()?;
        let message = self.messages.get(index)?;
        self.notes().look_ahead(index);
        Some(message.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.take(0)
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        let count = self.messages.len();
        self.notes().look_ahead(count.saturating_sub(1));
        Some(count)
    }

    fn is_true(self: &Arc<Self>) -> bool {
        !self.messages.is_empty()
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "last" => self.last(arguments),
            "rest" => self.rest(arguments),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// The messages from some message on, as slicing gives them: to be looped over.
struct Rest {
    whole: Arc<Watcher>,
    from: usize,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole.messages.get(self.from..).unwrap_or_default().fmt(f)
    }
}

impl Object for Rest {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, _key: &Value) -> Option<Value> {
        self.whole.notes().broken = true;
        None
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.whole.take(self.from)
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.whole.enumerator_len()?.saturating_sub(self.from))
    }
}

/// The messages, one after another.
struct Taken {
    watcher: Arc<Watcher>,
    from: usize,
    next: usize,
}

impl Iterator for Taken {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let written = self.watcher.written.load(Ordering::Relaxed);
        let mut notes = self.watcher.notes();
        // Those that are left out are taken together with the first that is not.
        while self.next < self.from.min(self.watcher.messages.len()) {
            notes.starts.push(written);
            self.next += 1;
        }
        notes.starts.push(written);
        self.next += 1;
        self.watcher.messages.get(self.next - 1).cloned()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.watcher.messages.len().saturating_sub(self.next.max(self.from));
        (left, Some(left))
    }
}

#[cfg(test)]
#[path = "whole_tests.rs"]
mod tests;
