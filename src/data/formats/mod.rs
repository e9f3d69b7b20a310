//! Shapes of records: what the fields of a record mean, one table entry per shape.

mod lists;
mod calls;
mod content;
mod turns;
mod beside;
mod columns;
mod sharegpt;
mod messages;
mod preference;
mod alpaca;
mod completion;
mod text;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::sources::kind;
use crate::config::FormatChoice;
use crate::files::long_integer;

pub use columns::{find, map_columns};
pub use turns::REASONING;

/// Every shape, in the order in which detection prefers them.
pub static FORMATS: &[&dyn Format] = &[
    &messages::Messages,
    &sharegpt::ShareGpt,
    &preference::Preference,
    &alpaca::Alpaca,
    &completion::Completion,
    &text::Text,
];

/// What stands in a reason before the names that would be right: they are the same for all records.
pub const KNOWN: &str = "; known are ";

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

    /// What the record says, or why it is not of this shape. Fields that are read are taken out:
    /// what is left in the record says nothing to the model.
    fn read(&self, record: &mut Fields) -> Result<Content, String>;
}

/// What a record says, whatever its shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Turns, written out by the model's chat template; the assistant's are trained on.
    Chat(Conversation),
    /// Plain text, of which only what follows the prompt is trained on.
    Completion {
        /// Given.
        prompt: String,
        /// Trained on.
        completion: String,
    },
    /// Plain text, all of it trained on.
    Text(String),
    /// Two conversations that differ in how they end.
    Preference {
        /// With the better answer.
        chosen: Conversation,
        /// With the worse answer.
        rejected: Conversation,
    },
}

/// The turns of a conversation, in the form that chat templates take.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conversation {
    /// Objects with at least a `role`.
    pub messages: Vec<Value>,
    /// Descriptions of the tools that the assistant may call.
    pub tools: Option<Value>,
    /// What the template is given under other names, such as `enable_thinking`.
    pub template_args: Fields,
    /// Which messages of the assistant are context and no targets, by their places in `messages`.
    pub not_targets: BTreeSet<usize>,
}

/// The string in a field that must be there.
fn string(record: &mut Fields, name: &str) -> Result<String, String> {
    match record.remove(name) {
        Some(Value::String(text)) if long_integer(&text).is_none() => Ok(text),
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
#[path = "formats_tests.rs"]
mod tests;
