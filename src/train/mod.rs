//! The story: from a configuration to a signed artifact, once through.

mod access;
mod announce;
mod differences;
mod prepare;
mod publish;
mod pull;
mod session;

use std::path::{Path, PathBuf};

pub use access::{Access, supply_for};
pub use prepare::{Prepared, parent_state, prepare};
pub use publish::Published;
pub use pull::{Pull, Update, pull};
pub use session::{Resume, Session, now};

use crate::config;
use crate::data::Extent;
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
    /// How files may be got.
    pub access: Access,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is done, and this is what came of it.
    Finished(Published),
    /// It was done before; nothing was computed.
    AlreadyFinished(PathBuf),
    /// It saved everything and stopped before its end.
    Paused {
        /// Steps done.
        step: u64,
        /// Steps in all.
        total: u64,
        /// Who asked.
        stop: Stop,
    },
}

/// One run, from a configuration to a signed artifact.
pub fn train(request: &Request, observer: &mut dyn Observer) -> Result<Outcome> {
    let config = &request.loaded.config;
    let run = RunDirectory::lock(config.output.dir.as_ref())?;
    if request.resume == Resume::Never {
        session::shelve(&run, observer)?;
    } else if run.artifact().exists() {
        return Ok(Outcome::AlreadyFinished(run.artifact()));
    }
    let signer = publish::signer(config, observer)?; // asked now, not after hours of work
    let supply = supply_for(Path::new(request.config_path), Some(&run), &request.access)?;
    let mut prepared = prepare(request.loaded, &supply, Extent::AsNeeded, observer)?;
    let mut trainer = prepared.trainer()?;
    let mut session = Session::open(&run, request, &prepared, &mut trainer, observer)?;
    supply.be_patient();

    if session.is_new() {
        session.evaluate(&prepared, &trainer, observer)?;
    }
    let total = prepared.total_steps;
    observer.on(Event::Begin { done: trainer.step, total, timings: run.timings() });
    session.pause_if_asked(&mut trainer, &prepared, observer)?;
    while trainer.step < total && session.paused.is_none() {
        let (batches, data_seconds) = session.next_batches(&prepared, &mut trainer, observer)?;
        let (report, mut timing) = trainer.step(&batches, session.epoch(&prepared)?)?;
        timing.data_seconds = data_seconds;
        session.record(&report)?;
        observer.on(Event::Step(report, timing));

        let due = |every: u64| every > 0 && trainer.step.is_multiple_of(every);
        if due(config.eval.every_steps) && trainer.step < total {
            session.validate(&prepared, &trainer, observer);
        }
        if due(config.checkpoint.every_steps) && trainer.step < total {
            session.save(&mut trainer, &prepared, observer)?;
        }
        session.pause_if_asked(&mut trainer, &prepared, observer)?;
    }
    observer.on(Event::End);
    if let Some(stop) = session.paused {
        return Ok(Outcome::Paused { step: trainer.step, total, stop });
    }
    session.evaluate(&prepared, &trainer, observer)?;
    session.save(&mut trainer, &prepared, observer)?;
    let record = session.finish()?;
    publish::publish(&run, request, &prepared, &mut trainer, record, signer).map(Outcome::Finished)
}
