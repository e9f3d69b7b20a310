//! The shape `preference`: a prompt with an answer that is preferred to another.

use serde_json::{Value, json};

use super::sharegpt::message_of;
use super::turns::{checked, list, tools};
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

    fn read(&self, mut record: Fields) -> Result<Content, String> {
        let names = found(&record);
        let tools = tools(record.remove("tools"))?;
        let prompt = prompt(record.remove("prompt"))?;
        let mut answer = |name: &str| match record.remove(name) {
            None | Some(Value::Null) => Err(format!("the field `{name}` is missing, {names}")),
            Some(answer) => {
                let messages = conversation(&prompt, answer, name)?;
                Ok(Conversation { messages, tools: tools.clone(), ..Conversation::default() })
            }
        };
        Ok(Content::Preference { chosen: answer("chosen")?, rejected: answer("rejected")? })
    }
}

fn prompt(value: Option<Value>) -> Result<Vec<Value>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if !is_json_list(&text) => {
            Ok(vec![json!({ "role": "user", "content": text })])
        }
        Some(value) => messages(value, "prompt"),
    }
}

/// The prompt with an answer. A list that does not begin with the assistant holds the prompt, too.
fn conversation(prompt: &[Value], answer: Value, name: &str) -> Result<Vec<Value>, String> {
    let answer = match answer {
        Value::String(text) if !is_json_list(&text) => {
            if prompt.is_empty() {
                return Err(format!("`{name}` is a string, and there is no `prompt` before it"));
            }
            vec![json!({ "role": "assistant", "content": text })]
        }
        answer => messages(answer, name)?,
    };
    let whole = answer.first().is_some_and(|message| message["role"] != "assistant");
    let all = if whole { answer } else { [prompt, &answer].concat() };
    match all.last() {
        Some(last) if last["role"] == "assistant" && all.len() > 1 => Ok(all),
        _ => Err(format!("`{name}` must end with an answer of the assistant to something")),
    }
}

/// Messages in a list, in JSON text of one, or a single one; with role and content, or from and
/// value.
fn messages(value: Value, name: &str) -> Result<Vec<Value>, String> {
    let messages = match value {
        message @ Value::Object(_) => vec![message],
        value @ (Value::Array(_) | Value::String(_)) => list(value, name)?,
        other => {
            let other = kind(&other);
            return Err(format!("`{name}` must be a string or a list, {other} was found"));
        }
    };
    let foreign = messages.first().is_some_and(|message| message.get("from").is_some());
    let turns = match foreign {
        true => (1..).zip(messages).map(|(number, message)| message_of(message, number)).collect(),
        false => checked(messages),
    };
    turns.map_err(|reason| format!("`{name}`: {reason}"))
}

/// Whether a string is a list of messages in JSON and not a text that begins with a bracket.
fn is_json_list(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("[{") && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}
