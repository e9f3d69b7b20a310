//! Shapes of records: what the fields of a record mean, one table entry per shape.

mod alpaca;
mod completion;
mod messages;
mod text;

use serde_json::{Map, Value};

use super::sources::kind;
use crate::config::FormatChoice;

/// Every shape, in the order in which detection prefers them.
pub static FORMATS: &[&dyn Format] =
    &[&messages::Messages, &alpaca::Alpaca, &completion::Completion, &text::Text];

/// The fields of a record.
pub type Fields = Map<String, Value>;

/// A shape of records.
pub trait Format: Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// What the configuration calls it.
    fn choice(&self) -> FormatChoice;

    /// The fields that it is made of, for people.
    fn expects(&self) -> &'static str;

    /// Whether the record has the fields of this shape, whatever they hold.
    fn recognises(&self, record: &Fields) -> bool;

    /// What the record says, or why it is not of this shape.
    fn read(&self, record: Fields) -> Result<Content, String>;
}

/// What a record says, whatever its shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Turns, written out by the model's chat template; the assistant's are learnt.
    Chat(Conversation),
    /// Plain text, of which only what follows the prompt is learnt.
    Completion {
        /// Given.
        prompt: String,
        /// Learnt.
        completion: String,
    },
    /// Plain text, all of it learnt.
    Text(String),
}

/// The turns of a conversation, in the form that chat templates take.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Objects with at least a `role`.
    pub messages: Vec<Value>,
    /// Descriptions of the tools that the assistant may call.
    pub tools: Option<Value>,
}

/// The string in a field that must be there.
fn string(record: &mut Fields, name: &str) -> Result<String, String> {
    match record.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("`{name}` must be a string, {} was found", kind(&other))),
        None => Err(format!("the field `{name}` is missing, {}", found(record))),
    }
}

/// The string in a field that may be missing or null.
fn optional_string(record: &mut Fields, name: &str) -> Result<String, String> {
    match record.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => string(record, name),
    }
}

/// The names of a record's fields, for error messages.
pub(super) fn found(record: &Fields) -> String {
    if record.is_empty() {
        return "the record has no fields".to_owned();
    }
    let names: Vec<String> = record.keys().take(12).map(|name| format!("`{name}`")).collect();
    format!("found {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        serde_json::from_str(text).unwrap()
    }

    fn read(name: &str, text: &str) -> Result<Content, String> {
        let format = FORMATS.iter().find(|format| format.name() == name).unwrap();
        format.read(fields(text))
    }

    fn chat(messages: &str) -> Content {
        let messages = serde_json::from_str(messages).unwrap();
        Content::Chat(Conversation { messages, tools: None })
    }

    #[test]
    fn alpaca_becomes_two_turns() {
        assert_eq!(
            read("alpaca", r#"{"instruction":"Sum","input":"1 2","output":"3","text":"x"}"#)
                .unwrap(),
            chat(r#"[{"role":"user","content":"Sum\n\n1 2"},{"role":"assistant","content":"3"}]"#)
        );
        assert_eq!(
            read("alpaca", r#"{"instruction":"Hi","input":null,"output":"Ho"}"#).unwrap(),
            chat(r#"[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]"#)
        );
        assert_eq!(
            read("alpaca", r#"{"instruction":"Hi","input":7,"output":"Ho"}"#).unwrap_err(),
            "`input` must be a string, a number was found"
        );
    }

    #[test]
    fn a_missing_field_is_named_with_what_is_there() {
        assert_eq!(
            read("text", r#"{"content":"x","n":1}"#).unwrap_err(),
            "the field `text` is missing, found `content`, `n`"
        );
        assert!(read("completion", r#"{"prompt":"x"}"#).unwrap_err().contains("`completion`"));
    }

    #[test]
    fn messages_keep_what_templates_need() {
        let text = r#"{"messages":[
            {"role":"user","content":"2+2?"},
            {"role":"assistant","content":null,"tool_calls":[{"function":{"name":"add"}}]},
            {"role":"tool","name":"add","content":"4"},
            {"role":"assistant","content":"4"}],
            "tools":"[{\"name\":\"add\"}]"}"#;
        let Content::Chat(conversation) = read("messages", text).unwrap() else { panic!() };
        assert_eq!(conversation.messages.len(), 4);
        assert_eq!(conversation.messages[1]["tool_calls"][0]["function"]["name"], "add");
        assert_eq!(conversation.tools.unwrap()[0]["name"], "add");
    }

    #[test]
    fn messages_are_checked_one_by_one() {
        let reason = |messages: &str| read("messages", messages).unwrap_err();
        assert_eq!(reason(r#"{"messages":[]}"#), "`messages` is empty");
        assert_eq!(
            reason(r#"{"messages":[{"role":"human","content":"x"}]}"#),
            "message 1 has the role `human`; known are `system`, `developer`, `user`, `assistant`, \
             `tool`"
        );
        assert_eq!(
            reason(r#"{"messages":[{"role":"user","content":"x"},{"role":"user"}]}"#),
            "message 2 has no `content`"
        );
        assert_eq!(
            reason(r#"{"messages":[{"role":"user","content":[{"type":"image"}]}]}"#),
            "message 1: `content` must be a string, a list was found"
        );
        assert_eq!(
            reason(r#"{"messages":[{"role":"user","content":"x"}],"tools":{}}"#),
            "`tools` must be a list, an object was found"
        );
        assert_eq!(
            reason(r#"{"messages":[{"from":"human","value":"x"}]}"#),
            "message 1 has no `role`, found `from`, `value`"
        );
    }

    #[test]
    fn conversations_are_read_as_messages_when_they_have_roles() {
        let format = FORMATS[0];
        let text = r#"{"conversations":[{"role":"user","content":"x"}]}"#;
        assert!(format.recognises(&fields(text)));
        assert!(read("messages", text).is_ok());
        let other = r#"{"conversations":[{"from":"human","value":"x"}]}"#;
        assert!(!format.recognises(&fields(other)));
    }
}
