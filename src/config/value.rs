//! Checked values by path: what the sections read.

use std::collections::{BTreeMap, BTreeSet};

use super::place::Origin;

/// A value of the right type and in range.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(u64),
    Number(f64),
    Boolean(bool),
    Texts(Vec<String>),
    Pairs(BTreeMap<String, String>),
    /// Strings, numbers and booleans by name.
    Arguments(BTreeMap<String, serde_json::Value>),
    Tables(Vec<Values>),
}

/// Checked values by path, defaults included.
///
/// The readers panic where the table of keys and a section disagree on a type or a default; every
/// key is read by a test.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Values {
    entries: BTreeMap<&'static str, Value>,
    given: BTreeMap<&'static str, Origin>,
    sections: BTreeSet<&'static str>,
}

impl Values {
    pub(super) fn insert(&mut self, path: &'static str, value: Value) {
        self.entries.insert(path, value);
    }

    /// Notes that the user wrote this key, whether its value is usable or not.
    pub(super) fn mark_given(&mut self, path: &'static str, origin: Origin) {
        self.given.insert(path, origin);
    }

    pub(super) fn mark_section(&mut self, name: &'static str) {
        self.sections.insert(name);
    }

    /// Forgets what the user wrote for this key.
    pub(super) fn forget(&mut self, path: &'static str) {
        self.entries.remove(path);
        self.given.remove(path);
    }

    pub(super) fn given(&self, path: &str) -> Option<Origin> {
        self.given.get(path).copied()
    }

    pub(super) fn has_section(&self, name: &str) -> bool {
        self.sections.contains(name)
    }

    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.entries.get(path)
    }

    pub(super) fn optional_text(&self, path: &str) -> Option<String> {
        self.get(path).map(|value| match value {
            Value::Text(text) => text.clone(),
            other => panic!("`{path}` is no text: {other:?}"),
        })
    }

    pub(super) fn optional_integer(&self, path: &str) -> Option<u64> {
        self.get(path).map(|value| match value {
            Value::Integer(integer) => *integer,
            other => panic!("`{path}` is no integer: {other:?}"),
        })
    }

    pub(super) fn optional_number(&self, path: &str) -> Option<f64> {
        self.get(path).map(|value| match value {
            Value::Number(number) => *number,
            other => panic!("`{path}` is no number: {other:?}"),
        })
    }

    pub(super) fn text(&self, path: &str) -> String {
        self.optional_text(path).unwrap_or_else(|| panic!("`{path}` has no default"))
    }

    pub(super) fn integer(&self, path: &str) -> u64 {
        self.optional_integer(path).unwrap_or_else(|| panic!("`{path}` has no default"))
    }

    pub(super) fn number(&self, path: &str) -> f64 {
        self.optional_number(path).unwrap_or_else(|| panic!("`{path}` has no default"))
    }

    pub(super) fn size(&self, path: &str) -> usize {
        usize::try_from(self.integer(path)).expect("the ranges of sizes fit in 32 bits")
    }

    pub(super) fn boolean(&self, path: &str) -> bool {
        match self.get(path) {
            Some(Value::Boolean(boolean)) => *boolean,
            other => panic!("`{path}` is no boolean: {other:?}"),
        }
    }

    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        match self.get(path) {
            Some(Value::Texts(texts)) => texts.clone(),
            other => panic!("`{path}` is no array of texts: {other:?}"),
        }
    }

    pub(super) fn pairs(&self, path: &str) -> Option<BTreeMap<String, String>> {
        self.get(path).map(|value| match value {
            Value::Pairs(pairs) => pairs.clone(),
            other => panic!("`{path}` is no table of names: {other:?}"),
        })
    }

    pub(super) fn arguments(&self, path: &str) -> BTreeMap<String, serde_json::Value> {
        match self.get(path) {
            None => BTreeMap::new(),
            Some(Value::Arguments(arguments)) => arguments.clone(),
            Some(other) => panic!("`{path}` is no table of values: {other:?}"),
        }
    }

    pub(super) fn tables(&self, path: &str) -> &[Values] {
        match self.get(path) {
            Some(Value::Tables(tables)) => tables,
            None => &[],
            Some(other) => panic!("`{path}` is no array of tables: {other:?}"),
        }
    }

    pub(super) fn choice<T>(&self, path: &str, from_name: impl Fn(&str) -> Option<T>) -> T {
        let name = self.text(path);
        from_name(&name).unwrap_or_else(|| panic!("`{path}` was not checked: {name}"))
    }
}
