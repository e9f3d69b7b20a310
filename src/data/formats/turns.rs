//! Turns of a conversation as records hold them, made into the one form that templates take.

use serde_json::{Map, Value, json};

use super::{Fields, found};
use crate::data::sources::kind;
use crate::files::parse_json;

/// The roles that templates know; `developer` is the newer name of `system`.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// A list that stands in a field as one, or as a string that holds JSON: tables have no lists.
pub fn list(value: Value, name: &str) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(list) => Ok(list),
        Value::String(text) => match parse_json(text.as_bytes()) {
            Ok(Value::Array(list)) => Ok(list),
            Ok(other) => Err(format!("`{name}` is a string that holds {}, no list", kind(&other))),
            Err(_) if text.trim_start().starts_with("[{'") => Err(format!(
                "`{name}` is a list as Python prints it, not JSON; write it with `json.dumps`"
            )),
            Err(_) => Err(format!("`{name}` is a string that holds no JSON list")),
        },
        other => Err(format!("`{name}` must be a list, {} was found", kind(&other))),
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
        Value::String(text) if text.trim_start().starts_with('[') => {
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

/// The turn as templates take it; `number` counts from 1.
///
/// Null fields are left out, as in containers that cannot hold them. A turn that only calls tools
/// has empty content, since templates add content to text, and null prints as a word.
pub fn turn(message: Value, number: usize) -> Result<Value, String> {
    let Value::Object(mut fields) = message else {
        return Err(format!("message {number} must be an object, {} was found", kind(&message)));
    };
    if fields.values().any(Value::is_null) {
        fields.retain(|_, value| !value.is_null());
    }
    match fields.get("role") {
        Some(Value::String(role)) if ROLES.contains(&role.as_str()) => {}
        Some(Value::String(role)) => {
            let known = ROLES.map(|role| format!("`{role}`")).join(", ");
            return Err(format!("message {number} has the role `{role}`; known are {known}"));
        }
        Some(other) => {
            let other = kind(other);
            return Err(format!("message {number}: `role` must be a string, {other} was found"));
        }
        None => return Err(format!("message {number} has no `role`, {}", found(&fields))),
    }
    if let Some(calls) = fields.remove("tool_calls") {
        let wrong = |reason| format!("message {number}: {reason}");
        let calls = list(calls, "tool_calls").map_err(wrong)?;
        let calls: Result<Vec<_>, _> = calls.into_iter().map(call).collect();
        let calls = calls.map_err(wrong)?;
        if !calls.is_empty() {
            fields.entry("content").or_insert_with(|| "".into());
            fields.insert("tool_calls".to_owned(), Value::Array(calls));
        }
    }
    match fields.get("content") {
        Some(Value::String(_)) => Ok(Value::Object(fields)),
        None => Err(format!("message {number} has no `content`")),
        Some(other) => {
            let other = kind(other);
            Err(format!("message {number}: `content` must be a string, {other} was found"))
        }
    }
}

/// All turns as templates take them.
pub fn checked(messages: Vec<Value>) -> Result<Vec<Value>, String> {
    messages.into_iter().enumerate().map(|(index, message)| turn(message, index + 1)).collect()
}

/// A call of a tool: the function with its name and its arguments as an object. Records also hold
/// the arguments as JSON text, or name and arguments without the function around them.
pub fn call(call: Value) -> Result<Value, String> {
    let Value::Object(mut fields) = call else {
        return Err(format!("a tool call must be an object, {} was found", kind(&call)));
    };
    let mut function = match fields.remove("function") {
        Some(Value::Object(function)) => function,
        Some(other) => {
            return Err(format!("`function` must be an object, {} was found", kind(&other)));
        }
        None => {
            fields.entry("type").or_insert_with(|| "function".into());
            let taken = ["name", "arguments"].map(|key| (key.to_owned(), fields.remove(key)));
            taken.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
        }
    };
    match function.get("name") {
        Some(Value::String(name)) if !name.is_empty() => {}
        _ => return Err("a tool call does not name its function".to_owned()),
    }
    let arguments = match function.remove("arguments") {
        None | Some(Value::Null) => json!({}),
        Some(Value::String(text)) if text.trim().is_empty() => json!({}),
        Some(Value::String(text)) => parse_json(text.as_bytes())
            .map_err(|_| "the `arguments` of a tool call are no JSON text".to_owned())?,
        Some(arguments) => arguments,
    };
    if !arguments.is_object() {
        let found = kind(&arguments);
        return Err(format!("the `arguments` of a tool call must be an object, {found} was found"));
    }
    function.insert("arguments".to_owned(), arguments);
    fields.insert("function".to_owned(), Value::Object(function));
    Ok(Value::Object(fields))
}

/// The tools that the assistant may call: a list of objects, or JSON text of one; each object may
/// be JSON text as well.
pub fn tools(value: Option<Value>) -> Result<Option<Value>, String> {
    let value = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(value) => value,
    };
    let mut tools = list(value, "tools")?;
    for tool in &mut tools {
        if let Value::String(text) = tool {
            *tool = parse_json(text.as_bytes())
                .map_err(|_| "a tool in `tools` is a string that holds no JSON".to_owned())?;
        }
        if !tool.is_object() {
            return Err(format!("a tool in `tools` must be an object, {} was found", kind(tool)));
        }
    }
    Ok((!tools.is_empty()).then_some(Value::Array(tools)))
}
