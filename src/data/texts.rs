//! All texts of a record, each with what it is part of.

use serde_json::Value;

use super::formats::{Content, Conversation};

/// What a text is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A system message, or one of a developer.
    System,
    /// A message of the user.
    User,
    /// A message of the assistant.
    Assistant,
    /// What a tool answered.
    Tool,
    /// A description of a tool.
    Tools,
    /// What a completion follows.
    Prompt,
    /// What follows a prompt.
    Completion,
    /// A plain text.
    Text,
}

impl Place {
    /// Where such texts stand, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system messages",
            Self::User => "user messages",
            Self::Assistant => "assistant messages",
            Self::Tool => "tool messages",
            Self::Tools => "descriptions of tools",
            Self::Prompt => "prompts",
            Self::Completion => "completions",
            Self::Text => "texts",
        }
    }

    fn of(message: &Value) -> Self {
        match message["role"].as_str() {
            Some("system" | "developer") => Self::System,
            Some("assistant") => Self::Assistant,
            Some("tool") => Self::Tool,
            _ => Self::User,
        }
    }
}

/// Hands on every text of a record: content and its parts, reasoning, arguments of calls, tools.
pub fn each_text(content: &Content, take: &mut impl FnMut(Place, &str)) {
    match content {
        Content::Chat(conversation) => of_conversation(conversation, take),
        Content::Completion { prompt, completion } => {
            take(Place::Prompt, prompt);
            take(Place::Completion, completion);
        }
        Content::Text(text) => take(Place::Text, text),
        Content::Preference { chosen, rejected } => {
            of_conversation(chosen, take);
            of_conversation(rejected, take);
        }
    }
}

fn of_conversation(conversation: &Conversation, take: &mut impl FnMut(Place, &str)) {
    for message in &conversation.messages {
        let place = Place::of(message);
        for (key, value) in message.as_object().into_iter().flatten() {
            if key != "role" {
                strings(value, &mut |text| take(place, text));
            }
        }
    }
    if let Some(tools) = &conversation.tools {
        strings(tools, &mut |text| take(Place::Tools, text));
    }
}

fn strings(value: &Value, take: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => take(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, take)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            if key != "type" && key != "id" {
                strings(value, take);
            }
        }),
        _ => {}
    }
}
