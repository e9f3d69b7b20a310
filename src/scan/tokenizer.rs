//! `tokenizer.json`: does it stay within its limits, are its ids unique, and how large do they get?

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::report::Report;
use super::rules::{TOKENIZER_BOMB, TOKENIZER_IDS};
use crate::data::Tokenizer;

/// How many pairs are told.
const MAX_TOLD: usize = 3;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    vocab: Vocabulary,
}

/// Texts by their digests, and ids: in a file they are written as a map or as a list.
#[derive(Default)]
struct Vocabulary(Vec<(String, u64)>);

/// Looks at a tokenizer; gives its largest id.
pub(super) fn look(name: &str, bytes: &[u8], report: &mut Report) -> Option<u64> {
    let prefix = Tokenizer::examine(bytes).unwrap_or_else(|why| {
        report.add(&TOKENIZER_BOMB, name, why);
        None
    });
    let file: File = match serde_json::from_slice(bytes) {
        Ok(file) => file,
        Err(error) => {
            report.unread(name, format!("it is not a tokenizer that is known here: {error}"));
            return None;
        }
    };
    let mut tokens = file.model.vocab.0;
    // An added token may stand in the vocabulary as well, with the same id.
    tokens.extend(file.added_tokens.into_iter().map(|added| (added.content, added.id)));
    let hasher = RandomState::new();
    let mut texts: HashMap<u64, u64> = HashMap::with_capacity(tokens.len());
    let mut ids: HashMap<u64, usize> = HashMap::with_capacity(tokens.len());
    let mut told = 0;
    for (at, (text, id)) in tokens.iter().enumerate() {
        let text_hash = hasher.hash_one(text);
        let first = *ids.entry(*id).or_insert(at);
        let before = *texts.entry(text_hash).or_insert(*id);
        if told == MAX_TOLD {
            break;
        }
        if tokens[first].0 != *text {
            told += 1;
            let detail = format!("the id {id} stands for `{}` and for `{text}`", tokens[first].0);
            report.add(&TOKENIZER_IDS, name, detail);
        } else if before != *id {
            told += 1;
            let detail = format!("`{text}` has the ids {before} and {id}");
            report.add(&TOKENIZER_IDS, name, detail);
        }
    }
    tokens.iter().map(|(_, id)| *id).chain(prefix.map(u64::from)).max()
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabularyVisitor)
    }
}

struct VocabularyVisitor;

impl<'de> Visitor<'de> for VocabularyVisitor {
    type Value = Vocabulary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tokens with their ids, or tokens with their scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Vocabulary, A::Error> {
        let mut tokens = Vec::new();
        while let Some((text, id)) = entries.next_entry()? {
            tokens.push((text, id));
        }
        Ok(Vocabulary(tokens))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vocabulary, A::Error> {
        let mut tokens = Vec::new();
        while let Some((text, IgnoredAny)) = entries.next_element::<(String, IgnoredAny)>()? {
            let id = u64::try_from(tokens.len()).map_err(A::Error::custom)?;
            tokens.push((text, id));
        }
        Ok(Vocabulary(tokens))
    }
}
