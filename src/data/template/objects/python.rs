//! Values as Python writes them: `str` and `repr`.

use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Error, Output, State};

use super::{Generator, Method, Range, View, is_dict, is_function, refused};
use crate::files::long_integer;

/// Deeper values are refused.
pub const MAX_DEPTH: usize = 200;

/// Prints a value as Python's `str` does: `True`, `None`, `['a']`.
///
/// # Errors
/// A value that cannot be printed, or printing where `{% autoescape %}` would change it.
pub fn format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if !matches!(state.auto_escape(), AutoEscape::None) {
        return Err(refused("`autoescape` is not supported: use the filter `escape`"));
    }
    match value.as_str() {
        Some(text) => out.write_str(long_integer(text).unwrap_or(text))?,
        None => out.write_str(&text(value)?)?,
    }
    Ok(())
}

/// Python's `str`.
pub fn text(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(long_integer(text).unwrap_or(text).to_owned());
    }
    let mut out = String::new();
    if !value.is_undefined() {
        repr(value, 0, &mut out)?;
    }
    Ok(out)
}

/// Python's `repr`.
pub fn repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(refused("a value is nested too deeply to be printed"));
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) => out.push_str(&float(number)),
            Err(_) => out.push_str(&value.to_string()),
        },
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => return sequence(value, depth, out),
        ValueKind::Map if is_dict(value) => {
            out.push('{');
            let pairs = value.as_object().and_then(|map| map.try_iter_pairs());
            for (index, (key, item)) in pairs.into_iter().flatten().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                repr(&key, depth + 1, out)?;
                out.push_str(": ");
                repr(&item, depth + 1, out)?;
            }
            out.push('}');
        }
        _ if value.downcast_object_ref::<Method>().is_some() => {
            return Err(refused(format!("{value} is printed, which is an address in memory")));
        }
        _ if is_function(value) => {
            return Err(refused("a function is printed, which is an address in memory"));
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

fn sequence(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    if let Some(range) = value.downcast_object_ref::<Range>() {
        out.push_str(&range.text);
        return Ok(());
    }
    if value.downcast_object_ref::<Generator>().is_some() {
        return Err(refused("a generator is printed, which is an address in memory"));
    }
    let view = value.downcast_object_ref::<View>();
    let (open, close) = if value.is_tuple() { ("(", ")") } else { ("[", "]") };
    if let Some(view) = view {
        out.push_str(view.name);
        out.push('(');
    }
    out.push_str(open);
    for (index, item) in value.try_iter()?.enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        repr(&item, depth + 1, out)?;
    }
    if value.is_tuple() && value.len() == Some(1) {
        out.push(',');
    }
    out.push_str(close);
    if view.is_some() {
        out.push(')');
    }
    Ok(())
}

/// Python's `repr` of a string prefers single quotes.
fn quoted(text: &str, out: &mut String) {
    if let Some(digits) = long_integer(text) {
        return out.push_str(digits);
    }
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if printable(c) => out.push(c),
            c => match u32::from(c) {
                code @ ..=0xff => out.push_str(&format!("\\x{code:02x}")),
                code @ ..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable`, without characters that Unicode has not assigned.
fn printable(c: char) -> bool {
    let space = c.is_whitespace() && c != ' ';
    let hidden = matches!(
        u32::from(c),
        0xad | 0x600..=0x605
            | 0x61c
            | 0x6dd
            | 0x70f
            | 0x180e
            | 0x200b..=0x200f
            | 0x202a..=0x202e
            | 0x2060..=0x206f
            | 0xe000..=0xf8ff
            | 0xfeff
            | 0xfff9..=0xfffb
            | 0xe0001..=0xe007f
            | 0xf0000..
    );
    !c.is_control() && !space && !hidden
}

/// Python's `repr` of a float: shortest digits, an exponent below 1e-4 and from 1e16 on.
pub fn float(number: f64) -> String {
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

/// Python's name of a value's type.
pub fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "Undefined",
        ValueKind::None => "NoneType",
        ValueKind::Bool => "bool",
        ValueKind::Number => {
            if value.is_integer() {
                "int"
            } else {
                "float"
            }
        }
        ValueKind::String => "str",
        ValueKind::Seq => {
            if value.is_tuple() {
                "tuple"
            } else {
                "list"
            }
        }
        ValueKind::Iterable => match value.downcast_object_ref::<View>() {
            Some(view) => view.name,
            None if value.downcast_object_ref::<Generator>().is_some() => "generator",
            None => "list",
        },
        ValueKind::Map => "dict",
        _ => "object",
    }
}
