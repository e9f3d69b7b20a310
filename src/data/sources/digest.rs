//! What a record says, as one digest: the same in every container.

use std::cell::RefCell;

use serde_json::{Map, Value};

use crate::files::Digest;

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
    TEXT.with_borrow_mut(|text| {
        text.clear();
        object(record, text);
        let digest = Digest::of(text);
        text.shrink_to(KEPT);
        digest
    })
}

fn object(fields: &Map<String, Value>, text: &mut Vec<u8>) {
    let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
    fields.sort_unstable_by_key(|(name, _)| name.as_str());
    text.push(b'{');
    for (index, (name, field)) in fields.into_iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        scalar(name, text);
        text.push(b':');
        value(field, text);
    }
    text.push(b'}');
}

fn value(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => object(fields, text),
        Value::Array(items) => {
            text.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                self::value(item, text);
            }
            text.push(b']');
        }
        Value::String(string) => scalar(string, text),
        other => scalar(other, text),
    }
}

fn scalar<T: serde::Serialize + ?Sized>(value: &T, text: &mut Vec<u8>) {
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
}
