//! The shape `completion`: a prompt and what follows it; without a chat template where both are
//! text, and as one conversation where they are lists of messages.

use serde_json::{Value, json};

use super::beside::take_beside;
use super::lists::{is_json_list, is_list};
use super::preference::messages;
use super::{Content, Fields, Format, string};
use crate::config::FormatChoice;

/// The shape `completion`.
pub struct Completion;

impl Format for Completion {
    fn name(&self) -> &'static str {
        "completion"
    }

    fn choice(&self) -> FormatChoice {
        FormatChoice::Completion
    }

    fn expects(&self) -> &'static str {
        "`prompt` and `completion`, strings or lists of messages"
    }

    fn recognises(&self, record: &Fields) -> bool {
        record.contains_key("prompt") && record.contains_key("completion")
    }

    fn read(&self, record: &mut Fields) -> Result<Content, String> {
        if [record.get("prompt"), record.get("completion")].into_iter().flatten().any(is_list) {
            return chat(record);
        }
        let prompt = string(record, "prompt")?;
        let completion = string(record, "completion")?;
        Ok(Content::Completion { prompt, completion })
    }
}

/// TRL's conversational form: what the assistant says in the completion is trained on.
fn chat(record: &mut Fields) -> Result<Content, String> {
    let mut part = |name: &str, role: &str| match record.remove(name) {
        Some(Value::String(text)) if !is_json_list(&text) => {
            messages(json!({ "role": role, "content": text }), name)
        }
        Some(value) => messages(value, name),
        None => Err(format!("the field `{name}` is missing, {}", super::found(record))),
    };
    let mut conversation = part("prompt", "user")?;
    conversation.as_context();
    conversation.append(part("completion", "assistant")?);
    take_beside(record, &mut conversation)?;
    Ok(Content::Chat(conversation))
}
