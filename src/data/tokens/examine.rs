//! A look at a tokenizer that nobody wants to use yet: what would loading it do?

use serde_json::Value;

use super::bounds::{Bounds, Refusal};
use super::{Inner, Tokenizer, guarded, probe};
use crate::error::Error;

impl Tokenizer {
    /// Looks at the text of a `tokenizer.json` as loading it would: is it within the limits, does
    /// the library read it, and does it tokenise a text of ours? Gives the largest id of what it
    /// puts before a text.
    ///
    /// # Errors
    /// In a sentence, when it is not. What is no tokenizer at all does no harm.
    pub fn examine(file: &[u8]) -> Result<Option<u32>, String> {
        let bounds = match Bounds::of(file) {
            Ok(bounds) => bounds,
            Err(Refusal::Invalid(_)) => return Ok(None),
            Err(Refusal::Excess(why)) => return Err(why),
        };
        let sentence = |error: Error| match error.causes.first() {
            Some(cause) => format!("{}: {cause}", error.what),
            None => error.into_what(),
        };
        let read = guarded("read the tokenizer", || Inner::from_bytes(file)).map_err(sentence)?;
        // What the library does not know is no harm.
        let Ok(inner) = read else { return Ok(None) };
        let made =
            guarded("look at the tokenizer", || Self::new(inner, Vec::new(), &Value::Null, &[]));
        let made = made.and_then(|made| made).map_err(sentence)?;
        let tokenizer = Self { growth: bounds.growth, ..made };
        for text in probe::lines() {
            let tokens = tokenizer.encode_exactly(text).map_err(sentence)?.tokens;
            tokenizer.decode(&tokens, false).map_err(sentence)?;
        }
        Ok(tokenizer.prefix.iter().copied().max())
    }
}
