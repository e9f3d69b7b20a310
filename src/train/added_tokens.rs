//! Tokens that a run adds to those of its base (`model.add_tokens`, `model.add_special_tokens`).

use std::path::Path;

use crate::artifact::bundle;
use crate::config::RunConfig;
use crate::data::{AddedTokenId, AddedTokens, BaseTokenizer};
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::model::Description;

/// So many of them are named.
const SHOWN: usize = 8;

/// The base with rows for them, and the bytes of a table that grows, which is in memory beside what
/// it was; what becomes of them is said.
pub(super) fn with_rows(
    base: &BaseTokenizer,
    description: Description,
    observer: &mut dyn Observer,
) -> Result<(Description, u64)> {
    if base.added().is_empty() {
        return Ok((description, 0));
    }
    let tokenizer = base.get()?;
    let (new, known): (Vec<_>, Vec<_>) = tokenizer.added().iter().partition(|token| token.is_new);
    let (before, rows) = (description.vocabulary, tokenizer.rows_needed(description.vocabulary));
    let have = if new.len() == 1 { "it has a row" } else { "they have rows" };
    let size = match rows > before {
        true => format!("the vocabulary grows from {before} to {rows} rows"),
        false => format!("{have} among the {before} of the base's embedding already"),
    };
    match new.is_empty() {
        false => {
            observer.on(Event::Note(format!("added to the tokenizer: {}; {size}", shown(&new))));
        }
        true if rows > before => observer.on(Event::Note(size)),
        true => {}
    }
    if !known.is_empty() {
        observer.on(Event::Warning(format!(
            "tokens of the base's tokenizer already, used as they are: {}; beside an adapter \
             `lora.trainable_tokens` trains their rows",
            shown(&known)
        )));
    }
    let grown = if rows > before { (rows * description.hidden) as u64 } else { 0 };
    let bytes = grown * description.element.size() as u64;
    Ok((description.resized(rows)?, bytes))
}

fn shown(tokens: &[&AddedTokenId]) -> String {
    let one = |token: &&AddedTokenId| format!("`{}` ({})", token.text.escape_debug(), token.id);
    let mut texts: Vec<String> = tokens.iter().take(SHOWN).map(one).collect();
    if tokens.len() > SHOWN {
        texts.push(format!("{} more", tokens.len() - SHOWN));
    }
    texts.join(", ")
}

/// Puts them into the files of an artifact; the configuration of a whole model gets the rows of its
/// embedding.
pub(super) fn write(scratch: &Path, config: &RunConfig, rows: Option<usize>) -> Result<()> {
    let added = AddedTokens::of(&config.model)?;
    added.write(scratch)?;
    match rows.filter(|_| !added.is_empty()) {
        Some(rows) => bundle::change_vocabulary(scratch, rows),
        None => Ok(()),
    }
}
