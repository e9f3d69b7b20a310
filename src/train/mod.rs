//! The story: from a configuration to a signed artifact, once through.

mod fetch_policy;
mod added_tokens;
mod announce;
mod approval;
mod archive;
mod asked;
mod base;
mod base_adapters;
mod base_signature;
mod beside_gpu;
mod calibration;
mod carried;
mod changes;
mod checked_tokens;
mod checkpoint_model;
pub mod comparison;
mod finished;
mod frozen_weights;
mod gradient_check;
mod head;
mod memory_fit;
mod mirroring;
mod named_run;
mod memory_plan;
mod memory_plans;
mod post_eval;
mod device_init;
mod effect;
mod offload_stores;
mod parameter_rules;
mod predicted_speed;
mod prepare;
mod publish;
mod pull;
mod provenance_inputs;
mod read_data;
mod reuse;
pub mod runs;
mod saving;
mod resident;
mod resume;
mod retraction;
mod schedule_of;
mod session;
mod start_adapter;
mod step_time;
mod teacher;
mod weights_file;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use base::look_through;
pub use base_signature::parent_state;
pub use changes::allowed;
pub use checkpoint_model::checkpoint_model;
pub use fetch_policy::{Access, supply_for};
pub use finished::has_result;
pub use gradient_check::check as compare_gradients;
pub use named_run::{expect_in_place, named_config, named_run};
pub use post_eval::suite;
pub use prepare::{Prepared, prepare};
pub use publish::{Published, Signer};
pub use pull::{Pull, Update, pull};
pub use resident::{bases_shared, keep_base};
pub use resume::Resume;
pub use retraction::{RetractedRecord, Retraction, retraction, write_config};
pub use reuse::beside_rates;
pub use schedule_of::schedule_of;
pub use session::Session;
pub use teacher::filed_teachers;

use crate::checkpoint::{
    Allowed, History, HistoryEntry, HistoryEvent, IdentityPart, Mirror, newest,
};
use crate::config;
use crate::data::Extent;
use crate::device;
use crate::error::Result;
use crate::event::{Event, Observer, Stop};
use crate::files::RunDirectory;

/// What is asked of a run.
pub struct Request<'a> {
    /// The checked configuration.
    pub loaded: &'a config::Loaded,
    /// The file it came from, as the user named it.
    pub config_path: &'a str,
    /// How to treat what is already in the run directory.
    pub resume: Resume,
    /// What may be other than it was when the run began.
    pub allowed: Allowed,
    /// How long a save may take once the system wants the run to end.
    pub grace: Duration,
    /// How files may be got.
    pub access: Access,
}

/// How a run ended.
#[derive(Debug)]
pub enum RunOutcome {
    /// It is done, and this is what came of it.
    Finished(Published),
    /// It was done before; nothing was computed.
    AlreadyFinished(PathBuf),
    /// It saved everything and stopped before its end.
    Paused {
        /// Steps done and saved.
        step: u64,
        /// Steps in all.
        total: u64,
        /// Who asked.
        stop: Stop,
    },
}

/// One run, from a configuration to a signed artifact.
pub fn train(request: &Request, observer: &mut dyn Observer) -> Result<RunOutcome> {
    // Before anything else: digests are computed by several threads, too.
    device::start_threads(request.loaded.config.device.threads)?;
    let run = RunDirectory::lock(request.loaded.config.output.dir.as_ref())?;
    announce::say_where(run.root(), observer);
    let mirror = mirroring::begin(&run, request, observer)?;
    let outcome = here(&run, request, mirror.as_ref(), observer)?;
    mirroring::conclude(mirror.as_ref(), (&run, request), &outcome, observer)?;
    Ok(outcome)
}

/// The same in a run directory, which has what there is of the run.
fn here(
    run: &RunDirectory,
    request: &Request,
    mirror: Option<&Mirror>,
    observer: &mut dyn Observer,
) -> Result<RunOutcome> {
    if request.resume == Resume::Never {
        archive::shelve(run, observer)?;
    } else if changes::is_finished(run, request, observer)? {
        return Ok(RunOutcome::AlreadyFinished(run.artifact()));
    }
    let mut begun = false;
    let outcome = go(run, request, mirror, observer, &mut begun);
    let step = newest(run.root()).ok().and_then(|found| found.first().map(|(step, _)| *step));
    let step = step.unwrap_or(0);
    let entry = match &outcome {
        Ok(RunOutcome::Finished(_)) => HistoryEntry::new(HistoryEvent::Finished, step),
        // A signal before the first step is no failure.
        Err(error) if begun || observer.stop_requested().is_none() => {
            HistoryEntry::failed(error, step)
        }
        _ => return outcome,
    };
    if !run.join("config.toml").exists() {
        return outcome; // nothing of it is there to be looked at
    }
    // For people who look at it later: without it the outcome is the same.
    if let Err(error) = History::of(run.root()).note(&entry) {
        let why = error.causes.first().cloned().unwrap_or_default();
        observer.on(Event::Warning(format!("{}: {why}", error.what)));
    }
    outcome
}

/// `begun` tells whether it came to the first step.
fn go(
    run: &RunDirectory,
    request: &Request,
    mirror: Option<&Mirror>,
    observer: &mut dyn Observer,
    begun: &mut bool,
) -> Result<RunOutcome> {
    let config = &request.loaded.config;
    // Asked now, not after hours of work.
    let (signer, suite) = (publish::signer(config, observer)?, post_eval::suite(config)?);
    let old_lock = (!request.allowed.0.contains(&IdentityPart::Data)).then_some(run);
    let supply = supply_for(Path::new(request.config_path), old_lock, &request.access)?;
    let mut prepared = prepare(request.loaded, &supply, Extent::AsNeeded, observer)?;
    teacher::learn_from_teacher(&mut prepared, observer)?;
    let mut trainer = prepared.trainer()?;
    prepared.keep_state_elsewhere(&mut trainer)?;
    prepared.keep_inputs_elsewhere(&mut trainer)?;
    let mut session = Session::open(run, request, &prepared, &mut trainer, observer)?;
    session.mirror_to(mirror);
    supply.be_patient();

    if session.is_new() {
        session.evaluate(&prepared, &mut trainer, observer)?;
        gradient_check::check(run, &prepared, &mut trainer, observer)?;
    }
    let total = prepared.total_steps;
    *begun = true;
    observer.on(Event::Begin { done: trainer.step, total, timings: run.timings() });
    session.pause_if_asked(&mut trainer, &prepared, request.grace, observer)?;
    if session.paused.is_none() {
        session.warm_up_ahead(&prepared, &mut trainer, observer)?;
    }
    while trainer.step < total && session.paused.is_none() && !session.is_over() {
        session.step(&prepared, &mut trainer, observer)?;

        let step = trainer.step;
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        if due(config.eval.every_steps) && trainer.step < total {
            session.validate(&prepared, &mut trainer, observer)?;
        }
        let wanted = due(config.checkpoint.every_steps) || session.is_best(trainer.step);
        if wanted && trainer.step < total && !session.is_over() {
            session.save(&mut trainer, &prepared, observer)?;
        }
        session.pause_if_asked(&mut trainer, &prepared, request.grace, observer)?;
    }
    session.finish_pending_step(observer)?;
    observer.on(Event::End);
    if let Some(stop) = session.paused {
        session.tell_of_stores(observer);
        return Ok(RunOutcome::Paused { step: session.saved_step(), total, stop });
    }
    session.conclude(&prepared, &mut trainer, observer)?;
    prepared.release_teacher();
    calibration::fit(&mut prepared, &trainer, observer)?;
    observer.on(Event::Doing("the artifact".to_owned()));
    let mut record = session.finish(observer)?;
    if let Some(suite) = &suite {
        let best = record.best.as_ref().map(|best| best.folder.as_path());
        let subject = (run, best);
        let judged = post_eval::judge(suite, subject, &prepared, &trainer, &supply, observer)?;
        record.judged = Some(judged);
    }
    let (artifact, signer) = (run.artifact(), signer.as_ref());
    publish::publish((run, &artifact), request, &prepared, &mut trainer, record, signer, observer)
        .map(RunOutcome::Finished)
}
