//! Does every document of one JSON Schema fit another? What is shown here holds; what is not shown
//! may still be so. The rules are those of the usual keywords.

use std::cell::Cell;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::facts::{self, ALL_TYPES, ARRAY, Facts, NUMBERS, OBJECT, STRING, Types};
use super::limits_kept::{Place, named_values, number, size};

/// Keywords that say nothing of a document.
const NOTES: [&str; 13] = [
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "$anchor",
    "deprecated",
    "readOnly",
    "writeOnly",
];
/// Keywords that speak of one kind of value alone.
const OF_TYPES: &[(Types, &[&str])] = &[
    (NUMBERS, &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    (
        STRING,
        &["minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType"],
    ),
    (
        ARRAY,
        &[
            "items",
            "prefixItems",
            "additionalItems",
            "minItems",
            "maxItems",
            "uniqueItems",
            "contains",
            "minContains",
            "maxContains",
        ],
    ),
    (
        OBJECT,
        &[
            "properties",
            "required",
            "additionalProperties",
            "patternProperties",
            "propertyNames",
            "minProperties",
            "maxProperties",
            "dependentRequired",
        ],
    ),
];
/// A document nested deeper is not followed: schemas may name themselves.
const DEPTH_MAX: usize = 64;
/// More steps than this are not made.
const STEPS_MAX: usize = 20_000;

/// One schema for each kind of value.
static EACH_TYPE: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let names = ["null", "boolean", "integer", "number", "string", "array", "object"];
    names.iter().map(|name| json!({"type": name})).collect()
});

/// Shows that every document of `inner` is one of `outer`.
///
/// # Errors
/// What could not be shown first: where in the documents, and what.
pub fn fits(inner: &Value, outer: &Value) -> Result<(), String> {
    if inner == outer {
        return Ok(());
    }
    let proof = Proof { inner, outer, steps: Cell::new(0) };
    let at = Place { path: "$".to_owned(), depth: 0 };
    proof.shows(&Known { facts: vec![inner], divided: Vec::new() }, outer, &at)
}

struct Proof<'a> {
    inner: &'a Value,
    outer: &'a Value,
    steps: Cell<usize>,
}

/// What is known of a part of a document.
struct Known<'a> {
    facts: Facts<'a>,
    /// Alternatives of which one was taken as known.
    divided: Vec<&'a Value>,
}

impl<'a> Known<'a> {
    fn of(facts: Facts<'a>) -> Self {
        Self { facts, divided: Vec::new() }
    }

    fn and(&self, fact: &'a Value) -> Self {
        let mut facts = self.facts.clone();
        facts.push(fact);
        Self { facts, divided: self.divided.clone() }
    }

    /// Alternatives of which one must hold.
    fn alternatives(&self) -> Option<&'a Value> {
        let of = |fact: &&'a Value| ["anyOf", "oneOf"].map(|key| fact.get(key));
        let all = self.facts.iter().flat_map(of).flatten();
        all.into_iter().find(|it| !self.divided.iter().any(|known| std::ptr::eq(*known, *it)))
    }
}

/// References and `allOf` with what they stand for.
fn opened<'a>(root: &'a Value, known: &[&'a Value]) -> Facts<'a> {
    let mut all: Facts<'a> = Vec::new();
    let mut open: Vec<&'a Value> = known.to_vec();
    while let Some(fact) = open.pop() {
        if all.iter().any(|known| std::ptr::eq(*known, fact)) {
            continue;
        }
        all.push(fact);
        open.extend(fact.get("allOf").and_then(Value::as_array).into_iter().flatten());
        let reference = fact.get("$ref").and_then(Value::as_str);
        open.extend(reference.and_then(|it| resolved(root, it)));
    }
    all
}

/// What a reference within its own document stands for.
fn resolved<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    root.pointer(reference.strip_prefix('#')?)
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

impl<'a> Proof<'a> {
    fn shows(&self, known: &Known<'a>, outer: &'a Value, at: &Place) -> Result<(), String> {
        self.steps.set(self.steps.get() + 1);
        if at.depth > DEPTH_MAX || self.steps.get() > STEPS_MAX {
            return at.gap("the schemas are nested too deeply, or name themselves");
        }
        let facts = opened(self.inner, &known.facts);
        let known = Known { facts, divided: known.divided.clone() };
        if *outer == Value::Bool(true) || facts::types(&known.facts) == 0 {
            return Ok(());
        }
        let Value::Object(rules) = outer else {
            return at.gap("nothing is allowed");
        };
        if let Some(values) = facts::values(&known.facts)
            && values.iter().all(|value| !value.is_object() && !value.is_array())
            && !outer.to_string().contains("$ref")
            && let Ok(validator) = jsonschema::validator_for(outer)
        {
            return match values.into_iter().find(|value| !validator.is_valid(value)) {
                Some(value) => at.gap(format!("{value} is not allowed")),
                None => Ok(()),
            };
        }
        if let Some(alternatives) = known.alternatives() {
            let mut divided = known.divided.clone();
            divided.push(alternatives);
            let known = Known { divided, ..known };
            let each = alternatives.as_array().into_iter().flatten();
            let deeper = at.below("");
            return each
                .into_iter()
                .try_for_each(|one| self.shows(&known.and(one), outer, &deeper));
        }
        let types = facts::types(&known.facts);
        let concerns = |key: &str| {
            let found = OF_TYPES.iter().find(|(_, keys)| keys.contains(&key));
            found.map_or(ALL_TYPES, |(types, _)| *types)
        };
        rules
            .iter()
            .filter(|(key, _)| types & concerns(key) != 0 && !NOTES.contains(&key.as_str()))
            .try_for_each(|(key, rule)| self.keeps(&known, (key, rule), outer, at))
    }

    /// One keyword of the outer schema.
    fn keeps(
        &self,
        known: &Known<'a>,
        (key, rule): (&str, &'a Value),
        outer: &'a Value,
        at: &Place,
    ) -> Result<(), String> {
        let facts = &known.facts;
        match key {
            "type" => match facts::types_of(rule) {
                Some(allowed) if facts::types(facts) & !allowed == 0 => Ok(()),
                _ => at.gap(format!("the type may be another than {rule}")),
            },
            "const" | "enum" => named_values(facts, outer, at),
            "$ref" => match rule.as_str().and_then(|it| resolved(self.outer, it)) {
                Some(target) => self.shows(known, target, &at.below("")),
                None => at.gap(format!("the reference {rule} is not followed")),
            },
            "allOf" => {
                let mut all = rule.as_array().into_iter().flatten();
                all.try_for_each(|each| self.shows(known, each, &at.below("")))
            }
            "anyOf" => self.one_of(known, rule, false, at),
            "oneOf" => self.one_of(known, rule, true, at),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                number(facts, key, rule, at)
            }
            "minLength" | "maxLength" | "minItems" | "maxItems" | "maxProperties" => {
                size(facts, key, rule, 0, at)
            }
            "minProperties" => {
                let names = facts::property_names(facts);
                let sure = names.iter().filter(|name| facts::requires(facts, name)).count();
                size(facts, key, rule, sure, at)
            }
            "items" | "prefixItems" | "additionalItems" => self.items(facts, outer, at),
            "required" => {
                let mut names = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
                match names.find(|name| !facts::requires(facts, name)) {
                    Some(name) => at.gap(format!("`{name}` may be missing")),
                    None => Ok(()),
                }
            }
            "properties" => {
                let mut all = rule.as_object().into_iter().flatten();
                all.try_for_each(|(name, schema)| {
                    let known = Known::of(facts::property(facts, Some(name)));
                    self.shows(&known, schema, &at.below(&format!(".{name}")))
                })
            }
            "additionalProperties" => self.other_properties(facts, rule, outer, at),
            "uniqueItems" if *rule == Value::Bool(false) => Ok(()),
            "pattern" | "format" | "contentEncoding" | "contentMediaType" | "uniqueItems"
            | "not" | "contains" | "propertyNames" | "dependentRequired" => {
                let refers = rule.to_string().contains("$ref");
                match !refers && facts::says(facts, key, rule) {
                    true => Ok(()),
                    false => at.gap(format!("`{key}` is not known to hold")),
                }
            }
            _ if key.starts_with("x-") => Ok(()),
            _ => at.gap(format!("`{key}` is not decided")),
        }
    }

    fn one_of(
        &self,
        known: &Known<'a>,
        branches: &'a Value,
        only: bool,
        at: &Place,
    ) -> Result<(), String> {
        let deeper = at.below("");
        let list = branches.as_array().map(Vec::as_slice).unwrap_or_default();
        let fitting = list.iter().position(|branch| self.shows(known, branch, &deeper).is_ok());
        if let Some(fitting) = fitting {
            let mut others = list.iter().enumerate().filter(|(index, _)| *index != fitting);
            let apart = |(_, other): (usize, &'a Value)| {
                self.apart(&known.facts, &opened(self.outer, &[other]), DEPTH_MAX)
            };
            return match !only || others.all(apart) {
                true => Ok(()),
                false => at.gap("more than one of `oneOf` may hold"),
            };
        }
        // Each kind of value by itself may fit another of them.
        let types = facts::types(&known.facts);
        let of = |schema: &&'static Value| facts::types(&vec![*schema]);
        let all = EACH_TYPE.iter().filter(|it| of(it) & types != 0);
        let narrower = |it: &&'static Value| of(it) & !types == 0 && of(it) != types;
        let parts: Vec<&'static Value> = all.filter(narrower).collect();
        let covered = parts.iter().fold(0, |all, part| all | of(part));
        if covered != types || at.depth > DEPTH_MAX {
            return at.gap("it may fit none of the alternatives");
        }
        parts.iter().try_for_each(|part| self.one_of(&known.and(part), branches, only, &deeper))
    }

    /// Whether no document can be of both.
    fn apart(&self, known: &Facts<'a>, other: &Facts<'a>, depth: usize) -> bool {
        let (ours, theirs) = (facts::types(known), facts::types(other));
        if ours & theirs == 0 {
            return true;
        }
        if let (Some(ours), Some(theirs)) = (facts::values(known), facts::values(other)) {
            return !ours.iter().any(|value| theirs.iter().any(|it| same(value, it)));
        }
        let tells_apart = |name: &&str| {
            let [known, other] = [(known, self.inner), (other, self.outer)]
                .map(|(facts, root)| opened(root, &facts::property(facts, Some(name))));
            self.apart(&known, &other, depth - 1)
        };
        let required = |name: &&str| facts::requires(known, name);
        let names = facts::property_names(other);
        depth > 0 && ours == OBJECT && names.iter().filter(|it| required(it)).any(tells_apart)
    }

    fn items(&self, facts: &Facts<'a>, outer: &'a Value, at: &Place) -> Result<(), String> {
        let theirs = vec![outer];
        let count = facts::prefix_length(facts).max(facts::prefix_length(&theirs));
        let most = facts::bound(facts, "maxItems", false).unwrap_or(f64::INFINITY);
        for index in 0..=count {
            #[expect(clippy::cast_precision_loss)] // a count of schemas in a file
            if index as f64 >= most {
                break;
            }
            let known = Known::of(facts::item(facts, index));
            let deeper = at.below(&format!("[{index}]"));
            for schema in facts::item(&theirs, index) {
                self.shows(&known, schema, &deeper)?;
            }
        }
        Ok(())
    }

    /// What the outer schema says of properties that it does not name.
    fn other_properties(
        &self,
        facts: &Facts<'a>,
        rule: &'a Value,
        outer: &'a Value,
        at: &Place,
    ) -> Result<(), String> {
        let named = facts::property_names(&vec![outer]);
        let others = facts::property_names(facts);
        for name in others.into_iter().filter(|name| !named.contains(name)) {
            let known = Known::of(facts::property(facts, Some(name)));
            self.shows(&known, rule, &at.below(&format!(".{name}")))
                .map_err(|why| if *rule == false { allowed(at, name) } else { why })?;
        }
        let known = Known::of(facts::property(facts, None));
        self.shows(&known, rule, &at.below(".*"))
            .map_err(|why| if *rule == false { allowed(at, "other names") } else { why })
    }
}

fn allowed(at: &Place, what: &str) -> String {
    format!("at `{}`, properties may be there that are not allowed: {what}", at.path)
}

#[cfg(test)]
#[path = "subschema_tests.rs"]
mod tests;
