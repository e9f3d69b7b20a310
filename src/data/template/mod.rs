//! Chat templates: the model's own Jinja template writes a conversation as text.
//!
//! Rendered as transformers does it: blocks are trimmed, loops can be left, `tojson`,
//! `raise_exception` and `strftime_now` exist, values print as Python prints them.
//!
//! A template comes with the model, from a stranger. It can read no file (there is no loader), its
//! source is of a bounded size ([`size`]), it has a bounded number of instructions and a bounded
//! output. What is not bounded here is memory and the depth of values: so it is rendered in a
//! process of its own ([`super::renderer`]).

mod bounded;
mod edits;
mod environment;
mod failure;
mod filters;
mod json;
mod lexer;
mod marks;
mod named;
mod objects;
mod probe;
mod rewrite;
mod shape;
mod size;
mod text;
mod trace;
mod whole;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use minijinja::Environment;
use minijinja::value::{Enumerator, Object, ObjectExt, Value};
use serde::{Deserialize, Serialize};

use super::formats::Conversation;
use crate::error::{Error, ErrorCode, Result};
use crate::files::Digest;

use bounded::Bounded;
pub use environment::{note_undefined, take_undefined};
use failure::{limits, reason};
use marks::Marks;
pub use named::Templates;
pub use text::is_space;
pub use trace::{
    Given, Guard, Hole, SIGN, Shape, Slot, Text, TextPart, Trace, Traced, Unlike, is_plain,
};
pub use whole::Whole;
pub use writes::{Variants, WholeText, Writes};

/// A conversation of a thousand turns needs about a hundred thousand instructions.
const FUEL: u64 = 20_000_000;
/// A rendering of more bytes is refused.
const MAX_RENDERED: usize = 128 << 20;
/// What `strftime_now` calls now. A clock would make two runs on the same data differ; this is the
/// date that the Llama 3 templates themselves fall back to where there is no clock.
pub const TEMPLATE_DATE: jiff::civil::Date = jiff::civil::date(2024, 7, 26);

/// The names of a template in its environment: as it is, and as [`shape`] rewrote it.
const PLAIN: &str = "chat_template";
const WATCHED: &str = "watched";
/// Names that have a value in every rendering.
const ALWAYS_DEFINED: [&str; 8] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "loop",
    "caller",
    shape::WATCHER,
    marks::NAME,
];

/// The text of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateText {
    /// As it stands in its file.
    pub source: String,
    /// The file it comes from.
    pub origin: String,
}

/// Refuses a template that is too large to be read by the engine.
///
/// # Errors
/// With the line, and what is too large there.
pub fn check_size(text: &TemplateText) -> Result<()> {
    match size::excess(&text.source) {
        None => Ok(()),
        Some((line, cause)) => Err(Error::template_limit("the chat template is too large")
            .at_position(&text.origin, line, 1)
            .because(cause)),
    }
}

/// Whether a template marks what the model writes with `{% generation %}`.
pub fn has_marks(source: &str) -> bool {
    marks::rewrite(&environment::one_kind_of_line_end(source)).is_some()
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// What is the same in every rendering: the special tokens.
    fixed: Arc<BTreeMap<String, Value>>,
    /// Whether the environment has the template as rewritten to be watched.
    watched: bool,
    /// Whether it marks what the model writes with `{% generation %}`.
    marked: bool,
    /// What follows the turns where a generation prompt is asked for, if it depends on nothing.
    plain_prompt: Option<OnceLock<Option<Arc<str>>>>,
    /// What introduces an answer to a single turn of the user.
    generation_prompt: OnceLock<Option<Arc<str>>>,
    /// Whether it came to one of the engine's limits since somebody asked.
    at_limit: AtomicBool,
    source: String,
    origin: String,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChatTemplate({}, {})", self.origin, self.digest().short())
    }
}

/// The turns of a conversation in the form that the template engine takes, so that rendering
/// prefixes of it does not convert it again and again.
#[derive(Clone)]
pub struct Turns {
    messages: Vec<Value>,
    tools: Value,
    /// What the record or the configuration hands over by name.
    args: Arc<BTreeMap<String, Value>>,
}

impl Turns {
    /// Converts a conversation.
    pub fn new(conversation: &Conversation) -> Self {
        Self {
            messages: conversation.messages.iter().map(objects::from_json).collect(),
            tools: conversation.tools.as_ref().map_or_else(|| Value::from(()), objects::from_json),
            args: Arc::new(
                conversation
                    .template_args
                    .iter()
                    .map(|(name, value)| (name.clone(), objects::from_json(value)))
                    .collect(),
            ),
        }
    }

    /// How many turns there are.
    pub fn count(&self) -> usize {
        self.messages.len()
    }

    fn messages(&self) -> &[Value] {
        &self.messages
    }
}

impl ChatTemplate {
    /// Compiles a template; `origin` says where it comes from, `special` names the special tokens
    /// that it may write, such as `bos_token`.
    pub fn new(source: &str, origin: &str, special: BTreeMap<String, String>) -> Result<Self> {
        let mut environment = environment::environment()?;
        let lines = environment::one_kind_of_line_end(source);
        let rewritten = marks::rewrite(&lines);
        let marked = rewritten.is_some();
        let plain = rewritten.unwrap_or_else(|| lines.into_owned());
        let shape = shape::shape(&plain, &special);
        let known: BTreeSet<&str> =
            ALWAYS_DEFINED.into_iter().chain(special.keys().map(String::as_str)).collect();
        let plain = rewrite::rewrite(&plain, &known).map_err(|invalid| {
            let before = plain.get(..invalid.at).unwrap_or_default();
            Error::template("the chat template is not valid Jinja")
                .at_position(origin, before.matches('\n').count() + 1, 1)
                .because(invalid.what)
        })?;
        environment.add_template_owned(PLAIN, plain).map_err(|error| {
            let line = error.line().unwrap_or(1);
            let cause = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            let code = match limits(&error) {
                true => ErrorCode::TemplateLimit,
                false => ErrorCode::Template,
            };
            Error::template("the chat template is not valid Jinja")
                .code(code)
                .at_position(origin, line, 1)
                .because(cause)
        })?;
        let plain_prompt = shape.as_ref().is_some_and(|shape| shape.plain_end).then(OnceLock::new);
        let watched = shape
            .and_then(|shape| rewrite::rewrite(&shape.source, &known).ok())
            .is_some_and(|watched| environment.add_template_owned(WATCHED, watched).is_ok());
        let fixed = special.into_iter().map(|(name, text)| (name, Value::from(text))).collect();
        let (source, origin) = (source.to_owned(), origin.to_owned());
        let fixed = Arc::new(fixed);
        let generation_prompt = OnceLock::new();
        Ok(Self {
            environment,
            fixed,
            watched,
            marked,
            plain_prompt,
            generation_prompt,
            at_limit: AtomicBool::new(false),
            source,
            origin,
        })
    }

    /// Writes the first `count` turns of a conversation as text; `generation` adds what precedes
    /// the assistant's answer. The error is the reason, in one line.
    pub fn render(&self, turns: &Turns, count: usize, generation: bool) -> Result<String, String> {
        let messages = Value::from(turns.messages[..count].to_vec());
        let mut output = Bounded::default();
        self.write(PLAIN, turns, &[("messages", messages)], generation, &mut output)?;
        String::from_utf8(output.bytes).map_err(|error| error.to_string())
    }

    /// Whether it marks what the model writes with `{% generation %}`.
    pub fn has_marks(&self) -> bool {
        self.marked
    }

    /// The special tokens that it may write, by name.
    pub fn special(&self) -> BTreeMap<String, String> {
        let text =
            |(name, token): (&String, &Value)| Some((name.clone(), token.as_str()?.to_owned()));
        self.fixed.iter().filter_map(text).collect()
    }

    /// Writes a conversation, and says where in the text its marks stand, in bytes and in order.
    /// The error is the reason, in one line.
    pub fn render_marked(&self, turns: &Turns) -> Result<(String, Vec<Range<usize>>), String> {
        let mut output = Bounded::default();
        let marks = Arc::new(Marks::new(output.written.clone()));
        let values = [
            ("messages", Value::from(turns.messages.clone())),
            (marks::NAME, Value::from_dyn_object(marks.clone())),
        ];
        note_undefined(self.write(PLAIN, turns, &values, false, &mut output)?);
        let text = String::from_utf8(output.bytes).map_err(|error| error.to_string())?;
        let spans = marks.spans(&text)?;
        Ok((text, spans))
    }

    /// What introduces an answer to a single turn of the user, if the template writes that.
    pub fn generation_prompt(&self) -> Option<&str> {
        let find = || {
            let messages = vec![serde_json::json!({ "role": "user", "content": "a" })];
            let turns = Turns::new(&Conversation { messages, ..Conversation::default() });
            let (with, without) =
                (self.render(&turns, 1, true).ok()?, self.render(&turns, 1, false).ok()?);
            let prompt = with.strip_prefix(without.as_str()).filter(|it| !it.trim().is_empty());
            prompt.map(Arc::from)
        };
        self.generation_prompt.get_or_init(find).as_deref()
    }

    /// Writes all turns of a conversation, and notes which names were printed undefined.
    pub fn render_whole(&self, turns: &Turns) -> Result<String, String> {
        let messages = Value::from(turns.messages.clone());
        let mut output = Bounded::default();
        let names = self.write(PLAIN, turns, &[("messages", messages)], false, &mut output)?;
        note_undefined(names);
        String::from_utf8(output.bytes).map_err(|error| error.to_string())
    }

    /// Writes a conversation with `values` in the place of its messages, counting in `written`.
    fn render_watched(
        &self,
        turns: &Turns,
        values: &[(&'static str, Value)],
        written: Arc<AtomicUsize>,
    ) -> Result<String, String> {
        let mut output = Bounded { written, ..Bounded::default() };
        note_undefined(self.write(WATCHED, turns, values, false, &mut output)?);
        String::from_utf8(output.bytes).map_err(|error| error.to_string())
    }

    fn write(
        &self,
        name: &str,
        turns: &Turns,
        values: &[(&'static str, Value)],
        generation: bool,
        output: &mut Bounded,
    ) -> Result<BTreeSet<String>, String> {
        let mut own = values.to_vec();
        own.push(("tools", turns.tools.clone()));
        if !turns.args.contains_key("documents") {
            own.push(("documents", Value::from(())));
        }
        own.push(("add_generation_prompt", Value::from(generation)));
        if self.marked && !own.iter().any(|(name, _)| *name == marks::NAME) {
            own.push((marks::NAME, Value::from_object(Marks::default())));
        }
        let (args, fixed) = (turns.args.clone(), self.fixed.clone());
        let context = Value::from_object(Names { own, args, fixed });
        let template = self.environment.get_template(name).map_err(|e| e.to_string())?;
        // The engine has a place or two where an odd template makes it panic.
        let render = || {
            let rendered = template.render_captured_to(context, output)?;
            let printed = rendered.state().get_extension::<environment::Printed>();
            Ok(printed.map(|printed| printed.0.clone()).unwrap_or_default())
        };
        let rendered = catch_unwind(AssertUnwindSafe(render)).map_err(|_| {
            self.at_limit.store(true, Ordering::Relaxed);
            "the template engine fails on it".to_owned()
        })?;
        rendered.map_err(|error: minijinja::Error| {
            self.at_limit.fetch_or(limits(&error), Ordering::Relaxed);
            reason(&error)
        })
    }

    /// Whether it came to one of the engine's limits since this was asked last.
    pub fn take_at_limit(&self) -> bool {
        self.at_limit.swap(false, Ordering::Relaxed)
    }

    /// Whether a rendering can be watched, which tells how prefixes of a conversation are written.
    fn watches(&self) -> bool {
        self.watched
    }

    /// The same template, of which every prefix is rendered: to compare with.
    #[cfg(test)]
    pub fn unwatched(self) -> Self {
        Self { watched: false, ..self }
    }

    /// Where to keep what follows the turns, if that is the same for all conversations.
    fn plain_prompt(&self, turns: &Turns) -> Option<&OnceLock<Option<Arc<str>>>> {
        let own = turns.args.keys().any(|name| self.fixed.contains_key(name));
        self.plain_prompt.as_ref().filter(|_| !own)
    }

    /// The template's text, as it stands in its file.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The digest of the template's text.
    pub fn digest(&self) -> Digest {
        Digest::of(self.source.as_bytes())
    }

    /// The file it comes from.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// What a template finds under its names.
#[derive(Debug)]
struct Names {
    own: Vec<(&'static str, Value)>,
    args: Arc<BTreeMap<String, Value>>,
    fixed: Arc<BTreeMap<String, Value>>,
}

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Value> {
        let own = self.own.iter().find(|(own, _)| *own == name).map(|(_, value)| value);
        own.or_else(|| self.args.get(name)).or_else(|| self.fixed.get(name)).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|this| {
            let free = |name: &&String| !this.own.iter().any(|(own, _)| own == *name);
            let fixed = this.fixed.keys().filter(|name| !this.args.contains_key(*name));
            let given = this.args.keys().chain(fixed).filter(free).map(Value::from);
            Box::new(this.own.iter().map(|(name, _)| Value::from(*name)).chain(given))
        })
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod jinja_tests;
