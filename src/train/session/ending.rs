//! How a run ends: early, if validation no longer improves, and with the best of its checkpoints as
//! the result, if that is asked.

use std::path::PathBuf;

use super::{Record, Session};
use crate::artifact::provenance::CheckpointRecord;
use crate::checkpoint::{
    EarlyStopping, HistoryEntry, HistoryEvent, RestoredCheckpoint, best_first, folder_name,
    manifest_digest, newest, restore_weights,
};
use crate::config::EvalConfig;
use crate::engine::Trainer;
use crate::error::Result;
use crate::event::{Evaluation, Event, Observer};
use crate::train::Prepared;

/// The checkpoint that the result is made of, in place of the last one.
#[derive(Debug, Clone)]
pub struct BestCheckpoint {
    /// Its step.
    pub step: u64,
    /// Its folder.
    pub folder: PathBuf,
}

/// When the settings end a run before its last step.
pub fn early_stopping(eval: &EvalConfig) -> Option<EarlyStopping> {
    let threshold = eval.early_stopping_threshold.unwrap_or(0.0);
    eval.early_stopping_patience.map(|patience| EarlyStopping { patience, threshold })
}

impl Record {
    /// The validation of the weights that are the result, or else the newest.
    pub fn evaluated(&self) -> Option<&Evaluation> {
        match &self.best {
            Some(best) => self.evaluations.iter().find(|found| found.step == best.step),
            None => self.evaluations.last(),
        }
    }

    /// The checkpoint that the result is made of, where it is not the last one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn result_checkpoint(&self) -> Result<Option<CheckpointRecord>> {
        let record = |best: &BestCheckpoint| {
            let (name, step) = (folder_name(best.step), best.step);
            Ok(CheckpointRecord { name, step, manifest: manifest_digest(&best.folder)? })
        };
        self.best.as_ref().map(record).transpose()
    }
}

impl Session<'_> {
    /// Whether validation has not improved for as long as the settings allow.
    pub fn is_over(&self) -> bool {
        let stopping = early_stopping(&self.config.eval);
        stopping.is_some_and(|it| it.stopped_at(&self.evaluations).is_some())
    }

    /// Whether the result would be made of this step, if the run ended here.
    pub fn is_best(&self, step: u64) -> bool {
        self.config.eval.load_best_model_at_end
            && best_first(&self.evaluations).first().is_some_and(|best| best.step == step)
    }

    /// Measures, asks and saves at the end of a run, and puts the weights that are the result into
    /// the trainer.
    ///
    /// # Errors
    /// When one of these fails.
    pub fn conclude(
        &mut self,
        prepared: &Prepared,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let last = trainer.step;
        self.validate(prepared, trainer, observer)?;
        if last < prepared.total_steps {
            self.tell_of_stop(last, prepared.total_steps, observer)?;
        }
        self.best = self.best_checkpoint(last, observer)?;
        let Some(best) = self.best.clone() else {
            self.evaluate(prepared, trainer, observer)?;
            self.save_now(trainer, prepared, observer)?;
            trainer.use_averaged();
            return self.note_end(last, observer);
        };
        // The run could go on from its last checkpoint, which has the answers of the result.
        let mut job = self.job_of_now(trainer, prepared, observer)?;
        let found = RestoredCheckpoint::open(&best.folder)?;
        restore_weights(&found, &mut trainer.model)?;
        if self.samples.last().is_none_or(|sample| sample.step != last) {
            self.answer(prepared, trainer, observer)?;
        }
        job.snapshot.state.samples.clone_from(&self.samples);
        self.commit(&job, observer)?;
        self.note_end(last, observer)
    }

    /// The best checkpoint, where it is another than the last.
    fn best_checkpoint(
        &mut self,
        last: u64,
        observer: &mut dyn Observer,
    ) -> Result<Option<BestCheckpoint>> {
        if !self.config.eval.load_best_model_at_end {
            return Ok(None);
        }
        self.saving.make_ready(observer)?;
        let saved = newest(self.run.root())?;
        for (place, found) in best_first(&self.evaluations).into_iter().enumerate() {
            let step = found.step;
            let folder = saved.iter().find(|(at, _)| *at == step).map(|(_, folder)| folder.clone());
            let whole = folder.filter(|folder| RestoredCheckpoint::open(folder).is_ok());
            let what = match (step == last, &whole) {
                (true, _) => format!("step {step}, the last one"),
                (false, Some(_)) => format!("step {step}"),
                (false, None) => continue,
            };
            let said = found.described();
            let best = if found.reward().is_some() { "greatest" } else { "least" };
            observer.on(match place {
                0 => Event::Note(format!("the result is {what}, with the {best} {said}")),
                _ => Event::Warning(format!(
                    "the result is {what}, with {said}: of better ones there is no intact \
                     checkpoint"
                )),
            });
            let Some(folder) = whole.filter(|_| step != last) else { return Ok(None) };
            self.note_once(HistoryEntry {
                manifest: Some(manifest_digest(&folder)?),
                why: Some(said),
                ..HistoryEntry::new(HistoryEvent::Best, step)
            })?;
            return Ok(Some(BestCheckpoint { step, folder }));
        }
        Ok(None)
    }

    fn tell_of_stop(&self, step: u64, total: u64, observer: &mut dyn Observer) -> Result<()> {
        let Some(EarlyStopping { patience, threshold }) = early_stopping(&self.config.eval) else {
            return Ok(());
        };
        let by = if threshold > 0.0 { format!(" by more than {threshold}") } else { String::new() };
        let times = if patience == 1 { "validation" } else { "validations in a row" };
        let why = format!("the loss did not improve{by} in {patience} {times}");
        let what = format!("stopped early after step {step} of {total}");
        observer.on(Event::Note(format!("{what}: {why} (`eval.early_stopping_patience`)")));
        let entry = HistoryEntry::new(HistoryEvent::StoppedEarly, step);
        self.note_once(HistoryEntry { why: Some(why), ..entry })
    }

    /// Notes what an earlier process, which was killed after it, may have noted.
    fn note_once(&self, entry: HistoryEntry) -> Result<()> {
        let known = self.history.entries()?;
        match known.iter().any(|old| old.what == entry.what && old.step == entry.step) {
            true => Ok(()),
            false => self.history.note(&entry),
        }
    }
}
