//! Special tokens: those of a tokenizer, and what the files beside it say of them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Tokenizer;

impl Tokenizer {
    /// How the special tokens are written, in the order of their numbers: a text that holds one is
    /// read as that token.
    pub fn special_texts(&self) -> Vec<String> {
        let added = self.inner.get_added_tokens_decoder();
        let is_control = |id: &u32| self.special.contains(id) || self.stops.contains(id);
        let mut found: Vec<_> = added.iter().filter(|(id, _)| is_control(id)).collect();
        found.sort_by_key(|(id, _)| **id);
        let texts = found.into_iter().map(|(_, token)| token.content.clone());
        texts.filter(|text| !text.is_empty()).collect()
    }

    /// Whether a token is marked as special: it stands for no text.
    pub fn is_special(&self, token: u32) -> bool {
        self.special.contains(&token) || self.stops.contains(&token)
    }

    /// Whether [`Self::decode`] makes of tokens what it makes of them without this one.
    pub(super) fn leaves_out(&self, token: u32, skip_special: bool) -> bool {
        let is_special = |name: &str| self.inner.get_added_vocabulary().is_special_token(name);
        let name = self.inner.id_to_token(token);
        name.is_none_or(|name| skip_special && is_special(&name))
    }

    /// The names under which a template knows the special tokens, such as `bos_token`.
    pub fn special_names(&self) -> &BTreeMap<String, String> {
        &self.names
    }
}

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
