//! Steps that learn from a teacher in memory: in some of them the model answers the prompts of the
//! rows itself, and the teacher scores these answers. They are written down, and are learnt from
//! once: whoever goes on after a step draws the next ones as a run that was not stopped.

use std::time::Instant;

use super::Session;
use super::rollouts::StepRows;
use crate::checkpoint::{LinesState, Metrics};
use crate::config::RunConfig;
use crate::data::{Batch, Packing};
use crate::device;
use crate::engine::Trainer;
use crate::error::{ErrorCode, Result};
use crate::event::{Event, Observer};
use crate::files::RunDirectory;
use crate::rollouts::{OnPolicyAnswer, OnPolicyWriter, last_answers_of, on_policy_summary};
use crate::train::Prepared;

/// What a run carries from step to step whose model answers prompts itself.
pub struct OnPolicy {
    writer: OnPolicyWriter,
    /// `rollouts.jsonl`.
    pub(super) file: Metrics,
}

impl OnPolicy {
    /// For an objective that wants it, with the file as the checkpoint has it.
    ///
    /// # Errors
    /// When the file is not that of the checkpoint.
    pub fn open(
        run: &RunDirectory,
        config: &RunConfig,
        trainer: &Trainer,
        saved: Option<LinesState>,
    ) -> Result<Option<Self>> {
        let Some(settings) = trainer.objective.on_policy() else { return Ok(None) };
        let packing = if config.data.packing { Packing::BestFit } else { Packing::None };
        let writer = OnPolicyWriter::new(settings, config.seed, config.data.max_seq_len, packing);
        let (bytes, sha256) = saved.map_or((0, None), |it| (it.bytes, Some(it.sha256)));
        Ok(Some(Self { writer, file: Metrics::rollouts_at(&run.rollouts(), bytes, sha256)? }))
    }
}

impl Session<'_> {
    /// The rows of the next step with what the teacher says of them: those of the data, or with
    /// the model's own answers.
    ///
    /// # Errors
    /// When the data cannot be had, or answers cannot be written or scored.
    pub(super) fn rows_for_teacher(
        &mut self,
        prepared: &Prepared,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<StepRows> {
        let (mut batches, seconds) = self.next_batches(prepared, trainer, observer)?;
        let (began, step) = (Instant::now(), trainer.step + 1);
        let mut answers = Vec::new();
        if self.on_policy.as_ref().is_some_and(|on_policy| on_policy.writer.writes(step)) {
            self.finish_pending_step(observer)?;
            (batches, answers) = self.answer_prompts(&batches, prepared, trainer, observer)?;
        }
        prepared.score_by_teacher(&mut batches)?;
        let metrics = on_policy_summary(&answers);
        Ok(StepRows { batches, seconds: seconds + began.elapsed().as_secs_f64(), metrics })
    }

    /// Has the model answer the prompts of a step, writes that down, and makes rows of it.
    fn answer_prompts(
        &mut self,
        batches: &[Batch],
        prepared: &Prepared,
        trainer: &Trainer,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<Batch>, Vec<OnPolicyAnswer>)> {
        let Some(OnPolicy { writer, file }) = &mut self.on_policy else {
            return Ok((Vec::new(), Vec::new()));
        };
        let (step, prompts) = (trainer.step + 1, last_answers_of(batches));
        let all = prompts.len();
        let mut watch = |done: usize| {
            observer.on(Event::Doing(format!("answer {done} of {all} for step {step}")));
        };
        let by = (&trainer.model, &*prepared.corpus.codec);
        let answers = device::guarded(prepared.on_gpu(), "answering prompts", || {
            writer.write(by, step, &prompts, &mut watch)
        })??;
        for answer in &answers {
            match file.append(answer) {
                Ok(()) => {}
                // The lines wait in memory; a checkpoint is not made without them.
                Err(error) if error.code == ErrorCode::DiskFull => {
                    observer.on(Event::Warning(format!("{}, tried again later", error.what)));
                }
                Err(error) => return Err(error),
            }
        }
        let rows = writer.rows(&prompts, &answers, self.config.train.micro_batch_size);
        Ok((rows, answers))
    }
}
