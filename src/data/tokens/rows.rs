//! Ids of tokens, and the rows of the model's embedding: an id without a row is never handed out.

use serde_json::Value;

use super::{AddedTokenId, Tokenizer};
use crate::error::{Error, Result};

impl Tokenizer {
    /// Refuses tokens that the model has no row for.
    pub(super) fn fits(&self, tokens: &[u32]) -> Result<()> {
        let Some(rows) = self.embedding else { return Ok(()) };
        let largest = tokens.iter().copied().max().filter(|largest| *largest >= rows);
        match largest {
            None => Ok(()),
            Some(token) => Err(beyond(self, token, rows as usize)),
        }
    }

    /// For a model with so many rows in its embedding, whatever `config.json` beside it says.
    ///
    /// # Errors
    /// When what begins or ends a text has no row there.
    pub fn for_rows(self, rows: usize) -> Result<Self> {
        let made = Self { embedding: Some(u32::try_from(rows).unwrap_or(u32::MAX)), ..self };
        made.fits(&made.prefix)?;
        made.fits(made.eos.as_slice())?;
        Ok(made)
    }

    /// Rows that an embedding with so many must have for the tokens that were added.
    pub fn rows_needed(&self, rows: usize) -> usize {
        rows_with(rows, &self.added)
    }

    /// The added tokens that the model has no row for: they cannot be used.
    pub fn beyond_embedding(&self) -> Vec<String> {
        let Some(rows) = self.embedding else { return Vec::new() };
        let added = self.inner.get_added_tokens_decoder();
        let mut names: Vec<(u32, String)> = added
            .into_iter()
            .filter(|(id, _)| *id >= rows)
            .map(|(id, token)| (id, token.content))
            .collect();
        names.sort();
        names.into_iter().map(|(_, name)| name).collect()
    }
}

fn beyond(tokenizer: &Tokenizer, token: u32, rows: usize) -> Error {
    let name = tokenizer.token_name(token).unwrap_or_default();
    Error::tokenizer(format!(
        "the token `{name}` has the id {token}, but the model's embedding only {rows} rows"
    ))
    .hint("tokenizer.json and config.json belong to different models")
}

/// So many rows, or as many as these tokens need.
pub fn rows_with(rows: usize, added: &[AddedTokenId]) -> usize {
    added.iter().map(|token| token.id as usize + 1).fold(rows, usize::max)
}

/// `vocab_size` of `config.json`; models of several kinds of input keep it with their text model's.
pub fn rows(config: &Value) -> Option<usize> {
    let of = |config: &Value| config["vocab_size"].as_u64();
    of(config).or_else(|| of(&config["text_config"])).and_then(|rows| usize::try_from(rows).ok())
}
