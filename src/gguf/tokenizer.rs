//! `tokenizer.json` and what stands beside it, from the tokenizer section of a GGUF file.
//!
//! Source: `src/llama-vocab.cpp` of llama.cpp, which has the rules built in, and the form of
//! Hugging Face's files. What has no such form is refused: a tokenizer that is nearly the same
//! trains on other tokens.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::metadata::{Metadata, MetadataValue};
use super::splitting::{PATTERNS, SplitPattern};

/// Kinds of tokens (`enum llama_token_type`).
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;
/// What stands for a space in vocabularies of the SentencePiece kind.
const MARK: &str = "\u{2581}";

/// How a text is split before it is merged, by the name in `tokenizer.ggml.pre`.
enum Splitting {
    /// As GPT-2 does.
    Gpt2,
    /// The same, after each digit was set apart.
    Digits,
    /// By one rule.
    Pattern(&'static SplitPattern),
}

/// Names of rules that have several steps.
const DIGITS: [&str; 4] = ["smollm", "starcoder", "refact", "command-r"];
const GPT2: &str = "gpt-2";

impl Splitting {
    fn find(name: &str) -> Result<Self, String> {
        if let Some(pattern) = PATTERNS.iter().find(|one| one.name == name) {
            return Ok(Self::Pattern(pattern));
        }
        match name {
            GPT2 => Ok(Self::Gpt2),
            _ if DIGITS.contains(&name) => Ok(Self::Digits),
            _ => {
                let patterns = PATTERNS.iter().map(|one| one.name);
                let known: Vec<_> = [GPT2].into_iter().chain(DIGITS).chain(patterns).collect();
                let known = known.join(", ");
                Err(format!("its way of splitting text is `{name}`; known are {known}"))
            }
        }
    }
}

/// The files of a tokenizer.
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`.
    pub config: Value,
    /// `generation_config.json`.
    pub generation: Value,
    /// `chat_template.jinja`.
    pub template: Option<String>,
}

/// Reads the tokenizer section.
///
/// # Errors
/// When a key is missing or no such value, or the tokenizer is of another kind.
pub fn read(metadata: &Metadata) -> Result<TokenizerFiles, String> {
    let section = Section::read(metadata)?;
    let kind = metadata.text("tokenizer.ggml.model")?.unwrap_or_default();
    let (mut tokenizer, begins) = match kind {
        "gpt2" => section.bytes()?,
        "llama" => section.pieces(false)?,
        "gemma4" => section.pieces(true)?,
        other => {
            let known = "gpt2, llama, gemma4";
            return Err(format!("its tokenizer is of the kind `{other}`; known are {known}"));
        }
    };
    let names = ["bos", "eos", "unknown", "padding", "eot"];
    let ids: HashMap<&str, u64> = names
        .into_iter()
        .map(|name| Ok((name, metadata.integer(&format!("tokenizer.ggml.{name}_token_id"))?)))
        .collect::<Result<Vec<_>, String>>()?
        .into_iter()
        .filter_map(|(name, id)| Some((name, id?)))
        .collect();
    if let Some((name, id)) = ids.iter().find(|(_, id)| section.token(**id).is_none()) {
        return Err(format!("its token {id} (`{name}`) is not in its vocabulary"));
    }
    let text = |name: &str| ids.get(name).and_then(|id| section.token(*id));
    let begins = metadata.flag("tokenizer.ggml.add_bos_token", begins)?;
    if metadata.flag("tokenizer.ggml.add_eos_token", false)? {
        return Err("it ends every text with a token, which is not done here".to_owned());
    }
    if let (Some(bos), Some(id), true) = (text("bos"), ids.get("bos"), begins) {
        tokenizer["post_processor"] = before_all(bos, *id);
    }
    let mut config = Map::new();
    for (theirs, ours) in [
        ("bos", "bos_token"),
        ("eos", "eos_token"),
        ("unknown", "unk_token"),
        ("padding", "pad_token"),
    ] {
        if let Some(text) = text(theirs) {
            config.insert(ours.to_owned(), text.into());
        }
    }
    let mut ends: Vec<u64> =
        ["eos", "eot"].iter().filter_map(|name| ids.get(name).copied()).collect();
    ends.dedup();
    Ok(TokenizerFiles {
        tokenizer,
        config: Value::Object(config),
        generation: json!({ "eos_token_id": ends }),
        template: metadata.text("tokenizer.chat_template")?.map(str::to_owned),
    })
}

/// Puts a token before every text.
fn before_all(token: &str, id: u64) -> Value {
    let first = json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let text = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    json!({
        "type": "TemplateProcessing",
        "single": [first, text("A")],
        "pair": [first, text("A"), first, text("B")],
        "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } },
    })
}

struct Section<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<u64>,
    metadata: &'a Metadata,
}

impl<'a> Section<'a> {
    fn read(metadata: &'a Metadata) -> Result<Self, String> {
        let items = metadata.list("tokenizer.ggml.tokens")?;
        let items = items.ok_or("it has no `tokenizer.ggml.tokens`")?;
        let tokens: Option<Vec<&str>> = items.iter().map(MetadataValue::text).collect();
        let tokens = tokens.ok_or("`tokenizer.ggml.tokens` must be texts")?;
        let kinds = match metadata.list("tokenizer.ggml.token_type")? {
            None => vec![1; tokens.len()],
            Some(kinds) => kinds
                .iter()
                .map(MetadataValue::integer)
                .collect::<Option<Vec<_>>>()
                .filter(|kinds| kinds.len() == tokens.len())
                .ok_or("`tokenizer.ggml.token_type` must be a number for each token")?,
        };
        Ok(Self { tokens, kinds, metadata })
    }

    fn token(&self, id: u64) -> Option<&'a str> {
        self.tokens.get(usize::try_from(id).ok()?).copied()
    }

    /// Tokens that are found in a text before anything else is done to it.
    fn added(&self) -> Vec<Value> {
        let all = self.tokens.iter().zip(&self.kinds).enumerate();
        let added = all.filter(|(_, (_, kind))| matches!(**kind, CONTROL | USER_DEFINED | UNKNOWN));
        added
            .map(|(id, (text, kind))| {
                json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": *kind != USER_DEFINED,
                })
            })
            .collect()
    }

    /// The vocabulary: what embeddings have rows for and no text leads to is not in it.
    fn vocabulary(&self) -> Result<Map<String, Value>, String> {
        let mut vocabulary = Map::new();
        let used = self.tokens.iter().zip(&self.kinds).enumerate();
        for (id, (text, _)) in used.filter(|(_, (_, kind))| **kind != UNUSED) {
            if vocabulary.insert((*text).to_owned(), id.into()).is_some() {
                return Err(format!("its token `{text}` has two ids"));
            }
        }
        Ok(vocabulary)
    }

    /// Pairs of tokens in the order in which they merge.
    fn listed(&self) -> Result<Vec<Value>, String> {
        let merges = self.metadata.list("tokenizer.ggml.merges")?;
        let merges = merges.ok_or("it has no `tokenizer.ggml.merges`")?;
        let pair = |merge: &MetadataValue| {
            // The first letter may be the space that divides others.
            let (a, b) = merge.text().and_then(|text| {
                let at = text.char_indices().skip(1).find(|(_, c)| *c == ' ')?.0;
                Some((&text[..at], &text[at + 1..]))
            })?;
            Some(json!([a, b]))
        };
        let merges: Option<Vec<Value>> = merges.iter().map(pair).collect();
        merges.ok_or_else(|| "one of its merges is no pair".to_owned())
    }

    /// Byte-level BPE, and whether a text begins with a token where nothing is said.
    fn bytes(&self) -> Result<(Value, bool), String> {
        let merges = self.listed()?;
        let name = self.metadata.text("tokenizer.ggml.pre")?.unwrap_or("gpt-2");
        let bytes = |own: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": own,
            })
        };
        let (rules, whole_words) = match Splitting::find(name)? {
            Splitting::Gpt2 => (vec![bytes(true)], false),
            Splitting::Digits => {
                (vec![json!({ "type": "Digits", "individual_digits": true }), bytes(true)], false)
            }
            Splitting::Pattern(pattern) => {
                let split = json!({
                    "type": "Split", "pattern": { "Regex": pattern.regex },
                    "behavior": "Isolated", "invert": false,
                });
                (vec![split, bytes(false)], pattern.whole_words)
            }
        };
        // Qwen's composes letters, and llama.cpp does not: the model was trained so.
        let composes = matches!(name, "qwen2" | "qwen35");
        let normalizer = if composes { json!({ "type": "NFC" }) } else { Value::Null };
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added(),
            "normalizer": normalizer,
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": rules },
            "post_processor": bytes(true),
            "decoder": bytes(true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": whole_words,
                "vocab": self.vocabulary()?, "merges": merges,
            },
        });
        Ok((tokenizer, matches!(name, "llama-bpe" | "llama3" | "llama-v3")))
    }

    /// A number for each token.
    fn scores(&self) -> Result<Vec<f64>, String> {
        let scores = self.metadata.list("tokenizer.ggml.scores")?;
        let scores: Option<Vec<f64>> =
            scores.unwrap_or_default().iter().map(MetadataValue::number).collect();
        scores
            .filter(|scores| scores.len() == self.tokens.len())
            .ok_or_else(|| "`tokenizer.ggml.scores` must be a number for each token".to_owned())
    }

    /// BPE of the SentencePiece kind: it merges the pair whose union has the highest score, or the
    /// one that comes first in a list.
    fn pieces(&self, listed: bool) -> Result<(Value, bool), String> {
        let unknown = self.kinds.iter().position(|kind| *kind == UNKNOWN);
        let unknown = unknown.map(|id| self.tokens[id]).ok_or("it has no unknown token")?;
        let vocabulary = self.vocabulary()?;
        let merges = match listed {
            true => self.listed()?,
            false => self.merges(&self.scores()?, &vocabulary),
        };
        let space = self.metadata.flag("tokenizer.ggml.add_space_prefix", !listed)?;
        let replace = json!({
            "type": "Replace", "pattern": { "String": " " }, "content": MARK,
        });
        let before = json!({ "type": "Prepend", "prepend": MARK });
        let normalizer = match space {
            true => json!({ "type": "Sequence", "normalizers": [before, replace] }),
            false => json!({ "type": "Sequence", "normalizers": [replace] }),
        };
        let mut decoders = vec![
            json!({ "type": "Replace", "pattern": { "String": MARK }, "content": " " }),
            json!({ "type": "ByteFallback" }),
            json!({ "type": "Fuse" }),
        ];
        if space {
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added(),
            "normalizer": normalizer,
            "pre_tokenizer": null,
            "post_processor": null,
            "decoder": { "type": "Sequence", "decoders": decoders },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": unknown,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
                "byte_fallback": true, "ignore_merges": false,
                "merges": merges, "vocab": vocabulary,
            },
        });
        Ok((tokenizer, true))
    }

    /// Pairs whose union is a token, the best score first; as transformers makes them of a
    /// SentencePiece model (`convert_slow_tokenizer.py`, `generate_merges`).
    fn merges(&self, scores: &[f64], vocabulary: &Map<String, Value>) -> Vec<Value> {
        let mut pairs: Vec<(f64, &str, &str)> = Vec::new();
        let normal = self.tokens.iter().zip(&self.kinds).zip(scores);
        for ((text, _), score) in normal.filter(|((_, kind), _)| **kind == 1) {
            let cuts = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
            let known = |text: &str| vocabulary.contains_key(text);
            pairs.extend(cuts.filter(|(a, b)| known(a) && known(b)).map(|(a, b)| (*score, a, b)));
        }
        let id = |text: &str| vocabulary.get(text).and_then(Value::as_u64);
        pairs.sort_by(|one, other| {
            other
                .0
                .total_cmp(&one.0)
                .then_with(|| (id(one.1), id(one.2)).cmp(&(id(other.1), id(other.2))))
        });
        pairs.into_iter().map(|(_, a, b)| json!([a, b])).collect()
    }
}
