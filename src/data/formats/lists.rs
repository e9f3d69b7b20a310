//! Lists as records hold them: as lists, as JSON text of one, or as an object of lists.

use serde_json::{Map, Value};

use super::{Fields, found};
use crate::data::sources::kind;
use crate::files::parse_exact_json;

/// A list that stands in a field as one, as a string that holds JSON (tables have no lists), or as
/// an object of lists, which is how `datasets` writes a sequence of objects.
pub fn list(value: Value, name: &str) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(list) => Ok(list),
        Value::Object(columns) => {
            rows(&columns).ok_or_else(|| format!("`{name}` must be a list, an object was found"))
        }
        Value::String(text) => match parse_exact_json(text.as_bytes()) {
            Ok(Value::Array(list)) => Ok(list),
            Ok(other) => match other.as_object().and_then(rows) {
                Some(rows) => Ok(rows),
                None => {
                    Err(format!("`{name}` is a string that holds {}, not a list", kind(&other)))
                }
            },
            Err(_) if text.trim_start().starts_with("[{'") => Err(format!(
                "`{name}` is a list as Python prints it, not JSON; write it with `json.dumps`"
            )),
            Err(_) => Err(format!("`{name}` is a string that holds no JSON list")),
        },
        other => Err(format!("`{name}` must be a list, {} was found", kind(&other))),
    }
}

/// The objects that an object of lists stands for, all of one length; null stands for a list of
/// nulls. `None` where it is something else.
pub fn rows(columns: &Map<String, Value>) -> Option<Vec<Value>> {
    let height = height(columns).ok()??;
    let whole = |index| columns.iter().map(move |(key, value)| (key.clone(), row(value, index)));
    Some((0..height).map(|index| Value::Object(whole(index).collect())).collect())
}

/// The length that all lists in the object have, inner objects included; `None` if there is no
/// list, an error where they differ or something else is between them.
fn height(columns: &Map<String, Value>) -> Result<Option<usize>, ()> {
    let mut found = None;
    for value in columns.values() {
        let height = match value {
            Value::Array(items) => Some(items.len()),
            Value::Object(inner) => height(inner)?,
            Value::Null => None,
            _ => return Err(()),
        };
        match (found, height) {
            (Some(found), Some(height)) if found != height => return Err(()),
            (None, height) => found = height,
            _ => {}
        }
    }
    Ok(found)
}

fn row(value: &Value, index: usize) -> Value {
    match value {
        Value::Array(items) => items.get(index).cloned().unwrap_or_default(),
        Value::Object(inner) => Value::Object(
            inner.iter().map(|(key, value)| (key.clone(), row(value, index))).collect(),
        ),
        _ => Value::Null,
    }
}

/// The turns in the first of these fields that is there.
pub fn turns(record: &mut Fields, names: &[&str]) -> Result<Vec<Value>, String> {
    let Some(name) = names.iter().find(|name| record.contains_key(**name)) else {
        return Err(format!("the field `{}` is missing, {}", names[0], found(record)));
    };
    let turns = list(record.remove(*name).unwrap_or_default(), name)?;
    if turns.is_empty() {
        return Err(format!("`{name}` is empty"));
    }
    Ok(turns)
}

/// What the first turn in a field is; for telling shapes apart.
pub enum First {
    /// The list has none.
    Nothing,
    /// Its fields.
    Turn(Map<String, Value>),
}

/// The first turn in a field; `None` where the field holds no list of objects.
pub fn first(record: &Fields, name: &str) -> Option<First> {
    let parsed;
    let list = match record.get(name)? {
        Value::Array(list) => list,
        Value::Object(columns) => {
            parsed = rows(columns)?;
            &parsed
        }
        Value::String(text) if text.trim_start().starts_with(['[', '{']) => {
            parsed = list(Value::String(text.clone()), name).ok()?;
            &parsed
        }
        _ => return None,
    };
    match list.first() {
        None => Some(First::Nothing),
        Some(Value::Object(turn)) => Some(First::Turn(turn.clone())),
        Some(_) => None,
    }
}

/// Whether a value is a list of messages, as such or in JSON text.
pub fn is_list(value: &Value) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) => true,
        Value::String(text) => is_json_list(text),
        _ => false,
    }
}

/// Whether a string is a list of messages in JSON and not a text that begins with a bracket.
pub fn is_json_list(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("[{") && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Leaves out the null fields of objects: containers made of columns give every object the fields
/// of all others. A null in a list keeps its place.
pub fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.values().any(Value::is_null) {
                fields.retain(|_, value| !value.is_null());
            }
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}
