//! In which form a conversation is handed to the chat template.
//!
//! Templates differ in what they take: arguments of calls as an object or as JSON text, content as
//! parts or as one text, null or an empty text where nothing is said. A conversation is handed
//! over as the record has it, arguments as an object; where the template refuses that, prints it
//! as Python would, or leaves something out, the next form is tried.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::coverage::{Missing, located, missing};
use super::formats::Conversation;
use super::mask::{self, Rendered};
use super::template::{Writes, take_undefined};
use super::unused::{Loss, Unused};
use crate::files::{long_integer, parse_exact_json};

/// What the template made of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// What the template wrote; turns that are no targets are not among its turns.
    pub rendered: Rendered,
    /// What the record says and the template did not write.
    pub unused: Vec<Unused>,
    /// Names that the template printed though they were undefined.
    pub undefined: BTreeSet<String>,
}

/// Renders a conversation, and finds the assistant's turns where they are asked for: in the first
/// form in which the template writes all of it; in the first that it writes at all if there is
/// none. The error is the reason, in one line.
pub fn hand<'a, T: Writes>(
    template: &T,
    conversation: &'a Conversation,
    find_turns: bool,
) -> Result<(Cow<'a, Conversation>, Handed), String> {
    take_undefined(); // what this thread did before is no concern of this conversation
    let open = Open::of(conversation);
    let render = if find_turns { mask::render::<T> } else { mask::plain::<T> };
    let mut best: Option<(Cow<Conversation>, Rendered, Missing)> = None;
    let mut refused = None;
    for form in open.forms() {
        if form.content == Shape::Parts && !looks_for_parts(template) {
            continue;
        }
        let handed = form.apply(conversation);
        if template.gave_up() {
            break;
        }
        let rendered = match render(template, &handed) {
            Ok(rendered) => rendered,
            Err(reason) => {
                refused.get_or_insert(reason);
                continue;
            }
        };
        let missing = missing(template, &handed, &rendered);
        let lost = missing.unused.iter().any(|unused| unused.loss == Loss::Meaning);
        let fits = !lost && !form.is_misread(&handed, &rendered.text);
        if fits || best.is_none() {
            best = Some((handed, rendered, missing));
        }
        if fits {
            break;
        }
    }
    let Some((handed, mut rendered, missing)) = best else {
        let reason = refused.unwrap_or_default();
        let null = if open.null { "; a message has `content: null`" } else { "" };
        return Err(format!("{reason}{null}"));
    };
    // An empty answer must not be trained on where the record has another.
    let turns = located(&handed, &rendered);
    let mut number = 0;
    rendered.turns.retain(|_| {
        let message = turns.get(number).map(|(message, _)| *message);
        number += 1;
        message.is_none_or(|message| {
            !handed.not_targets.contains(&message) && !missing.silent.contains(&message)
        })
    });
    Ok((handed, Handed { rendered, unused: missing.unused, undefined: take_undefined() }))
}

/// Whether a template asks which parts of the content are text.
fn looks_for_parts(template: &impl Writes) -> bool {
    ["'text'", "\"text\""].iter().any(|word| template.source().contains(word))
}

/// In what a conversation can be handed over in several forms.
#[derive(Clone, Copy)]
struct Open {
    calls: bool,
    /// A message has parts for content.
    parts: bool,
    /// A message has text for content.
    texts: bool,
    /// A message has null for content.
    null: bool,
    /// A message has no words, in whatever form.
    wordless: bool,
}

/// One of these forms; the record's own where nothing is set.
#[derive(Clone, Copy)]
struct Form {
    /// Arguments are JSON text, not objects.
    text: bool,
    /// How content is handed over.
    content: Shape,
    /// Null is an empty text, and an empty text beside calls is null.
    swapped: bool,
    open: Open,
}

/// How content is handed over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As the record has it.
    Given,
    /// Parts are joined to one text.
    Text,
    /// A text is a part: templates of models that also see may take nothing else.
    Parts,
}

impl Open {
    fn of(conversation: &Conversation) -> Self {
        let mut open =
            Self { calls: false, parts: false, texts: false, null: false, wordless: false };
        for message in &conversation.messages {
            // Most messages have a role and a content, and nothing else.
            let more = message.as_object().is_some_and(|fields| fields.len() > 2);
            match &message["content"] {
                Value::Array(_) => open.parts = true,
                Value::Null => (open.null, open.wordless) = (true, true),
                _ => open.texts = true,
            }
            open.calls |= more && message["tool_calls"].is_array();
            open.wordless |= more && is_empty_call(message);
        }
        open
    }

    /// All forms, those with the fewest changes first.
    fn forms(self) -> impl Iterator<Item = Form> {
        let mut forms = Vec::new();
        let both = |open: bool| if open { &[false, true][..] } else { &[false][..] };
        let mut contents = vec![Shape::Given];
        contents.extend(self.parts.then_some(Shape::Text));
        contents.extend(self.texts.then_some(Shape::Parts));
        for &swapped in both(self.wordless) {
            for &content in &contents {
                for &text in both(self.calls) {
                    forms.push(Form { text, content, swapped, open: self });
                }
            }
        }
        let changes = |form: &Form| {
            let content = form.content != Shape::Given;
            [form.text, content, form.swapped].map(u8::from).iter().sum::<u8>()
        };
        forms.sort_by_key(changes);
        forms.into_iter()
    }
}

/// Whether a message calls tools and has an empty text beside the calls.
fn is_empty_call(message: &Value) -> bool {
    message["tool_calls"].is_array() && message["content"] == ""
}

impl Form {
    fn apply(self, conversation: &Conversation) -> Cow<'_, Conversation> {
        let other = |call: &Value| call["function"]["arguments"].is_string() != self.text;
        let calls = |message: &Value| {
            message["tool_calls"].as_array().is_some_and(|calls| calls.iter().any(other))
        };
        let changes = self.open.calls && conversation.messages.iter().any(calls);
        if !changes && self.content == Shape::Given && !self.swapped {
            return Cow::Borrowed(conversation);
        }
        let mut handed = conversation.clone();
        for message in &mut handed.messages {
            if let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) {
                calls.iter_mut().for_each(|call| self.call(call));
            }
            let is_empty_call = is_empty_call(message);
            let Some(content) = message.get_mut("content") else { continue };
            match (&*content, self.content) {
                (Value::Array(parts), Shape::Text) => {
                    let texts = parts.iter().filter_map(|part| part["text"].as_str());
                    *content = texts.collect::<String>().into();
                }
                (Value::String(text), Shape::Parts) => {
                    *content = json!([{ "type": "text", "text": text }]);
                }
                _ => {}
            }
            if self.swapped && content.is_null() {
                *content = "".into();
            } else if self.swapped && is_empty_call {
                *content = Value::Null;
            }
        }
        Cow::Owned(handed)
    }

    fn call(self, call: &mut Value) {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { return };
        let other = match arguments {
            Value::String(text) if !self.text => parse_exact_json(text.as_bytes()).ok(),
            Value::Object(_) if self.text => {
                let mut text = String::new();
                dumps(arguments, &mut text);
                Some(text.into())
            }
            _ => None,
        };
        if let Some(other) = other {
            *arguments = other;
        }
    }

    /// Whether the template printed what it was to go through, or printed null as a word.
    fn is_misread(self, handed: &Conversation, text: &str) -> bool {
        let printed = |call: &Value| {
            let first = call["function"]["arguments"].as_object().and_then(|all| all.keys().next());
            first.is_some_and(|key| text.contains(&format!("{{'{key}':")))
        };
        let null = handed.messages.iter().any(|message| message["content"].is_null());
        let parts = handed.messages.iter().any(|message| message["content"].is_array());
        let mut calls = handed.messages.iter().flat_map(|m| m["tool_calls"].as_array()).flatten();
        (self.open.calls && !self.text && calls.any(printed))
            || (parts && (text.contains("'type': 'text'") || text.contains("\"type\": \"text\"")))
            || (null && text.contains("None"))
    }
}

/// JSON as Python's `json.dumps` writes it.
fn dumps(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                dumps(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (index, (key, field)) in fields.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(": ");
                dumps(field, out);
            }
            out.push('}');
        }
        Value::String(text) => match long_integer(text) {
            Some(digits) => out.push_str(digits),
            None => out.push_str(&value.to_string()),
        },
        other => out.push_str(&other.to_string()),
    }
}
