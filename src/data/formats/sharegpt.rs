//! The shape `sharegpt`: a conversation as a list of from and value, with names of its own for
//! who speaks.

use serde_json::{Map, Value};

use super::beside::take_beside;
use super::calls::call;
use super::lists::{First, first, list, turns};
use super::turns::{Turn, conversation, turn};
use super::{Content, Fields, Format, KNOWN, found};
use crate::config::FormatChoice;
use crate::data::sources::kind;
use crate::files::parse_exact_json;

/// The names under which the list is found.
const KEYS: [&str; 2] = ["conversations", "messages"];
/// Who speaks, in the words of public data sets, and the role that it is.
const SPEAKERS: [(&str, &str); 19] = [
    ("human", "user"),
    ("user", "user"),
    ("gpt", "assistant"),
    ("assistant", "assistant"),
    ("chatgpt", "assistant"),
    ("bing", "assistant"),
    ("bard", "assistant"),
    ("bot", "assistant"),
    ("model", "assistant"),
    ("function_call", CALL),
    ("tool_call", CALL),
    ("system", "system"),
    ("developer", "developer"),
    ("tool", "tool"),
    ("function", "tool"),
    ("observation", "tool"),
    ("ipython", "tool"),
    ("function_response", "tool"),
    ("tool_response", "tool"),
];
/// The assistant calls a tool: the value is the call in JSON.
const CALL: &str = "call";
/// With one of these, a turn needs no words.
const WORDLESS: [&str; 5] =
    ["tool_calls", "function_call", "reasoning_content", "thinking", "reasoning"];

/// The shape `sharegpt`.
pub struct ShareGpt;

impl Format for ShareGpt {
    fn name(&self) -> &'static str {
        "sharegpt"
    }

    fn choice(&self) -> FormatChoice {
        FormatChoice::ShareGpt
    }

    fn expects(&self) -> &'static str {
        "`conversations`, a list of objects with `from` and `value`"
    }

    fn recognises(&self, record: &Fields) -> bool {
        KEYS.iter().any(|key| match first(record, key) {
            Some(First::Turn(turn)) => match (turn.get("from"), turn.get("role")) {
                (Some(_), None) => true,
                // A role that only this shape knows.
                (None, Some(Value::String(role))) => {
                    role_of(role).is_some_and(|known| known != role.as_str())
                }
                _ => false,
            },
            Some(First::Nothing) => *key == "conversations",
            None => false,
        })
    }

    fn read(&self, record: &mut Fields) -> Result<Content, String> {
        let turns = (1..).zip(turns(record, &KEYS)?);
        let mut conversation =
            conversation(turns.map(|(number, message)| message_of(message, number)))?;
        take_beside(record, &mut conversation)?;
        Ok(Content::Chat(conversation))
    }
}

fn role_of(speaker: &str) -> Option<&'static str> {
    let known = SPEAKERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(speaker.trim()));
    known.map(|(_, role)| *role)
}

/// A turn with from and value, or role and content, as templates take it.
pub fn message_of(message: Value, number: usize) -> Result<Turn, String> {
    let Value::Object(mut fields) = message else {
        return Err(format!("message {number} must be an object, {} was found", kind(&message)));
    };
    let names = found(&fields);
    let two = |names: [&str; 2]| {
        format!("message {number}: `{}` and `{}` say different things", names[0], names[1])
    };
    let speaker = match take(&mut fields, ["from", "role"]).map_err(two)? {
        Some(Value::String(speaker)) => speaker,
        Some(other) => {
            let other = kind(&other);
            return Err(format!("message {number}: `from` must be a string, {other} was found"));
        }
        None => return Err(format!("message {number} has no `from`, {names}")),
    };
    let Some(role) = role_of(&speaker) else {
        let known = SPEAKERS.map(|(name, _)| format!("`{name}`")).join(", ");
        return Err(format!("message {number} is from `{speaker}`{KNOWN}{known}"));
    };
    let value = take(&mut fields, ["value", "content"]).map_err(two)?;
    if role == CALL {
        if fields.get("tool_calls").is_some_and(|calls| !calls.is_null()) {
            return Err(two(["value", "tool_calls"]));
        }
        let calls = calls(value).map_err(|reason| format!("message {number}: {reason}"))?;
        fields.insert("role".to_owned(), "assistant".into());
        fields.insert("tool_calls".to_owned(), Value::Array(calls));
        return turn(Value::Object(fields), number);
    }
    fields.insert("role".to_owned(), role.into());
    match value {
        Some(value) => drop(fields.insert("content".to_owned(), value)),
        None if WORDLESS.iter().any(|key| fields.contains_key(*key)) => {}
        None => return Err(format!("message {number} has no `value`, {names}")),
    }
    turn(Value::Object(fields), number)
}

/// The one of two fields that is there and not null; both are removed. An error where they differ.
fn take<'a>(
    fields: &mut Map<String, Value>,
    names: [&'a str; 2],
) -> Result<Option<Value>, [&'a str; 2]> {
    let values = names.map(|name| fields.shift_remove(name).filter(|value| !value.is_null()));
    match values {
        [Some(one), Some(other)] if one != other => Err(names),
        [one, other] => Ok(one.or(other)),
    }
}

/// The calls that a value holds as JSON text: one, or a list of them.
fn calls(value: Option<Value>) -> Result<Vec<Value>, String> {
    let value = match value {
        Some(Value::String(text)) => parse_exact_json(text.trim().as_bytes())
            .map_err(|_| "a call of a tool must be JSON text with name and arguments".to_owned())?,
        value => value.unwrap_or_default(),
    };
    let calls = if value.is_object() { vec![value] } else { list(value, "value")? };
    calls.into_iter().map(call).collect()
}
