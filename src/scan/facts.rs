//! JSON read once, from its text, without building it: only what a scan asks for is kept.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// How many values of one sort are kept.
const MAX_KEPT: usize = 200_000;
/// How many keys that stand twice are told.
const MAX_TWICE: usize = 5;

/// What a JSON file says.
#[derive(Debug, Default)]
pub(super) struct JsonFacts {
    /// What `auto_map` names, anywhere.
    pub auto_map: Vec<String>,
    /// Whether `trust_remote_code` is on, anywhere.
    pub trusts_code: bool,
    /// Whether a Keras layer is a Lambda.
    pub lambda: bool,
    /// Every chat template.
    pub templates: Vec<String>,
    /// The files that an index of shards names.
    pub shards: HashSet<String>,
    /// `vocab_size`, of the model or of its text part.
    pub vocabulary: Option<u64>,
    /// Keys that stand twice in one object.
    pub twice: Vec<String>,
}

/// Reads a file; what was read before an error counts.
pub(super) fn facts(bytes: &[u8]) -> (JsonFacts, Result<(), serde_json::Error>) {
    let mut facts = JsonFacts::default();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let place = Place { facts: &mut facts, within: Within::Nothing, key: "", depth: 0 };
    let result = place.deserialize(&mut reader).and_then(|()| reader.end());
    (facts, result)
}

/// Below which key a value lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Nothing,
    AutoMap,
    Shards,
    Template,
    TextConfig,
}

struct Place<'a> {
    facts: &'a mut JsonFacts,
    within: Within,
    key: &'a str,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.facts.trusts_code |= self.key == "trust_remote_code" && value;
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        let inside = self.depth == 1 || (self.depth == 2 && self.within == Within::TextConfig);
        if self.key == "vocab_size" && inside {
            self.facts.vocabulary = self.facts.vocabulary.max(Some(value));
        }
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        let facts = self.facts;
        match self.within {
            Within::AutoMap if facts.auto_map.len() < MAX_KEPT => {
                facts.auto_map.push(value.to_owned());
            }
            Within::Shards if facts.shards.len() < MAX_KEPT => {
                facts.shards.insert(value.to_owned());
            }
            Within::Template if self.key != "name" && facts.templates.len() < MAX_KEPT => {
                facts.templates.push(value.to_owned());
            }
            _ => {}
        }
        facts.lambda |= self.key == "class_name" && value == "Lambda";
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Place { facts, within, key, depth } = self;
        loop {
            let place = Place { facts: &mut *facts, within, key, depth: depth + 1 };
            if sequence.next_element_seed(place)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Place { facts, within, depth, .. } = self;
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let below = match (key.as_str(), within) {
                ("auto_map", _) => Within::AutoMap,
                ("weight_map", Within::Nothing) => Within::Shards,
                ("chat_template", Within::Nothing) => Within::Template,
                ("text_config", Within::Nothing) => Within::TextConfig,
                _ => within,
            };
            let place = Place { facts: &mut *facts, within: below, key: &key, depth: depth + 1 };
            entries.next_value_seed(place)?;
            if seen.contains(&key) {
                if facts.twice.len() < MAX_TWICE {
                    facts.twice.push(key);
                }
            } else {
                seen.insert(key);
            }
        }
        Ok(())
    }
}
