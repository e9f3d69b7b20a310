//! Long texts: tokenised in parts, no further than is wanted, and never a run without end.

use std::collections::BTreeSet;

use super::compact::CompactTokens;
use super::cuts::Cuts;
use super::kinds::MARK;
use super::{Encoded, Tokenizer};
use crate::error::{Error, Result, catch_panic};

/// A longer text is taken apart, into parts of about half that.
const LONG: usize = 128 << 10;
/// More bytes are not tokenised at once, since the engine takes up to seventy times as much memory
/// for them. What is in use stays far below: encoded files have letters, digits and signs in turn.
const AT_ONCE_MAX: usize = 1 << 20;
/// The same of tokenizers of other kinds, whose texts are not taken apart at all: it takes two
/// hundred times as much.
const WHOLE_MAX: usize = 256 << 10;

/// How much is wanted of a text's tokens.
#[derive(Debug, Clone, Copy)]
pub struct TokenBudget<'a> {
    /// More tokens than this are not needed.
    pub most: usize,
    /// Tokens that do not count, since they may be removed.
    pub aside: &'a BTreeSet<u32>,
    /// Whether a text with more is of no use, so that which tokens it has does not matter.
    pub all_or_nothing: bool,
    /// Whether it matters where in the text they are; else `offsets` stays empty in a long text.
    pub offsets: bool,
}

/// The tokens with which a text begins.
#[derive(Debug)]
pub struct Begun {
    /// At least as many as were wanted, or all there are; where
    /// [`TokenBudget::all_or_nothing`] they may be fewer.
    pub encoded: Encoded,
    /// Whether there are more, and more than were wanted for certain.
    pub goes_on: bool,
}

/// Where a part of a text stands.
struct TextPart {
    at: usize,
    /// Whether the mark before it stands for the space in front of that.
    marked: bool,
    /// How many parts there are, about.
    parts: usize,
}

static NONE: BTreeSet<u32> = BTreeSet::new();

impl TokenBudget<'static> {
    /// All of it.
    pub const ALL: Self =
        Self { most: usize::MAX, aside: &NONE, all_or_nothing: false, offsets: true };
}

impl Tokenizer {
    /// The tokens of a text that a template wrote: nothing is added, special tokens in it count.
    ///
    /// # Errors
    /// When the text or what becomes of it goes beyond the limits.
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        self.encode_wanted(text, TokenBudget::ALL).map(|begun| begun.encoded)
    }

    /// As [`Self::encode`], and no more of a long text than is wanted.
    ///
    /// # Errors
    /// As there; nothing is said of what is not tokenised.
    pub fn encode_wanted(&self, text: &str, wanted: TokenBudget) -> Result<Begun> {
        if text.len() <= LONG {
            return Ok(Begun { encoded: self.encode_at_once(text)?, goes_on: false });
        }
        self.encode_parts(text, wanted, LONG / 2)
    }

    /// In parts of at least so many bytes.
    fn encode_parts(&self, text: &str, wanted: TokenBudget, size: usize) -> Result<Begun> {
        let mut encoded = Encoded::default();
        let goes_on = self.each_part(text, wanted, size, &mut |tokens, part| {
            if part.at == 0 && wanted.most == usize::MAX {
                // As many as it will be, about: growing takes three times as much for a moment.
                encoded.tokens.reserve_exact(tokens.tokens.len().saturating_mul(part.parts));
            }
            encoded.tokens.extend_from_slice(&tokens.tokens);
            if wanted.offsets {
                self.put(&mut encoded.offsets, tokens, part.at, part.marked);
            }
        })?;
        Ok(Begun { encoded, goes_on })
    }

    /// All tokens of a text, of which nothing else is asked; a long one needs half the memory for
    /// them where the vocabulary is small.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_compactly(&self, text: &str) -> Result<CompactTokens> {
        let mut all = CompactTokens::new(self.vocabulary);
        if text.len() <= LONG {
            all.extend(&self.encode_at_once(text)?.tokens);
            return Ok(all);
        }
        self.each_part(text, TokenBudget::ALL, LONG / 2, &mut |tokens, part| {
            if part.at == 0 {
                all.reserve(tokens.tokens.len().saturating_mul(part.parts));
            }
            all.extend(&tokens.tokens);
        })?;
        Ok(all)
    }

    /// Hands on the tokens of each part; whether there are more, and more than were wanted.
    fn each_part(
        &self,
        text: &str,
        wanted: TokenBudget,
        size: usize,
        keep: &mut dyn FnMut(&Encoded, TextPart),
    ) -> Result<bool> {
        let cuts = self.cuts();
        let (mut at, mut counted, mut marked) = (0, 0, false);
        loop {
            let cut = cuts.and_then(|cuts| cuts.find(text, at + size));
            let end = cut.map_or(text.len(), |cut| cut.end);
            let part = &text[at..end];
            if wanted.all_or_nothing && part.len() > LONG {
                let certain = cuts.map_or(0, |cuts| self.at_least(cuts, part, wanted.aside));
                if certain.saturating_add(counted) > wanted.most {
                    return Ok(true);
                }
            }
            let most = if cuts.is_some_and(Cuts::are_known) { AT_ONCE_MAX } else { WHOLE_MAX };
            check_size(part, most)?;
            let tokens = self.encode_at_once(part)?;
            counted += tokens.tokens.iter().filter(|token| !wanted.aside.contains(token)).count();
            let parts = text.len().div_ceil(part.len().max(1)) + 1;
            keep(&tokens, TextPart { at, marked, parts });
            let Some(cut) = cut else { return Ok(false) };
            if counted > wanted.most {
                return Ok(true);
            }
            (at, marked) = (cut.next, cut.next > cut.end);
        }
    }

    /// Adds where the tokens of a part stand that begins at `at`; `marked` where the mark before it
    /// stands for the space in front of that.
    fn put(&self, offsets: &mut Vec<(usize, usize)>, part: &Encoded, at: usize, marked: bool) {
        let first = offsets.len();
        offsets.extend(part.offsets.iter().map(|(start, end)| (start + at, end + at)));
        if marked && let (Some(range), Some(token)) = (offsets.get_mut(first), part.tokens.first())
        {
            range.0 = at - 1;
            if self.token_name(*token).as_deref() == Some(MARK) {
                range.1 = at;
            }
        }
    }

    fn cuts(&self) -> Option<&Cuts> {
        self.cuts.get_or_init(|| catch_panic(|| Cuts::of(&self.inner)).ok()).as_ref()
    }

    /// How many tokens a text has for certain that count.
    fn at_least(&self, cuts: &Cuts, text: &str, aside: &BTreeSet<u32>) -> usize {
        let added = self.inner.get_added_tokens_decoder();
        let name = |token: &u32| added.get(token).map(|token| token.content.clone());
        match aside.iter().map(name).collect::<Option<Vec<String>>>() {
            Some(names) => cuts.at_least(text, &names),
            None => 0,
        }
    }
}

/// Refuses what cannot be taken apart and is too long to be tokenised at once.
fn check_size(part: &str, most: usize) -> Result<()> {
    if part.len() <= most {
        return Ok(());
    }
    let (mut begin, mut of, mut longest) = (0, "", (0, ""));
    for (at, c) in part.char_indices() {
        let class = class_of(c);
        if class != of {
            (begin, of) = (at, class);
        }
        longest = longest.max((at + c.len_utf8() - begin, class));
    }
    let (length, class) = longest;
    let why = match length > most {
        true => {
            format!("{length} bytes in a row are {class}, and nothing else is among them")
        }
        false => format!(
            "{} bytes in a row have no place where a text for this tokenizer can be taken apart",
            part.len()
        ),
    };
    Err(Error::tokenizer("the text cannot be tokenised within the limits")
        .because(format!("{why}; at most {most} are accepted")))
}

fn class_of(c: char) -> &'static str {
    match c {
        _ if c.is_whitespace() => "white space",
        _ if c.is_alphabetic() => "letters",
        _ if c.is_numeric() => "digits",
        _ => "signs",
    }
}

#[cfg(test)]
#[path = "long_tests.rs"]
mod tests;
