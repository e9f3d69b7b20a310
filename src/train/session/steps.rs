//! Steps one after the other. On a GPU the numbers of a step are looked at when the next one was
//! begun, so that the device always has something to do.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Session;
use super::rollouts::StepRows;
use crate::checkpoint::{HistoryEntry, HistoryEvent};
use crate::data::Batch;
use crate::engine::{InFlight, Size, Trainer};
use crate::error::{ErrorCode, Result};
use crate::event::{Event, Observer, StepReport};
use crate::train::Prepared;

/// Steps that are looked ahead for the sizes of their micro-batches.
const LOOK_AHEAD: u64 = 64;

/// A step that was begun.
pub struct PendingStep {
    step: InFlight,
    rows: StepRows,
}

impl Session<'_> {
    /// Makes the next step, or begins it where the device is not waited for.
    ///
    /// # Errors
    /// When there is no data for it, or it or the one before it fails.
    pub fn step(
        &mut self,
        prepared: &Prepared,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        observer.on(Event::Doing(format!("step {}", trainer.step + 1)));
        let rows = match self.on_policy {
            Some(_) => self.rows_for_teacher(prepared, trainer, observer)?,
            None => self.rows(prepared, trainer, observer)?,
        };
        if prepared.on_gpu() {
            self.warm_up(trainer.new_sizes(&rows.batches), trainer, observer)?;
        }
        let before = trainer.micro_batch_split;
        let epoch = prepared.plan.epochs_at(&self.cursor)?;
        let step = match trainer.begin(&rows.batches, epoch, prepared.on_gpu()) {
            Ok(step) => step,
            Err(error) => {
                // What was wrong with the step before is the better reason.
                self.finish_pending_step(observer)?;
                return Err(error);
            }
        };
        if trainer.micro_batch_split != before {
            self.divided(trainer, false, observer)?;
        }
        observer.on(Event::Begun(trainer.step));
        let waits = step.waits();
        self.finish_pending_step(observer)?;
        self.under_way = Some(PendingStep { step, rows });
        if waits { Ok(()) } else { self.finish_pending_step(observer) }
    }

    /// Waits for the step that is under way, if one is, and writes down what came of it.
    ///
    /// # Errors
    /// When it failed, or cannot be written down.
    pub fn finish_pending_step(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let Some(PendingStep { step, rows }) = self.under_way.take() else {
            return Ok(());
        };
        let (waits, began) = (step.waits(), step.began);
        let (mut report, mut timing) = step.finish()?;
        report.metrics.extend(rows.metrics);
        timing.data_seconds = rows.seconds;
        if self.writes_rows() {
            timing.step_seconds += rows.seconds; // most of the work of such a step
        }
        timing.save_seconds = self.saving.stood_still().as_secs_f64();
        let now = Instant::now();
        if waits {
            // The device began with it when it was done with the one before.
            let from = self.settled.map_or(began, |settled| settled.max(began));
            timing.step_seconds = now.duration_since(from).as_secs_f64();
        }
        self.settled = Some(now);
        self.record(&report, &rows.batches, observer)?;
        observer.on(Event::Step(report, timing));
        Ok(())
    }

    /// Compiles kernels on a GPU for the micro-batches of the steps to come, as far as those are at
    /// hand.
    ///
    /// # Errors
    /// When the device fails.
    pub fn warm_up_ahead(
        &mut self,
        prepared: &Prepared,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        // Rows that the model writes itself have sizes that nobody knows.
        if !prepared.on_gpu() || self.writes_rows() {
            return Ok(());
        }
        let (mut cursor, mut sizes) = (self.cursor, BTreeSet::new());
        let steps = prepared.total_steps.saturating_sub(trainer.step).min(LOOK_AHEAD);
        for number in 0..steps {
            if number > 0 && !prepared.plan.is_at_hand(&cursor) {
                break;
            }
            // What is wrong with the data is told when it is needed.
            let Ok(batches) = prepared.take(&mut cursor) else { break };
            sizes.append(&mut trainer.new_sizes(&batches));
        }
        self.warm_up(sizes, trainer, observer)
    }

    fn warm_up(
        &mut self,
        sizes: BTreeSet<Size>,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if sizes.is_empty() {
            return Ok(());
        }
        self.finish_pending_step(observer)?;
        let what = shapes(sizes.iter());
        observer.on(Event::Note(format!("compiling kernels for {what}")));
        let (began, before) = (Instant::now(), trainer.micro_batch_split);
        trainer.warm_up(sizes)?;
        let seconds = began.elapsed().as_secs_f64();
        observer.on(Event::Note(format!("compiling kernels for {what} took {seconds:.1} s")));
        if trainer.micro_batch_split != before {
            self.divided(trainer, true, observer)?;
        }
        Ok(())
    }

    /// The rows of the next step, and the seconds spent on them.
    ///
    /// # Errors
    /// When the data cannot be had. What was trained so far is saved first.
    pub(super) fn next_batches(
        &mut self,
        prepared: &Prepared,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<Batch>, f64)> {
        let began = Instant::now();
        let mut after = self.cursor;
        let taken = prepared.take(&mut after).and_then(|batches| {
            prepared.admit(self.cursor, after, observer)?;
            Ok(batches)
        });
        match taken {
            Ok(batches) => {
                self.cursor = after;
                Ok((batches, began.elapsed().as_secs_f64()))
            }
            Err(error) if trainer.step > 0 => {
                self.save_now(trainer, prepared, observer)?;
                Err(error.hint(format!(
                    "step {} is saved; the same command continues from there",
                    trainer.step
                )))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes one step into the metrics.
    fn record(
        &mut self,
        report: &StepReport,
        batches: &[Batch],
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.target_tokens += report.target_tokens;
        self.tokens += report.tokens;
        self.chain = self.chain.map(|chain| chain.after(report.learning_rate, batches));
        self.append(report, observer)
    }

    /// Writes a line into the metrics.
    pub(super) fn append(
        &mut self,
        line: &impl serde::Serialize,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        match self.metrics.append(line) {
            Ok(()) => self.behind = false,
            // The lines wait in memory; a checkpoint is not made without them.
            Err(error) if error.code == ErrorCode::DiskFull => {
                if !std::mem::replace(&mut self.behind, true) {
                    observer.on(Event::Warning(format!("{}, tried again each step", error.what)));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes down that micro-batches are worked on in smaller parts from now on.
    fn divided(
        &mut self,
        trainer: &Trainer,
        warm: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let why = format!("the device had no memory for more than {}", trainer.micro_batch_split);
        let what = match warm {
            true => "the steps that follow are made so, with the same tokens",
            false => {
                "the step was made again so, with the same tokens, and so are those that follow"
            }
        };
        observer.on(Event::Warning(format!("step {}: {why}; {what}", trainer.step)));
        // Its numbers are rounded otherwise than those of a run that had the memory.
        self.made_by = None;
        self.history.note(&HistoryEntry {
            why: Some(why),
            ..HistoryEntry::new(HistoryEvent::Divided, trainer.step)
        })
    }
}

/// `2 shapes: 4 rows of 64 tokens, 4 rows of 128 tokens`
fn shapes<'a>(sizes: impl ExactSizeIterator<Item = &'a Size>) -> String {
    let count = sizes.len();
    let each = |Size { rows, length }: &Size| match rows {
        1 => format!("1 row of {length} tokens"),
        _ => format!("{rows} rows of {length} tokens"),
    };
    let list: Vec<String> = sizes.map(each).collect();
    let noun = if count == 1 { "shape" } else { "shapes" };
    format!("{count} {noun}: {}", list.join(", "))
}
