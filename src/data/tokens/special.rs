//! What the files beside a tokenizer say of special tokens.

use std::collections::BTreeMap;

use serde_json::Value;

/// Puts the entries of `newer` in the place of those of the same names.
pub fn merge(config: &mut Value, newer: Value) {
    let Value::Object(newer) = newer else { return };
    match config {
        Value::Object(config) => config.extend(newer),
        other => *other = Value::Object(newer),
    }
}

/// Entries such as `"bos_token": "<s>"` or `"bos_token": {"content": "<s>"}`.
pub fn special_names(config: &Value) -> BTreeMap<String, String> {
    let Some(config) = config.as_object() else { return BTreeMap::new() };
    config
        .iter()
        .filter(|(name, _)| name.ends_with("_token"))
        .filter_map(|(name, value)| {
            let text = value.as_str().or_else(|| value["content"].as_str())?;
            Some((name.clone(), text.to_owned()))
        })
        .collect()
}

/// A token id, or a list of them.
pub fn token_ids(value: &Value) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(id).collect(),
        other => id(other).into_iter().collect(),
    }
}
