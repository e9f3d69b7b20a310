//! What a model gives for a position: scores of the vocabulary, or of labels.

use super::{Description, LM_HEAD, SCORE};
use crate::error::{Error, Result};
use crate::ops::LogitConfig;

/// Most rows; `vocab_size` of `config.json` has the same limit.
pub(crate) const VOCABULARY_MAX: usize = 1 << 24;

impl Description {
    /// Path and rows of the matrix behind the last norm; none where it is the embedding.
    pub fn own_head(&self) -> Option<(&'static str, usize)> {
        match self.labels {
            Some(labels) => Some((SCORE, labels)),
            None => (!self.tied).then_some((LM_HEAD, self.vocabulary)),
        }
    }

    /// Matrices with a row for each token or label: path, rows and columns.
    pub fn tables(&self) -> impl Iterator<Item = (&'static str, [usize; 2])> {
        let embedding = (self.names.embedding, [self.vocabulary, self.hidden]);
        let head = self.own_head().map(|(path, rows)| (path, [rows, self.hidden]));
        let inputs = self.layer_inputs.iter();
        let inputs = inputs.map(|of| (of.table, [of.vocabulary, of.projection.dims[0]]));
        std::iter::once(embedding).chain(head).chain(inputs)
    }

    /// Matrices that get a row with each token of the vocabulary: embedding, and output head.
    pub fn vocabulary_tables(&self) -> impl Iterator<Item = &'static str> + use<> {
        let head = self.own_head().filter(|_| self.labels.is_none()).map(|(path, _)| path);
        std::iter::once(self.names.embedding).chain(head)
    }

    /// The same model with so many rows for tokens, of which it has no more now.
    ///
    /// # Errors
    /// When it cannot have them.
    pub fn resized(&self, rows: usize) -> Result<Self> {
        let more = rows.saturating_sub(self.vocabulary);
        if more == 0 {
            return Ok(self.clone());
        }
        let what = format!("the vocabulary cannot get {rows} rows");
        if rows > VOCABULARY_MAX {
            return Err(Error::model(what).because(format!("at most {VOCABULARY_MAX} are")));
        }
        if self.layer_inputs.is_some() {
            return Err(Error::model(what).because(
                "each layer of this model has inputs of its own for every token that there is",
            ));
        }
        let tables = self.vocabulary_tables().count();
        let mut resized = self.clone();
        resized.vocabulary = rows;
        resized.parameters += (more * self.hidden * tables) as u64;
        Ok(resized)
    }

    /// How many scores the model gives for a position: tokens of the vocabulary, or labels.
    pub fn outputs(&self) -> usize {
        self.labels.unwrap_or(self.vocabulary)
    }

    /// The same layers with a head that scores labels, as transformers has it: nothing is done to
    /// what it gives.
    #[must_use]
    pub fn scoring(mut self, labels: usize) -> Self {
        let size = |head: Option<(&str, usize)>| head.map_or(0, |(_, rows)| rows * self.hidden);
        let before = size(self.own_head()) as u64;
        let after = (labels * self.hidden) as u64;
        (self.labels, self.tied, self.logits) = (Some(labels), false, LogitConfig::default());
        self.parameters = self.parameters - before + after;
        self
    }
}
