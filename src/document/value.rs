//! Checked values by path: what the sections and the owners of keys read.

use std::collections::BTreeMap;

use super::place::Origin;

/// A value that another document is to have.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal {
    /// The value as TOML on one line.
    pub toml: String,
    /// Where it was written.
    pub origin: Origin,
}

/// A value of the right type and in range.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A whole number, or a number of bytes.
    Integer(u64),
    /// A finite number.
    Number(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// An array of strings.
    Texts(Vec<String>),
    /// An array of whole numbers.
    Integers(Vec<u64>),
    /// Strings by name.
    Pairs(BTreeMap<String, String>),
    /// Numbers by name.
    Numbers(BTreeMap<String, f64>),
    /// Whole numbers by name.
    Counts(BTreeMap<String, u64>),
    /// Strings, numbers and booleans by name.
    Arguments(BTreeMap<String, serde_json::Value>),
    /// Values for another document.
    Literals(Vec<Literal>),
    /// Keys of another document and their values, in the order of the file.
    Settings(Vec<(String, Literal)>),
    /// An array of tables.
    Tables(Vec<Values>),
}

impl Value {
    /// Whether it is an array or a table with nothing in it.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Texts(texts) => texts.is_empty(),
            Self::Integers(integers) => integers.is_empty(),
            Self::Pairs(pairs) => pairs.is_empty(),
            Self::Numbers(numbers) => numbers.is_empty(),
            Self::Counts(counts) => counts.is_empty(),
            Self::Arguments(arguments) => arguments.is_empty(),
            Self::Literals(literals) => literals.is_empty(),
            Self::Settings(settings) => settings.is_empty(),
            Self::Tables(tables) => tables.is_empty(),
            Self::Text(_) | Self::Integer(_) | Self::Number(_) | Self::Boolean(_) => false,
        }
    }

    /// What another key can depend on: a text, or `true` or `false`.
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Boolean(true) => Some("true"),
            Self::Boolean(false) => Some("false"),
            _ => None,
        }
    }
}

/// Checked values by path, defaults included.
///
/// The readers panic where the table of keys and its reader disagree on a type or a default; every
/// key is read by a test.
#[derive(Debug, Clone)]
pub struct Values {
    /// Where the table stands that holds them.
    origin: Origin,
    entries: BTreeMap<&'static str, Value>,
    given: BTreeMap<&'static str, Origin>,
    sections: BTreeMap<&'static str, Origin>,
}

impl Default for Values {
    fn default() -> Self {
        Self::within(Origin::File)
    }
}

/// The same values and sections, wherever they were written.
impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries && self.sections.keys().eq(other.sections.keys())
    }
}

impl Values {
    /// No values yet, of the table that stands there.
    pub(super) fn within(origin: Origin) -> Self {
        let (entries, given, sections) = Default::default();
        Self { origin, entries, given, sections }
    }

    pub(super) fn insert(&mut self, path: &'static str, value: Value) {
        self.entries.insert(path, value);
    }

    /// Sets the value of a key; it is not checked.
    pub fn set(&mut self, path: &'static str, value: Value) {
        self.insert(path, value);
    }

    /// Notes that the user wrote this key, whether its value is usable or not.
    pub(super) fn mark_given(&mut self, path: &'static str, origin: Origin) {
        self.given.insert(path, origin);
    }

    pub(super) fn mark_section(&mut self, name: &'static str, origin: Origin) {
        self.sections.insert(name, origin);
    }

    pub(super) fn forget_section(&mut self, name: &str) {
        self.sections.remove(name);
    }

    /// Where a section was written, if it was.
    pub(super) fn section(&self, name: &str) -> Option<Origin> {
        self.sections.get(name).copied()
    }

    /// Forgets the value of a key, whoever set it.
    pub fn forget(&mut self, path: &'static str) {
        self.entries.remove(path);
        self.given.remove(path);
    }

    /// Whether a key was written.
    pub fn is_given(&self, path: &str) -> bool {
        self.given.contains_key(path)
    }

    /// Where the value of a key was written; where the whole table was, if it was not.
    pub fn place(&self, path: &str) -> Origin {
        self.given(path).unwrap_or(self.origin)
    }

    /// Where the whole table was written.
    pub fn table_place(&self) -> Origin {
        self.origin
    }

    /// Where a section was written, or else the whole table.
    pub fn section_place(&self, name: &str) -> Origin {
        self.section(name).unwrap_or(self.origin)
    }

    pub(super) fn given(&self, path: &str) -> Option<Origin> {
        self.given.get(path).copied()
    }

    /// Whether a section was written, be it empty.
    pub fn has_section(&self, name: &str) -> bool {
        self.sections.contains_key(name)
    }

    /// Whether there are no values and no sections.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.sections.is_empty()
    }

    /// The value of a key, if it has one.
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.entries.get(path)
    }

    /// The value that another key can depend on: a text, or `true` or `false`.
    pub(super) fn word(&self, path: &str) -> Option<&str> {
        self.get(path).and_then(Value::word)
    }

    /// The text of a key, if it has one.
    pub fn optional_text(&self, path: &str) -> Option<String> {
        self.get(path).map(|value| match value {
            Value::Text(text) => text.clone(),
            other => panic!("`{path}` is no text: {other:?}"),
        })
    }

    /// The whole number of a key, if it has one.
    pub fn optional_integer(&self, path: &str) -> Option<u64> {
        self.get(path).map(|value| match value {
            Value::Integer(integer) => *integer,
            other => panic!("`{path}` is no integer: {other:?}"),
        })
    }

    /// The number of a key, if it has one.
    pub fn optional_number(&self, path: &str) -> Option<f64> {
        self.get(path).map(|value| match value {
            Value::Number(number) => *number,
            other => panic!("`{path}` is no number: {other:?}"),
        })
    }

    /// The text of a key that always has one.
    pub fn text(&self, path: &str) -> String {
        self.optional_text(path).unwrap_or_else(|| panic!("`{path}` has no default"))
    }

    /// The whole number of a key that always has one.
    pub fn integer(&self, path: &str) -> u64 {
        self.optional_integer(path).unwrap_or_else(|| panic!("`{path}` has no default"))
    }

    /// The number of a key that always has one.
    pub fn number(&self, path: &str) -> f64 {
        self.optional_number(path).unwrap_or_else(|| panic!("`{path}` has no default"))
    }

    /// The same as a size in memory.
    pub fn size(&self, path: &str) -> usize {
        usize::try_from(self.integer(path)).expect("the ranges of sizes fit in 32 bits")
    }

    /// Whether a key is `true`.
    pub fn boolean(&self, path: &str) -> bool {
        match self.get(path) {
            Some(Value::Boolean(boolean)) => *boolean,
            other => panic!("`{path}` is no boolean: {other:?}"),
        }
    }

    /// The texts of a key.
    pub fn texts(&self, path: &str) -> Vec<String> {
        self.optional_texts(path).unwrap_or_else(|| panic!("`{path}` has no default"))
    }

    /// The texts of a key, if it has some.
    pub fn optional_texts(&self, path: &str) -> Option<Vec<String>> {
        self.get(path).map(|value| match value {
            Value::Texts(texts) => texts.clone(),
            other => panic!("`{path}` is no array of texts: {other:?}"),
        })
    }

    /// The whole numbers of a key, as sizes in memory.
    pub fn sizes(&self, path: &str) -> Vec<usize> {
        let size = |integer: &u64| usize::try_from(*integer).expect("sizes fit in 32 bits");
        match self.get(path) {
            Some(Value::Integers(integers)) => integers.iter().map(size).collect(),
            other => panic!("`{path}` is no array of integers: {other:?}"),
        }
    }

    /// The names of a table of names, if there is one.
    pub fn pairs(&self, path: &str) -> Option<BTreeMap<String, String>> {
        self.get(path).map(|value| match value {
            Value::Pairs(pairs) => pairs.clone(),
            other => panic!("`{path}` is no table of names: {other:?}"),
        })
    }

    /// The values of a table of values.
    pub fn arguments(&self, path: &str) -> BTreeMap<String, serde_json::Value> {
        match self.get(path) {
            None => BTreeMap::new(),
            Some(Value::Arguments(arguments)) => arguments.clone(),
            Some(other) => panic!("`{path}` is no table of values: {other:?}"),
        }
    }

    /// The values for another document, if there are some.
    pub fn literals(&self, path: &str) -> &[Literal] {
        match self.get(path) {
            Some(Value::Literals(literals)) => literals,
            None => &[],
            Some(other) => panic!("`{path}` is no array of values: {other:?}"),
        }
    }

    /// The settings of another document, if there are some.
    pub fn settings(&self, path: &str) -> &[(String, Literal)] {
        match self.get(path) {
            Some(Value::Settings(settings)) => settings,
            None => &[],
            Some(other) => panic!("`{path}` is no table of settings: {other:?}"),
        }
    }

    /// The tables of an array.
    pub fn tables(&self, path: &str) -> &[Values] {
        match self.get(path) {
            Some(Value::Tables(tables)) => tables,
            None => &[],
            Some(other) => panic!("`{path}` is no array of tables: {other:?}"),
        }
    }

    /// The tables of an array, to set what they lack.
    pub fn tables_mut(&mut self, path: &str) -> &mut [Values] {
        match self.entries.get_mut(path) {
            Some(Value::Tables(tables)) => tables,
            _ => &mut [],
        }
    }

    /// The choice of a key, by the name that was checked.
    pub fn choice<T>(&self, path: &str, from_name: impl Fn(&str) -> Option<T>) -> T {
        let name = self.text(path);
        from_name(&name).unwrap_or_else(|| panic!("`{path}` was not checked: {name}"))
    }
}
