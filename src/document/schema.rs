//! The table of keys as JSON Schema, for editors.

use serde_json::{Map, Value as Json, json};

use super::key::{ALL_LINEAR, DefaultValue, Key, MANY, Range, ValueKind};
use super::key_table::{KeyTable, TableSection};
use super::tree::{Node, Tree, parse_own};

/// JSON Schema 2020-12 of a kind of document.
pub fn schema(known: &KeyTable) -> Json {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": known.kind().title,
        "description": format!("{} A key that is not listed is an error.", known.kind().about),
    });
    let all: Vec<&Key> = known.keys().collect();
    let (top, sections) = known.sections().split_first().expect("the first entry is the top level");
    let mut object = object(&all, top.shown());
    for section in sections {
        let required = |key: &&Key| matches!(key.default, DefaultValue::Required);
        if !section.optional && section.keys.iter().any(required) {
            push(&mut object, "required", json!(section.name));
        }
        if let Some((decider, wanted)) = section.only_with {
            let then = nested(decider, needs(&all, decider, wanted));
            let condition = json!({ "if": { "required": [section.name] }, "then": then });
            push(&mut object, "allOf", condition);
        }
        object["properties"][section.name] = section_schema(&all, section);
    }
    merge(&mut schema, object);
    schema
}

fn section_schema(all: &[&Key], section: &TableSection) -> Json {
    let mut schema = json!({ "description": section.doc });
    merge(&mut schema, object(all, section.shown()));
    schema
}

/// An object with these keys; `all` are those that may decide about them.
fn object<'a>(all: &[&Key], keys: impl Iterator<Item = &'a Key>) -> Json {
    let mut object = json!({ "type": "object", "additionalProperties": false });
    for key in keys {
        let required = matches!(key.default, DefaultValue::Required);
        if required && key.only_with.is_none() {
            push(&mut object, "required", json!(key.name()));
        }
        for other in key.excludes {
            let pair = json!({ "required": [key.name(), last(other)] });
            push(&mut object, "allOf", json!({ "not": pair }));
        }
        if let Some((decider, wanted)) = key.only_with {
            let then = needs(all, decider, wanted);
            let given = json!({ "required": [key.name()] });
            push(&mut object, "allOf", json!({ "if": given, "then": then }));
            if required {
                let then = json!({ "required": [key.name()] });
                let decided = needs(all, decider, wanted);
                push(&mut object, "allOf", json!({ "if": decided, "then": then }));
            }
        }
        object["properties"][key.name()] = property(key);
    }
    object
}

/// What an object must have inside a section: one of these values, written or by default.
fn needs(all: &[&Key], decider: &str, wanted: &[&str]) -> Json {
    let key = all.iter().find(|key| key.path == decider);
    let switch = key.is_some_and(|key| matches!(key.kind, ValueKind::Boolean));
    let value = |word: &&str| if switch { json!(*word == "true") } else { json!(word) };
    let wanted: Vec<Json> = wanted.iter().map(value).collect();
    let mut then = Map::new();
    then.insert("properties".to_owned(), json!({ last(decider): { "enum": wanted } }));
    let default = key.and_then(|key| default_json(&key.default));
    if !wanted.iter().any(|value| default.as_ref() == Some(value)) {
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

fn property(key: &Key) -> Json {
    let mut property = json!({ "description": description(key) });
    merge(&mut property, type_of(&key.kind));
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

fn type_of(kind: &ValueKind) -> Json {
    // One line: no control characters, as the check has it.
    let line = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$";
    match kind {
        ValueKind::Line => json!({ "type": "string", "pattern": line }),
        ValueKind::Name => {
            json!({ "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$" })
        }
        ValueKind::Choice(names) => json!({ "enum": names }),
        ValueKind::Text => json!({ "type": "string" }),
        ValueKind::Rule(rule) => match rule.pattern {
            Some(pattern) => json!({ "type": "string", "pattern": pattern }),
            None => json!({ "type": "string" }),
        },
        ValueKind::Integer { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        ValueKind::Number(range) => number(range),
        ValueKind::Boolean => json!({ "type": "boolean" }),
        ValueKind::Texts
        | ValueKind::AnyTexts
        | ValueKind::TextsOf(_)
        | ValueKind::Choices(_)
        | ValueKind::Rising { .. }
        | ValueKind::Modules
        | ValueKind::Tables { .. } => array_of(kind),
        ValueKind::Share => json!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": MANY },
            { "type": "number", "minimum": 0, "exclusiveMaximum": 1 },
        ] }),
        ValueKind::Bytes { min, max } => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": "^[0-9][0-9.]*\\s*([KMGTkmgt][Ii]?)?[Bb]?$" },
        ] }),
        ValueKind::Columns(_) => json!({
            "type": "object",
            "additionalProperties": { "type": "string", "pattern": line },
            "minProperties": 1,
        }),
        ValueKind::NumberOrEach(range) => json!({ "anyOf": [
            number(range),
            { "type": "object", "additionalProperties": number(range), "minProperties": 1 },
        ] }),
        ValueKind::ChoiceOfEach(names) => json!({
            "type": "object", "additionalProperties": { "enum": names }, "minProperties": 1,
        }),
        ValueKind::NumberOfEach(range, _) => json!({
            "type": "object", "additionalProperties": number(range),
        }),
        ValueKind::IntegerOfEach { min, max, .. } => json!({
            "type": "object",
            "additionalProperties": { "type": "integer", "minimum": min, "maximum": max },
        }),
        ValueKind::Arguments => json!({
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean"] },
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
        }),
    }
}

fn array_of(kind: &ValueKind) -> Json {
    match kind {
        ValueKind::Texts => {
            json!({ "type": "array", "items": { "type": "string", "minLength": 1 } })
        }
        ValueKind::AnyTexts => json!({ "type": "array", "items": { "type": "string" } }),
        ValueKind::TextsOf(rule) => {
            json!({ "type": "array", "items": type_of(&ValueKind::Rule(rule)) })
        }
        ValueKind::Choices(names) => json!({
            "type": "array", "items": { "enum": names }, "minItems": 1, "uniqueItems": true,
        }),
        ValueKind::Rising { min, max } => json!({
            "type": "array",
            "items": { "type": "integer", "minimum": min, "maximum": max },
            "uniqueItems": true,
        }),
        ValueKind::Modules => json!({ "anyOf": [
            { "const": ALL_LINEAR },
            {
                "type": "array",
                "items": { "type": "string", "minLength": 1 },
                "minItems": 1,
                "uniqueItems": true,
            },
        ] }),
        ValueKind::Tables { keys, may_be_empty } => json!({
            "type": "array",
            "items": object(&keys.iter().collect::<Vec<_>>(), keys.iter()),
            "minItems": u8::from(!may_be_empty),
        }),
        _ => unreachable!("only arrays come here"),
    }
}

/// JSON has no infinite numbers: an end that is one is left out.
fn number(range: &Range) -> Json {
    let mut number = json!({ "type": "number" });
    if range.min.is_finite() {
        let low = if range.min_excluded { "exclusiveMinimum" } else { "minimum" };
        number[low] = json!(range.min);
    }
    if range.max.is_finite() {
        let high = if range.max_excluded { "exclusiveMaximum" } else { "maximum" };
        number[high] = json!(range.max);
    }
    number
}

fn default_json(default: &DefaultValue) -> Option<Json> {
    match default {
        DefaultValue::Value(toml) => Some(to_json(&parse_own(toml))),
        _ => None,
    }
}

pub(super) fn to_json(node: &Node) -> Json {
    match &node.tree {
        Tree::Text(text) => json!(text),
        Tree::Integer(integer, _) => match integer.map(i64::try_from) {
            Some(Ok(integer)) => json!(integer),
            _ => Json::Null,
        },
        Tree::Float(number, _) => json!(number),
        Tree::Boolean(boolean) => json!(boolean),
        Tree::Date(text) => json!(text),
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
