//! What an objective wants to know of a whole step before any micro-batch of it is differentiated.

use crate::data::Batch;
use crate::device;
use crate::engine::Trainer;
use crate::engine::reference::{gain, log_probs, reference_log_probs};
use crate::engine::shared_prompts::arranged;
use crate::engine::sizes::pieces;
use crate::engine::trainer::Stopped;
use crate::error::Error;
use crate::objectives::Objective;

impl Trainer {
    /// The log-probability of every target of these batches, in their order: by the model as it is
    /// now, at the temperature of the objective.
    ///
    /// # Errors
    /// When the device fails.
    pub fn log_probs(&self, batches: &[Batch]) -> Result<Vec<f32>, Error> {
        let (model, chunk) = (&self.model, self.loss_chunk());
        let how = (false, self.objective.temperature());
        let mut all = Vec::new();
        for batch in batches {
            for piece in pieces(batch, self.size_of(batch), model.computing) {
                let batch = &*arranged(model, &*self.objective, &piece.batch, true);
                let work = || log_probs(model, batch, how, chunk);
                let found = device::guarded(self.on_gpu(), "computing probabilities", work)?;
                #[expect(clippy::cast_possible_truncation)] // scores are f32
                all.extend(found.into_iter().map(|number| number as f32));
            }
        }
        Ok(all)
    }

    /// How many targets have logits at once.
    fn loss_chunk(&self) -> usize {
        let chunk = self.micro_batch_split.loss_chunk.unwrap_or(usize::MAX);
        chunk.min(self.settings.loss_chunk_tokens)
    }

    /// The objective of a step on these batches; none where it wants to know nothing.
    pub(super) fn objective_of_step(
        &self,
        batches: &[Batch],
    ) -> Result<Option<Box<dyn Objective>>, Stopped> {
        let (model, objective) = (&self.model, &*self.objective);
        let measured = objective.beforehand(batches);
        if measured.is_empty() {
            return Ok(None);
        }
        let chunk = self.loss_chunk();
        let mut gained = 0.0;
        for batch in &measured {
            for piece in pieces(batch, self.size_of(batch), model.computing) {
                let work = || {
                    let batch = &*arranged(model, objective, &piece.batch, true);
                    let reference = reference_log_probs(model, objective, batch, chunk);
                    gain(model, batch, &reference.unwrap_or_default(), chunk)
                };
                let done = device::attempt(self.on_gpu(), work);
                gained += done.map_err(|failure| self.stopped(failure))?;
            }
        }
        Ok(objective.knowing(gained, &measured))
    }
}
