//! Strict JSON: duplicate keys, NaN and trailing data are errors, since readers disagree on them.

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::digest::{Digest, FileEntry};
use super::open::{lfs_pointer, lfs_refusal, open_regular};
use crate::error::{Context, Error, Result};

/// Reads a file of at most `limit` bytes as strict JSON.
pub fn read_json(path: &Path, limit: u64) -> Result<Value> {
    read_json_hashed(path, "", limit).map(|(value, _)| value)
}

/// The same, with size and digest of the very bytes that were read; `name` is what the entry will
/// be called.
pub fn read_json_hashed(path: &Path, name: &str, limit: u64) -> Result<(Value, FileEntry)> {
    let (bytes, entry) = read_hashed(path, name, limit)?;
    Ok((parse_json(&bytes).map_err(|error| error.at(path))?, entry))
}

/// A file of at most `limit` bytes, with size and digest of the very bytes that were read.
pub fn read_hashed(path: &Path, name: &str, limit: u64) -> Result<(Vec<u8>, FileEntry)> {
    let file = open_regular(path)?;
    let size = file.metadata().context_at("cannot read the file", path)?.len();
    let mut bytes = Vec::new();
    if size <= limit {
        // It may grow meanwhile.
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.context_at("cannot read the file", path)?;
    }
    let size = size.max(bytes.len() as u64);
    if size > limit {
        return Err(
            Error::new(format!("the file has {size} bytes, at most {limit} are accepted")).at(path)
        );
    }
    if lfs_pointer(&bytes) {
        return Err(lfs_refusal(path));
    }
    let sha256 = Digest::of(&bytes);
    let entry = FileEntry { path: name.to_owned(), size: bytes.len() as u64, sha256 };
    Ok((bytes, entry))
}

/// Parses strict JSON.
pub fn parse_json(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0).context("not valid JSON")
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            match map.entry(key) {
                Entry::Vacant(place) => drop(place.insert(value)),
                Entry::Occupied(place) => {
                    let key = place.key();
                    return Err(de::Error::custom(format!("the key `{key}` stands twice")));
                }
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_and_trailing_data_are_refused() {
        assert!(parse_json(br#"{"a":1,"a":2}"#).is_err());
        assert!(parse_json(br#"{"a":{"b":1,"b":1}}"#).is_err());
        assert!(parse_json(br#"{} x"#).is_err());
        assert_eq!(parse_json(br#"{"a":[1,2.5,null]}"#).unwrap()["a"][1], 2.5);
    }
}
