//! A resolved document as text: canonical TOML, its digest, and flat pairs for lineage.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::key::{DefaultValue, Key, ValueKind};
use super::key_table::KeyTable;
use super::quoted::quoted;
use super::typed;
use super::value::{Literal, Value, Values};
use crate::files::Digest;

const NEVER_FAILS: &str = "writing to a string cannot fail";

/// Values by path, in the order in which they are rendered.
#[derive(Debug, Default)]
pub(crate) struct Entries(Vec<(String, Value)>);

impl Entries {
    /// What values say, in the order of the keys: all that mean something beside the others.
    pub(crate) fn of(known: &KeyTable, values: &Values) -> Self {
        let mut entries = Self::default();
        for (key, value) in known.telling(values) {
            entries.add(key, key.path.to_owned(), value);
        }
        entries
    }

    fn add(&mut self, key: &Key, path: String, value: &Value) {
        let is_silent = match key.default {
            DefaultValue::Absent(_) => value.is_nothing(),
            _ => key.silent_default && typed::is_default(key, value),
        };
        match (&key.kind, value) {
            _ if is_silent => {}
            (ValueKind::Tables { keys, .. }, Value::Tables(tables)) => {
                for (index, table) in tables.iter().enumerate() {
                    // What means nothing beside the others could not be read again.
                    let means = |key: &&Key| {
                        key.only_with.is_none_or(|(decider, wanted)| match table.get(decider) {
                            Some(Value::Text(text)) => wanted.contains(&text.as_str()),
                            _ => false,
                        })
                    };
                    for key in keys.iter().filter(means) {
                        if let Some(value) = table.get(key.path) {
                            self.add(key, format!("{path}.{index}.{}", key.path), value);
                        }
                    }
                }
            }
            _ => self.0.push((path, value.clone())),
        }
    }

    /// Canonical TOML: every value, fixed order, one way to write each.
    pub(crate) fn to_toml(&self) -> String {
        self.toml_of(|_| true)
    }

    /// The digest of the values whose paths `decides` takes.
    pub(crate) fn digest(&self, decides: impl Fn(&str) -> bool) -> Digest {
        Digest::of(self.toml_of(decides).as_bytes())
    }

    /// Path and value; strings without quotes.
    pub(crate) fn flat(&self) -> BTreeMap<String, String> {
        let plain = |value: &Value| match value {
            Value::Text(text) => text.clone(),
            other => literal(other),
        };
        self.0.iter().map(|(path, value)| (path.clone(), plain(value))).collect()
    }

    fn toml_of(&self, keep: impl Fn(&str) -> bool) -> String {
        let mut out = String::new();
        let mut section = "";
        for (path, value) in self.0.iter().filter(|(path, _)| keep(path)) {
            let (prefix, name) = path.rsplit_once('.').unwrap_or(("", path));
            if prefix != section {
                out.push_str(&header(prefix));
                section = prefix;
            }
            writeln!(out, "{name} = {}", literal(value)).expect(NEVER_FAILS);
        }
        out
    }
}

fn header(prefix: &str) -> String {
    match prefix.rsplit_once('.') {
        Some((array, index)) if index.parse::<usize>().is_ok() => format!("\n[[{array}]]\n"),
        _ => format!("\n[{prefix}]\n"),
    }
}

/// A list of texts as a resolved document has it.
pub(crate) fn texts(list: &[String]) -> String {
    literal(&Value::Texts(list.to_vec()))
}

/// One way to write each value. Written here and not by a library, since digests depend on it.
fn literal(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Integer(integer) => integer.to_string(),
        // The shortest digits that give the same number back, always with a point or an exponent.
        Value::Number(number) => format!("{number:?}"),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Texts(texts) => {
            let items: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Integers(integers) => {
            let items: Vec<String> = integers.iter().map(u64::to_string).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Numbers(numbers) => {
            let items: Vec<String> =
                numbers.iter().map(|(name, of)| format!("{} = {of:?}", quoted(name))).collect();
            format!("{{ {} }}", items.join(", "))
        }
        Value::Counts(counts) => {
            let items: Vec<String> =
                counts.iter().map(|(name, of)| format!("{} = {of}", quoted(name))).collect();
            format!("{{ {} }}", items.join(", "))
        }
        Value::Pairs(pairs) => {
            let items: Vec<String> =
                pairs.iter().map(|(ours, theirs)| format!("{ours} = {}", quoted(theirs))).collect();
            format!("{{ {} }}", items.join(", "))
        }
        Value::Arguments(arguments) => {
            let value = |value: &serde_json::Value| match value {
                serde_json::Value::String(text) => quoted(text),
                serde_json::Value::Number(number) if number.is_f64() => {
                    format!("{:?}", number.as_f64().unwrap_or_default())
                }
                other => other.to_string(),
            };
            let items: Vec<String> =
                arguments.iter().map(|(name, of)| format!("{name} = {}", value(of))).collect();
            format!("{{ {} }}", items.join(", "))
        }
        Value::Literals(literals) => {
            let items: Vec<&str> = literals.iter().map(|it| it.toml.as_str()).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Settings(settings) => {
            let item = |(path, of): &(String, Literal)| format!("{} = {}", quoted(path), of.toml);
            let items: Vec<String> = settings.iter().map(item).collect();
            format!("{{ {} }}", items.join(", "))
        }
        Value::Tables(_) => unreachable!("tables are rendered entry by entry"),
    }
}
