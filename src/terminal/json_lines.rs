//! Messages as lines of JSON, for programs that collect logs: `FIREBRAND_LOG_FORMAT=json`.

use std::io::{self, IsTerminal, Write};
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

/// Whether bars can be drawn: a person looks at stderr.
pub fn draws() -> bool {
    !is_json() && io::stderr().is_terminal()
}

/// Writes a line of this level to stderr, with more beside it, where messages are JSON; a closed
/// stderr is nobody's problem.
pub fn log(level: &str, message: &str, more: Value) {
    if is_json() {
        let time = jiff::Timestamp::now().to_string();
        let _ = writeln!(io::stderr().lock(), "{}", line(&time, level, message, more));
    }
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

/// A message of people as a line: warnings and errors begin with the word.
pub(super) fn log_text(text: &str) {
    let (level, message) = match text.split_once(": ") {
        Some(("warning", rest)) => ("warning", rest),
        Some((word, _)) if word == "error" || word.starts_with("error[") => ("error", text),
        _ => ("info", text),
    };
    if !message.trim().is_empty() {
        log(level, message.trim(), Value::Null);
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
