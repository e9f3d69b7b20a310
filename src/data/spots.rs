//! Where the pieces of a conversation stand in it, and the same conversation with other words
//! there.

use serde_json::Value;

use super::formats::{Conversation, REASONING};
use crate::files::long_integer;

/// More of an unwritten piece is not shown.
const SHOWN: usize = 40;

/// A place in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// The content of a message.
    Content(usize),
    /// One part of the content of a message.
    Part(usize, usize),
    /// A field of a message.
    Key(usize, String),
    /// The name of the function of a call: message, call.
    CallName(usize, usize),
    /// A key or a value in the arguments of a call: message, call, number in [`leaves`].
    Argument(usize, usize, usize),
    /// A field of a tool's function.
    Tool(usize, &'static str),
    /// A parameter of a tool.
    Parameter(usize),
    /// Something that no other word can stand for.
    Thought,
}

/// A key or a value in the arguments of a call.
pub enum Leaf<'a> {
    /// A key of an object.
    Key(&'a str),
    /// A value that is no list and no object.
    Value(&'a Value),
}

/// Goes through keys and values, from the first to the last. Null says nothing.
pub fn leaves(value: &Value, look: &mut impl FnMut(Leaf)) {
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter().for_each(|item| leaves(item, look)),
        Value::Object(fields) => {
            for (key, value) in fields {
                look(Leaf::Key(key));
                leaves(value, look);
            }
        }
        value => look(Leaf::Value(value)),
    }
}

/// How a key or value is written, and how Python writes it where that differs.
pub fn word(leaf: &Leaf) -> (String, Option<&'static str>) {
    match leaf {
        Leaf::Key(key) => ((*key).to_owned(), None),
        Leaf::Value(Value::String(text)) => (long_integer(text).unwrap_or(text).to_owned(), None),
        Leaf::Value(Value::Bool(true)) => ("true".to_owned(), Some("True")),
        Leaf::Value(Value::Bool(false)) => ("false".to_owned(), Some("False")),
        Leaf::Value(other) => (other.to_string(), None),
    }
}

/// The conversation with a word of its own at each of these spots, and the words.
pub fn probe(conversation: &Conversation, spots: &[&Spot]) -> (Conversation, Vec<String>) {
    let mut asked = conversation.clone();
    let words: Vec<String> = (0..spots.len()).map(|number| format!("zq{number}x7qz")).collect();
    for (spot, word) in spots.iter().zip(&words) {
        put(&mut asked, spot, word);
    }
    (asked, words)
}

fn put(asked: &mut Conversation, spot: &Spot, word: &str) {
    let at = |messages: &mut Vec<Value>, index: usize, pointer: &str| -> Option<()> {
        *messages.get_mut(index)?.pointer_mut(pointer)? = word.into();
        Some(())
    };
    let _ = match spot {
        Spot::Content(message) => at(&mut asked.messages, *message, "/content"),
        Spot::Part(message, part) => {
            at(&mut asked.messages, *message, &format!("/content/{part}/text"))
        }
        Spot::Key(message, key) => asked.messages.get_mut(*message).and_then(|message| {
            // All names of the reasoning say the same.
            let old = message.get(key)?.clone();
            for (name, value) in message.as_object_mut()? {
                if name == key || (REASONING.contains(&name.as_str()) && *value == old) {
                    *value = word.into();
                }
            }
            Some(())
        }),
        Spot::CallName(message, call) => {
            at(&mut asked.messages, *message, &format!("/tool_calls/{call}/function/name"))
        }
        Spot::Argument(message, call, number) => {
            let pointer = format!("/tool_calls/{call}/function/arguments");
            let arguments = asked.messages.get_mut(*message).and_then(|m| m.pointer_mut(&pointer));
            arguments.map(|arguments| replace(arguments, &mut 0, *number, word))
        }
        Spot::Tool(index, key) => asked.tools.as_mut().and_then(|tools| {
            let tool = tools.get_mut(*index)?;
            let function = match tool.get("function").is_some_and(Value::is_object) {
                true => tool.get_mut("function")?,
                false => tool,
            };
            *function.get_mut(*key)? = word.into();
            Some(())
        }),
        Spot::Parameter(_) | Spot::Thought => None,
    };
}

/// Puts a word in the place of one key or value, counted as [`leaves`] does.
fn replace(value: &mut Value, count: &mut usize, number: usize, word: &str) {
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, count, number, word)),
        Value::Object(fields) => {
            let old = std::mem::take(fields);
            for (key, mut value) in old {
                let here = *count == number;
                *count += 1;
                replace(&mut value, count, number, word);
                fields.insert(if here { word.to_owned() } else { key }, value);
            }
        }
        value => {
            if *count == number {
                *value = word.into();
            }
            *count += 1;
        }
    }
}

/// What a piece is in this record, in a few words.
pub fn example(what: &str, text: &str) -> String {
    let text = text.trim();
    let cut: String =
        text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{what} (`{cut}{more}`)")
}
