//! What a record says, as one digest: the same in every container.

use std::cell::RefCell;
use std::io::{Write, sink};

use serde_json::{Map, Value};

use crate::files::{Digest, Hashing};

thread_local! {
    /// Reused, since most records are small and many.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A longer text is not kept for the next record.
const KEPT: usize = 1 << 20;

/// SHA-256 of compact JSON with sorted keys and without null fields.
///
/// Null fields are left out since Parquet and CSV cannot tell them from missing ones. A null in a
/// list keeps its place.
pub fn of(record: &Map<String, Value>) -> Digest {
    // A copy of a long record would take as much memory as it does.
    if record.values().filter_map(Value::as_str).any(|text| text.len() > KEPT) {
        let mut hashing = Hashing::new(sink());
        object(record, &mut hashing);
        return hashing.finish().2;
    }
    TEXT.with_borrow_mut(|text| {
        text.clear();
        object(record, text);
        let digest = Digest::of(text);
        text.shrink_to(KEPT);
        digest
    })
}

fn object(fields: &Map<String, Value>, text: &mut impl Write) {
    let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
    fields.sort_unstable_by_key(|(name, _)| name.as_str());
    put(b'{', text);
    for (index, (name, field)) in fields.into_iter().enumerate() {
        if index > 0 {
            put(b',', text);
        }
        scalar(name, text);
        put(b':', text);
        value(field, text);
    }
    put(b'}', text);
}

fn value(value: &Value, text: &mut impl Write) {
    match value {
        Value::Object(fields) => object(fields, text),
        Value::Array(items) => {
            put(b'[', text);
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    put(b',', text);
                }
                self::value(item, text);
            }
            put(b']', text);
        }
        Value::String(string) => scalar(string, text),
        other => scalar(other, text),
    }
}

fn put(byte: u8, text: &mut impl Write) {
    text.write_all(&[byte]).expect("memory takes any bytes");
}

fn scalar<T: serde::Serialize + ?Sized>(value: &T, text: &mut impl Write) {
    serde_json::to_writer(text, value).expect("memory takes any bytes, and keys are strings");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(json: &str) -> Digest {
        of(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn order_of_keys_space_and_null_fields_make_no_difference() {
        let compact = r#"{"a":{"x":1,"y":[null,1.5]},"b":"é\n"}"#;
        assert_eq!(digest(compact), Digest::of(compact.as_bytes()));
        let other = r#"{ "b": "\u00e9\n", "n": null,
            "a": {"y": [null, 1.50], "m": null, "x": 1} }"#;
        assert_eq!(digest(compact), digest(other));
    }

    #[test]
    fn values_and_the_order_of_lists_make_a_difference() {
        assert_ne!(digest(r#"{"a":1}"#), digest(r#"{"a":"1"}"#));
        assert_ne!(digest(r#"{"a":[1,2]}"#), digest(r#"{"a":[2,1]}"#));
        assert_ne!(digest(r#"{"a":""}"#), digest("{}"));
    }

    #[test]
    fn long_records_have_the_digest_of_their_text_too() {
        let long = format!("{{\"a\":[1],\"b\":\"{}\"}}", "x\\n\u{fc}".repeat(KEPT / 2));
        assert_eq!(digest(&long), Digest::of(long.as_bytes()));
    }
}
