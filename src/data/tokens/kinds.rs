//! The kinds of tokenizers for which the fast engine was proved to give the exact one's tokens.
//!
//! What is not named here is left to the exact engine: other models than BPE, normalizers that
//! change letters, splitting rules that drop text or that no test covers.

use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::Inner;

/// The letter that stands for a space in tokenizers of the SentencePiece kind.
pub const MARK: &str = "\u{2581}";

/// How the tokens of a tokenizer spell a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpellingKind {
    /// Every token is a run of the text's bytes.
    Bytes,
    /// Tokens are runs of characters, with [`MARK`] in the place of a space, or single bytes.
    Marks(Opening),
}

/// Where a stretch of text between added tokens gets a mark before its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Always.
    Always,
    /// Unless it begins with a space or a mark.
    UnlessMarked,
    /// At the beginning of the whole text, unless that begins with a space or a mark.
    FirstUnlessMarked,
    /// Nowhere.
    Never,
}

/// The kind of a tokenizer, or what about it was not proved.
pub fn kind(exact: &Inner) -> Result<SpellingKind, String> {
    let ModelWrapper::BPE(model) = exact.get_model() else {
        return Err("its model is not BPE".to_owned());
    };
    plain_words(model)?;
    // Tables have a place for every number up to the largest.
    let vocabulary = exact.get_vocab(true);
    let largest = vocabulary.values().max().map_or(0, |largest| *largest as usize);
    if largest > 2 * vocabulary.len() + 100_000 {
        return Err("the numbers of its tokens have large gaps".to_owned());
    }
    for token in exact.get_added_tokens_decoder().values() {
        if token.single_word {
            return Err(format!("`{}` counts only as a whole word", token.content));
        }
        // One that takes the white space beside it, and one that is white space, contend for it.
        let trimmed = token.content.trim() == token.content;
        if !trimmed && strips(exact) {
            return Err("added tokens contend for white space".to_owned());
        }
    }
    match bytes(exact) {
        Ok(()) => Ok(SpellingKind::Bytes),
        Err(reason) => marks(exact).map(SpellingKind::Marks).ok_or(reason),
    }
}

fn strips(exact: &Inner) -> bool {
    exact.get_added_tokens_decoder().values().any(|token| token.lstrip || token.rstrip)
}

fn plain_words(model: &BPE) -> Result<(), String> {
    let empty = |affix: &Option<String>| affix.as_deref().unwrap_or_default().is_empty();
    match empty(&model.continuing_subword_prefix) && empty(&model.end_of_word_suffix) {
        true => Ok(()),
        false => Err("its tokens carry marks of where in a word they stand".to_owned()),
    }
}

/// Byte-level BPE: text is split, then every byte becomes a letter.
fn bytes(exact: &Inner) -> Result<(), String> {
    let steps = match exact.get_normalizer() {
        None => &[],
        Some(NormalizerWrapper::Sequence(list)) => list.as_ref(),
        Some(one) => std::slice::from_ref(one),
    };
    if !steps.iter().all(|step| matches!(step, NormalizerWrapper::NFC(_))) {
        return Err("its normalizer changes the text".to_owned());
    }
    if !steps.is_empty() {
        let foreign = |content: &str| !content.is_ascii();
        let added = exact.get_added_tokens_decoder();
        if added.values().any(|token| token.normalized && foreign(&token.content)) {
            return Err("added tokens are found in the normalized text".to_owned());
        }
    }
    let Some(splitting) = exact.get_pre_tokenizer() else {
        return Err("its vocabulary is not of bytes".to_owned());
    };
    let rules = match splitting {
        PreTokenizerWrapper::Sequence(list) => list.as_ref(),
        one => std::slice::from_ref(one),
    };
    let Some((PreTokenizerWrapper::ByteLevel(ByteLevel { add_prefix_space: false, .. }), before)) =
        rules.split_last()
    else {
        return Err("its vocabulary is not of bytes, or it adds a space before a text".to_owned());
    };
    match before.iter().all(keeps_text) {
        true => Ok(()),
        false => Err("its way of splitting a text was not tested".to_owned()),
    }
}

fn keeps_text(rule: &PreTokenizerWrapper) -> bool {
    match rule {
        PreTokenizerWrapper::Digits(_) => true,
        PreTokenizerWrapper::Split(Split { behavior, invert, .. }) => matches!(
            (behavior, invert),
            (SplitDelimiterBehavior::Isolated, false) | (SplitDelimiterBehavior::Removed, true)
        ),
        _ => false,
    }
}

/// BPE of the SentencePiece kind: spaces become marks, unknown characters become bytes.
fn marks(exact: &Inner) -> Option<Opening> {
    if exact.get_added_tokens_decoder().values().any(|token| token.normalized) {
        return None;
    }
    match (exact.get_normalizer(), exact.get_pre_tokenizer()) {
        (None, Some(PreTokenizerWrapper::Metaspace(rule))) => metaspace(rule),
        (Some(normalizer), None) => replaced(normalizer),
        // Splits at spaces, of which none is left by then.
        (Some(normalizer), Some(PreTokenizerWrapper::Split(Split { pattern, .. })))
            if *pattern == SplitPattern::String(" ".to_owned()) =>
        {
            replaced(normalizer)
        }
        _ => None,
    }
}

fn metaspace(rule: &Metaspace) -> Option<Opening> {
    if rule.get_replacement().to_string() != MARK {
        return None;
    }
    Some(match rule.get_prepend_scheme() {
        PrependScheme::Always => Opening::UnlessMarked,
        PrependScheme::First => Opening::FirstUnlessMarked,
        PrependScheme::Never => Opening::Never,
    })
}

/// Normalizers that put a mark before the text, if at all, and then one for every space.
fn replaced(normalizer: &NormalizerWrapper) -> Option<Opening> {
    let steps = match normalizer {
        NormalizerWrapper::Sequence(list) => list.as_ref(),
        one => std::slice::from_ref(one),
    };
    let (opening, last) = match steps {
        [NormalizerWrapper::Prepend(first), last] if first.prepend == MARK => {
            (Opening::Always, last)
        }
        [last] => (Opening::Never, last),
        _ => return None,
    };
    let spaces = Replace::new(ReplacePattern::String(" ".to_owned()), MARK).ok()?;
    matches!(last, NormalizerWrapper::Replace(rule) if *rule == spaces).then_some(opening)
}
