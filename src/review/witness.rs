//! A document that one JSON Schema admits and another refuses, made of what both say. Each is asked
//! of validators, so that what is found is certain.

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// Documents of one schema, or of one part of it, that are tried.
const SAMPLES_MAX: usize = 48;
/// Schemas may name themselves.
const DEPTH_MAX: usize = 6;
/// Longer texts and lists are not made.
const LENGTH_MAX: u64 = 1024;

/// A document that the first admits and the second refuses, if one is found.
pub fn witness(inner: (&Value, &Validator), outer: (&Value, &Validator)) -> Option<Value> {
    let mut all = samples(inner.0, inner.0, 0);
    // What the second names may be at the edge of what it admits.
    all.extend(samples(outer.0, outer.0, 0));
    all.into_iter().find(|it| inner.1.is_valid(it) && !outer.1.is_valid(it))
}

/// Documents that a schema may admit: the least, the fullest, and what lies at its limits.
fn samples(schema: &Value, root: &Value, depth: usize) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    if depth > DEPTH_MAX {
        return found;
    }
    for key in ["const", "default"] {
        found.extend(schema.get(key).cloned());
    }
    for key in ["enum", "examples"] {
        found.extend(schema.get(key).and_then(Value::as_array).into_iter().flatten().cloned());
    }
    let reference = schema.get("$ref").and_then(Value::as_str);
    if let Some(target) = reference.and_then(|it| root.pointer(it.strip_prefix('#')?)) {
        found.extend(samples(target, root, depth + 1));
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for branch in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
            let of_branch = samples(branch, root, depth + 1);
            found.extend(of_branch);
        }
    }
    let own = of_types(schema, root, depth);
    let objects: Vec<Value> = found.iter().filter(|it| it.is_object()).cloned().collect();
    // Parts that must hold together.
    for base in own.iter().filter(|it| it.is_object()).take(4) {
        found.extend(objects.iter().take(SAMPLES_MAX / 4).map(|more| merged(base, more)));
    }
    found.extend(own);
    found.truncate(SAMPLES_MAX);
    found
}

fn merged(base: &Value, more: &Value) -> Value {
    let mut all = base.as_object().cloned().unwrap_or_default();
    all.extend(more.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
    Value::Object(all)
}

fn of_types(schema: &Value, root: &Value, depth: usize) -> Vec<Value> {
    let named: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ if schema.get("enum").is_some() || schema.get("const").is_some() => Vec::new(),
        _ if schema.get("properties").is_some() || schema.get("required").is_some() => {
            vec!["object"]
        }
        _ if schema.get("items").is_some() || schema.get("prefixItems").is_some() => vec!["array"],
        _ => vec!["null", "boolean", "number", "string", "array", "object"],
    };
    let of = |name: &&str| match *name {
        "null" => vec![Value::Null],
        "boolean" => vec![json!(true), json!(false)],
        "integer" => numbers(schema, true),
        "number" => numbers(schema, false),
        "string" => strings(schema),
        "array" => arrays(schema, root, depth),
        "object" => objects(schema, root, depth),
        _ => Vec::new(),
    };
    named.iter().flat_map(of).collect()
}

fn numbers(schema: &Value, whole: bool) -> Vec<Value> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let mut found: Vec<f64> = ["minimum", "maximum"].into_iter().filter_map(bound).collect();
    for key in ["exclusiveMinimum", "exclusiveMaximum"] {
        found
            .extend(bound(key).into_iter().flat_map(|it| [it + 1.0, it - 1.0, it + 0.5, it - 0.5]));
    }
    found.extend(bound("multipleOf"));
    found.extend([0.0, 1.0, -1.0, 1e9, -1e9]);
    let mut values: Vec<Value> = Vec::new();
    for number in found {
        if number.fract() == 0.0 && number.abs() < 9e15 {
            #[expect(clippy::cast_possible_truncation)] // it is a whole number of 53 bits
            values.push(json!(number as i64));
        } else if !whole {
            values.push(json!(number));
        }
    }
    if !whole {
        values.push(json!(0.5));
    }
    values
}

fn strings(schema: &Value) -> Vec<Value> {
    let length = |key: &str| schema.get(key).and_then(Value::as_u64).filter(|it| *it <= LENGTH_MAX);
    let of = |count: u64| "a".repeat(usize::try_from(count).unwrap_or(0));
    let lengths = [length("minLength"), length("maxLength")].into_iter().flatten();
    let mut found: Vec<Value> = lengths.map(|count| json!(of(count))).collect();
    let usual = ["a", "", "0", "A b", "2026-01-31", "2026-01-31T12:00:00Z", "a@example.org"];
    found.extend(usual.map(Value::from));
    found.push(json!(of(length("minLength").unwrap_or(0).max(200))));
    found
}

fn arrays(schema: &Value, root: &Value, depth: usize) -> Vec<Value> {
    let length = |key: &str| schema.get(key).and_then(Value::as_u64).filter(|it| *it <= LENGTH_MAX);
    let least = usize::try_from(length("minItems").unwrap_or(0)).unwrap_or(0);
    let most = length("maxItems").and_then(|count| usize::try_from(count).ok());
    let prefix = schema.get("prefixItems").and_then(Value::as_array);
    let first: Vec<Value> = prefix
        .into_iter()
        .flatten()
        .map(|it| samples(it, root, depth + 1).into_iter().next().unwrap_or_default())
        .collect();
    let any = json!(true);
    let rest = schema.get("items").filter(|it| it.is_object() || it.is_boolean()).unwrap_or(&any);
    let items = match rest {
        Value::Bool(false) => Vec::new(),
        rest => samples(rest, root, depth + 1),
    };
    let filled = |count: usize, item: Option<&Value>| {
        let more = count.saturating_sub(first.len());
        let more = item.into_iter().cycle().take(more).cloned();
        Value::Array(first.iter().take(count.max(least)).cloned().chain(more).collect())
    };
    let mut found = vec![filled(least, items.first()), json!([])];
    found.extend(most.map(|count| filled(count, items.first())));
    found.extend(
        items
            .iter()
            .take(SAMPLES_MAX / 2)
            .map(|item| filled(least.max(first.len() + 1), Some(item))),
    );
    found.push(filled(least.max(first.len()) + 8, items.first()));
    found
}

fn objects(schema: &Value, root: &Value, depth: usize) -> Vec<Value> {
    let of = |key: &str| schema.get(key).and_then(Value::as_object).into_iter().flatten();
    let properties: Vec<(&String, Vec<Value>)> =
        of("properties").map(|(name, it)| (name, samples(it, root, depth + 1))).collect();
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let required: Vec<&str> = required.filter_map(Value::as_str).collect();
    let first = |name: &str| {
        let own = properties.iter().find(|(known, _)| *known == name);
        own.and_then(|(_, values)| values.first().cloned()).unwrap_or(json!("a"))
    };
    let least: Map<String, Value> =
        required.iter().map(|name| ((*name).to_owned(), first(name))).collect();
    let full: Map<String, Value> = properties
        .iter()
        .filter_map(|(name, values)| Some(((*name).clone(), values.first()?.clone())))
        .chain(least.clone())
        .collect();
    let mut found = vec![least.clone(), full.clone()];
    let with = |base: &Map<String, Value>, name: &str, value: Value| {
        let mut object = base.clone();
        object.insert(name.to_owned(), value);
        object
    };
    found.push(with(&least, "another", json!("a")));
    found.push(with(&least, "another", json!(0)));
    for (name, _) in &properties {
        let mut object = full.clone();
        object.remove(*name);
        found.push(object);
    }
    for (name, values) in &properties {
        found.extend(values.iter().skip(1).map(|value| with(&least, name, value.clone())));
        found.extend(values.iter().skip(1).map(|value| with(&full, name, value.clone())));
    }
    found.into_iter().map(Value::Object).collect()
}
