//! Tokens become text one by one, as they are generated.

use super::Tokenizer;
use crate::error::Result;

/// What stands for bytes that are no character.
const BROKEN: char = '\u{fffd}';
/// After so many tokens that end in broken bytes no character is waited for any more.
const WAITING_MAX: usize = 64;

/// Turns tokens into text one by one, as they are generated.
///
/// A character may be spread over several tokens, and some tokenizers write a token differently
/// at the beginning of a text. So a few tokens before the new one are always decoded with it, and
/// text is handed out once it ends in a whole character.
#[derive(Debug, Default)]
pub struct TextStream {
    tokens: Vec<u32>,
    /// From here tokens are decoded; those before `ready` only for their influence.
    context: usize,
    /// The text of the tokens before here was handed out.
    ready: usize,
    /// Bytes of text that were handed out of the tokens behind it.
    beyond: usize,
    skip_special: bool,
}

impl TextStream {
    /// A stream without text yet; special tokens are left out if `skip_special`.
    pub fn new(skip_special: bool) -> Self {
        Self { skip_special, ..Self::default() }
    }

    /// Takes a token and returns the text that it completes, often empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String> {
        // The bytes of a character may stand around it: it must not count as one of them.
        if tokenizer.leaves_out(token, self.skip_special) {
            return Ok(String::new());
        }
        self.tokens.push(token);
        self.advance(tokenizer, false)
    }

    /// The text of what is still held back; incomplete characters become replacement characters.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        self.advance(tokenizer, true)
    }

    fn advance(&mut self, tokenizer: &Tokenizer, all: bool) -> Result<String> {
        let known = &self.tokens[self.context..self.ready];
        let before = tokenizer.decode(known, self.skip_special)?;
        let text = tokenizer.decode(&self.tokens[self.context..], self.skip_special)?;
        // A replacement character at the end is mostly a character that is not complete yet. No
        // character takes more than four bytes, so after that many tokens the first is one for
        // good; the last may still begin a character.
        let waiting = self.tokens.len() - self.ready;
        let complete = all || !text.ends_with(BROKEN) || waiting >= WAITING_MAX;
        if !complete && waiting < 4 {
            return Ok(String::new());
        }
        let end = if complete { text.len() } else { text.len() - BROKEN.len_utf8() };
        let new = text.get(before.len() + self.beyond..end).unwrap_or_default().to_owned();
        if !complete {
            self.beyond += new.len();
            return Ok(new);
        }
        if self.beyond > 0 || !new.is_empty() {
            self.context = self.ready;
        }
        (self.ready, self.beyond) = (self.tokens.len(), 0);
        Ok(new)
    }
}
