//! The shape `preference`: a prompt with an answer that is preferred to another.

use serde_json::{Value, json};

use super::beside::take_beside;
use super::lists::{is_json_list, list, rows};
use super::sharegpt::message_of;
use super::turns::{checked, conversation};
use super::{Content, Conversation, Fields, Format, found};
use crate::config::FormatChoice;
use crate::data::sources::kind;

/// The shape `preference`.
pub struct Preference;

impl Format for Preference {
    fn name(&self) -> &'static str {
        "preference"
    }

    fn choice(&self) -> FormatChoice {
        FormatChoice::Preference
    }

    fn expects(&self) -> &'static str {
        "`chosen` and `rejected`, perhaps `prompt`, each a string or a list of messages"
    }

    fn recognises(&self, record: &Fields) -> bool {
        record.contains_key("chosen") && record.contains_key("rejected")
    }

    fn read(&self, record: &mut Fields) -> Result<Content, String> {
        let names = found(record);
        let prompt = prompt(record.remove("prompt"))?;
        let mut answer = |name: &str| match record.remove(name) {
            None | Some(Value::Null) => Err(format!("the field `{name}` is missing, {names}")),
            Some(answer) => whole(&prompt, answer, name),
        };
        let (mut chosen, mut rejected) = (answer("chosen")?, answer("rejected")?);
        take_beside(&mut record.clone(), &mut rejected)?;
        take_beside(record, &mut chosen)?;
        Ok(Content::Preference { chosen, rejected })
    }
}

fn prompt(value: Option<Value>) -> Result<Conversation, String> {
    match value {
        None | Some(Value::Null) => Ok(Conversation::default()),
        Some(Value::String(text)) if !is_json_list(&text) => {
            checked(vec![json!({ "role": "user", "content": text })])
        }
        Some(value) => messages(value, "prompt"),
    }
}

/// The prompt with an answer. A list that does not begin with the assistant holds the prompt, too.
fn whole(prompt: &Conversation, answer: Value, name: &str) -> Result<Conversation, String> {
    let answer = match answer {
        Value::String(text) if !is_json_list(&text) => {
            if prompt.messages.is_empty() {
                return Err(format!("`{name}` is a string, and there is no `prompt` before it"));
            }
            checked(vec![json!({ "role": "assistant", "content": text })])?
        }
        answer => messages(answer, name)?,
    };
    let is_whole = answer.messages.first().is_some_and(|message| message["role"] != "assistant");
    let all = if is_whole {
        answer
    } else {
        let mut all = prompt.clone();
        all.append(answer);
        all
    };
    match all.messages.last() {
        Some(last) if last["role"] == "assistant" && all.messages.len() > 1 => Ok(all),
        _ => Err(format!("`{name}` must end with an answer of the assistant to something")),
    }
}

/// Messages in a list, in JSON text of one, or a single one; with role and content, or from and
/// value.
pub fn messages(value: Value, name: &str) -> Result<Conversation, String> {
    let messages = match value {
        Value::Object(fields) => rows(&fields).unwrap_or_else(|| vec![Value::Object(fields)]),
        value @ (Value::Array(_) | Value::String(_)) => list(value, name)?,
        other => {
            let other = kind(&other);
            return Err(format!("`{name}` must be a string or a list, {other} was found"));
        }
    };
    let foreign = messages.first().is_some_and(|message| message.get("from").is_some());
    let turns = match foreign {
        true => {
            conversation((1..).zip(messages).map(|(number, message)| message_of(message, number)))
        }
        false => checked(messages),
    };
    turns.map_err(|reason| format!("`{name}`: {reason}"))
}
