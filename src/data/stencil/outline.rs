//! What conversations have in common, and in what they differ.
//!
//! An outline says which messages there are, with which fields, and where a text stands, or a value
//! of which it is not said what is in it. Roles, empty texts and what else decides what a template
//! does is a part of it. It is written as one text, so that a stencil is found by it; the texts and
//! values stand in holes, which are numbered in the order in which they come.

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::data::formats::{Conversation, REASONING};
use crate::data::template::{Hole, SIGN, Shape, is_plain};

/// Conversations with more messages are too rarely alike.
pub const MESSAGES_MAX: usize = 32;
/// Outlines with more holes, and of more bytes.
const HOLES_MAX: usize = 512;
const OUTLINE_MAX: usize = 16 << 10;
/// Values in each other; deeper ones are refused elsewhere.
const DEPTH_MAX: usize = 90;

/// A conversation, taken apart.
#[derive(Debug)]
pub struct Plain<'c> {
    /// What it has in common with others, as one text.
    pub outline: String,
    /// What is its own.
    pub holes: Vec<Hole<'c>>,
}

/// Whether a conversation has nothing but roles, contents, which are not empty, and such fields of
/// messages as only some templates know.
pub fn is_bare(conversation: &Conversation) -> bool {
    let bare = |message: &Value| {
        let Some(fields) = message.as_object() else { return false };
        let content = fields.get("content").and_then(Value::as_str);
        let other = |name: &String| name != "tool_calls" && !REASONING.contains(&name.as_str());
        content.is_some_and(|text| !text.is_empty())
            && (fields.len() == 2 || fields.keys().all(other))
    };
    conversation.tools.is_none()
        && conversation.template_args.is_empty()
        && conversation.messages.iter().all(bare)
}

impl<'c> Plain<'c> {
    /// Takes a conversation apart; `None` where a template may be told of something in it in
    /// another way than as it is, or there is too much in it.
    pub fn of(conversation: &'c Conversation) -> Option<Self> {
        let Conversation { messages, tools, template_args, not_targets: _ } = conversation;
        if messages.len() > MESSAGES_MAX {
            return None;
        }
        let mut walk = Walk { outline: String::with_capacity(256), holes: Vec::new() };
        for message in messages {
            walk.message(message.as_object()?)?;
        }
        walk.outline.push('|');
        match tools {
            None => walk.outline.push('n'),
            Some(tools) => walk.list(tools.as_array()?, Walk::opaque)?,
        }
        walk.outline.push('{');
        for (name, value) in template_args {
            walk.name(name)?;
            match value {
                Value::Number(number) if number.is_i64() => {
                    walk.outline.push('i');
                    walk.known(&number.to_string())?;
                }
                Value::String(text) => walk.word(text)?,
                other => walk.other(other)?,
            }
        }
        walk.outline.push('}');
        let Walk { outline, holes } = walk;
        let fits = holes.len() <= HOLES_MAX && outline.len() <= OUTLINE_MAX;
        fits.then_some(Self { outline, holes })
    }
}

struct Walk<'c> {
    outline: String,
    holes: Vec<Hole<'c>>,
}

impl<'c> Walk<'c> {
    /// A text that ends with what no other may hold.
    fn known(&mut self, text: &str) -> Option<()> {
        (!text.contains('\0')).then_some(())?;
        self.outline.push_str(text);
        self.outline.push('\0');
        Some(())
    }

    fn word(&mut self, text: &str) -> Option<()> {
        (!text.contains(SIGN)).then_some(())?;
        self.outline.push('k');
        self.known(text)
    }

    fn name(&mut self, name: &str) -> Option<()> {
        (!name.contains(SIGN)).then_some(())?;
        self.outline.push(',');
        self.known(name)
    }

    fn list(
        &mut self,
        items: &'c [Value],
        item: impl Fn(&mut Self, &'c Value) -> Option<()>,
    ) -> Option<()> {
        self.outline.push('[');
        items.iter().try_for_each(|it| item(self, it))?;
        self.outline.push(']');
        Some(())
    }

    fn message(&mut self, fields: &'c Map<String, Value>) -> Option<()> {
        self.outline.push('{');
        for (name, value) in fields {
            self.name(name)?;
            match (name.as_str(), value) {
                ("role", Value::String(role)) => self.word(role)?,
                ("role", _) => return None,
                ("content", Value::Array(parts)) => {
                    self.list(parts, |walk, part| walk.object(part.as_object()?, &["type"]))?
                }
                ("tool_calls", Value::Array(calls)) => self.list(calls, Self::call)?,
                (_, value) => self.other(value)?,
            }
        }
        self.outline.push('}');
        Some(())
    }

    fn call(&mut self, call: &'c Value) -> Option<()> {
        self.outline.push('{');
        for (name, value) in call.as_object()? {
            self.name(name)?;
            match (name.as_str(), value) {
                ("function", Value::Object(function)) => self.object(function, &[])?,
                ("type", Value::String(text)) => self.word(text)?,
                (_, value) => self.other(value)?,
            }
        }
        self.outline.push('}');
        Some(())
    }

    /// An object whose fields with these names are known.
    fn object(&mut self, fields: &'c Map<String, Value>, known: &[&str]) -> Option<()> {
        self.outline.push('{');
        for (name, value) in fields {
            self.name(name)?;
            match value {
                Value::String(text) if known.contains(&name.as_str()) => self.word(text)?,
                value => self.other(value)?,
            }
        }
        self.outline.push('}');
        Some(())
    }

    /// A value of which no more is known than its kind.
    fn other(&mut self, value: &'c Value) -> Option<()> {
        match value {
            Value::Null => self.outline.push('n'),
            Value::Bool(truth) => self.outline.push(if *truth { 't' } else { 'f' }),
            Value::String(text) if text.is_empty() => self.outline.push_str("k\0"),
            Value::String(text) => {
                is_plain(text).then_some(())?;
                self.outline.push('s');
                self.holes.push(Hole::Text(Cow::Borrowed(text)));
            }
            value => self.opaque(value)?,
        }
        Some(())
    }

    fn opaque(&mut self, value: &'c Value) -> Option<()> {
        is_shallow(value, DEPTH_MAX).then_some(())?;
        self.outline.push('o');
        self.holes.push(Hole::Value(Cow::Borrowed(value)));
        Some(())
    }
}

/// Whether values are not too deep in each other, and hold no whole number in disguise.
fn is_shallow(value: &Value, depth: usize) -> bool {
    let free = |text: &String| !text.contains(SIGN);
    match value {
        _ if depth == 0 => false,
        Value::String(text) => free(text),
        Value::Array(items) => items.iter().all(|item| is_shallow(item, depth - 1)),
        Value::Object(fields) => {
            fields.iter().all(|(key, item)| free(key) && is_shallow(item, depth - 1))
        }
        _ => true,
    }
}

/// An outline as values: messages, tools, and what is handed over by name.
pub struct Outline {
    /// The messages, all of them objects.
    pub messages: Vec<Shape>,
    /// The tools.
    pub tools: Shape,
    /// By name.
    pub args: Vec<(String, Shape)>,
}

impl Outline {
    /// Reads what [`Plain::of`] wrote; `None` if it is something else.
    pub fn read(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text, holes: 0, depth: 0 };
        let mut messages = Vec::new();
        while !reader.take('|') {
            messages.push(reader.shape()?);
        }
        let tools = reader.shape()?;
        let Shape::Object(args) = reader.shape()? else { return None };
        reader.rest.is_empty().then_some(())?;
        Some(Self { messages, tools, args: Rc::unwrap_or_clone(args) })
    }
}

struct Reader<'t> {
    rest: &'t str,
    holes: usize,
    depth: usize,
}

impl Reader<'_> {
    fn take(&mut self, sign: char) -> bool {
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn known(&mut self) -> Option<String> {
        let (text, rest) = self.rest.split_once('\0')?;
        self.rest = rest;
        Some(text.to_owned())
    }

    fn hole(&mut self) -> usize {
        self.holes += 1;
        self.holes - 1
    }

    fn shape(&mut self) -> Option<Shape> {
        let sign = self.rest.chars().next()?;
        self.take(sign);
        self.depth += 1;
        (self.depth < 16).then_some(())?;
        let shape = match sign {
            'n' => Shape::Null,
            't' => Shape::Bool(true),
            'f' => Shape::Bool(false),
            'i' => Shape::Number(self.known()?.parse().ok()?),
            'k' => Shape::Known(self.known()?),
            's' => Shape::Text(self.hole()),
            'o' => Shape::Opaque(self.hole()),
            '[' => {
                let mut items = Vec::new();
                while !self.take(']') {
                    items.push(self.shape()?);
                }
                Shape::List(Rc::new(items))
            }
            '{' => {
                let mut fields = Vec::new();
                while self.take(',') {
                    fields.push((self.known()?, self.shape()?));
                }
                self.take('}').then_some(())?;
                Shape::Object(Rc::new(fields))
            }
            _ => return None,
        };
        self.depth -= 1;
        Some(shape)
    }
}
