//! What is said of a value that a key does not take.

use super::key::{ALL_LINEAR, ValueKind};
use super::place::{Origin, shown};
use super::tree::{Node, Tree};
use crate::error::{Error, nearest};

/// A problem and where it is.
pub(super) type Problem = (Origin, Error);

/// A value as messages show it.
pub(super) fn written(node: &Node) -> String {
    match &node.tree {
        Tree::Text(text) => format!("`\"{}\"`", shown(text).escape_debug()),
        Tree::Integer(_, text) | Tree::Float(_, text) => format!("`{}`", shown(text)),
        Tree::Boolean(boolean) => format!("`{boolean}`"),
        Tree::Date(text) => format!("the date `{}`", shown(text)),
        Tree::Array(items) if items.is_empty() => "an empty array".to_owned(),
        Tree::Array(_) => "an array".to_owned(),
        Tree::Table(_) => "a table".to_owned(),
    }
}

pub(super) fn wrong(kind: &ValueKind, label: &str, node: &Node) -> Error {
    let what = format!("`{label}` must be {}, not {}", kind.describe(), written(node));
    let mut error = Error::config(what);
    if let (ValueKind::Rule(rule), Tree::Text(text)) = (kind, &node.tree)
        && let Err(why) = (rule.check)(text)
        && !why.is_empty()
    {
        error = error.because(why);
    }
    match hint(kind, label, &node.tree) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// What to write instead, where the value shows what was meant.
fn hint(kind: &ValueKind, label: &str, tree: &Tree) -> Option<String> {
    match (kind, tree) {
        (ValueKind::Choice(names), Tree::Text(text)) if text.len() <= 64 => {
            nearest(text, names.iter().copied()).map(|name| format!("did you mean `{name}`?"))
        }
        (ValueKind::Rule(rule), Tree::Text(text)) if text.len() <= 64 => (rule.hint)(text),
        (ValueKind::Integer { .. } | ValueKind::Number(_) | ValueKind::Share, Tree::Text(text))
            if text.parse::<f64>().is_ok() =>
        {
            Some(format!("write it without quotes: `{text}`"))
        }
        (ValueKind::Boolean, Tree::Text(text)) if matches!(text.as_str(), "true" | "false") => {
            Some(format!("write it without quotes: `{text}`"))
        }
        (ValueKind::Integer { .. }, Tree::Float(number, text))
            if number.fract() == 0.0 && number.abs() < 1e15 =>
        {
            (*text != number.to_string()).then(|| format!("write `{number}`"))
        }
        (ValueKind::Share, Tree::Float(number, _)) if *number >= 1.0 && number.fract() == 0.0 => {
            Some(format!("for a number of records write `{number}`"))
        }
        (
            ValueKind::Line | ValueKind::Name | ValueKind::Choice(_) | ValueKind::Rule(_),
            Tree::Integer(_, text) | Tree::Float(_, text),
        ) => Some(format!("write it in quotes: `\"{}\"`", shown(text))),
        (
            ValueKind::Texts | ValueKind::AnyTexts | ValueKind::TextsOf(_) | ValueKind::Choices(_),
            Tree::Text(text),
        ) => Some(format!("write `[\"{}\"]`", shown(text))),
        (ValueKind::Modules, Tree::Text(text)) if text.len() <= 64 => {
            Some(match nearest(text, [ALL_LINEAR]) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("write `[\"{text}\"]`"),
            })
        }
        (ValueKind::Tables { .. }, Tree::Table(_)) => {
            Some(format!("write `[[{label}]]`, in double brackets"))
        }
        (ValueKind::Tables { keys, .. }, _) => {
            let first = &keys[0];
            Some(format!("write `[[{label}]]` and below it `{} = {}`", first.name(), first.example))
        }
        _ => None,
    }
}
