//! Where a text can be taken apart without its tokens becoming others.
//!
//! The exact engine takes some tens of bytes of memory for each byte of a text. So a long text is
//! tokenised in parts, which end where, for the kinds of tokenizers of [`super::kinds`], nothing
//! reaches across:
//!
//! - A byte-level tokenizer splits a text into words with patterns. Where all of them are known, a
//!   letter or digit that white space or punctuation follows ends a word: none of their parts
//!   matches both, none looks back, and what looks ahead of white space stays behind the place.
//! - One of the SentencePiece kind may merge letters across words, but only to a token that has
//!   them beside each other. Where no token has this letter before a mark, a space ends a part.
//!
//! In both cases no added token may touch the place. Of other tokenizers nothing is known.

use std::collections::BTreeSet;

use tokenizers::models::ModelWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

use super::Inner;
use super::kinds::{self, MARK, Opening, SpellingKind};
use super::patience::parts;
use super::spelling::letter_of;

/// What matches letters: such a part stands in every set of rules that splits text into words.
const LETTERS: [&str; 5] = [
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r" ?\p{L}+",
    r"\p{L}+",
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+",
];
/// These do so together: one wants a small letter, the other a capital one.
const CASES: [&str; 2] = [
    concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    ),
    concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    ),
];
const NUMBERS: [&str; 4] = [r"\p{N}", r"\p{N}+", r"\p{N}{1,3}", r" ?\p{N}+"];
/// What else stands in such patterns, and matches no letter or digit with what follows a word.
const OTHERS: [&str; 16] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"'s|'t|'re|'ve|'m|'ll|'d",
    r"'(?i:[sdmt]|ll|ve|re)",
    r" ?[^\s\p{L}\p{N}]+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r" ?[\p{P}\p{S}]+[\r\n]*",
    r"\s*[\r\n]+",
    r"\s*[\r\n]",
    r"\s+(?!\S)",
    r"\s+",
    r"\s",
    "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+",
    " ?[\\p{P}\\p{S}]+[\r\n]*",
    "\\s*[\r\n]+",
];
/// The white space and punctuation after which no engine looks back, apart from that of ASCII.
const WIDE: [char; 5] = ['\u{3001}', '\u{3002}', '\u{ff0c}', '\u{ff01}', '\u{ff1f}'];
/// How far composing shortens a text at most: U+1FBE and two accents have seven bytes, and become
/// U+0390, which has two.
const COMPOSED: usize = 4;
/// Comparisons with added tokens until a place is looked for no more.
const MOST_WORK: usize = 16 << 20;

/// Where texts can be taken apart for one tokenizer.
pub struct Cuts {
    rule: Rule,
    /// The added tokens.
    added: Vec<Vec<u8>>,
    /// So many bytes beside a place must be ASCII: an added token may stand in the text only once
    /// that is normalized.
    ascii: usize,
    /// Of how many bytes of a text a token can be the only one, white space aside.
    longest: Option<usize>,
}

enum Rule {
    /// Nothing is known.
    Nowhere,
    /// Behind words.
    Words,
    /// Before a space that one of these follows.
    Marks { after: BTreeSet<char>, opening: Opening },
}

/// Where one part of a text ends and the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The end of the part.
    pub end: usize,
    /// The beginning of the next: the same, or behind a space for which the tokenizer puts a mark
    /// before every text.
    pub next: usize,
}

impl Cuts {
    /// For a tokenizer as the library read it.
    pub fn of(inner: &Inner) -> Self {
        let kind = kinds::kind(inner).ok();
        let tokens = inner.get_added_tokens_decoder();
        let added: Vec<Vec<u8>> =
            tokens.values().map(|token| token.content.clone().into_bytes()).collect();
        let normalized = tokens.values().filter(|token| token.normalized);
        let ascii = match inner.get_normalizer() {
            Some(_) => normalized.map(|token| token.content.len() + 8).max().unwrap_or(0),
            None => 0,
        };
        let rule = match kind {
            Some(SpellingKind::Bytes) if splits_words(inner) => Rule::Words,
            Some(SpellingKind::Marks(opening)) => marks(inner, opening),
            _ => Rule::Nowhere,
        };
        let longest = kind.and_then(|kind| longest(inner, kind));
        Self { rule, added, ascii, longest }
    }

    /// Whether anything is known of such places.
    pub fn are_known(&self) -> bool {
        !matches!(self.rule, Rule::Nowhere)
    }

    /// The first place at `from` or behind it where a text can be taken apart.
    pub fn find(&self, text: &str, from: usize) -> Option<Cut> {
        if matches!(self.rule, Rule::Nowhere) || from >= text.len() {
            return None;
        }
        let from = text.ceil_char_boundary(from);
        let mut before = text[..from].chars().next_back()?;
        let mut work = 0;
        for (at, next) in text[from..].char_indices() {
            let at = from + at;
            if self.ends(before, next)
                && let Some(cut) = self.cut(text, at)
            {
                work += self.added.len();
                if self.is_free(text, cut, &mut work) {
                    return Some(cut);
                }
                if work > MOST_WORK {
                    return None;
                }
            }
            before = next;
        }
        None
    }

    fn ends(&self, before: char, next: char) -> bool {
        match &self.rule {
            Rule::Nowhere => false,
            Rule::Words => {
                let number = before.is_ascii_digit();
                let letter = is_letter(before);
                (follows(next) && (letter || number)) || (next.is_ascii_digit() && letter)
            }
            Rule::Marks { after, .. } => next == ' ' && after.contains(&before),
        }
    }

    fn cut(&self, text: &str, at: usize) -> Option<Cut> {
        match &self.rule {
            Rule::Marks { opening: Opening::Always, .. } => {
                let letter = text[at + 1..].chars().next()?;
                let plain = letter != ' ' && !MARK.starts_with(letter);
                plain.then_some(Cut { end: at, next: at + 1 })
            }
            _ => Some(Cut { end: at, next: at }),
        }
    }

    /// Whether no added token stands across or beside a place.
    fn is_free(&self, text: &str, cut: Cut, work: &mut usize) -> bool {
        let bytes = text.as_bytes();
        let beside = cut.end.saturating_sub(self.ascii)..bytes.len().min(cut.end + self.ascii);
        if !bytes[beside].is_ascii() {
            return false;
        }
        self.added.iter().all(|content| {
            *work += content.len();
            let mut starts = cut.end.saturating_sub(content.len())..=cut.next;
            !starts.any(|start| bytes[start..].starts_with(content))
        })
    }

    /// A text has at least so many tokens, those aside that are written as one of `aside`.
    pub fn at_least(&self, text: &str, aside: &[String]) -> usize {
        let Some(longest) = self.longest else { return 0 };
        // An added token may take all the white space beside it.
        let bytes = text.split_whitespace().map(str::len).sum::<usize>();
        let of = |name: &String| text.matches(name.as_str()).count() * name.len();
        bytes.saturating_sub(aside.iter().map(of).sum()) / longest.max(1)
    }
}

/// Whether a character is a letter in every version of Unicode, by itself and composed.
fn is_letter(c: char) -> bool {
    matches!(c,
        'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{ff}'
        | '\u{3b1}'..='\u{3c9}' | '\u{410}'..='\u{44f}' | '\u{5d0}'..='\u{5ea}'
        | '\u{627}'..='\u{63a}' | '\u{905}'..='\u{939}' | '\u{e01}'..='\u{e2e}'
        | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fa5}'
        | '\u{ac00}'..='\u{d7a3}')
}

/// Whether a character that follows a word is never matched together with its end. The apostrophe
/// is, in `'s`.
fn follows(c: char) -> bool {
    matches!(c, ' ' | '\n' | '\r' | '\t')
        || (c.is_ascii_punctuation() && c != '\'')
        || WIDE.contains(&c)
}

fn rules(inner: &Inner) -> &[PreTokenizerWrapper] {
    match inner.get_pre_tokenizer() {
        None => &[],
        Some(PreTokenizerWrapper::Sequence(list)) => list.as_ref(),
        Some(one) => std::slice::from_ref(one),
    }
}

/// Whether a text is split behind every word, by patterns that are all known.
fn splits_words(inner: &Inner) -> bool {
    let (mut letters, mut numbers) = (false, false);
    let known: Vec<&str> =
        [&LETTERS[..], &CASES, &NUMBERS, &OTHERS].into_iter().flatten().copied().collect();
    for rule in rules(inner) {
        match rule {
            PreTokenizerWrapper::Digits(_) => numbers = true,
            PreTokenizerWrapper::ByteLevel(rule) => {
                letters |= rule.use_regex;
                numbers |= rule.use_regex;
            }
            PreTokenizerWrapper::Split(rule) => {
                let SplitPattern::Regex(pattern) = &rule.pattern else { return false };
                let Some(parts) = parts(pattern, &known) else { return false };
                let has = |part: &&str| parts.contains(part);
                letters |= LETTERS.iter().any(has) || CASES.iter().all(has);
                numbers |= NUMBERS.iter().any(has);
            }
            _ => return false,
        }
    }
    letters && numbers
}

/// The characters that stand before a mark in no token.
fn marks(inner: &Inner, opening: Opening) -> Rule {
    let ModelWrapper::BPE(model) = inner.get_model() else { return Rule::Nowhere };
    // A part that is a token by itself would be that one.
    if model.ignore_merges {
        return Rule::Nowhere;
    }
    let vocabulary = inner.get_vocab(false);
    // The first token of a part begins with the mark.
    if !vocabulary.contains_key(MARK) {
        return Rule::Nowhere;
    }
    let mut after = BTreeSet::new();
    for token in vocabulary.keys() {
        // Bytes that are merged with each other or with letters.
        if token.len() > "<0x00>".len() && token.contains("<0x") {
            return Rule::Nowhere;
        }
        let mut letters = token.chars();
        if let (Some(letter), None) = (letters.next(), letters.next())
            && !letter.is_whitespace()
            && !MARK.starts_with(letter)
        {
            after.insert(letter);
        }
    }
    for token in vocabulary.keys() {
        for (at, _) in token.match_indices(MARK) {
            token[..at].chars().next_back().map(|letter| after.remove(&letter));
        }
    }
    Rule::Marks { after, opening }
}

/// Of how many bytes a token can be the only one; `None` where a token may stand for any number of
/// them, or text for none.
fn longest(inner: &Inner, kind: SpellingKind) -> Option<usize> {
    let ModelWrapper::BPE(model) = inner.get_model() else { return None };
    let vocabulary = inner.get_vocab(false);
    let has_all = match kind {
        SpellingKind::Bytes => {
            (0..=255).all(|byte| vocabulary.contains_key(&letter_of(byte).to_string()))
        }
        SpellingKind::Marks(_) => {
            let byte = |byte: u8| vocabulary.contains_key(&format!("<0x{byte:02X}>"));
            model.byte_fallback && (0..=255).all(byte)
        }
    };
    let drops = |rule: &PreTokenizerWrapper| match rule {
        PreTokenizerWrapper::Split(rule) => rule.behavior == SplitDelimiterBehavior::Removed,
        _ => false,
    };
    if !has_all || rules(inner).iter().any(drops) {
        return None;
    }
    let own = vocabulary.keys().map(String::len).max().unwrap_or(1);
    let added = inner.get_added_tokens_decoder();
    let added = added.values().map(|token| token.content.len()).max().unwrap_or(1);
    let composed = if inner.get_normalizer().is_some() { COMPOSED } else { 1 };
    Some(own.max(added) * composed)
}
