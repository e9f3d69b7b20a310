//! One value against the type and range of its key.

use std::collections::BTreeSet;

use super::key::{ALL_LINEAR, DefaultValue, Key, MANY, ValueKind};
use super::named;
use super::tree::{Node, Tree, number, parse_own};
use super::value::{Value, Values};
use super::wrong::{Problem, written, wrong};
use crate::error::Error;

/// The longest name of a run; file systems allow 255 bytes, and suffixes are added.
const NAME_MAX: usize = 128;

/// Reads the value of a key; `label` is the key as messages show it.
pub(super) fn read(key: &Key, label: &str, node: &Node) -> Result<Value, Vec<Problem>> {
    let wrong = || vec![(node.origin, wrong(&key.kind, label, node))];
    match (&key.kind, &node.tree) {
        (ValueKind::Line | ValueKind::Name, Tree::Text(text)) if text.is_empty() => {
            Err(vec![(node.origin, Error::config(format!("`{label}` must not be empty")))])
        }
        (ValueKind::Texts | ValueKind::AnyTexts | ValueKind::TextsOf(_), Tree::Array(items)) => {
            texts(label, items, &key.kind)
        }
        (ValueKind::Modules | ValueKind::Choices(_), Tree::Array(items)) if !items.is_empty() => {
            texts(label, items, &key.kind)
        }
        (ValueKind::Rising { min, max }, Tree::Array(items)) => {
            rising(label, items, (*min, *max)).map_err(|problem| vec![problem])
        }
        (ValueKind::Columns(names), Tree::Table(table)) if !table.is_empty() => {
            named::columns(label, table, names)
        }
        (ValueKind::Arguments, Tree::Table(table)) => named::arguments(label, table),
        (ValueKind::NumberOrEach(range), Tree::Table(table)) if !table.is_empty() => {
            named::numbers(label, table, *range)
        }
        (ValueKind::ChoiceOfEach(names), Tree::Table(table)) if !table.is_empty() => {
            named::choices(label, table, names)
        }
        (ValueKind::NumberOfEach(range, rule), Tree::Table(table)) => {
            let read = |node: &Node| number(&node.tree).filter(|number| range.contains(*number));
            named::of_each((label, table), rule, &ValueKind::Number(*range), read)
                .map(Value::Numbers)
        }
        (ValueKind::IntegerOfEach { min, max, names }, Tree::Table(table)) => {
            let kind = ValueKind::Integer { min: *min, max: *max };
            let read = |node: &Node| match plain(&kind, &node.tree) {
                Some(Value::Integer(integer)) => Some(integer),
                _ => None,
            };
            named::of_each((label, table), names, &kind, read).map(Value::Counts)
        }
        (kind, tree) => plain(kind, tree).ok_or_else(wrong),
    }
}

/// The value of a default of ours.
pub(super) fn own(key: &Key, toml: &str) -> Value {
    read(key, key.path, &parse_own(toml)).expect("the table of keys holds valid values")
}

/// Sets the defaults of keys that have one and no value yet.
pub fn set_defaults(values: &mut Values, keys: impl IntoIterator<Item = &'static Key>) {
    for key in keys {
        if let (None, DefaultValue::Value(toml)) = (values.get(key.path), &key.default) {
            values.insert(key.path, own(key, toml));
        }
    }
}

/// Whether a value is the default of its key.
pub(super) fn is_default(key: &Key, value: &Value) -> bool {
    matches!(key.default, DefaultValue::Value(toml) if own(key, toml) == *value)
}

/// The keys of an array of tables, and whether it may be empty.
pub(super) fn tables(key: &Key) -> Option<(&'static [Key], bool)> {
    match key.kind {
        ValueKind::Tables { keys, may_be_empty } => Some((keys, may_be_empty)),
        _ => None,
    }
}

/// Whether a name is safe as one component of a path, on every system and as an argument.
pub(crate) fn is_name(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    starts_well && text.chars().all(allowed) && text.len() <= NAME_MAX
}

fn plain(kind: &ValueKind, tree: &Tree) -> Option<Value> {
    match (kind, tree) {
        (ValueKind::Line, Tree::Text(text)) if !text.contains(char::is_control) => {
            Some(Value::Text(text.clone()))
        }
        (ValueKind::Name, Tree::Text(text)) if is_name(text) => Some(Value::Text(text.clone())),
        (ValueKind::Choice(names), Tree::Text(text)) if names.contains(&text.as_str()) => {
            Some(Value::Text(text.clone()))
        }
        (ValueKind::Text, Tree::Text(text)) => Some(Value::Text(text.clone())),
        (ValueKind::Rule(rule), Tree::Text(text)) if (rule.check)(text).is_ok() => {
            Some(Value::Text(text.clone()))
        }
        (ValueKind::Rule(rule), Tree::Date(text)) if rule.dates && (rule.check)(text).is_ok() => {
            Some(Value::Text(text.clone()))
        }
        (ValueKind::Modules, Tree::Text(text)) if text == ALL_LINEAR => {
            Some(Value::Text(text.clone()))
        }
        (ValueKind::Boolean, Tree::Boolean(boolean)) => Some(Value::Boolean(*boolean)),
        (ValueKind::Integer { min, max }, Tree::Integer(Some(integer), _)) => {
            let integer = u64::try_from(*integer).ok()?;
            (*min..=*max).contains(&integer).then_some(Value::Integer(integer))
        }
        (ValueKind::Bytes { min, max }, tree) => {
            let bytes = match tree {
                Tree::Integer(Some(integer), _) => u64::try_from(*integer).ok()?,
                Tree::Text(text) => size(text)?,
                _ => return None,
            };
            (*min..=*max).contains(&bytes).then_some(Value::Integer(bytes))
        }
        (ValueKind::Number(range) | ValueKind::NumberOrEach(range), tree) => {
            let number = number(tree)?;
            range.contains(number).then_some(Value::Number(number))
        }
        (ValueKind::Share, Tree::Integer(Some(integer), _)) => {
            let records = u64::try_from(*integer).ok()?;
            (records <= MANY).then_some(Value::Integer(records))
        }
        (ValueKind::Share, Tree::Float(share, _)) if (0.0..1.0).contains(share) => {
            Some(Value::Number(*share + 0.0))
        }
        _ => None,
    }
}

/// A size with its unit: `20 GB`, `64MiB`, `1.5 TB`; `None` if it is none.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(factor);
    }
    let number: f64 = number.parse().ok()?;
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // no sign is read, and the range of the key is checked after
    Some((number * factor as f64) as u64)
}

fn texts(label: &str, items: &[Node], kind: &ValueKind) -> Result<Value, Vec<Problem>> {
    let (one, are_names) = match kind {
        ValueKind::Choices(names) => (ValueKind::Choice(names), true),
        ValueKind::AnyTexts => (ValueKind::Text, false),
        ValueKind::TextsOf(rule) => (ValueKind::Rule(rule), false),
        kind => (ValueKind::Line, matches!(kind, ValueKind::Modules)),
    };
    let is_one = |text: &String| match kind {
        ValueKind::Choices(names) => names.contains(&text.as_str()),
        ValueKind::TextsOf(rule) => (rule.check)(text).is_ok(),
        _ => true,
    };
    let mut texts: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let inner = format!("{label}.{index}");
        match &item.tree {
            Tree::Text(text) if text.is_empty() && !matches!(kind, ValueKind::AnyTexts) => {
                problems.push((item.origin, Error::config(format!("`{inner}` must not be empty"))));
            }
            Tree::Text(text) if are_names && !seen.insert(text) => {
                let what = format!("`{label}` names {} twice", written(item));
                problems.push((item.origin, Error::config(what)));
            }
            Tree::Text(text) if is_one(text) => texts.push(text.clone()),
            _ => problems.push((item.origin, wrong(&one, &inner, item))),
        }
    }
    if problems.is_empty() { Ok(Value::Texts(texts)) } else { Err(problems) }
}

fn rising(label: &str, items: &[Node], (min, max): (u64, u64)) -> Result<Value, Problem> {
    let mut integers: Vec<u64> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let kind = ValueKind::Integer { min, max };
        let Some(Value::Integer(integer)) = plain(&kind, &item.tree) else {
            return Err((item.origin, wrong(&kind, &format!("{label}.{index}"), item)));
        };
        if integers.last().is_some_and(|before| integer <= *before) {
            let what = format!("`{label}.{index}` must be above the number before it");
            return Err((item.origin, Error::config(what)));
        }
        integers.push(integer);
    }
    Ok(Value::Integers(integers))
}
