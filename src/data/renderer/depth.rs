//! How deep values of a conversation lie in each other.

use serde_json::Value;

use crate::data::formats::Conversation;

/// Values of a record lie in each other no deeper. The descriptions of tools in use have some
/// twenty levels; the readers of JSON on both sides have a limit of 128.
pub const MAX_DEPTH: usize = 100;

/// Whether values of a conversation lie deeper in each other than is accepted.
pub fn is_deep(conversation: &Conversation) -> bool {
    let messages = conversation.messages.iter().chain(&conversation.tools);
    messages.chain(conversation.template_args.values()).any(|value| deeper(value, MAX_DEPTH))
}

fn deeper(value: &Value, left: usize) -> bool {
    let Some(left) = left.checked_sub(1) else { return true };
    match value {
        Value::Array(items) => items.iter().any(|item| deeper(item, left)),
        Value::Object(fields) => fields.values().any(|item| deeper(item, left)),
        _ => false,
    }
}

/// What is said of it.
pub fn deep() -> String {
    format!("its values are nested more than {MAX_DEPTH} deep")
}
