//! The shape `messages`: a conversation as a list of role and content.

use serde_json::Value;

use super::{Content, Conversation, Fields, Format, found};
use crate::config::FormatChoice;
use crate::data::sources::kind;

/// The roles that templates know; `developer` is the newer name of `system`.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];
/// The names under which the list is found in public data sets.
const KEYS: [&str; 2] = ["messages", "conversations"];

/// The shape `messages`.
pub struct Messages;

impl Format for Messages {
    fn name(&self) -> &'static str {
        "messages"
    }

    fn choice(&self) -> FormatChoice {
        FormatChoice::Messages
    }

    fn expects(&self) -> &'static str {
        "`messages`, a list of objects with `role` and `content`"
    }

    fn recognises(&self, record: &Fields) -> bool {
        KEYS.iter().any(|key| match record.get(*key) {
            Some(Value::Array(list)) => match list.first() {
                Some(first) => first.get("role").is_some(),
                None => *key == "messages",
            },
            _ => false,
        })
    }

    fn read(&self, mut record: Fields) -> Result<Content, String> {
        let key = KEYS.into_iter().find(|key| record.contains_key(*key));
        let Some(key) = key else {
            return Err(format!("the field `messages` is missing, {}", found(&record)));
        };
        let messages = match record.remove(key) {
            Some(Value::Array(messages)) if messages.is_empty() => {
                return Err(format!("`{key}` is empty"));
            }
            Some(Value::Array(messages)) => messages,
            other => {
                let other = other.unwrap_or(Value::Null);
                return Err(format!("`{key}` must be a list, {} was found", kind(&other)));
            }
        };
        for (index, message) in messages.iter().enumerate() {
            check(message, index + 1)?;
        }
        let tools = tools(record.remove("tools"))?;
        Ok(Content::Chat(Conversation { messages, tools }))
    }
}

fn check(message: &Value, number: usize) -> Result<(), String> {
    let Value::Object(fields) = message else {
        return Err(format!("message {number} must be an object, {} was found", kind(message)));
    };
    match fields.get("role") {
        Some(Value::String(role)) if ROLES.contains(&role.as_str()) => {}
        Some(Value::String(role)) => {
            let known = ROLES.map(|role| format!("`{role}`")).join(", ");
            return Err(format!("message {number} has the role `{role}`; known are {known}"));
        }
        Some(other) => {
            let other = kind(other);
            return Err(format!("message {number}: `role` must be a string, {other} was found"));
        }
        None => return Err(format!("message {number} has no `role`, {}", found(fields))),
    }
    match fields.get("content") {
        Some(Value::String(_)) => Ok(()),
        // A turn that only calls tools says nothing.
        None | Some(Value::Null) if fields.get("tool_calls").is_some_and(Value::is_array) => Ok(()),
        None => Err(format!("message {number} has no `content`")),
        Some(other) => {
            let other = kind(other);
            Err(format!("message {number}: `content` must be a string, {other} was found"))
        }
    }
}

/// Tools stand in the record as a list, or as a string that holds one.
fn tools(value: Option<Value>) -> Result<Option<Value>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) if list.is_empty() => Ok(None),
        Some(Value::Array(list)) => Ok(Some(Value::Array(list))),
        Some(Value::String(text)) => match serde_json::from_str(&text) {
            Ok(Value::String(_)) | Err(_) => {
                Err("`tools` is a string that holds no JSON list".to_owned())
            }
            Ok(inner) => tools(Some(inner)),
        },
        Some(other) => Err(format!("`tools` must be a list, {} was found", kind(&other))),
    }
}
