//! Calls of tools, and the tools that may be called, in the one form that templates take.

use serde_json::{Map, Value, json};

use super::lists::{list, without_nulls};
use super::{Fields, found};
use crate::data::sources::kind;
use crate::files::parse_exact_json;

/// A call of a tool: the function with its name and its arguments. Records also hold name and
/// arguments without the function around them, or call the arguments `parameters`.
///
/// Arguments that are JSON text stay text, since some templates print them and others go through
/// them: which it is, is found out when the template is rendered.
pub fn call(call: Value) -> Result<Value, String> {
    let Value::Object(mut fields) = call else {
        return Err(format!("a tool call must be an object, {} was found", kind(&call)));
    };
    fields.retain(|_, value| !value.is_null());
    let mut function = match fields.get_mut("function").map(std::mem::take) {
        Some(Value::Object(function)) => function,
        Some(other) => {
            return Err(format!("`function` must be an object, {} was found", kind(&other)));
        }
        None => {
            fields.entry("type").or_insert_with(|| "function".into());
            let names = ["name", "arguments", "parameters"];
            let taken = names.map(|key| (key.to_owned(), fields.shift_remove(key)));
            taken.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
        }
    };
    function.retain(|_, value| !value.is_null());
    match function.get("name") {
        Some(Value::String(name)) if !name.is_empty() => {}
        _ => return Err("a tool call does not name its function".to_owned()),
    }
    let given = function.get_mut("arguments").map(std::mem::take);
    let given = given.or_else(|| function.shift_remove("parameters"));
    function.insert("arguments".to_owned(), arguments(given)?);
    fields.insert("function".to_owned(), Value::Object(function));
    Ok(Value::Object(fields))
}

fn arguments(given: Option<Value>) -> Result<Value, String> {
    let (arguments, text) = match given {
        None => return Ok(json!({})),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(json!({})),
        Some(Value::String(text)) => {
            let parsed = parse_exact_json(text.as_bytes())
                .map_err(|_| "the `arguments` of a tool call are not valid JSON".to_owned())?;
            (parsed, Some(text))
        }
        Some(mut arguments) => {
            without_nulls(&mut arguments);
            (arguments, None)
        }
    };
    if !arguments.is_object() {
        let found = kind(&arguments);
        return Err(format!("the `arguments` of a tool call must be an object, {found} was found"));
    }
    Ok(text.map_or(arguments, Value::String))
}

/// The calls of a message: a list, or the one call of OpenAI's older form, `function_call`.
pub fn calls(fields: &mut Map<String, Value>) -> Result<Vec<Value>, String> {
    let given = match fields.get_mut("tool_calls").map(std::mem::take) {
        Some(calls) => list(calls, "tool_calls")?,
        None => Vec::new(),
    };
    let given = match (fields.shift_remove("function_call"), given.is_empty()) {
        (None, _) => given,
        (Some(one @ Value::Object(_)), true) => vec![one],
        (Some(Value::Object(_)), false) => {
            return Err("it has both `tool_calls` and `function_call`".to_owned());
        }
        (Some(other), _) => {
            return Err(format!("`function_call` must be an object, {} was found", kind(&other)));
        }
    };
    given.into_iter().map(call).collect()
}

/// The tools that the assistant may call, from `tools` or, in OpenAI's older form, `functions`.
pub fn tools(record: &mut Fields) -> Result<Option<Value>, String> {
    let names = found(record);
    let tools = described(record.remove("tools"), "tools")?;
    let functions = described(record.remove("functions"), "functions")?;
    if tools.is_some() && functions.is_some() {
        return Err(format!("the record has both `tools` and `functions`, {names}"));
    }
    let wrapped = |function: Value| json!({ "type": "function", "function": function });
    let functions = functions.map(|all| all.into_iter().map(wrapped).collect());
    Ok(tools.or(functions).map(Value::Array))
}

/// Descriptions of tools: a list of objects, or JSON text of one; each object may be JSON text as
/// well.
fn described(value: Option<Value>, name: &str) -> Result<Option<Vec<Value>>, String> {
    let value = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(value) => value,
    };
    let mut tools = list(value, name)?;
    for tool in &mut tools {
        if let Value::String(text) = tool {
            *tool = parse_exact_json(text.as_bytes())
                .map_err(|_| format!("a tool in `{name}` is a string that holds no JSON"))?;
        } else {
            without_nulls(tool);
        }
        if !tool.is_object() {
            return Err(format!("a tool in `{name}` must be an object, {} was found", kind(tool)));
        }
    }
    Ok((!tools.is_empty()).then_some(tools))
}
