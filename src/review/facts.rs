//! What is known of a document that a schema admits: schemas of which all hold.

use serde_json::Value;

/// Kinds of JSON values, a bit each; whole numbers are kept apart from the others.
pub type Types = u8;
/// Every kind.
pub const ALL_TYPES: Types = 0b111_1111;
/// Numbers of both kinds.
pub const NUMBERS: Types = 0b1100;
/// Strings.
pub const STRING: Types = 0b1_0000;
/// Arrays.
pub const ARRAY: Types = 0b10_0000;
/// Objects.
pub const OBJECT: Types = 0b100_0000;

/// Schemas that a document is known to fit, all of them.
pub type Facts<'a> = Vec<&'a Value>;

/// The kinds that a name of JSON Schema stands for.
fn named(name: &str) -> Option<Types> {
    Some(match name {
        "null" => 1,
        "boolean" => 0b10,
        "integer" => 0b100,
        "number" => NUMBERS,
        "string" => STRING,
        "array" => ARRAY,
        "object" => OBJECT,
        _ => return None,
    })
}

/// The kind of a value. `1.0` is an integer to some drafts and none to others: it may be both.
fn of_value(value: &Value) -> Types {
    match value {
        Value::Null => 1,
        Value::Bool(_) => 0b10,
        Value::Number(number) if number.is_f64() => NUMBERS,
        Value::Number(_) => 0b100,
        Value::String(_) => STRING,
        Value::Array(_) => ARRAY,
        Value::Object(_) => OBJECT,
    }
}

/// What `type` admits; none where it is not as the specification has it.
pub fn types_of(value: &Value) -> Option<Types> {
    match value {
        Value::String(name) => named(name),
        Value::Array(names) => {
            names.iter().try_fold(0, |all, name| Some(all | named(name.as_str()?)?))
        }
        _ => None,
    }
}

/// The values that one schema names, if it names them.
pub fn values_of(schema: &Value) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        (None, _) => None,
    }
}

/// The kinds that a document can have.
pub fn types(facts: &Facts) -> Types {
    facts.iter().fold(ALL_TYPES, |types, fact| {
        if **fact == Value::Bool(false) {
            return 0;
        }
        let by_type = fact.get("type").and_then(types_of).unwrap_or(ALL_TYPES);
        let by_value = values_of(fact);
        let by_value = by_value.map_or(ALL_TYPES, |values| {
            values.into_iter().fold(0, |all, value| all | of_value(value))
        });
        types & by_type & by_value
    })
}

/// The values that a document can have, if they are named.
pub fn values<'a>(facts: &Facts<'a>) -> Option<Vec<&'a Value>> {
    facts.iter().find_map(|fact| values_of(fact))
}

/// The greatest or the least of a keyword's numbers.
pub fn bound(facts: &Facts, key: &str, greatest: bool) -> Option<f64> {
    let numbers = facts.iter().filter_map(|fact| fact.get(key)?.as_f64());
    numbers.reduce(|a, b| if greatest { a.max(b) } else { a.min(b) })
}

/// Whether one of the schemas says the same by a keyword.
pub fn says(facts: &Facts, key: &str, value: &Value) -> bool {
    facts.iter().any(|fact| fact.get(key) == Some(value))
}

/// Whether an object must have a property.
pub fn requires(facts: &Facts, name: &str) -> bool {
    let names = |fact: &&Value| {
        let list = fact.get("required").and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|it| it == name))
    };
    facts.iter().any(names)
}

/// The names of `properties`.
pub fn property_names<'a>(facts: &Facts<'a>) -> Vec<&'a str> {
    let of = |fact: &&'a Value| fact.get("properties").and_then(Value::as_object);
    let mut names: Vec<&str> =
        facts.iter().filter_map(of).flat_map(|it| it.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What is known of a property, or of one without a name. Where patterns of names may apply,
/// nothing is taken from the schema that has them but what it says of the very name.
pub fn property<'a>(facts: &Facts<'a>, name: Option<&str>) -> Facts<'a> {
    let of = |fact: &&'a Value| {
        let own = name.and_then(|name| fact.get("properties")?.get(name));
        let other = || fact.get("additionalProperties").filter(|_| !has_patterns(fact));
        own.or_else(other)
    };
    facts.iter().filter_map(of).collect()
}

/// Whether a schema says something of names by their patterns.
fn has_patterns(schema: &Value) -> bool {
    let patterns = schema.get("patternProperties").and_then(Value::as_object);
    patterns.is_some_and(|patterns| !patterns.is_empty())
}

/// The schemas of the first items, and that of the rest, as any draft writes them.
fn items_of(schema: &Value) -> (&[Value], Option<&Value>) {
    let (prefix, items) = (schema.get("prefixItems"), schema.get("items"));
    match (prefix, items) {
        (Some(Value::Array(first)), rest) => (first, rest),
        (_, Some(Value::Array(first))) => (first, schema.get("additionalItems")),
        (_, rest) => (&[], rest),
    }
}

/// How many items have schemas of their own.
pub fn prefix_length(facts: &Facts) -> usize {
    facts.iter().map(|fact| items_of(fact).0.len()).max().unwrap_or(0)
}

/// What is known of an item.
pub fn item<'a>(facts: &Facts<'a>, index: usize) -> Facts<'a> {
    let of = |fact: &&'a Value| {
        let (first, rest) = items_of(fact);
        first.get(index).or(rest)
    };
    facts.iter().filter_map(of).collect()
}
