//! What a run carries from step to step besides the trainer: position, records, what was said.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, Found, Identity, Metrics, State};
use crate::config::RunConfig;
use crate::data::{Batch, Cursor};
use crate::engine::{self, Trainer};
use crate::error::{Context, Error, Result};
use crate::event::{Evaluation, Event, Observer, Sample, StepReport, Stop};
use crate::files::{Digest, RunDirectory, hash_file, sync_dir, write_atomic};
use crate::model::{Sampling, generate};
use crate::random::Stream;
use crate::train::differences::explain;
use crate::train::{Prepared, Request};

/// How to treat what is already in the run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Go on from the newest whole checkpoint, if there is one.
    Auto,
    /// Begin anew; what is there is moved aside.
    Never,
    /// Go on from this checkpoint folder.
    From(PathBuf),
}

/// One line of `history.jsonl`: what happened to a run, over all its processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// `begun`, `saved` or `resumed`.
    pub what: String,
    /// Steps done.
    pub step: u64,
    /// When, RFC 3339.
    pub time: String,
    /// Digest of the checkpoint's manifest.
    pub manifest: Option<Digest>,
}

/// What a finished session leaves for the artifact.
#[derive(Debug, Clone)]
pub struct Record {
    /// Everything that happened to the run.
    pub history: Vec<Entry>,
    /// Validation results, oldest first.
    pub evaluations: Vec<Evaluation>,
    /// Answers, oldest first.
    pub samples: Vec<Sample>,
    /// Learnt tokens.
    pub target_tokens: u64,
    /// All tokens.
    pub tokens: u64,
}

/// The changing part of a run.
pub struct Session<'a> {
    run: &'a RunDirectory,
    config: &'a RunConfig,
    identity: Identity,
    metrics: Metrics,
    cursor: Cursor,
    evaluations: Vec<Evaluation>,
    samples: Vec<Sample>,
    target_tokens: u64,
    tokens: u64,
    /// Set when the run was asked to stop and everything is saved.
    pub paused: Option<Stop>,
}

impl<'a> Session<'a> {
    /// Goes on from a checkpoint, or begins.
    pub fn open(
        run: &'a RunDirectory,
        request: &'a Request,
        prepared: &Prepared,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let config = &request.loaded.config;
        let identity = prepared.identity(request.loaded)?;
        let found = match &request.resume {
            Resume::From(folder) => Some(Found::open(folder)?),
            Resume::Auto | Resume::Never => Found::in_run(run)?,
        };
        let mut session = Self {
            run,
            config,
            identity,
            metrics: Metrics::open_at(
                &run.metrics(),
                found.as_ref().map_or(0, |found| found.state.metrics_bytes),
            )?,
            cursor: Cursor::default(),
            evaluations: Vec::new(),
            samples: Vec::new(),
            target_tokens: 0,
            tokens: 0,
            paused: None,
        };
        match found {
            Some(found) => session.go_on(&found, trainer, (request, prepared), observer)?,
            None => {
                write_atomic(&run.join("config.toml"), request.loaded.canonical.as_bytes())?;
                prepared.lock().write(&run.data_lock())?;
                session.note("begun", 0, None)?;
            }
        }
        Ok(session)
    }

    fn go_on(
        &mut self,
        found: &Found,
        trainer: &mut Trainer,
        (request, prepared): (&Request, &Prepared),
        observer: &mut dyn Observer,
    ) -> Result<()> {
        for line in &found.set_aside {
            observer.on(Event::Warning(format!("a damaged checkpoint was set aside: {line}")));
        }
        checkpoint::restore(found, &self.identity, trainer)
            .map_err(|error| explain(error, self.run, request, prepared))?;
        let state = found.state.clone();
        observer.on(Event::Note(format!(
            "going on after step {} of {}, from {}",
            state.step,
            prepared.total_steps,
            found.folder.display()
        )));
        prepared.corpus.remember(&state.files);
        self.cursor = state.cursor;
        self.evaluations = state.evaluations;
        self.samples = state.samples;
        self.target_tokens = state.target_tokens;
        self.tokens = state.tokens;
        let manifest = hash_file(&found.folder.join("MANIFEST.json"), "MANIFEST.json")?.sha256;
        self.note("resumed", state.step, Some(manifest))?;
        self.expected(state.next_batches, prepared)
    }

    /// The next rows must be those that the interrupted run would have taken.
    fn expected(&self, expected: Option<Digest>, prepared: &Prepared) -> Result<()> {
        let mut cursor = self.cursor;
        let Some(expected) = expected else {
            return Ok(());
        };
        let next = digest_of(&prepared.take(&mut cursor)?);
        if next == expected {
            return Ok(());
        }
        Err(Error::new("the data does not continue where the checkpoint stopped")
            .because(format!("the next rows have the digest {next}, not {expected}"))
            .hint("this is a defect of Firebrand if no file was changed: please report it"))
    }

    /// Has nothing happened yet?
    pub fn is_new(&self) -> bool {
        self.evaluations.is_empty() && self.samples.is_empty() && self.tokens == 0
    }

    /// The rows of the next step, and the seconds spent on them.
    ///
    /// # Errors
    /// When the data cannot be had. What was trained so far is saved first.
    pub fn next_batches(
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
                self.save(trainer, prepared, observer)?;
                Err(error.hint(format!(
                    "step {} is saved; the same command goes on from there",
                    trainer.step
                )))
            }
            Err(error) => Err(error),
        }
    }

    /// Position in the data, in epochs.
    pub fn epoch(&self, prepared: &Prepared) -> Result<f64> {
        prepared.plan.epochs_at(&self.cursor)
    }

    /// Writes one step into the metrics.
    pub fn record(&mut self, report: &StepReport) -> Result<()> {
        self.target_tokens += report.target_tokens;
        self.tokens += report.tokens;
        self.metrics.append(report)
    }

    /// Validation loss and answers to the prompts, unless this step has them already.
    pub fn evaluate(
        &mut self,
        prepared: &Prepared,
        trainer: &Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.validate(prepared, trainer, observer);
        if self.samples.last().is_some_and(|sample| sample.step == trainer.step) {
            return Ok(());
        }
        let codec = &prepared.corpus.codec;
        let ends: Vec<u32> = codec.stops().iter().copied().collect();
        for (prompt, number) in self.config.eval.prompts.iter().zip(0..) {
            let tokens = codec.prompt(prompt)?;
            let sampling = Sampling {
                temperature: self.config.eval.temperature,
                stream: Stream::new(self.config.seed).site("samples").number(number),
                max_tokens: self.config.eval.max_tokens,
            };
            let found = generate(&trainer.model, &tokens, &ends, sampling, &mut |_| true);
            let sample = Sample {
                step: trainer.step,
                prompt: prompt.clone(),
                answer: codec.tokenizer.decode(&found.tokens, true)?,
            };
            observer.on(Event::Sample(sample.clone()));
            self.samples.push(sample);
        }
        Ok(())
    }

    /// Validation loss, unless this step has it already.
    pub fn validate(
        &mut self,
        prepared: &Prepared,
        trainer: &Trainer,
        observer: &mut dyn Observer,
    ) {
        if self.evaluations.last().is_some_and(|found| found.step == trainer.step) {
            return;
        }
        let chunk = self.config.train.loss_chunk_tokens;
        let found = engine::evaluate(&trainer.model, &prepared.validation, trainer.step, chunk);
        if let Some(found) = found {
            observer.on(Event::Evaluation(found));
            self.evaluations.push(found);
        }
    }

    /// Saves and remembers why, if the watcher asked to stop.
    pub fn pause_if_asked(
        &mut self,
        trainer: &mut Trainer,
        prepared: &Prepared,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if trainer.step < prepared.total_steps
            && let Some(stop) = observer.stop_requested()
        {
            self.save(trainer, prepared, observer)?;
            self.paused = Some(stop);
        }
        Ok(())
    }

    /// Commits a checkpoint of the steps done so far.
    pub fn save(
        &mut self,
        trainer: &mut Trainer,
        prepared: &Prepared,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let mut ahead = self.cursor;
        // Data that cannot be had now must not cost the steps that are done.
        let next = match trainer.step < prepared.total_steps {
            true => prepared.take(&mut ahead).ok().map(|batches| digest_of(&batches)),
            false => None,
        };
        let state = State {
            format: checkpoint::FORMAT,
            step: trainer.step,
            updates: trainer.optimizer.updates(),
            cursor: self.cursor,
            metrics_bytes: self.metrics.sync()?,
            target_tokens: self.target_tokens,
            tokens: self.tokens,
            evaluations: self.evaluations.clone(),
            samples: self.samples.clone(),
            files: prepared.corpus.files(),
            next_batches: next,
            identity: self.identity.clone(),
        };
        let keep_last = self.config.checkpoint.keep_last;
        let saved = checkpoint::save(self.run, trainer, &state, keep_last)?;
        if saved.new {
            self.note("saved", state.step, Some(saved.manifest))?;
            observer.on(Event::Saved {
                step: state.step,
                path: saved.path,
                seconds: saved.seconds,
            });
        }
        Ok(())
    }

    /// What the artifact needs to know about the run.
    pub fn finish(self) -> Result<Record> {
        let path = self.run.join("history.jsonl");
        let text = fs::read_to_string(&path).context_at("cannot read the history", &path)?;
        // A line that a power cut left half-written says nothing that a checkpoint needs.
        let history = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(Record {
            history,
            evaluations: self.evaluations,
            samples: self.samples,
            target_tokens: self.target_tokens,
            tokens: self.tokens,
        })
    }

    fn note(&self, what: &str, step: u64, manifest: Option<Digest>) -> Result<()> {
        use std::io::Write;
        let path = self.run.join("history.jsonl");
        let entry = Entry { what: what.to_owned(), step, time: now(), manifest };
        let line = serde_json::to_string(&entry).context("cannot encode the history")?;
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::options().append(true).create(true).open(&path)?;
            writeln!(file, "{line}")?;
            file.sync_data()
        };
        write().context_at("cannot write the history", &path)
    }
}

/// The present time, RFC 3339, whole seconds, UTC.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn digest_of(batches: &[Batch]) -> Digest {
    let digests: Vec<u8> = batches.iter().flat_map(|batch| batch.digest().0).collect();
    Digest::of(&digests)
}

/// Moves everything of earlier attempts into a folder of its own, so that a run can begin anew.
pub fn shelve(run: &RunDirectory, observer: &mut dyn Observer) -> Result<()> {
    let failed = "cannot move the earlier attempt aside";
    let mut old: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(run.root()).context_at(failed, run.root())? {
        let entry = entry.context_at(failed, run.root())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "run.lock" && !name.starts_with("earlier-") {
            old.push(entry.path());
        }
    }
    if old.is_empty() {
        return Ok(());
    }
    let shelf = (1..)
        .map(|number| run.join(&format!("earlier-{number}")))
        .find(|path| !path.exists())
        .expect("some number is free");
    fs::create_dir(&shelf).context_at(failed, &shelf)?;
    for path in old {
        let name = path.file_name().unwrap_or_default().to_owned();
        fs::rename(&path, shelf.join(name)).context_at(failed, &path)?;
    }
    sync_dir(run.root())?;
    observer.on(Event::Note(format!("the earlier attempt now lies in {}", shelf.display())));
    Ok(())
}
