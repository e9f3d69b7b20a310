//! What a message says: a text, or a list of parts of which each is text.

use serde_json::{Map, Value};

use super::lists::{rows, without_nulls};
use crate::data::sources::kind;
use crate::files::long_integer;

/// What parts of text are called: by templates, and by OpenAI's interfaces.
const TEXT_PARTS: [&str; 3] = ["text", "input_text", "output_text"];

/// The content as templates take it; what is no text is refused by its name.
///
/// Parts stay parts, as `{"type": "text", "text": …}`: there are templates that take them, and
/// for others they are joined.
pub fn content(given: Value) -> Result<Value, String> {
    match given {
        Value::String(ref text) if long_integer(text).is_none() => Ok(given),
        Value::Array(parts) => {
            parts.into_iter().map(part).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(columns) => match rows(&columns) {
            Some(parts) => parts.into_iter().map(part).collect::<Result<_, _>>().map(Value::Array),
            None => {
                Err("`content` must be a string or a list of parts, an object was found".into())
            }
        },
        other => Err(format!(
            "`content` must be a string or a list of parts, {} was found",
            kind(&other)
        )),
    }
}

fn part(mut part: Value) -> Result<Value, String> {
    without_nulls(&mut part);
    let mut fields = match part {
        Value::String(text) => Map::from_iter([("text".to_owned(), text.into())]),
        Value::Object(fields) => fields,
        other => {
            return Err(format!(
                "a part of `content` must be an object, {} was found",
                kind(&other)
            ));
        }
    };
    match fields.get("type") {
        None => {}
        Some(Value::String(name)) if TEXT_PARTS.contains(&name.as_str()) => {}
        Some(name) => {
            return Err(format!(
                "`content` has a part of the type {name}; only text can be trained on"
            ));
        }
    }
    if !matches!(fields.get("text"), Some(Value::String(_))) {
        let names: Vec<String> = fields.keys().map(|key| format!("`{key}`")).collect();
        return Err(format!("a part of `content` holds no `text`, found {}", names.join(", ")));
    }
    fields.insert("type".to_owned(), "text".into());
    let mut ordered = Map::new();
    for key in ["type", "text"] {
        ordered.extend(fields.remove(key).map(|value| (key.to_owned(), value)));
    }
    ordered.extend(fields);
    Ok(Value::Object(ordered))
}
