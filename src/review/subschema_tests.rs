//! Pairs of schemas of which it is known how they go together.

use serde_json::{Value, json};

use super::super::witness::witness;
use super::*;

/// `Ok(true)`: shown; `Ok(false)`: a document shows the opposite; else why neither.
fn goes(inner: &Value, outer: &Value) -> Result<bool, String> {
    let [admits, expects] = [inner, outer].map(|it| jsonschema::validator_for(it).unwrap());
    let found = witness((inner, &admits), (outer, &expects));
    match (fits(inner, outer), found) {
        (Ok(()), None) => Ok(true),
        (Ok(()), Some(value)) => panic!("shown, but {value} is another: {inner} {outer}"),
        (Err(_), Some(_)) => Ok(false),
        (Err(why), None) => Err(why),
    }
}

fn call(more: &Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "properties": {
            "name": {"enum": ["add", "sub"]},
            "count": {"type": "integer", "minimum": 1, "maximum": 10},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
        },
        "required": ["name", "count"],
        "additionalProperties": false,
    });
    for (pointer, value) in more.as_object().unwrap() {
        *schema.pointer_mut(pointer).unwrap() = value.clone();
    }
    schema
}

#[test]
fn what_is_narrower_fits_and_what_is_wider_does_not() {
    let own = call(&json!({}));
    assert_eq!(goes(&own, &own), Ok(true));
    for (pointer, narrower) in [
        ("/properties/name/enum", json!(["add"])),
        ("/properties/count/minimum", json!(2)),
        ("/properties/count/maximum", json!(9)),
        ("/properties/tags/items/maxLength", json!(7)),
        ("/properties/tags/maxItems", json!(2)),
        ("/properties/tags/items", json!({"const": "a"})),
        ("/properties/tags", json!(false)),
        ("/required", json!(["name", "count", "tags"])),
    ] {
        let changed = call(&json!({pointer: narrower}));
        assert_eq!(goes(&changed, &own), Ok(true), "{pointer}");
        assert_eq!(goes(&own, &changed), Ok(false), "{pointer}");
    }
    let open = call(&json!({"/additionalProperties": true}));
    assert_eq!(goes(&own, &open), Ok(true));
    assert_eq!(goes(&open, &own), Ok(false));
}

#[test]
fn alternatives_fit_one_by_one() {
    let either = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
    let types = json!({"type": ["null", "string"]});
    assert_eq!(goes(&either, &types), Ok(true));
    assert_eq!(goes(&types, &either), Ok(true));
    assert_eq!(goes(&types, &json!({"type": "string"})), Ok(false));
    let numbers = json!({"anyOf": [{"type": "integer"}, {"type": "boolean"}]});
    assert_eq!(goes(&json!({"type": "boolean"}), &numbers), Ok(true));
    assert_eq!(goes(&json!({"type": ["boolean", "number"]}), &numbers), Ok(false));
}

#[test]
fn one_of_needs_branches_that_are_told_apart() {
    let of = |kind: &str, value: Value| {
        json!({
            "type": "object",
            "properties": {"kind": {"const": kind}, "value": value},
            "required": ["kind", "value"],
        })
    };
    let [text, number] =
        [of("text", json!({"type": "string"})), of("number", json!({"type": "number"}))];
    let outer = json!({"oneOf": [text, number]});
    assert_eq!(goes(&text, &outer), Ok(true));
    assert_eq!(goes(&outer, &outer), Ok(true));
    assert_eq!(goes(&of("text", json!({"type": "number"})), &outer), Ok(false));
    // Both hold of a small number.
    let small = json!({"oneOf": [{"maximum": 5}, {"type": "integer"}]});
    assert_eq!(goes(&json!({"type": "integer"}), &small), Ok(false));
}

#[test]
fn references_are_followed_and_a_schema_may_name_itself() {
    let tree = json!({
        "$ref": "#/$defs/node",
        "$defs": {"node": {
            "type": "object",
            "properties": {"next": {"$ref": "#/$defs/node"}},
            "additionalProperties": false,
        }},
    });
    let any = json!({"type": "object"});
    assert_eq!(goes(&tree, &any), Ok(true));
    assert_eq!(goes(&any, &tree), Ok(false));
    assert_eq!(goes(&tree, &tree), Ok(true));
    // Nothing is claimed of what never ends.
    let mut other = tree.clone();
    other["$defs"]["node"]["title"] = json!("a list");
    assert!(goes(&tree, &other).is_err());
}

#[test]
fn what_is_not_decided_is_neither_shown_nor_refuted() {
    let pattern = |text: &str| json!({"type": "string", "pattern": text});
    assert_eq!(goes(&pattern("^a+$"), &pattern("^a+$")), Ok(true));
    assert!(goes(&pattern("^aa+$"), &pattern("^a+$")).is_err());
    let conditional = json!({"if": {"type": "string"}, "then": {"minLength": 0}});
    assert!(goes(&json!({"type": "string"}), &conditional).is_err());
    let named = json!({"type": "object", "patternProperties": {"^x": {"type": "string"}}});
    assert!(goes(&json!({"type": "object", "maxProperties": 0}), &named).is_err());
}

#[test]
fn all_of_and_arrays_of_any_draft_are_read() {
    let both = json!({"allOf": [{"type": "string"}, {"maxLength": 3}]});
    assert_eq!(goes(&both, &json!({"type": "string", "maxLength": 4})), Ok(true));
    assert_eq!(goes(&json!({"type": "string", "maxLength": 4}), &both), Ok(false));
    let pair = json!({
        "type": "array",
        "prefixItems": [{"type": "string"}, {"type": "integer"}],
        "items": false,
        "minItems": 2,
    });
    let mixed = json!({"type": "array", "items": {"type": ["string", "number"]}});
    assert_eq!(goes(&pair, &mixed), Ok(true));
    assert_eq!(goes(&mixed, &pair), Ok(false));
    assert_eq!(goes(&json!({"const": 4}), &json!({"multipleOf": 2})), Ok(true));
    assert_eq!(
        goes(&json!({"multipleOf": 4, "type": "integer"}), &json!({"multipleOf": 2})),
        Ok(true)
    );
}

#[test]
fn random_schemas_are_never_shown_to_fit_what_a_document_refutes() {
    let mut state = 7_u64;
    let mut draw = |count: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % count
    };
    let mut shown = 0;
    for _ in 0..3000 {
        let [inner, outer] = [0; 2].map(|_| any_schema(&mut draw, 2));
        // `goes` stops the test where both are found.
        shown += usize::from(goes(&inner, &outer) == Ok(true));
    }
    assert!(shown > 100, "{shown}");
}

fn any_schema(draw: &mut dyn FnMut(u64) -> u64, depth: u64) -> Value {
    let small = |draw: &mut dyn FnMut(u64) -> u64| json!(draw(4));
    match draw(if depth > 0 { 9 } else { 5 }) {
        0 => json!({"type": "integer", "minimum": small(draw), "maximum": draw(4) + 2}),
        1 => json!({"type": "string", "minLength": small(draw), "maxLength": draw(4) + 2}),
        2 => json!({"enum": [draw(3), "a", draw(2) == 0]}),
        3 => json!({"type": ["null", "boolean"]}),
        4 => json!(draw(2) == 0 || depth == 2),
        5 => json!({"type": "array", "items": any_schema(draw, depth - 1), "maxItems": draw(3)}),
        6 => json!({"anyOf": [any_schema(draw, depth - 1), any_schema(draw, depth - 1)]}),
        7 => json!({"oneOf": [any_schema(draw, depth - 1), any_schema(draw, depth - 1)]}),
        _ => {
            let mut schema = json!({
                "type": "object",
                "properties": {
                    "a": any_schema(draw, depth - 1),
                    "b": any_schema(draw, depth - 1),
                },
                "additionalProperties": draw(2) == 0,
            });
            if draw(2) == 0 {
                schema["required"] = json!(["a"]);
            }
            schema
        }
    }
}
