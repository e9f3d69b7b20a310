//! The filter `tojson` as transformers defines it: `json.dumps` without the escapes for HTML that
//! Jinja's own filter makes.

use std::fmt::Write as _;

use minijinja::Error;
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::objects::python::{self, MAX_DEPTH, type_name};
use super::objects::{is_dict, is_list, refused};
use crate::files::long_integer;

/// More spaces for one step are refused.
const MAX_INDENT: i64 = 1000;
/// The filter's arguments in their order.
const OPTIONS: [&str; 4] = ["ensure_ascii", "indent", "separators", "sort_keys"];

/// How JSON is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JsonStyle {
    /// Whether what is no ASCII is written as escapes.
    pub ascii: bool,
    /// What each level begins its lines with; all stands in one line without.
    pub indent: Option<String>,
    /// What stands between items.
    pub item: String,
    /// What stands behind a key.
    pub key: String,
    /// Whether keys are put in order.
    pub sort: bool,
}

impl Default for JsonStyle {
    fn default() -> Self {
        Self {
            ascii: false,
            indent: None,
            item: ", ".to_owned(),
            key: ": ".to_owned(),
            sort: false,
        }
    }
}

/// The filter.
pub fn tojson(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let style = JsonStyle::of(&positional, &named)?;
    named.assert_all_used()?;
    let mut out = String::new();
    write_json(value, &style, 0, &mut out)?;
    Ok(out)
}

impl JsonStyle {
    fn of(positional: &[Value], named: &Kwargs) -> Result<Self, Error> {
        if positional.len() > OPTIONS.len() {
            return Err(refused("`tojson` takes at most four arguments"));
        }
        let option = |index: usize| -> Result<Option<Value>, Error> {
            let given = positional.get(index).cloned();
            let by_name: Option<Value> = named.get(OPTIONS[index])?;
            Ok(given.or(by_name).filter(|value| !value.is_none()))
        };
        let indent = match option(1)? {
            None => None,
            Some(value) => Some(match (value.as_str(), value.as_i64()) {
                (Some(text), _) => text.to_owned(),
                (None, Some(count)) if count <= MAX_INDENT => {
                    " ".repeat(usize::try_from(count).unwrap_or(0))
                }
                _ => return Err(refused("`indent` of `tojson` is neither a number nor a string")),
            }),
        };
        let separators: Option<Vec<Value>> = match option(2)? {
            Some(value) => Some(value.try_iter()?.collect()),
            None => None,
        };
        let (item, key) = match separators.as_deref() {
            None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
            Some([item, key]) => match (item.as_str(), key.as_str()) {
                (Some(item), Some(key)) => (item.to_owned(), key.to_owned()),
                _ => return Err(refused("`separators` of `tojson` are not strings")),
            },
            Some(_) => return Err(refused("`separators` of `tojson` are not two")),
        };
        let truth = |value: Option<Value>| value.is_some_and(|value| value.is_true());
        Ok(Self { ascii: truth(option(0)?), indent, item, key, sort: truth(option(3)?) })
    }
}

fn write_json(
    value: &Value,
    style: &JsonStyle,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(refused("a value is nested too deeply for JSON"));
    }
    match value.kind() {
        ValueKind::String => write_string(value.as_str().unwrap_or_default(), style.ascii, out),
        ValueKind::Seq | ValueKind::Iterable if value.is_tuple() || is_list(value) => {
            let mut empty = true;
            out.push('[');
            for item in value.try_iter()? {
                separate(style, empty, depth + 1, out);
                empty = false;
                write_json(&item, style, depth + 1, out)?;
            }
            close(style, empty, depth, ']', out);
        }
        ValueKind::Map if is_dict(value) => {
            let pairs = value.as_object().and_then(|map| map.try_iter_pairs());
            let mut pairs: Vec<(String, Value)> = pairs
                .into_iter()
                .flatten()
                .map(|(key, item)| Ok((key_text(&key)?, item)))
                .collect::<Result<_, Error>>()?;
            if style.sort {
                pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            out.push('{');
            for (index, (key, item)) in pairs.iter().enumerate() {
                separate(style, index == 0, depth + 1, out);
                write_string(key, style.ascii, out);
                out.push_str(&style.key);
                write_json(item, style, depth + 1, out)?;
            }
            close(style, pairs.is_empty(), depth, '}', out);
        }
        _ => out.push_str(&scalar(value).ok_or_else(|| not_json(value))?),
    }
    Ok(())
}

/// As the filter writes a value of a record that lies `depth` deep in what is written; no whole
/// number beyond 64 bits is in it, and it is not nested too deeply.
pub fn write_record(value: &Json, style: &JsonStyle, depth: usize, out: &mut String) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Json::String(text) => write_string(text, style.ascii, out),
        Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) => out.push_str(&python::float(number)),
            None => out.push_str(&number.to_string()),
        },
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(style, index == 0, depth + 1, out);
                write_record(item, style, depth + 1, out);
            }
            close(style, items.is_empty(), depth, ']', out);
        }
        Json::Object(fields) => {
            let mut fields: Vec<(&String, &Json)> = fields.iter().collect();
            if style.sort {
                fields.sort_by_key(|(key, _)| *key);
            }
            out.push('{');
            for (index, (key, item)) in fields.iter().enumerate() {
                separate(style, index == 0, depth + 1, out);
                write_string(key, style.ascii, out);
                out.push_str(&style.key);
                write_record(item, style, depth + 1, out);
            }
            close(style, fields.is_empty(), depth, '}', out);
        }
    }
}

fn not_json(value: &Value) -> Error {
    if value.is_undefined() {
        return refused("an undefined value cannot be written as JSON");
    }
    refused(format!("a value of the type {} cannot be written as JSON", type_name(value)))
}

/// A number, a truth value or null.
fn scalar(value: &Value) -> Option<String> {
    Some(match value.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => value.is_true().to_string(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => match f64::try_from(value.clone()).ok()? {
            number if number.is_finite() => python::float(number),
            number if number.is_nan() => "NaN".to_owned(),
            number => if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        },
        _ => return None,
    })
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => scalar(key).ok_or_else(|| refused("a key cannot be written as JSON")),
    }
}

/// What stands before an item, or a key, of a list or an object at `depth - 1`.
pub fn separate(style: &JsonStyle, first: bool, depth: usize, out: &mut String) {
    if !first {
        out.push_str(&style.item);
    }
    line(style, depth, out);
}

/// The end of a list or an object at `depth`.
pub fn close(style: &JsonStyle, empty: bool, depth: usize, bracket: char, out: &mut String) {
    if !empty {
        line(style, depth, out);
    }
    out.push(bracket);
}

fn line(style: &JsonStyle, depth: usize, out: &mut String) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(indent);
        }
    }
}

/// A text, as JSON.
pub fn write_string(text: &str, ascii: bool, out: &mut String) {
    if let Some(digits) = long_integer(text) {
        return out.push_str(digits);
    }
    let plain = |c: char| c >= ' ' && c != '"' && c != '\\' && c != '\x7f';
    if text.chars().all(plain) && (!ascii || text.is_ascii()) {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    let json = Json::from(text).to_string();
    if !ascii {
        out.push_str(&json);
        return;
    }
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").expect("writing to a string cannot fail");
            }
        }
    }
}
