//! What a composition says: an in-toto statement about every file of its parts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::artifact::signature::STATEMENT_TYPE;
use crate::files::Digest;

/// The predicate of such a statement.
pub const COMPOSITION: &str = "urn:firebrand:predicate:composition:v1";
/// Who composed it: this program.
const COMPOSER: &str = "urn:firebrand:composer:v1";
/// How the base's part is called.
pub const BASE: &str = "base";
/// The base as its files have it.
pub const UNQUANTISED: &str = "none";

/// Base or adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it lay, as it was named.
    pub name: String,
    /// Its files.
    pub files: BTreeMap<String, Digest>,
    /// The format of weights that an adapter was trained beside, if it was another than that of the
    /// base's files.
    pub trained_beside: Option<String>,
}

/// What is to be loaded together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composition {
    /// When it was composed, RFC 3339.
    pub time: String,
    /// The base model.
    pub base: Part,
    /// The format of the base's weights in memory.
    pub quantisation: String,
    /// The part with the tokenizer.
    pub tokenizer: String,
    /// The adapters, in the order in which they are added.
    pub adapters: Vec<Part>,
}

/// How the part of an adapter is called; the first one is 1.
pub fn adapter(number: usize) -> String {
    format!("adapters/{number}")
}

impl Composition {
    /// Its parts with what they are called.
    pub fn parts(&self) -> impl Iterator<Item = (String, &Part)> {
        let adapters = (1..).zip(&self.adapters).map(|(number, part)| (adapter(number), part));
        std::iter::once((BASE.to_owned(), &self.base)).chain(adapters)
    }

    /// The statement, as bytes to be signed.
    pub fn to_statement(&self) -> String {
        let subjects: Vec<Value> = self
            .parts()
            .flat_map(|(called, part)| {
                part.files.iter().map(move |(name, sha256)| {
                    json!({"name": format!("{called}/{name}"), "digest": {"sha256": sha256}})
                })
            })
            .collect();
        let part = |(called, part): (String, &Part)| {
            let mut value = json!({"part": called, "name": part.name});
            if let Some(format) = &part.trained_beside {
                value["trainedBeside"] = json!(format);
            }
            value
        };
        let parts: Vec<Value> = self.parts().map(part).collect();
        let order: Vec<String> = (1..=self.adapters.len()).map(adapter).collect();
        let mut value = json!({
            "_type": STATEMENT_TYPE,
            "subject": subjects,
            "predicateType": COMPOSITION,
            "predicate": {
                "composer": {"id": COMPOSER, "version": {"firebrand": env!("CARGO_PKG_VERSION")}},
                "finishedOn": self.time,
                "parts": parts,
                "quantisation": self.quantisation,
                "tokenizer": self.tokenizer,
                "order": order,
            },
        });
        value.sort_all_objects();
        value.to_string()
    }

    /// Reads a statement strictly: what two readers could understand differently is an error.
    ///
    /// # Errors
    /// Why it is no composition that this program knows.
    pub fn parse(statement: &Value) -> Result<Self, String> {
        let predicate = &statement["predicate"];
        if statement["_type"] != STATEMENT_TYPE || statement["predicateType"] != COMPOSITION {
            return Err(format!("it is no statement with the predicate `{COMPOSITION}`"));
        }
        let text = |value: &Value, key: &str| -> Result<String, String> {
            value[key].as_str().map(str::to_owned).ok_or_else(|| format!("`{key}` is missing"))
        };
        let mut parts: Vec<(String, Part)> = Vec::new();
        for value in predicate["parts"].as_array().into_iter().flatten() {
            let trained_beside = value["trainedBeside"].as_str().map(str::to_owned);
            let part = Part { name: text(value, "name")?, files: BTreeMap::new(), trained_beside };
            parts.push((text(value, "part")?, part));
        }
        let expected = std::iter::once(BASE.to_owned()).chain((1..parts.len()).map(adapter));
        if parts.len() < 2 || !parts.iter().map(|(called, _)| called.clone()).eq(expected) {
            return Err("its parts are not a base and adapters in order".to_owned());
        }
        let order = predicate["order"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !order.iter().filter_map(Value::as_str).eq(parts[1..].iter().map(|it| it.0.as_str())) {
            return Err("`order` does not name every adapter once, in order".to_owned());
        }
        for subject in statement["subject"].as_array().into_iter().flatten() {
            let name = text(subject, "name")?;
            let digest = subject["digest"]["sha256"].as_str().and_then(|text| text.parse().ok());
            let digest = digest.ok_or_else(|| format!("`{name}` has no digest"))?;
            let within = |(called, _): &&mut (String, Part)| {
                name.strip_prefix(called.as_str()).is_some_and(|rest| rest.starts_with('/'))
            };
            let Some((called, part)) = parts.iter_mut().find(within) else {
                return Err(format!("`{name}` is of no part"));
            };
            if part.files.insert(name[called.len() + 1..].to_owned(), digest).is_some() {
                return Err(format!("`{name}` is stated twice"));
            }
        }
        let tokenizer = text(predicate, "tokenizer")?;
        if !parts.iter().any(|(called, _)| *called == tokenizer) {
            return Err(format!("the tokenizer is of `{tokenizer}`, which is no part"));
        }
        let mut parts = parts.into_iter().map(|(_, part)| part);
        Ok(Self {
            time: text(predicate, "finishedOn")?,
            base: parts.next().ok_or("there is no base")?,
            quantisation: text(predicate, "quantisation")?,
            tokenizer,
            adapters: parts.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Composition {
        let part = |name: &str, file: &str| Part {
            name: name.to_owned(),
            files: [(file.to_owned(), Digest::of(name.as_bytes()))].into(),
            trained_beside: (name == "a").then(|| "nf4".to_owned()),
        };
        Composition {
            time: "2026-11-30T10:00:00Z".to_owned(),
            base: part("b", "model.safetensors"),
            quantisation: "nf4".to_owned(),
            tokenizer: "adapters/2".to_owned(),
            adapters: vec![part("a", "adapter_model.safetensors"), part("c", "x/y")],
        }
    }

    #[test]
    fn a_statement_is_read_as_it_was_written() {
        let value: Value = serde_json::from_str(&known().to_statement()).unwrap();
        assert_eq!(Composition::parse(&value), Ok(known()));
        assert_eq!(value["predicate"]["order"], json!(["adapters/1", "adapters/2"]));
    }

    #[test]
    fn what_could_be_understood_in_two_ways_is_refused() {
        let value: Value = serde_json::from_str(&known().to_statement()).unwrap();
        let twice = value["subject"][0].clone();
        let cases: [(&str, Value); 6] = [
            ("/predicate/order", json!(["adapters/2", "adapters/1"])),
            ("/predicate/order", json!(["adapters/1"])),
            ("/predicate/parts/1/part", json!("adapters/2")),
            ("/predicate/tokenizer", json!("adapters/3")),
            ("/subject/0/name", json!("adapters/11/x")),
            ("/subject/1", twice),
        ];
        for (pointer, other) in cases {
            let mut changed = value.clone();
            *changed.pointer_mut(pointer).unwrap() = other;
            assert!(Composition::parse(&changed).is_err(), "{pointer}");
        }
    }
}
