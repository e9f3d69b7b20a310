//! What a run carries from step to step besides the trainer: position, records, what was said.

mod ending;
mod judging;
mod on_policy;
mod rollouts;
mod saves;
mod start;
mod steps;

use crate::train::resume::Resume;
use std::time::Instant;

pub use self::ending::{BestCheckpoint, early_stopping};
use self::on_policy::OnPolicy;
use self::rollouts::Rollouts;
use self::start::Entered;
use self::steps::PendingStep;
use crate::artifact::score_head;
use crate::checkpoint::{
    self, Chain, History, HistoryEntry, HistoryEvent, Identity, IdentityPart, Metrics, Mirror,
    RestoredCheckpoint, StepCache, batches_digest, manifest_digest,
};
use crate::config::RunConfig;
use crate::data::Cursor;
use crate::engine::Trainer;
use crate::error::{Error, Result};
use crate::evaluation::Report;
use crate::event::{Evaluation, Event, Observer, Sample, Stop};
use crate::files::{Digest, RunDirectory, write_atomic};
use crate::train::saving::Saving;
use crate::train::{Prepared, Request, reuse};

/// What a finished session leaves for the artifact.
#[derive(Debug, Clone)]
pub struct Record {
    /// Everything that happened to the run.
    pub history: Vec<HistoryEntry>,
    /// Validation results, oldest first.
    pub evaluations: Vec<Evaluation>,
    /// Answers, oldest first.
    pub samples: Vec<Sample>,
    /// Target tokens.
    pub target_tokens: u64,
    /// All tokens.
    pub tokens: u64,
    /// The checkpoint that the result is made of, where it is not the last one.
    pub best: Option<BestCheckpoint>,
    /// What the suite of the configuration says of the model, if there is one.
    pub judged: Option<Report>,
}

/// The changing part of a run.
pub struct Session<'a> {
    run: &'a RunDirectory,
    config: &'a RunConfig,
    identity: Identity,
    history: History,
    metrics: Metrics,
    /// What the model writes itself, where the objective wants that.
    rollouts: Option<Rollouts>,
    /// The same, where a teacher scores it.
    on_policy: Option<OnPolicy>,
    saving: Saving,
    shelf: Option<StepCache>,
    mirror: Option<Mirror>,
    cursor: Cursor,
    chain: Option<Chain>,
    /// Settings, program and kind of device, if all steps so far had the same.
    made_by: Option<Digest>,
    evaluations: Vec<Evaluation>,
    samples: Vec<Sample>,
    target_tokens: u64,
    tokens: u64,
    /// Whether the last line of the metrics is still to be written.
    behind: bool,
    /// The step that was begun last, until its numbers are known.
    under_way: Option<PendingStep>,
    /// When those of the one before were.
    settled: Option<Instant>,
    /// The checkpoint that the result is made of, once that is known.
    best: Option<BestCheckpoint>,
    /// Set when the run was asked to stop.
    pub paused: Option<Stop>,
}

impl<'a> Session<'a> {
    /// Goes on from a checkpoint, or begins: with steps that another run has computed, or again.
    pub fn open(
        run: &'a RunDirectory,
        request: &'a Request,
        prepared: &Prepared,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let config = &request.loaded.config;
        let identity = prepared.identity(request.loaded)?;
        let made_by = reuse::made_by(prepared, request.loaded, &identity)?;
        let shelf = reuse::shelf(made_by, config, &request.access)?;
        // What the model writes itself no chain of rows knows beforehand.
        let chain = (!trainer.objective.writes_rows()).then(Chain::default);
        let mut found = match &request.resume {
            Resume::From(folder) => Some(RestoredCheckpoint::open(folder)?),
            Resume::Auto | Resume::Never => RestoredCheckpoint::in_run(run)?,
        };
        let history = History::of(run.root());
        if found.is_none() || !run.join("config.toml").exists() {
            write_atomic(&run.join("config.toml"), request.loaded.canonical.as_bytes())?;
            if let Some(of) = &prepared.score_head {
                score_head::write(run.root(), &of.head, None)?;
            }
            prepared.lock().write(&run.data_lock())?;
            history.note(&HistoryEntry::new(HistoryEvent::Begun, 0))?;
        }
        if found.is_none()
            && request.resume == Resume::Auto
            && let Some(shelf) = &shelf
            && reuse::adopt(shelf, run, prepared, &identity, observer)?
        {
            found = RestoredCheckpoint::in_run(run)?;
        }
        let entered = found.map(|found| start::enter(found, run, request, prepared, observer));
        let entered = entered.transpose()?;
        let (lines, digest) = entered.as_ref().map_or((0, None), |entered| {
            (entered.found.state.metrics_bytes, entered.found.state.metrics_sha256)
        });
        let written = entered
            .as_ref()
            .map_or((0, None), |entered| (entered.found.state.step, entered.found.state.rollouts));
        let mut session = Self {
            run,
            config,
            identity,
            history,
            metrics: Metrics::open_at(&run.metrics(), lines, digest)?,
            rollouts: Rollouts::open(run, config, trainer, written)?,
            on_policy: OnPolicy::open(run, config, trainer, written.1)?,
            saving: Saving::new(config.checkpoint.on_disk_full),
            shelf,
            mirror: None,
            cursor: Cursor::default(),
            chain,
            made_by,
            evaluations: Vec::new(),
            samples: Vec::new(),
            target_tokens: 0,
            tokens: 0,
            behind: false,
            under_way: None,
            settled: None,
            best: None,
            paused: None,
        };
        if let Some(entered) = entered {
            session.go_on(entered, trainer, prepared, observer)?;
        }
        session.check_room(prepared)?;
        Ok(session)
    }

    fn go_on(
        &mut self,
        Entered { found, changes }: Entered,
        trainer: &mut Trainer,
        prepared: &Prepared,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        checkpoint::restore(&found, trainer)?;
        let manifest = manifest_digest(&found.folder)?;
        let folder = found.folder.display();
        let (step, total) = (found.state.step, prepared.total_steps);
        observer.on(Event::Note(format!("continuing after step {step} of {total}, from {folder}")));
        let state = match step < total {
            true => found.state.in_the_middle(self.config.eval.every_steps),
            false => found.state,
        };
        prepared.corpus.remember(&state.files);
        self.saving.saved_step = Some(step);
        self.cursor = state.cursor;
        self.chain = state.chain;
        self.made_by = self.made_by.filter(|now| state.made_by == Some(*now));
        self.evaluations = state.evaluations;
        self.samples = state.samples;
        self.target_tokens = state.target_tokens;
        self.tokens = state.tokens;
        self.history.note(&HistoryEntry {
            manifest: Some(manifest),
            ..HistoryEntry::new(HistoryEvent::Resumed, step)
        })?;
        if !changes.has(IdentityPart::Data) {
            return self.expected(state.next_batches, prepared);
        }
        if step < total && prepared.plan.epochs_at(&self.cursor).is_err() {
            let epoch = self.cursor.epoch + 1;
            self.cursor = Cursor { epoch, ..Cursor::default() };
            observer.on(Event::Note(format!("the data ends before that; epoch {epoch} begins")));
        }
        Ok(())
    }

    /// The next rows must be those that the interrupted run would have taken.
    fn expected(&self, expected: Option<Digest>, prepared: &Prepared) -> Result<()> {
        let mut cursor = self.cursor;
        let Some(expected) = expected else {
            return Ok(());
        };
        let next = batches_digest(&prepared.take(&mut cursor)?);
        if next == expected {
            return Ok(());
        }
        Err(Error::checkpoint("the data does not continue where the checkpoint stopped")
            .because(format!("the next rows have the digest {next}, not {expected}"))
            .hint("this is a defect of Firebrand if no file was changed: please report it"))
    }

    /// `rollouts.jsonl`, in a run of which the model writes rows itself.
    fn rollouts_file(&mut self) -> Option<&mut Metrics> {
        let of_rewards = self.rollouts.as_mut().map(|rollouts| &mut rollouts.file);
        of_rewards.or(self.on_policy.as_mut().map(|on_policy| &mut on_policy.file))
    }

    /// Whether rows are such as nobody knows beforehand.
    fn writes_rows(&self) -> bool {
        self.rollouts.is_some() || self.on_policy.is_some()
    }

    /// Has nothing happened yet?
    pub fn is_new(&self) -> bool {
        self.evaluations.is_empty() && self.samples.is_empty() && self.tokens == 0
    }

    /// Has checkpoints go to a mirror as well.
    pub fn mirror_to(&mut self, mirror: Option<&Mirror>) {
        self.mirror = mirror.cloned();
    }

    /// Waits until stores have what is saved, and says what was asked of the one that has steps of
    /// other machines.
    pub fn tell_of_stores(&mut self, observer: &mut dyn Observer) {
        self.saving.finish_uploads(observer);
        if let Some(shared) = self.shelf.as_ref().and_then(StepCache::shared) {
            let (store, traffic) = (shared.store().address(), shared.store().traffic());
            if traffic.requests() > 0 {
                observer.on(Event::Note(format!("{store}: {traffic}")));
            }
        }
    }

    /// What the artifact needs to know about the run.
    pub fn finish(mut self, observer: &mut dyn Observer) -> Result<Record> {
        self.tell_of_stores(observer);
        if let Some(summary) = self.saving.summary() {
            observer.on(Event::Note(summary));
        }
        Ok(Record {
            history: self.history.entries()?,
            evaluations: self.evaluations,
            samples: self.samples,
            target_tokens: self.target_tokens,
            tokens: self.tokens,
            best: self.best,
            judged: None,
        })
    }
}
