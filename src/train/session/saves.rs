//! When a checkpoint is made, and what of a run goes into it.

use std::time::{Duration, Instant};

use super::Session;
use crate::checkpoint::{
    self, HistoryEntry, HistoryEvent, Job, LinesState, Retention, RunState, Snapshot,
    batches_digest, check_free,
};
use crate::config::OnDiskFull;
use crate::device;
use crate::engine::Trainer;
use crate::error::{Error, Result};
use crate::event::{Event, Observer, Stop, bytes};
use crate::train::Prepared;

impl Session<'_> {
    /// Is there room for the checkpoints of this run?
    pub(super) fn check_room(&self, prepared: &Prepared) -> Result<()> {
        let one = prepared.checkpoint_bytes();
        let retention = self.retention();
        if let Some(budget) = retention.budget
            && retention.least_bytes(one) > budget
        {
            return Err(Error::config("`checkpoint.disk_budget` is too small for this run")
                .because(format!(
                    "`checkpoint.keep_last` = {}{} and one that is written take about {}, and {} \
                     are allowed",
                    retention.keep_last,
                    if retention.best_is_result { ", the best one" } else { "" },
                    bytes(retention.least_bytes(one)),
                    bytes(budget)
                ))
                .hint("raise it, or keep fewer"));
        }
        match self.config.checkpoint.on_disk_full {
            OnDiskFull::Stop => check_free(self.run.root(), one),
            OnDiskFull::Wait | OnDiskFull::Continue => Ok(()),
        }
    }

    fn retention(&self) -> Retention {
        let config = &self.config.checkpoint;
        Retention {
            keep_last: config.keep_last,
            keep_every: config.keep_every,
            keep_best: config.keep_best,
            best_is_result: self.config.eval.load_best_model_at_end,
            budget: config.disk_budget,
        }
    }

    /// Between two steps: hears of the save in flight, and saves and stops if that is asked.
    pub fn pause_if_asked(
        &mut self,
        trainer: &mut Trainer,
        prepared: &Prepared,
        grace: Duration,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if self.saving.poll(observer)? {
            self.save_now(trainer, prepared, observer)?;
        }
        if trainer.step == prepared.total_steps || self.is_over() {
            return Ok(());
        }
        let Some(stop) = observer.stop_requested() else { return Ok(()) };
        let seconds = self.saving.last_seconds;
        if stop == Stop::Terminate && seconds >= grace.as_secs_f64() {
            self.saving.make_ready(observer)?;
            observer.on(Event::Warning(format!(
                "stopping without saving: the last save took {seconds:.1} s, and the grace is {} s",
                grace.as_secs()
            )));
        } else {
            self.save_now(trainer, prepared, observer)?;
        }
        self.paused = Some(stop);
        // For people who look at it later; what counts is saved.
        if let Err(error) =
            self.history.note(&HistoryEntry::new(HistoryEvent::Interrupted, self.saved_step()))
        {
            observer.on(Event::Warning(error.into_what()));
        }
        Ok(())
    }

    /// The step that the run would go on after.
    pub fn saved_step(&self) -> u64 {
        self.saving.saved_step.unwrap_or(0)
    }

    /// Begins a checkpoint of the steps done so far; it is written while training goes on.
    pub fn save(
        &mut self,
        trainer: &mut Trainer,
        prepared: &Prepared,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.finish_pending_step(observer)?;
        let began = Instant::now();
        self.saving.make_ready(observer)?;
        match self.job(trainer, prepared, false) {
            Ok(job) => self.saving.begin(job, began),
            Err(error) => self.saving.finish_pending_step(Err(error), observer)?,
        }
        Ok(())
    }

    /// Commits a checkpoint of the steps done so far.
    pub fn save_now(
        &mut self,
        trainer: &mut Trainer,
        prepared: &Prepared,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.finish_pending_step(observer)?;
        observer.on(Event::Doing(format!("the save of step {}", trainer.step)));
        self.saving.supersede(observer)?;
        loop {
            let hurry =
                matches!(observer.stop_requested(), Some(Stop::Interrupt | Stop::Terminate));
            let saved = self.job(trainer, prepared, hurry).and_then(|job| job.commit());
            match saved {
                Ok(saved) => {
                    self.saving.tell(saved, observer);
                    return Ok(());
                }
                Err(error) => self.saving.wait_or_give_up(error, observer)?,
            }
        }
    }

    /// All that a checkpoint of this moment holds; waited for, where the disk lacks the room for
    /// the metrics before it.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(super) fn job_of_now(
        &mut self,
        trainer: &mut Trainer,
        prepared: &Prepared,
        observer: &mut dyn Observer,
    ) -> Result<Job> {
        self.finish_pending_step(observer)?;
        self.saving.supersede(observer)?;
        loop {
            match self.job(trainer, prepared, false) {
                Ok(job) => return Ok(job),
                Err(error) => self.saving.wait_or_give_up(error, observer)?,
            }
        }
    }

    /// Commits a checkpoint.
    ///
    /// # Errors
    /// When it cannot be written, and is not waited for.
    pub(super) fn commit(&mut self, job: &Job, observer: &mut dyn Observer) -> Result<()> {
        observer.on(Event::Doing(format!("the save of step {}", job.snapshot.state.step)));
        loop {
            match job.commit() {
                Ok(saved) => {
                    self.saving.tell(saved, observer);
                    return Ok(());
                }
                Err(error) => self.saving.wait_or_give_up(error, observer)?,
            }
        }
    }

    /// All that a checkpoint holds, in host memory; in a `hurry`, without what must be waited for.
    fn job(&mut self, trainer: &mut Trainer, prepared: &Prepared, hurry: bool) -> Result<Job> {
        let (metrics_bytes, metrics_sha256, metrics) = self.metrics.lines()?;
        let written = self.rollouts_file().map(|file| file.lines()).transpose()?;
        let mut ahead = self.cursor;
        let wanted = trainer.step < prepared.total_steps
            && (!hurry || prepared.plan.is_at_hand(&self.cursor));
        // Data that cannot be had now must not cost the steps that are done.
        let next = match wanted {
            true => prepared.take(&mut ahead).ok().map(|batches| batches_digest(&batches)),
            false => None,
        };
        let state = RunState {
            format: checkpoint::FORMAT,
            step: trainer.step,
            updates: trainer.optimizer.updates(),
            cursor: self.cursor,
            metrics_bytes,
            metrics_sha256: Some(metrics_sha256),
            rollouts: written
                .as_ref()
                .map(|(bytes, sha256, _)| LinesState { bytes: *bytes, sha256: *sha256 }),
            target_tokens: self.target_tokens,
            tokens: self.tokens,
            evaluations: self.evaluations.clone(),
            samples: self.samples.clone(),
            files: prepared.corpus.files(),
            chain: self.chain,
            made_by: self.made_by,
            next_batches: next,
            loss_scale: trainer.loss_scale,
            division: (!trainer.micro_batch_split.is_none()).then_some(trainer.micro_batch_split),
            identity: self.identity.clone(),
        };
        Ok(Job {
            root: self.run.root().to_owned(),
            snapshot: device::guarded(prepared.on_gpu(), "saving", || {
                Snapshot::of(trainer, state)
            })?,
            metrics,
            rollouts: written.map(|(_, _, lines)| lines),
            retention: self.retention(),
            // What another program or machine has begun is not what it would be filed under.
            shelf: self
                .shelf
                .clone()
                .filter(|_| self.made_by.is_some())
                .map(|shelf| (shelf, self.config.name.clone())),
            mirror: self.mirror.clone(),
            uploads: self.saving.uploads.clone(),
        })
    }
}
