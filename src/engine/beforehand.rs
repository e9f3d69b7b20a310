//! What an objective wants to know of a whole step before any micro-batch of it is differentiated.

use crate::data::Batch;
use crate::device;
use crate::engine::Trainer;
use crate::engine::reference::{gain, reference_log_probs};
use crate::engine::sizes::pieces;
use crate::engine::trainer::Stopped;
use crate::objectives::Objective;

impl Trainer {
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
        let split = self.micro_batch_split;
        let chunk = split.loss_chunk.unwrap_or(usize::MAX).min(self.settings.loss_chunk_tokens);
        let mut gained = 0.0;
        for batch in &measured {
            for piece in pieces(batch, self.size_of(batch), model.computing) {
                let work = || {
                    let batch = &*objective.arrange(&piece.batch);
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
