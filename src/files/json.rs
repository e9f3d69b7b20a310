//! Strict JSON: duplicate keys, NaN and trailing data are errors, since readers disagree on them.

use std::cell::Cell;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::digest::{Digest, FileEntry};
use super::open::{lfs_pointer, lfs_refusal, open_regular};
use crate::error::{Context, Error, ErrorCode, Result};

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
        return Err(Error::file(format!(
            "the file has {size} bytes, at most {limit} are accepted"
        ))
        .at(path));
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
    serde_json::from_slice::<Strict>(bytes)
        .map(|strict| strict.0)
        .context_code(ErrorCode::File, "not valid JSON")
}

/// Before the digits of an integer beyond 64 bits: such an integer is kept as a string, since a
/// float would change it. A private character, so that no text begins with it by chance.
const LONG_INTEGER: &str = "\u{f8ff}integer:";

thread_local! {
    /// Whether a float was read that may have been an integer beyond 64 bits.
    static LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Parses strict JSON of which no integer loses a digit: one beyond 64 bits becomes a string that
/// [`long_integer`] knows.
pub fn parse_exact_json(bytes: &[u8]) -> Result<Value> {
    LARGE.set(false);
    let value = parse_json(bytes)?;
    match LARGE.replace(false).then(|| with_long_integers(bytes)).flatten() {
        Some(bytes) => parse_json(&bytes),
        None => Ok(value),
    }
}

/// The digits, if a string stands for an integer beyond 64 bits.
pub fn long_integer(text: &str) -> Option<&str> {
    let digits = text.strip_prefix(LONG_INTEGER)?;
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    (!unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

/// The same JSON with its integers beyond 64 bits as strings; `None` if there are none.
fn with_long_integers(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let (mut at, mut found) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'"' => {
                while let Some(&inside) = bytes.get(at) {
                    at += if inside == b'\\' { 2 } else { 1 };
                    if inside == b'"' {
                        break;
                    }
                }
            }
            b'-' | b'0'..=b'9' => {
                let more = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                at += bytes.get(at..)?.iter().take_while(|byte| more(byte)).count();
                let number = std::str::from_utf8(bytes.get(start..at)?).ok()?;
                let digits = number.strip_prefix('-').unwrap_or(number);
                let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
                let fits = number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
                if whole && !fits {
                    found = true;
                    out.extend_from_slice(format!("\"{LONG_INTEGER}{number}\"").as_bytes());
                    continue;
                }
            }
            _ => {}
        }
        out.extend_from_slice(bytes.get(start..at.min(bytes.len()))?);
    }
    found.then_some(out)
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
        if value.abs() >= 9e18 {
            LARGE.set(true);
        }
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
                    return Err(de::Error::custom(format!("the key `{key}` appears twice")));
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

    #[test]
    fn long_integers_keep_their_digits() {
        let text = r#"{"a":[123456789012345678901234567890,-99999999999999999999,6.02e23],
            "1\"99999999999999999999":18446744073709551615,"b":"99999999999999999999"}"#;
        let value = parse_exact_json(text.as_bytes()).unwrap();
        let digits = |value: &Value| long_integer(value.as_str().unwrap()).map(str::to_owned);
        assert_eq!(digits(&value["a"][0]).unwrap(), "123456789012345678901234567890");
        assert_eq!(digits(&value["a"][1]).unwrap(), "-99999999999999999999");
        assert_eq!(value["a"][2], 6.02e23);
        assert_eq!(value["1\"99999999999999999999"], u64::MAX);
        assert_eq!(digits(&value["b"]), None);
        assert_eq!(parse_exact_json(b"[1e300]").unwrap()[0], 1e300);
    }
}
