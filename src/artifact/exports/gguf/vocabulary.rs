//! The tokenizer section of a GGUF file, from `tokenizer.json`.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::file::Keys;
use super::splitting;
use crate::data::Codec;
use crate::error::{Error, Result};

/// Kinds of tokens, as llama.cpp numbers them (`enum llama_token_type`).
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;
/// Longer tokens are refused; the longest in use are runs of a few hundred spaces.
const TOKEN_BYTES_MAX: usize = 4096;
/// What stands for a space in vocabularies of the SentencePiece kind.
const MARK: &str = "\u{2581}";

/// Every token of a model, and how a text becomes tokens.
#[derive(Debug, PartialEq)]
pub struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    way: Way,
}

/// How a text becomes tokens.
#[derive(Debug, PartialEq)]
enum Way {
    /// Byte-level BPE: how text is split, and pairs of tokens in the order in which they merge.
    Bytes { splitting: &'static str, merges: Vec<String> },
    /// SentencePiece's BPE: the pair whose union has the highest score merges first.
    Pieces { scores: Vec<f32>, space_before: bool },
    /// BPE of letters, with tokens for bytes and marks for spaces: pairs in the order in which they
    /// merge, as llama.cpp has it for Gemma 4.
    Letters { merges: Vec<String> },
}

impl Vocabulary {
    /// Reads the tokenizer of a model whose embedding has `rows` rows.
    ///
    /// # Errors
    /// When llama.cpp cannot tokenise as it does.
    pub fn read(file: &Value, rows: usize) -> Result<Self> {
        let cannot = |why: String| {
            Error::export("this tokenizer cannot be written as GGUF").because(why).hint(
                "llama.cpp would load the file, and tokenise texts differently than in training",
            )
        };
        let model = &file["model"];
        if !matches!(model["type"].as_str(), Some("BPE") | None) || !model["merges"].is_array() {
            return Err(cannot("its model is not BPE".to_owned()));
        }
        for affix in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model[affix].as_str().is_some_and(|text| !text.is_empty()) {
                return Err(cannot(format!("its tokens carry marks (`{affix}`)")));
            }
        }
        let mut table = Embedding::new(rows);
        for (text, id) in model["vocab"].as_object().into_iter().flatten() {
            table.put(text, id, NORMAL).map_err(cannot)?;
        }
        let pairs = pairs(&model["merges"]).map_err(cannot)?;
        let way = if model["byte_fallback"] == true {
            pieces(file, &mut table, &pairs).map_err(cannot)?
        } else {
            bytes(file, &pairs).map_err(cannot)?
        };
        for token in file["added_tokens"].as_array().into_iter().flatten() {
            let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
            let text = token["content"].as_str().unwrap_or_default();
            let kind = match &way {
                Way::Pieces { .. } | Way::Letters { .. } if model["unk_token"] == text => UNKNOWN,
                _ => kind,
            };
            table.put(text, &token["id"], kind).map_err(cannot)?;
        }
        let (tokens, kinds) = table.finish().map_err(cannot)?;
        Ok(Self { tokens, kinds, way })
    }

    /// Writes the section.
    pub fn write(&self, codec: &Codec, keys: &mut Keys) -> Result<()> {
        let tokenizer = &codec.tokenizer;
        let name = |key: &str| format!("tokenizer.ggml.{key}");
        match &self.way {
            Way::Bytes { splitting, merges } => {
                keys.text(&name("model"), "gpt2");
                keys.text(&name("pre"), splitting);
                keys.texts(&name("tokens"), &self.tokens);
                keys.numbers(&name("token_type"), &self.kinds);
                keys.texts(&name("merges"), merges);
            }
            Way::Pieces { scores, space_before } => {
                keys.text(&name("model"), "llama");
                keys.text(&name("pre"), "default");
                keys.texts(&name("tokens"), &self.tokens);
                keys.fractions(&name("scores"), scores);
                keys.numbers(&name("token_type"), &self.kinds);
                keys.flag(&name("add_space_prefix"), *space_before);
            }
            Way::Letters { merges } => {
                keys.text(&name("model"), "gemma4");
                keys.text(&name("pre"), "gemma4");
                keys.texts(&name("tokens"), &self.tokens);
                keys.numbers(&name("token_type"), &self.kinds);
                keys.texts(&name("merges"), merges);
                keys.flag(&name("add_space_prefix"), false);
            }
        }
        let end = tokenizer.eos().ok_or_else(|| {
            Error::export(
                "the model does not say which token ends a text, and llama.cpp needs to know",
            )
            .hint("name it as `eos_token` in `tokenizer_config.json`")
        })?;
        let named = |name: &str| tokenizer.token_id(tokenizer.special_names().get(name)?);
        let ids = [
            ("bos_token_id", tokenizer.bos()),
            ("eos_token_id", Some(end)),
            ("eot_token_id", codec.end_of_turn()),
            ("unknown_token_id", named("unk_token")),
            ("padding_token_id", named("pad_token")),
        ];
        for (key, id) in ids {
            let Some(id) = id else { continue };
            if id as usize >= self.tokens.len() {
                let what = format!("the token {id} of `{key}` is not in the vocabulary");
                return Err(Error::export(what));
            }
            keys.number(&name(key), id);
        }
        let begins = match tokenizer.prefix() {
            [] => false,
            [first] if Some(*first) == tokenizer.bos() => true,
            other => {
                let what = format!("the tokenizer begins every text with the tokens {other:?}");
                return Err(Error::export(what).because("llama.cpp can only put `bos_token` there"));
            }
        };
        keys.flag(&name("add_bos_token"), begins);
        keys.flag(&name("add_eos_token"), false);
        if let Some(template) = &codec.templates.default {
            keys.text("tokenizer.chat_template", template.source());
        }
        if let Some(template) = &codec.templates.tool_use {
            keys.texts("tokenizer.chat_templates", &["tool_use".to_owned()]);
            keys.text("tokenizer.chat_template.tool_use", template.source());
        }
        Ok(())
    }
}

/// Tokens by number, as they are found.
struct Embedding {
    tokens: Vec<Option<String>>,
    kinds: Vec<i32>,
}

impl Embedding {
    fn new(rows: usize) -> Self {
        Self { tokens: vec![None; rows], kinds: vec![UNUSED; rows] }
    }

    fn put(&mut self, text: &str, id: &Value, kind: i32) -> Result<(), String> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(format!("one of its tokens has {} bytes", text.len()));
        }
        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let Some(place) = id.and_then(|id| self.tokens.get_mut(id)) else {
            let rows = self.tokens.len();
            return Err(format!("its token `{text}` has no row among the model's {rows}"));
        };
        if place.as_ref().is_some_and(|there| there != text) {
            return Err(format!("two of its tokens have the id of `{text}`"));
        }
        *place = Some(text.to_owned());
        self.kinds[id.unwrap_or_default()] = kind;
        Ok(())
    }

    /// All tokens; rows without one get a name that no text contains as a token.
    fn finish(self) -> Result<(Vec<String>, Vec<i32>), String> {
        let padded = |(id, text): (usize, Option<String>)| text.unwrap_or(format!("[PAD{id}]"));
        let tokens: Vec<String> = self.tokens.into_iter().enumerate().map(padded).collect();
        let mut seen = HashSet::new();
        match tokens.iter().find(|text| !seen.insert(text.as_str())) {
            Some(twice) => Err(format!("its token `{twice}` has two ids")),
            None => Ok((tokens, self.kinds)),
        }
    }
}

/// Pairs that merge, first ones first; older files write them as one text with a space.
fn pairs(merges: &Value) -> Result<Vec<(&str, &str)>, String> {
    let list = merges.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|merge| pair_of(merge).ok_or(format!("its merge {merge} is not a pair")))
        .collect()
}

fn pair_of(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(text) => text.split_once(' '),
        Value::Array(pair) => match pair.as_slice() {
            [a, b] => Some((a.as_str()?, b.as_str()?)),
            _ => None,
        },
        _ => None,
    }
}

fn bytes(file: &Value, pairs: &[(&str, &str)]) -> Result<Way, String> {
    let normalizer = &file["normalizer"];
    // llama.cpp leaves text as it is, as its own converter does where a model composes letters.
    if !normalizer.is_null() && normalizer["type"] != "NFC" {
        return Err("its normalizer changes the text".to_owned());
    }
    let ignore_merges = file["model"]["ignore_merges"] == true;
    let splitting = splitting::name(&file["pre_tokenizer"], ignore_merges)?;
    if let Some((a, b)) = pairs.iter().find(|(a, b)| a.contains(' ') || b.contains(' ')) {
        return Err(format!("its merge of `{a}` and `{b}` has a space"));
    }
    let merges = pairs.iter().map(|(a, b)| format!("{a} {b}")).collect();
    Ok(Way::Bytes { splitting, merges })
}

/// How a vocabulary with tokens for bytes merges: by scores if that is the same as by the list of
/// pairs, else by the list, where llama.cpp does that.
fn pieces(file: &Value, table: &mut Embedding, pairs: &[(&str, &str)]) -> Result<Way, String> {
    let space_before = marks(file)?;
    let by_scores = scores(file, table, pairs);
    let by_scores = by_scores.map(|scores| Way::Pieces { scores, space_before });
    by_scores.or_else(|why| letters(table, pairs).filter(|_| !space_before).ok_or(why))
}

/// The list of pairs, if llama.cpp may split texts at the ends of lines before they merge, and if
/// each pair can be written as a text with a space.
fn letters(table: &Embedding, pairs: &[(&str, &str)]) -> Option<Way> {
    let mixed = |text: &String| text.contains('\n') && !text.trim_matches('\n').is_empty();
    let spaced = pairs.iter().any(|(a, b)| a.contains(' ') || b.contains(' '));
    let merges = pairs.iter().map(|(a, b)| format!("{a} {b}")).collect();
    let known = !spaced && !table.tokens.iter().flatten().any(mixed);
    known.then_some(Way::Letters { merges })
}

/// The scores under which llama.cpp's SentencePiece merges as the list of pairs does.
///
/// It knows no pairs: any two neighbours merge whose union is a token, the best score first. So
/// every such pair must be in the list, and all pairs of one union must stand together in it.
fn scores(file: &Value, table: &mut Embedding, pairs: &[(&str, &str)]) -> Result<Vec<f32>, String> {
    let model = &file["model"];
    let Some(unknown) = model["unk_token"].as_str() else {
        return Err("it has no `unk_token`".to_owned());
    };
    let ids: HashMap<&str, usize> = model["vocab"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(text, id)| Some((text.as_str(), usize::try_from(id.as_u64()?).ok()?)))
        .collect();
    for byte in 0..=255_u8 {
        let id = ids.get(format!("<0x{byte:02X}>").as_str());
        let id = id.ok_or_else(|| format!("it has no token for the byte {byte:#04x}"))?;
        table.kinds[*id] = BYTE;
    }
    if let Some(id) = ids.get(unknown) {
        table.kinds[*id] = UNKNOWN;
    }
    let mut scores = vec![0.0_f32; table.tokens.len()];
    let mut ranks: BTreeMap<&str, usize> = BTreeMap::new();
    let mut listed = HashSet::new();
    let mut last = String::new();
    for (a, b) in pairs {
        let union = format!("{a}{b}");
        let Some((text, id)) = ids.get_key_value(union.as_str()) else {
            return Err(format!("its merge of `{a}` and `{b}` gives no token"));
        };
        if union != last {
            let rank = ranks.len();
            if ranks.insert(text, rank).is_some() {
                return Err(format!("the merges that give `{text}` do not stand together"));
            }
            #[expect(clippy::cast_precision_loss)] // below 2^24 tokens
            let score = -(rank as f32);
            scores[*id] = score;
            last = union;
        }
        listed.insert((*a, *b));
    }
    for (text, id) in &ids {
        if table.kinds[*id] != NORMAL {
            continue;
        }
        for (cut, _) in text.char_indices().skip(1) {
            let (a, b) = text.split_at(cut);
            let merges = ids.contains_key(a) && ids.contains_key(b);
            if merges && !listed.contains(&(a, b)) {
                return Err(format!("`{a}` and `{b}` do not merge, though `{text}` is a token"));
            }
        }
    }
    Ok(scores)
}

/// Whether a space is put before every stretch of text; spaces must become marks, and nothing else
/// may be done.
fn marks(file: &Value) -> Result<bool, String> {
    let other = || "its way of marking spaces is not SentencePiece's own".to_owned();
    // Where all spaces have become marks, splitting at spaces does nothing (Gemma).
    let split = &file["pre_tokenizer"];
    let at_spaces = split["type"] == "Split"
        && split["pattern"]["String"] == " "
        && split["behavior"] == "MergedWithPrevious";
    if !split.is_null() && !at_spaces {
        return Err(other());
    }
    let normalizer = &file["normalizer"];
    let steps: Vec<&Value> = match normalizer["type"].as_str() {
        Some("Sequence") => normalizer["normalizers"].as_array().into_iter().flatten().collect(),
        _ => vec![normalizer],
    };
    let replaces = |step: &Value| {
        step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == MARK
    };
    match steps[..] {
        [first, last] if first["type"] == "Prepend" && first["prepend"] == MARK => {
            if replaces(last) { Ok(true) } else { Err(other()) }
        }
        [only] if replaces(only) => Ok(false),
        _ => Err(other()),
    }
}

#[cfg(test)]
#[path = "vocabulary_tests.rs"]
mod tests;
