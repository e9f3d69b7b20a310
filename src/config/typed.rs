//! One value against the type and range of its key.

use std::collections::BTreeSet;

use super::key::{ALL_LINEAR, DefaultValue, Key, MANY, ValueKind, quoted_list};
use super::place::{Origin, shown};
use super::tree::{Node, Tree, parse_own};
use super::value::{Value, Values};
use crate::config::device_choice::DeviceChoice;
use crate::config::key::COLUMN_NAMES;
use crate::error::{Error, nearest};

/// The longest name of a run; file systems allow 255 bytes, and suffixes are added.
const NAME_MAX: usize = 128;

type Problem = (Origin, Error);

/// Reads the value of a key; `label` is the key as messages show it.
pub(super) fn read(key: &Key, label: &str, node: &Node) -> Result<Value, Vec<Problem>> {
    let wrong = || vec![(node.origin, wrong(&key.kind, label, node))];
    match (&key.kind, &node.tree) {
        (ValueKind::Line | ValueKind::Name, Tree::Text(text)) if text.is_empty() => {
            Err(vec![(node.origin, Error::new(format!("`{label}` must not be empty")))])
        }
        (ValueKind::Texts, Tree::Array(items)) => texts(label, items, false),
        (ValueKind::Columns, Tree::Table(table)) if !table.is_empty() => pairs(label, table),
        (ValueKind::Arguments, Tree::Table(table)) if !table.is_empty() => arguments(label, table),
        (ValueKind::Modules, Tree::Array(items)) if !items.is_empty() => texts(label, items, true),
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
pub(super) fn is_name(text: &str) -> bool {
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
        (ValueKind::Device, Tree::Text(text)) if DeviceChoice::from_name(text).is_some() => {
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
        (ValueKind::Number(range), tree) => {
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

/// Column names of ours, each with the name in the records.
fn pairs(label: &str, table: &super::tree::Table) -> Result<Value, Vec<Problem>> {
    let mut pairs = std::collections::BTreeMap::new();
    let mut problems = Vec::new();
    for (word, node) in table {
        let label = format!("{label}.{}", shown(&word.text));
        if !COLUMN_NAMES.contains(&word.text.as_str()) {
            let near = nearest(&word.text, COLUMN_NAMES.iter().copied());
            let hint = match near.filter(|_| word.text.len() <= NAME_MAX) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("left stands one of {}", quoted_list(COLUMN_NAMES)),
            };
            let what = format!("`{label}` is no column that a shape knows");
            problems.push((word.origin, Error::new(what).hint(hint)));
            continue;
        }
        match &node.tree {
            Tree::Text(text) if !text.is_empty() && !text.contains(char::is_control) => {
                pairs.insert(word.text.clone(), text.clone());
            }
            _ => problems.push((node.origin, wrong(&ValueKind::Line, &label, node))),
        }
    }
    if problems.is_empty() { Ok(Value::Pairs(pairs)) } else { Err(problems) }
}

/// Names that a template can ask for, each with a value.
fn arguments(label: &str, table: &super::tree::Table) -> Result<Value, Vec<Problem>> {
    const OURS: [&str; 3] = ["messages", "tools", "add_generation_prompt"];
    let mut arguments = std::collections::BTreeMap::new();
    let mut problems = Vec::new();
    for (word, node) in table {
        let label = format!("{label}.{}", shown(&word.text));
        let mut wrong = |origin, what: &str| {
            problems.push((origin, Error::new(format!("`{label}` {what}"))));
        };
        let starts_well = word.text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !word.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            wrong(word.origin, "is no name that a template can ask for");
        } else if OURS.contains(&word.text.as_str()) {
            wrong(word.origin, "cannot be set: it comes from the records");
        } else if let Some(value) = argument(&node.tree) {
            arguments.insert(word.text.clone(), value);
        } else {
            let what = format!("must be a string, a number or a boolean, not {}", written(node));
            wrong(node.origin, &what);
        }
    }
    if problems.is_empty() { Ok(Value::Arguments(arguments)) } else { Err(problems) }
}

fn argument(tree: &Tree) -> Option<serde_json::Value> {
    Some(match tree {
        Tree::Text(text) => text.as_str().into(),
        Tree::Boolean(boolean) => (*boolean).into(),
        Tree::Integer(Some(integer), _) => i64::try_from(*integer).ok()?.into(),
        Tree::Float(number, _) if number.is_finite() => (*number + 0.0).into(),
        _ => return None,
    })
}

/// A finite number; minus zero becomes zero, so that equal configs render equally.
#[expect(clippy::cast_precision_loss, reason = "far outside every range where it would matter")]
fn number(tree: &Tree) -> Option<f64> {
    match tree {
        Tree::Integer(Some(integer), _) => Some(*integer as f64),
        Tree::Float(number, _) if number.is_finite() => Some(*number + 0.0),
        _ => None,
    }
}

fn texts(label: &str, items: &[Node], is_names: bool) -> Result<Value, Vec<Problem>> {
    let mut texts: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match &item.tree {
            Tree::Text(text) if text.is_empty() => {
                let what = format!("`{label}.{index}` must not be empty");
                problems.push((item.origin, Error::new(what)));
            }
            Tree::Text(text) if is_names && !seen.insert(text) => {
                let what = format!("`{label}` names {} twice", written(item));
                problems.push((item.origin, Error::new(what)));
            }
            Tree::Text(text) => texts.push(text.clone()),
            _ => {
                let kind = ValueKind::Line;
                problems.push((item.origin, wrong(&kind, &format!("{label}.{index}"), item)));
            }
        }
    }
    if problems.is_empty() { Ok(Value::Texts(texts)) } else { Err(problems) }
}

/// A value as messages show it.
pub(super) fn written(node: &Node) -> String {
    match &node.tree {
        Tree::Text(text) => format!("`\"{}\"`", shown(text).escape_debug()),
        Tree::Integer(_, text) | Tree::Float(_, text) => format!("`{}`", shown(text)),
        Tree::Boolean(boolean) => format!("`{boolean}`"),
        Tree::Date => "a date".to_owned(),
        Tree::Array(items) if items.is_empty() => "an empty array".to_owned(),
        Tree::Array(_) => "an array".to_owned(),
        Tree::Table(_) => "a table".to_owned(),
    }
}

fn wrong(kind: &ValueKind, label: &str, node: &Node) -> Error {
    let what = format!("`{label}` must be {}, not {}", kind.describe(), written(node));
    let error = Error::new(what);
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
        (ValueKind::Device, Tree::Text(text)) if text.len() <= 64 => Some(device_hint(text)),
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
            ValueKind::Line | ValueKind::Name | ValueKind::Choice(_) | ValueKind::Device,
            Tree::Integer(_, text) | Tree::Float(_, text),
        ) => Some(format!("write it in quotes: `\"{}\"`", shown(text))),
        (ValueKind::Texts, Tree::Text(text)) => Some(format!("write `[\"{}\"]`", shown(text))),
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
            Some(format!("write `[[{label}]]` and below it `path = {}`", keys[0].example))
        }
        _ => None,
    }
}

fn device_hint(text: &str) -> String {
    let name = text.split(':').next().unwrap_or(text);
    match nearest(name, DeviceChoice::NAMES.iter().copied()) {
        Some(near) if near != name => format!("did you mean `{near}`?"),
        _ => "a number may follow `gpu`, `vulkan`, `metal`, `dx12` and `gl`, as in `gpu:1`; it \
              counts from 0"
            .to_owned(),
    }
}
