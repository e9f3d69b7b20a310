//! Conversations that differ from another in one text: what the template writes otherwise is where
//! that text stands.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, Value, ValueKind};

use super::Turns;

impl Turns {
    /// The same conversation with other text in one message, whose other fields stay.
    #[must_use]
    pub fn with_content(&self, index: usize, content: &str) -> Self {
        self.with_turn(index, content_replaced(&self.messages[index], content))
    }

    /// Conversations that each have `text` in another field of a message: first in its content,
    /// if it has any, then in what it calls and thinks.
    pub fn probes<'a>(&'a self, index: usize, text: &'a str) -> impl Iterator<Item = Self> + 'a {
        let message = &self.messages[index];
        let content = content_replaced(message, text);
        let (first, last) = match has_content(message) {
            true => (Some(content), None),
            false => (None, Some(content)),
        };
        let call = |change: fn(&Value, &str) -> Option<Value>| {
            let calls = field(message, "tool_calls")?;
            let mut calls: Vec<Value> = calls.try_iter().ok()?.collect();
            let first = calls.first_mut()?;
            *first = match field(first, "function") {
                Some(function) => overlay(first, "function", change(&function, text)?),
                None => change(first, text)?,
            };
            Some(overlay(message, "tool_calls", Value::from_iter(calls)))
        };
        let reasoning = |name: &'static str| {
            let value = field(message, name)?;
            value.as_str().is_some().then(|| overlay(message, name, Value::from(text)))
        };
        let all = [
            first,
            call(arguments_replaced),
            call(|function, text| Some(overlay(function, "name", Value::from(text)))),
            reasoning("reasoning_content"),
            reasoning("thinking"),
            reasoning("reasoning"),
            last,
        ];
        all.into_iter().flatten().map(move |message| self.with_turn(index, message))
    }

    /// The same conversation with one message more: a copy of one, behind it, with other content.
    #[must_use]
    pub fn doubled(&self, index: usize, content: &str) -> Self {
        let mut messages = self.messages.clone();
        messages.insert(index + 1, content_replaced(&self.messages[index], content));
        Self { messages, ..self.clone() }
    }

    fn with_turn(&self, index: usize, message: Value) -> Self {
        let mut messages = self.messages.clone();
        messages[index] = message;
        Self { messages, ..self.clone() }
    }
}

/// A field that is there and not null.
fn field(object: &Value, name: &'static str) -> Option<Value> {
    let value = object.get_attr(name).ok()?;
    (!value.is_undefined() && !value.is_none()).then_some(value)
}

fn has_content(message: &Value) -> bool {
    field(message, "content").is_some_and(|content| content.is_true())
}

/// Content may be text, or a list of parts of which one is text.
fn content_replaced(message: &Value, text: &str) -> Value {
    let parts = field(message, "content").filter(|content| content.kind() == ValueKind::Seq);
    let parts = parts.and_then(|parts| Some(parts.try_iter().ok()?.collect::<Vec<Value>>()));
    if let Some(mut parts) = parts
        && let Some(part) = parts.iter_mut().find(|part| field(part, "text").is_some())
    {
        *part = overlay(part, "text", Value::from(text));
        return overlay(message, "content", Value::from_iter(parts));
    }
    overlay(message, "content", Value::from(text))
}

/// Arguments are an object, or JSON text of one.
fn arguments_replaced(function: &Value, text: &str) -> Option<Value> {
    let arguments = field(function, "arguments")?;
    let changed = match arguments.kind() {
        ValueKind::String => Value::from(text),
        ValueKind::Map => overlay(&Value::UNDEFINED, text, Value::from(1)),
        _ => return None,
    };
    Some(overlay(function, "arguments", changed))
}

fn overlay(base: &Value, key: &str, value: Value) -> Value {
    Value::from_object(Overlay { base: base.clone(), key: key.to_owned(), value })
}

/// An object with another value in one of its fields.
#[derive(Debug)]
struct Overlay {
    base: Value,
    key: String,
    value: Value,
}

impl Object for Overlay {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        if key.as_str() == Some(&self.key) {
            return Some(self.value.clone());
        }
        self.base.get_item(key).ok().filter(|value| !value.is_undefined())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let map = self.base.kind() == ValueKind::Map;
        let keys = map.then(|| self.base.try_iter().ok()).flatten();
        let mut keys: Vec<Value> = keys.into_iter().flatten().collect();
        if !keys.iter().any(|key| key.as_str() == Some(&self.key)) {
            keys.push(Value::from(self.key.as_str()));
        }
        Enumerator::Iter(Box::new(keys.into_iter()))
    }
}
