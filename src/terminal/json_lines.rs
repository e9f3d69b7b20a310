//! Messages as lines of JSON, for programs that collect logs: `FIREBRAND_LOG_FORMAT=json`.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};

use super::escape::{Escape, Form};

/// The variable that asks for it.
pub const LOG_FORMAT: &str = "FIREBRAND_LOG_FORMAT";
/// What it may say.
pub const LOG_FORMATS: [&str; 2] = ["text", "json"];

static JSON: AtomicBool = AtomicBool::new(false);

/// From now on messages are lines of JSON.
pub fn use_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Whether they are.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// A line of this level of now, with more beside it.
pub(super) fn line_of_now(level: &str, message: &str, more: Value) -> String {
    line(&jiff::Timestamp::now().to_string(), level, message, more)
}

fn line(time: &str, level: &str, message: &str, more: Value) -> String {
    let mut fields = Map::new();
    for (name, value) in [("time", time), ("level", level), ("message", message)] {
        fields.insert(name.to_owned(), json!(value));
    }
    if let Value::Object(more) = more {
        fields.extend(more);
    }
    Escape::new(Form::Json).all(&Value::Object(fields).to_string())
}

/// A message of people with its level: warnings and errors begin with the word.
pub(super) fn level_of(text: &str) -> (&'static str, &str) {
    match text.split_once(": ") {
        Some(("warning", rest)) => ("warning", rest.trim()),
        Some((word, _)) if word == "error" || word.starts_with("error[") => ("error", text.trim()),
        _ => ("info", text.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_whatever_the_text() {
        let text = line("now", "info", "a\n\"b\" \u{1b}[2J \u{202e}", json!({"step": 3}));
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["message"], "a\n\"b\" \u{1b}[2J \u{202e}");
        assert_eq!(value["step"], 3);
        assert!(text.starts_with("{\"time\":\"now\",\"level\":\"info\",\"message\""), "{text}");
    }
}
