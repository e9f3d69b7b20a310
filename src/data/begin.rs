//! The tokens of a record and which are trained on, as far as they fit into a row.

use std::collections::BTreeSet;

use super::ends_of_runs::{doubled, one_line};
use super::example::{Example, RecordId, TextPieces};
use super::finding::Drawn;
use super::maker::{MadeTokens, Maker};
use super::mask::{self, Rendered};
use super::tokens::{Begun, TokenBudget};
use crate::config::{Overlong, TrainOn};
use crate::error::Result;

/// So many tokens more than a row has are made before a long record is cut.
const MARGIN: usize = 64;

/// A text of so many bytes has more tokens than a row for certain, or nearly so.
const PIECES_FROM: usize = 128 << 10;

/// An example, and whether it is only the beginning of one that is longer than a row.
pub type Begin = (Example, bool);

impl Maker<'_> {
    /// A rendered conversation; the error ends a run, the inner one is why it cannot be used.
    pub(super) fn chat(
        &self,
        has_tools: bool,
        rendered: &Rendered,
        record: &RecordId,
        drawn: &mut Drawn,
    ) -> Result<Result<Begin, String>> {
        let template = self.codec.template_for(has_tools)?;
        // Ends of turns are removed where they stand twice.
        let aside = self.codec.turn_ends();
        let wanted = self.wanted(aside, rendered.is_found_in_order());
        let Begun { encoded, goes_on } =
            match self.codec.tokenizer.encode_wanted(&rendered.text, wanted) {
                Ok(begun) => begun,
                Err(error) => return Ok(Err(one_line(&error))),
            };
        if let Some(bos) = self.codec.tokenizer.bos()
            && (encoded.tokens.starts_with(&[bos, bos])
                || (encoded.tokens.is_empty() && self.begins_twice(bos, &rendered.text)))
        {
            return Err(doubled(self.codec, bos, template.origin(), record));
        }
        let mut loss_mask = mask::mask(self.codec, rendered, &encoded);
        if self.train_on == TrainOn::All {
            // What was found is context, if anything was looked for.
            loss_mask.iter_mut().for_each(|target| *target = !*target);
        }
        if let Some(first) = loss_mask.first_mut() {
            *first = false;
        }
        if self.examiner.is_some() && self.train_on == TrainOn::Assistant {
            drawn.turns = rendered.turns.len();
            drawn.open_turns = mask::open_turns(self.codec, rendered, &encoded);
        }
        let mut example = Example { tokens: encoded.tokens, loss_mask };
        example.end_once(self.codec.turn_ends());
        Ok(Ok((example, goes_on)))
    }

    /// The same of a text of which nothing was tokenised.
    fn begins_twice(&self, token: u32, text: &str) -> bool {
        let name = self.codec.tokenizer.token_name(token).unwrap_or_default();
        !name.is_empty() && text.starts_with(&name.repeat(2))
    }

    /// What follows a prompt; the error is why it cannot be used.
    pub(super) fn completion(&self, prompt: &str, completion: &str) -> Result<Begin, String> {
        let target_from = if self.train_on == TrainOn::All { 0 } else { prompt.len() };
        self.plain(&format!("{prompt}{completion}"), target_from, false)
    }

    /// How much of a record's tokens is of use: what is beyond a row is not, where it is cut off.
    /// An examination looks at all of it.
    fn wanted<'w>(&self, aside: &'w BTreeSet<u32>, can_be_cut: bool) -> TokenBudget<'w> {
        let all_or_nothing = self.overlong != Overlong::Truncate;
        let enough = self.examiner.is_none() && (all_or_nothing || can_be_cut);
        let most = if enough { self.max_seq_len.saturating_add(MARGIN) } else { usize::MAX };
        TokenBudget { most, aside, all_or_nothing, ..TokenBudget::ALL }
    }

    /// Whether a text is so long that its pieces are made without all of it side by side: its
    /// tokens would take four bytes each and the mask another.
    pub(super) fn is_made_into_pieces(&self, text: &str) -> bool {
        let is_cut = self.overlong == Overlong::Truncate && self.examiner.is_none();
        is_cut && text.len() > PIECES_FROM
    }

    /// As [`Self::plain`], for such a text.
    pub(super) fn pieces(&self, text: &str) -> Result<MadeTokens, String> {
        let tokenizer = &self.codec.tokenizer;
        let mut tokens = tokenizer.encode_compactly(text).map_err(|error| one_line(&error))?;
        let prefix = tokenizer.prefix();
        if tokens.range(0..prefix.len().min(tokens.len())) != prefix {
            tokens.put_first(prefix);
        }
        let given = prefix.len().max(1);
        let last = tokens.range(tokens.len().saturating_sub(1)..tokens.len()).pop();
        if let Some(eos) = tokenizer.eos()
            && (last != Some(eos) || tokens.len() <= given)
        {
            tokens.extend(&[eos]);
        }
        if tokens.len() > self.max_seq_len {
            return Ok(MadeTokens::Pieces(TextPieces::new(tokens, given, self.max_seq_len)));
        }
        let tokens = tokens.range(0..tokens.len());
        let loss_mask = (0..tokens.len()).map(|at| at >= given).collect();
        Ok(MadeTokens::Example(Example { tokens, loss_mask }, false))
    }

    /// Plain text with the token that ends it; what begins at `target_from` or later is trained on.
    /// Of a text that is made into pieces (`in_pieces`) all is used.
    pub(super) fn plain(
        &self,
        text: &str,
        target_from: usize,
        in_pieces: bool,
    ) -> Result<Begin, String> {
        let wanted = self.wanted(TokenBudget::ALL.aside, !in_pieces);
        let wanted = TokenBudget { offsets: target_from > 0, ..wanted };
        let begun = self.codec.encode_plain(text, wanted).map_err(|error| one_line(&error))?;
        let Begun { encoded, goes_on } = begun;
        let mut loss_mask: Vec<bool> = match target_from {
            0 => vec![true; encoded.tokens.len()],
            _ => encoded.offsets.iter().map(|&(start, _)| start >= target_from).collect(),
        };
        // What the tokenizer puts before the text is given, not trained on.
        loss_mask
            .iter_mut()
            .take(self.codec.tokenizer.prefix().len().max(1))
            .for_each(|l| *l = false);
        let mut tokens = encoded.tokens;
        if let Some(eos) = self.codec.tokenizer.eos()
            && !(text.is_empty() || goes_on)
            && (tokens.last() != Some(&eos) || loss_mask.last() != Some(&true))
        {
            tokens.push(eos);
            loss_mask.push(true);
        }
        Ok((Example { tokens, loss_mask }, goes_on))
    }
}

#[cfg(test)]
#[path = "begin_tests.rs"]
mod tests;
