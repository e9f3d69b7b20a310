//! What chat templates expect of Python: `json.dumps`, `str`, `repr` and methods of strings.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, Output, State};
use serde_json::Value as Json;

use crate::files::long_integer;

/// Prints a value as Python's `str` does: `True`, `None`, `['a']`.
pub fn format(out: &mut Output, _state: &mut State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(long_integer(text).unwrap_or(text))?,
        None => out.write_str(&text(value))?,
    }
    Ok(())
}

/// Python's `str`.
pub fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => long_integer(text).unwrap_or(text).to_owned(),
        None => repr(value),
    }
}

fn repr(value: &Value) -> String {
    let items = |value: &Value| -> Vec<Value> {
        value.try_iter().map(Iterator::collect).unwrap_or_default()
    };
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<String> = items(value).iter().map(repr).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map if value.as_object().is_some() => {
            let entry = |key: &Value| {
                format!("{}: {}", repr(key), repr(&value.get_item(key).unwrap_or_default()))
            };
            let items: Vec<String> = items(value).iter().map(entry).collect();
            format!("{{{}}}", items.join(", "))
        }
        _ => value.to_string(),
    }
}

/// Python's `repr` of a string prefers single quotes.
fn quoted(text: &str) -> String {
    if let Some(digits) = long_integer(text) {
        return digits.to_owned();
    }
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Python's `repr` of a float: shortest digits, an exponent below 1e-4 and from 1e16 on.
fn float(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() { "nan".into() } else { number.to_string() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) || number == 0.0 {
        return format!("{number:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Methods of Python's strings, lists and maps.
pub fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if let (Some(text), [argument]) = (value.as_str(), arguments)
        && let Some(part) = argument.as_str()
    {
        match name {
            "removeprefix" => return Ok(text.strip_prefix(part).unwrap_or(text).into()),
            "removesuffix" => return Ok(text.strip_suffix(part).unwrap_or(text).into()),
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

/// How JSON is written.
struct Style {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort: bool,
}

/// The filter `tojson` as transformers defines it: `json.dumps` without the escapes for HTML that
/// Jinja's own filter makes.
pub fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    if value.is_undefined() {
        let what = "an undefined value cannot be written as JSON";
        return Err(Error::new(ErrorKind::InvalidOperation, what));
    }
    let indent: Option<Value> = options.get("indent")?;
    let indent = indent.filter(|value| !value.is_none()).map(|value| match value.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(value.as_usize().unwrap_or(0).min(64)),
    });
    let separators: Option<Vec<String>> = options.get("separators")?;
    let item = if indent.is_some() { "," } else { ", " };
    let mut style = Style {
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent,
        item: item.to_owned(),
        key: ": ".to_owned(),
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    if let Some([item, key]) = separators.as_deref() {
        (style.item, style.key) = (item.clone(), key.clone());
    }
    options.assert_all_used()?;
    let json = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut out = String::new();
    write_json(&json, &style, 0, &mut out);
    Ok(out)
}

fn write_json(value: &Json, style: &Style, depth: usize, out: &mut String) {
    match value {
        Json::String(text) => write_string(text, style.ascii, out),
        Json::Number(number) if number.is_f64() => {
            out.push_str(&float(number.as_f64().unwrap_or(0.0)));
        }
        Json::Array(items) if !items.is_empty() => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(style, index, depth + 1, out);
                write_json(item, style, depth + 1, out);
            }
            line(style, depth, out);
            out.push(']');
        }
        Json::Object(entries) if !entries.is_empty() => {
            let mut entries: Vec<(&String, &Json)> = entries.iter().collect();
            if style.sort {
                entries.sort_by_key(|(key, _)| *key);
            }
            out.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                separate(style, index, depth + 1, out);
                write_string(key, style.ascii, out);
                out.push_str(&style.key);
                write_json(item, style, depth + 1, out);
            }
            line(style, depth, out);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn separate(style: &Style, index: usize, depth: usize, out: &mut String) {
    if index > 0 {
        out.push_str(&style.item);
    }
    line(style, depth, out);
}

fn line(style: &Style, depth: usize, out: &mut String) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(indent);
        }
    }
}

fn write_string(text: &str, ascii: bool, out: &mut String) {
    if let Some(digits) = long_integer(text) {
        return out.push_str(digits);
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
