//! A teacher that stays in memory beside the run, and is asked about the rows of each step.

use crate::data::Batch;
use crate::device;
use crate::engine::teacher_tops;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::objectives::TeacherConfig;

/// A teacher in memory.
pub struct ResidentTeacher {
    pub(super) model: Model,
    /// Tokens that it and the model have.
    pub(super) vocabulary: usize,
    /// Targets that have logits at the same time.
    pub(super) chunk: usize,
    pub(super) on_gpu: bool,
}

impl ResidentTeacher {
    /// Gives batches what the teacher says of their targets.
    ///
    /// # Errors
    /// When a token is none of its own, or the device fails.
    pub fn score(&self, config: &TeacherConfig, batches: &mut [Batch]) -> Result<()> {
        for batch in batches {
            self.expect_tokens(batch)?;
            let work = || teacher_tops(&self.model, batch, config, (self.vocabulary, self.chunk));
            batch.teacher = device::guarded(self.on_gpu, "asking the teacher", work)?;
        }
        Ok(())
    }

    /// An embedding may have more rows than the tokenizer has tokens, and a model may write those.
    fn expect_tokens(&self, batch: &Batch) -> Result<()> {
        let rows = self.model.description.vocabulary;
        let Some(token) = batch.tokens.iter().find(|token| **token as usize >= rows) else {
            return Ok(());
        };
        Err(Error::model(format!("the model wrote token {token}, which the teacher does not have"))
            .because(format!("the teacher has {rows} tokens, and the tokenizer no such token"))
            .hint("a lower `distillation.sampling_temperature` makes such tokens less likely"))
    }
}
