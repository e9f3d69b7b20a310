//! Steps on what the model writes itself: completions are written, valued and written down before
//! the first of the steps that are made with them. Whoever goes on in between finds them in the run
//! directory, since the model that wrote them is no more.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use super::Session;
use crate::checkpoint::{LinesState, Metrics};
use crate::config::RunConfig;
use crate::data::Batch;
use crate::device;
use crate::engine::Trainer;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::event::{Event, Observer};
use crate::files::RunDirectory;
use crate::rollouts::{
    RolloutGroup, RolloutWriter, prompts_of, rows_of, summary, validation_summary,
};
use crate::train::Prepared;
use crate::train::read_data::rows_per_step;

/// What a run that learns from its own completions carries from step to step.
pub struct Rollouts {
    writer: RolloutWriter,
    /// `rollouts.jsonl`.
    pub(super) file: Metrics,
    held: Option<HeldRows>,
}

/// The rows of the steps that are made with the same completions.
struct HeldRows {
    /// The first of the steps, from 1.
    step: u64,
    batches: Vec<Batch>,
    metrics: BTreeMap<String, f64>,
}

/// The rows of a step.
pub struct StepRows {
    /// Micro-batches.
    pub batches: Vec<Batch>,
    /// Seconds that it took to have them.
    pub seconds: f64,
    /// What is reported of the step beside what the objective reports.
    pub metrics: BTreeMap<String, f64>,
}

impl Rollouts {
    /// For an objective that wants them: after `step` steps, with the file as the checkpoint has
    /// it.
    ///
    /// # Errors
    /// When a reward cannot be used, or the file is not that of the checkpoint.
    pub fn open(
        run: &RunDirectory,
        config: &RunConfig,
        trainer: &Trainer,
        (step, saved): (u64, Option<LinesState>),
    ) -> Result<Option<Self>> {
        let Some(settings) = trainer.objective.rollouts() else { return Ok(None) };
        let writer = RolloutWriter::new(settings, config.seed, config.data.max_seq_len)?;
        let path = run.rollouts();
        let (bytes, sha256) = saved.map_or((0, None), |it| (it.bytes, Some(it.sha256)));
        let file = Metrics::rollouts_at(&path, bytes, sha256)?;
        let begun = step - step % settings.num_iterations + 1;
        let held = if begun <= step { Some(read(&path, begun, config, &writer)?) } else { None };
        Ok(Some(Self { writer, file, held }))
    }

    /// The rows that were written for this step, or for an earlier one that it goes on from.
    fn held_for(&self, step: u64) -> Option<&HeldRows> {
        let iterations = self.writer.config().num_iterations;
        self.held.as_ref().filter(|held| (held.step..held.step + iterations).contains(&step))
    }
}

/// The rows of a step, from the lines that were written for it.
fn read(path: &Path, step: u64, config: &RunConfig, writer: &RolloutWriter) -> Result<HeldRows> {
    let file = fs::File::open(path).context_at("cannot read the rollouts", path)?;
    let mut groups = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.context_at("cannot read the rollouts", path)?;
        let group: RolloutGroup =
            serde_json::from_str(&line).context_at("broken rollouts", path)?;
        if group.step == step {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        return Err(Error::checkpoint(format!("there are no rollouts of step {step}"))
            .at(path)
            .hint("restore the file, or start a new run"));
    }
    Ok(HeldRows::new(step, &groups, config, writer))
}

impl HeldRows {
    fn new(step: u64, groups: &[RolloutGroup], config: &RunConfig, of: &RolloutWriter) -> Self {
        let rows = config.train.micro_batch_size;
        let batches = rows_of(groups, rows, of.config().mask_truncated);
        Self { step, batches, metrics: summary(groups) }
    }
}

impl Session<'_> {
    /// The rows of the next step: those of the data, or what the model writes to their prompts.
    ///
    /// # Errors
    /// When the data cannot be had, or completions cannot be written or valued.
    pub(super) fn rows(
        &mut self,
        prepared: &Prepared,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<StepRows> {
        let step = trainer.step + 1;
        if self.rollouts.as_ref().is_some_and(|rollouts| rollouts.held_for(step).is_none()) {
            let began = Instant::now();
            let (prompts, _) = self.next_batches(prepared, trainer, observer)?;
            self.finish_pending_step(observer)?;
            let groups = self.write_rollouts(&prompts, prepared, trainer, observer)?;
            if let Some(rollouts) = &mut self.rollouts {
                let held = HeldRows::new(step, &groups, self.config, &rollouts.writer);
                let rows = StepRows {
                    batches: held.batches.clone(),
                    seconds: began.elapsed().as_secs_f64(),
                    metrics: held.metrics.clone(),
                };
                rollouts.held = Some(held);
                return Ok(rows);
            }
        }
        match self.rollouts.as_ref().and_then(|rollouts| rollouts.held_for(step)) {
            Some(HeldRows { batches, metrics, .. }) => {
                let (batches, metrics) = (batches.clone(), metrics.clone());
                Ok(StepRows { batches, seconds: 0.0, metrics })
            }
            None => {
                let (batches, seconds) = self.next_batches(prepared, trainer, observer)?;
                Ok(StepRows { batches, seconds, metrics: BTreeMap::new() })
            }
        }
    }

    /// What completions of the validation's prompts are worth, one of each, drawn as those that the
    /// run learns from; by name.
    pub(super) fn validation_rewards(
        &self,
        prepared: &Prepared,
        trainer: &Trainer,
        observer: &mut dyn Observer,
    ) -> Result<BTreeMap<String, f64>> {
        let Some(Rollouts { writer, .. }) = &self.rollouts else { return Ok(BTreeMap::new()) };
        let prompts = prompts_of(&prepared.validation);
        let (step, all) = (trainer.step, prompts.len());
        let mut watch = |done: usize| {
            let what = format!("completion {done} of {all} for the validation after step {step}");
            observer.on(Event::Doing(what));
        };
        let by = (&trainer.model, &*prepared.corpus.codec);
        let groups = device::guarded(prepared.on_gpu(), "writing completions", || {
            writer.write_for_validation(by, &prompts, &mut watch)
        })??;
        Ok(validation_summary(&groups))
    }

    /// Has the model write completions of the next step, and writes them down.
    fn write_rollouts(
        &mut self,
        prompts: &[Batch],
        prepared: &Prepared,
        trainer: &Trainer,
        observer: &mut dyn Observer,
    ) -> Result<Vec<RolloutGroup>> {
        let Some(rollouts) = &mut self.rollouts else { return Ok(Vec::new()) };
        let (step, writer) = (trainer.step + 1, &rollouts.writer);
        let prompts = prompts_of(prompts);
        let most = usize::try_from(rows_per_step(self.config)).unwrap_or(usize::MAX);
        let all = prompts.len() * writer.config().num_generations;
        let up_to = if prompts.len() > most { "up to " } else { "" };
        let what = |done: usize| format!("completion {done} of {up_to}{all} for step {step}");
        observer.on(Event::Doing(what(0)));
        let mut watch = |done: usize| observer.on(Event::Doing(what(done)));
        let codec = &prepared.corpus.codec;
        let mut groups = device::guarded(prepared.on_gpu(), "writing completions", || {
            writer.write((&trainer.model, codec), step, &prompts, most, &mut watch)
        })??;
        if writer.config().num_iterations > 1 {
            let held = HeldRows::new(step, &groups, self.config, writer);
            let mut log_probs = trainer.log_probs(&held.batches)?.into_iter();
            let used = groups.iter_mut().filter(|group| !group.unused);
            for completion in used.flat_map(|group| &mut group.completions) {
                let count = completion.tokens.len();
                completion.log_probs = Some(log_probs.by_ref().take(count).collect());
            }
        }
        for group in &groups {
            match rollouts.file.append(group) {
                Ok(()) => {}
                // The lines wait in memory; a checkpoint is not made without them.
                Err(error) if error.code == ErrorCode::DiskFull => {
                    observer.on(Event::Warning(format!("{}, tried again later", error.what)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(groups)
    }
}
