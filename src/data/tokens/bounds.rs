//! What of `tokenizer.json` the library is spared: found in its text, before the library reads it.
//!
//! The library believes what stands there. It sets aside as much memory as a map of characters
//! says that it needs, builds an automaton of tokens of any length, and has normalizers make ten
//! letters of one, one after another. Here nothing is taken on trust: what is read is counted, and
//! how far a text can grow is worked out from the parts that it goes through.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use super::growth;

/// The longest tokens in use have some hundred bytes.
const MAX_TOKEN: usize = 4096;
/// In all added tokens; those in use have some ten kilobytes. The automaton that finds them takes
/// eighty times as much.
pub(super) const MAX_ADDED: usize = 1 << 20;
/// In all tokens of the vocabulary, in bytes; those of 262,144 tokens have two MB.
const MAX_VOCABULARY: usize = 16 << 20;
/// The largest vocabularies in use have 262,144 tokens and 600,000 merges.
const MAX_TOKENS: usize = 1 << 20;
const MAX_MERGES: usize = 1 << 22;
/// No embedding has more rows; `vocab_size` of `config.json` has the same limit.
const MAX_ID: u64 = 1 << 24;
/// Values in a normalizer, pre-tokenizer, post-processor or decoder; those in use have a hundred.
const MAX_VALUES: usize = 4096;
/// The longest text in one of these; the map of characters of SentencePiece has 320 kB.
const MAX_TEXT: usize = 4 << 20;
/// The longest patterns in use have a kilobyte.
const MAX_PATTERN: usize = 16 << 10;
/// What stands before or after parts of words, in bytes, and how long a word may be.
const MAX_AFFIX: usize = 256;
const MAX_WORD: u64 = 10_000;

/// What is known of a tokenizer before it is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// How many times as long as itself a text may become while it is normalized.
    pub growth: f64,
}

/// Why a tokenizer is not read, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is no tokenizer.
    Invalid(String),
    /// It is too much of something.
    Excess(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Invalid(why) | Self::Excess(why)) = self;
        f.write_str(why)
    }
}

impl Bounds {
    /// Looks at the text of `tokenizer.json`.
    ///
    /// # Errors
    /// When it is no tokenizer, or too much of something.
    pub fn of(file: &[u8]) -> Result<Self, Refusal> {
        let file: TokenizerFile = serde_json::from_slice(file).map_err(|error| {
            let why = error.to_string();
            // How the parser begins what it says itself of a value of another type.
            let foreign = ["invalid ", "missing field", "duplicate field", "data did not match"];
            // Such a file is one long line, in which a column helps nobody.
            let place = format!(" at line {} column {}", error.line(), error.column());
            match error.is_data() && !foreign.iter().any(|begin| why.starts_with(begin)) {
                true => Refusal::Excess(why.trim_end_matches(&place).to_owned()),
                false => Refusal::Invalid(why),
            }
        })?;
        file.model.check().map_err(Refusal::Excess)?;
        Ok(Self { growth: file.growth.max(1.0) })
    }
}

/// The parts of the file that matter here.
#[derive(Default)]
struct TokenizerFile {
    growth: f64,
    model: Model,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Model {
    vocab: Counted,
    merges: Counted,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    max_input_chars_per_word: u64,
}

impl Model {
    fn check(&self) -> Result<(), String> {
        most(self.vocab.count, MAX_TOKENS, "tokens in the vocabulary")?;
        most(self.vocab.bytes, MAX_VOCABULARY, "bytes in the tokens of the vocabulary")?;
        most(self.merges.count, MAX_MERGES, "merges")?;
        for affix in [&self.continuing_subword_prefix, &self.end_of_word_suffix] {
            most(affix.as_ref().map_or(0, String::len), MAX_AFFIX, "bytes beside parts of words")?;
        }
        match self.max_input_chars_per_word > MAX_WORD {
            true => Err(format!("it takes words of more than {MAX_WORD} letters")),
            false => Ok(()),
        }
    }
}

fn most(count: usize, limit: usize, what: &str) -> Result<(), String> {
    match count > limit {
        true => Err(format!("it has {count} {what}; at most {limit} are accepted")),
        false => Ok(()),
    }
}

/// Entries of a map or list: how many, and the bytes of those that are texts.
#[derive(Default)]
struct Counted {
    count: usize,
    bytes: usize,
}

impl Counted {
    fn token(&mut self, text: &str) -> Result<(), String> {
        self.count += 1;
        self.bytes += text.len();
        most(text.len(), MAX_TOKEN, "bytes in a token")
    }
}

/// What stands first in an entry of a list: `["text", score]`, or the text itself.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Pair(String, IgnoredAny),
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountedVisitor;
        impl<'de> Visitor<'de> for CountedVisitor {
            type Value = Counted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, or an object")
            }

            fn visit_unit<E>(self) -> Result<Counted, E> {
                Ok(Counted::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Counted, A::Error> {
                let mut counted = Counted::default();
                while let Some((text, id)) = entries.next_entry::<String, u64>()? {
                    let fits = counted.token(&text).and_then(|()| check_id(id));
                    fits.map_err(A::Error::custom)?;
                }
                Ok(counted)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Counted, A::Error> {
                let mut counted = Counted::default();
                while let Some(word) = items.next_element()? {
                    let (Word::Text(text) | Word::Pair(text, _)) = word;
                    counted.token(&text).map_err(A::Error::custom)?;
                }
                Ok(counted)
            }
        }
        deserializer.deserialize_any(CountedVisitor)
    }
}

/// What matters of an added token.
#[derive(Deserialize)]
struct Added {
    id: u64,
    #[serde(default)]
    content: String,
}

/// Tables have a place for every id up to the largest.
fn check_id(id: u64) -> Result<(), String> {
    match id < MAX_ID {
        true => Ok(()),
        false => Err(format!("a token has the id {id}; ids stay below {MAX_ID}")),
    }
}

impl<'de> Deserialize<'de> for TokenizerFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FileVisitor;
        impl<'de> Visitor<'de> for FileVisitor {
            type Value = TokenizerFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tokenizer")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut entries: A,
            ) -> Result<TokenizerFile, A::Error> {
                let mut file = TokenizerFile::default();
                let mut keys = BTreeSet::new();
                while let Some(key) = entries.next_key::<String>()? {
                    let left = Cell::new(MAX_VALUES);
                    let part = Part { left: &left };
                    let looked_at = match key.as_str() {
                        "added_tokens" => entries.next_value::<AddedTokens>().map(|_| Ok(()))?,
                        "normalizer" => growth::of_normalizer(&entries.next_value_seed(part)?)
                            .map(|growth| file.growth = growth),
                        "pre_tokenizer" => {
                            growth::of_pre_tokenizer(&entries.next_value_seed(part)?)
                        }
                        "decoder" => growth::of_decoder(&entries.next_value_seed(part)?),
                        "post_processor" => entries.next_value_seed(part).map(|_| Ok(()))?,
                        "model" => {
                            file.model = entries.next_value()?;
                            Ok(())
                        }
                        _ => entries.next_value::<IgnoredAny>().map(|_| Ok(()))?,
                    };
                    looked_at.map_err(A::Error::custom)?;
                    // The library reads both, and then one of them counts.
                    if !keys.insert(key) || keys.len() > MAX_VALUES {
                        return Err(A::Error::custom("a key appears twice"));
                    }
                }
                Ok(file)
            }
        }
        deserializer.deserialize_map(FileVisitor)
    }
}

/// The added tokens, once they were looked at.
struct AddedTokens;

impl<'de> Deserialize<'de> for AddedTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddedVisitor;
        impl<'de> Visitor<'de> for AddedVisitor {
            type Value = AddedTokens;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of added tokens")
            }

            fn visit_unit<E>(self) -> Result<AddedTokens, E> {
                Ok(AddedTokens)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<AddedTokens, A::Error> {
                let mut bytes = 0;
                while let Some(Added { id, content }) = items.next_element()? {
                    check_id(id).map_err(A::Error::custom)?;
                    bytes += content.len();
                    most(content.len(), MAX_TOKEN, "bytes in an added token")
                        .and_then(|()| most(bytes, MAX_ADDED, "bytes in added tokens"))
                        .map_err(A::Error::custom)?;
                }
                Ok(AddedTokens)
            }
        }
        deserializer.deserialize_any(AddedVisitor)
    }
}

/// Reads a JSON value of a bounded number of values.
#[derive(Clone, Copy)]
struct Part<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => {
                return Err(D::Error::custom(format!(
                    "a part of the tokenizer has more than {MAX_VALUES} values"
                )));
            }
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a tokenizer")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        most(value.len(), MAX_TEXT, "bytes in a text").map_err(E::custom)?;
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = serde_json::Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            if key == "Regex" {
                let length = value.as_str().map_or(0, str::len);
                most(length, MAX_PATTERN, "bytes in a pattern").map_err(A::Error::custom)?;
            }
            if all.insert(key, value).is_some() {
                return Err(A::Error::custom("a key appears twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
#[path = "bounds_tests.rs"]
mod tests;
