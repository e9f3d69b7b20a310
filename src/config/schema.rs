//! The table of keys as JSON Schema, for editors.

use serde_json::{Map, Value as Json, json};

use super::key::{ALL_LINEAR, DefaultValue, Key, MANY, ValueKind};
use super::key_table::{KeyTable, TableSection};
use super::tree::{Node, Tree, parse_own};

/// JSON Schema 2020-12 of the config.
pub fn schema(known: &KeyTable) -> Json {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Firebrand run",
        "description": "One fine-tuning run. A key that is not listed is an error.",
    });
    let (top, sections) = known.sections().split_first().expect("the first entry is the top level");
    let mut object = object(known, top.shown());
    for section in sections {
        if section.keys.iter().any(|key| matches!(key.default, DefaultValue::Required)) {
            push(&mut object, "required", json!(section.name));
        }
        if let Some((decider, wanted)) = section.only_with {
            let then = nested(decider, needs(known, decider, wanted));
            let condition = json!({ "if": { "required": [section.name] }, "then": then });
            push(&mut object, "allOf", condition);
        }
        object["properties"][section.name] = section_schema(known, section);
    }
    merge(&mut schema, object);
    schema
}

fn section_schema(known: &KeyTable, section: &TableSection) -> Json {
    let mut schema = json!({ "description": section.doc });
    merge(&mut schema, object(known, section.shown()));
    schema
}

fn object<'a>(known: &KeyTable, keys: impl Iterator<Item = &'a Key>) -> Json {
    let mut object = json!({ "type": "object", "additionalProperties": false });
    for key in keys {
        if matches!(key.default, DefaultValue::Required) {
            push(&mut object, "required", json!(key.name()));
        }
        for other in key.excludes {
            let pair = json!({ "required": [key.name(), last(other)] });
            push(&mut object, "allOf", json!({ "not": pair }));
        }
        if let Some((decider, wanted)) = key.only_with {
            push(&mut object, "allOf", condition(known, key, decider, wanted));
        }
        object["properties"][key.name()] = property(known, key);
    }
    object
}

/// If this key is there, the deciding key has one of these values, written or by default.
fn condition(known: &KeyTable, needy: &Key, decider: &str, wanted: &[&str]) -> Json {
    json!({ "if": { "required": [needy.name()] }, "then": needs(known, decider, wanted) })
}

/// What an object must have inside a section: one of these values, written or by default.
fn needs(known: &KeyTable, decider: &str, wanted: &[&str]) -> Json {
    let mut then = Map::new();
    then.insert("properties".to_owned(), json!({ last(decider): { "enum": wanted } }));
    let default = known.key(decider).map(|key| default_json(&key.default));
    if !wanted.iter().any(|name| default == Some(Some(json!(name)))) {
        then.insert("required".to_owned(), json!([last(decider)]));
    }
    Json::Object(then)
}

/// The same for the section of the key, seen from the top level.
fn nested(decider: &str, needs: Json) -> Json {
    let Some((section, _)) = decider.rsplit_once('.') else { return needs };
    let mut then = json!({ "properties": { section: needs } });
    if !then["properties"][section]["required"].is_null() {
        then["required"] = json!([section]);
    }
    then
}

fn property(known: &KeyTable, key: &Key) -> Json {
    let mut property = json!({ "description": description(key) });
    merge(&mut property, type_of(known, &key.kind));
    if let Some(default) = default_json(&key.default) {
        property["default"] = default;
    }
    if !key.example.is_empty() {
        property["examples"] = json!([to_json(&parse_own(key.example))]);
    }
    property
}

/// The text for people, with what holds when the key is not written.
pub(super) fn description(key: &Key) -> String {
    match key.default {
        DefaultValue::Required | DefaultValue::Value(_) => key.doc.to_owned(),
        DefaultValue::Absent(says) | DefaultValue::Depends(says) => {
            format!("{} Default: {says}.", key.doc)
        }
    }
}

fn type_of(known: &KeyTable, kind: &ValueKind) -> Json {
    // One line: no control characters, as the check has it.
    let line = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$";
    match kind {
        ValueKind::Line => json!({ "type": "string", "pattern": line }),
        ValueKind::Name => {
            json!({ "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$" })
        }
        ValueKind::Choice(names) => json!({ "enum": names }),
        ValueKind::Device => json!({
            "type": "string",
            "pattern": "^(auto|cpu|software|(gpu|vulkan|metal|dx12|gl)(:[0-9]{1,3})?)$",
        }),
        ValueKind::Integer { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        ValueKind::Number(range) => {
            let low = if range.min_excluded { "exclusiveMinimum" } else { "minimum" };
            let high = if range.max_excluded { "exclusiveMaximum" } else { "maximum" };
            json!({ "type": "number", low: range.min, high: range.max })
        }
        ValueKind::Boolean => json!({ "type": "boolean" }),
        ValueKind::Texts => {
            json!({ "type": "array", "items": { "type": "string", "minLength": 1 } })
        }
        ValueKind::Modules => json!({ "anyOf": [
            { "const": ALL_LINEAR },
            {
                "type": "array",
                "items": { "type": "string", "minLength": 1 },
                "minItems": 1,
                "uniqueItems": true,
            },
        ] }),
        ValueKind::Share => json!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": MANY },
            { "type": "number", "minimum": 0, "exclusiveMaximum": 1 },
        ] }),
        ValueKind::Bytes { min, max } => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": "^[0-9][0-9.]*\\s*([KMGTkmgt][Ii]?)?[Bb]?$" },
        ] }),
        ValueKind::Columns => json!({
            "type": "object",
            "additionalProperties": { "type": "string", "pattern": line },
            "minProperties": 1,
        }),
        ValueKind::Arguments => json!({
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean"] },
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
            "minProperties": 1,
        }),
        ValueKind::Tables { keys, may_be_empty } => json!({
            "type": "array",
            "items": object(known, keys.iter()),
            "minItems": u8::from(!may_be_empty),
        }),
    }
}

fn default_json(default: &DefaultValue) -> Option<Json> {
    match default {
        DefaultValue::Value(toml) => Some(to_json(&parse_own(toml))),
        _ => None,
    }
}

fn to_json(node: &Node) -> Json {
    match &node.tree {
        Tree::Text(text) => json!(text),
        Tree::Integer(integer, _) => {
            json!(integer.and_then(|integer| u64::try_from(integer).ok()))
        }
        Tree::Float(number, _) => json!(number),
        Tree::Boolean(boolean) => json!(boolean),
        Tree::Date => Json::Null,
        Tree::Array(items) => items.iter().map(to_json).collect(),
        Tree::Table(table) => {
            table.iter().map(|(word, node)| (word.text.clone(), to_json(node))).collect()
        }
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn push(object: &mut Json, name: &str, value: Json) {
    match object[name].as_array_mut() {
        Some(array) => array.push(value),
        None => object[name] = json!([value]),
    }
}

fn merge(target: &mut Json, source: Json) {
    let (Json::Object(target), Json::Object(source)) = (target, source) else {
        unreachable!("schemas are objects");
    };
    target.extend(source);
}
