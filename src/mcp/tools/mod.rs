//! The tools, each a line of the table. What a tool takes and gives is said by JSON Schemas.

mod eval;
mod runs;
mod settings;
mod train;
mod verify;

use serde_json::{Map, Value, json};

use super::arguments::Arguments;
use super::permission::Permission;
use super::workplace::{ToolCall, Workplace};
use crate::error::{Error, Result};

/// A line of the table.
pub(super) struct ToolEntry {
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// For models: what it does, and when it is the right one.
    pub description: &'static str,
    /// What has to be allowed for it; tools without it change nothing.
    pub needs: Option<Permission>,
    /// Whether it can undo or replace something.
    pub destructive: bool,
    /// Properties of its arguments, and those which it requires.
    pub input: fn() -> (Value, &'static [&'static str]),
    /// Properties of its result, and those which it always has.
    pub output: fn() -> (Value, &'static [&'static str]),
    pub call: fn(&ToolCall) -> Result<Value>,
}

/// Every tool, in the order in which they are listed.
pub(super) const TOOLS: &[&ToolEntry] = &[
    &settings::PLAN,
    &settings::SETTINGS,
    &runs::LIST,
    &runs::STATUS,
    &runs::COMPARE,
    &verify::VERIFY,
    &verify::LINEAGE,
    &verify::SCAN,
    &eval::EVAL,
    &train::TRAIN,
    &train::RESUME,
    &train::STOP,
];

impl ToolEntry {
    /// The one of a name.
    pub fn of_name(name: &str) -> Option<&'static Self> {
        TOOLS.iter().copied().find(|tool| tool.name == name)
    }

    /// Whether it is there.
    pub fn is_allowed(&self, place: &Workplace) -> bool {
        self.needs.is_none_or(|permission| place.allows(permission))
    }

    pub fn input_schema(&self) -> Map<String, Value> {
        let (properties, required) = (self.input)();
        let mut schema = object(properties, required);
        schema.insert("additionalProperties".to_owned(), false.into());
        schema
    }

    pub fn output_schema(&self) -> Map<String, Value> {
        let (properties, required) = (self.output)();
        object(properties, required)
    }

    /// Does what a client asks for.
    ///
    /// # Errors
    /// When it is not allowed, the arguments do not fit, or it cannot be done.
    pub fn call(
        &self,
        place: &Workplace,
        arguments: Map<String, Value>,
        unwanted: &dyn Fn() -> bool,
    ) -> Result<Value> {
        if let Some(permission) = self.needs.filter(|it| !place.allows(*it)) {
            let name = permission.name();
            return Err(Error::usage(format!("the tool `{}` is not allowed here", self.name))
                .because("this server reads only, but for what it was told to allow")
                .hint(format!("whoever starts it allows it with `firebrand mcp --allow {name}`")));
        }
        let arguments = Arguments::check(arguments, &Value::Object(self.input_schema()))?;
        (self.call)(&ToolCall { place, arguments, unwanted })
    }
}

fn object(properties: Value, required: &[&str]) -> Map<String, Value> {
    let schema = json!({"type": "object", "properties": properties, "required": required});
    match schema {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// An argument that is a path.
fn path(description: &str) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 4096, "description": description})
}

/// The argument `set`.
fn overrides() -> Value {
    json!({
        "type": "array",
        "maxItems": 200,
        "items": {"type": "string", "maxLength": 8192, "pattern": "^[^=]+="},
        "description": "settings put over those of the file, each as `key=value` in TOML, \
                        such as `train.learning_rate=1e-4`",
    })
}

/// A property that may be null.
fn maybe(kind: &str, description: &str) -> Value {
    json!({"type": [kind, "null"], "description": description})
}

fn a(kind: &str, description: &str) -> Value {
    json!({"type": kind, "description": description})
}

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tests;
