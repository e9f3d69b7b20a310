//! Values and limits of one JSON Schema that another keeps to.

use std::fmt::Display;

use serde_json::Value;

use super::facts::{self, Facts, NUMBERS};

/// Where in the documents.
pub struct Place {
    /// A path into the document.
    pub path: String,
    /// How deep it is.
    pub depth: usize,
}

impl Place {
    /// That something is not shown there.
    ///
    /// # Errors
    /// Always.
    pub fn gap<T>(&self, what: impl Display) -> Result<T, String> {
        Err(format!("at `{}`, {what}", self.path))
    }

    /// A place within it.
    pub fn below(&self, part: &str) -> Self {
        Self { path: format!("{}{part}", self.path), depth: self.depth + 1 }
    }
}

/// `enum` and `const`.
///
/// # Errors
/// When others may be there.
pub fn named_values(facts: &Facts, outer: &Value, at: &Place) -> Result<(), String> {
    let allowed = facts::values_of(outer).unwrap_or_default();
    let Some(values) = facts::values(facts) else {
        return at.gap("other values may be there than those that are allowed");
    };
    match values.iter().find(|value| !allowed.contains(value)) {
        Some(value) => at.gap(format!("{value} is not allowed")),
        None => Ok(()),
    }
}

/// A limit of a length or a count; `sure` is what is there in any case.
///
/// # Errors
/// When it may not be kept.
pub fn size(facts: &Facts, key: &str, rule: &Value, sure: usize, at: &Place) -> Result<(), String> {
    let least = key.starts_with("min");
    #[expect(clippy::cast_precision_loss)] // a count of names in a file
    let sure = sure as f64;
    let holds = rule.as_f64().is_some_and(|limit| match facts::bound(facts, key, least) {
        Some(known) if least => known.max(sure) >= limit,
        Some(known) => known <= limit,
        None => least && sure >= limit,
    });
    if holds { Ok(()) } else { at.gap(format!("`{key}` {rule} may not be kept")) }
}

/// A limit of a number.
///
/// # Errors
/// When it may not be kept.
pub fn number(facts: &Facts, key: &str, rule: &Value, at: &Place) -> Result<(), String> {
    let Some(limit) = rule.as_f64() else {
        return at.gap(format!("`{key}` is no number"));
    };
    let known = |key: &str, least: bool| facts::bound(facts, key, least);
    let holds = match key {
        "minimum" => [known("minimum", true), known("exclusiveMinimum", true)]
            .iter()
            .flatten()
            .any(|it| *it >= limit),
        "maximum" => [known("maximum", false), known("exclusiveMaximum", false)]
            .iter()
            .flatten()
            .any(|it| *it <= limit),
        "exclusiveMinimum" => {
            known("exclusiveMinimum", true).is_some_and(|it| it >= limit)
                || known("minimum", true).is_some_and(|it| it > limit)
        }
        "exclusiveMaximum" => {
            known("exclusiveMaximum", false).is_some_and(|it| it <= limit)
                || known("maximum", false).is_some_and(|it| it < limit)
        }
        _ => {
            let steps = facts.iter().filter_map(|fact| fact.get("multipleOf")?.as_f64());
            let whole = facts::types(facts) & NUMBERS == 0b100;
            steps.chain(whole.then_some(1.0)).any(|step| (step / limit).fract() == 0.0)
        }
    };
    if holds { Ok(()) } else { at.gap(format!("`{key}` {rule} may not be kept")) }
}
