//! A run that has a second place: what is there is taken first, and the result goes there last.
//! Checkpoints go there as they are saved.

use super::archive::leave_checkpoints;
use super::{Request, Resume, RunOutcome};
use crate::checkpoint::{Mirror, newest};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::files::{RunDirectory, write_atomic};

/// Opens the mirror of a run, if it has one, and takes from it what the run directory lacks.
///
/// # Errors
/// When it cannot be looked at, and nothing of the run is here: it would be computed again.
pub fn begin(
    run: &RunDirectory,
    request: &Request,
    observer: &mut dyn Observer,
) -> Result<Option<Mirror>> {
    let config = &request.loaded.config;
    let Some(address) = &config.output.mirror else { return Ok(None) };
    request.access.expect_reachable("output.mirror", address)?;
    let mirror = Mirror::open(address, &config.name)?;
    let here = newest(run.root())?.first().map_or(0, |(step, _)| *step);
    let found = match mirror.mirrored() {
        Ok(found) => found,
        Err(error) if here > 0 || run.artifact().exists() => {
            let what = "the mirror of the run is not looked at";
            observer.on(Event::Warning(format!("{what}: {}", error.with_causes())));
            return Ok(Some(mirror));
        }
        Err(error) => {
            return Err(error
                .hint("nothing of the run is here: `--set output.mirror=…` names another store"));
        }
    };
    if request.resume == Resume::Never {
        if found.result || !found.steps.is_empty() {
            let what =
                "the mirror of this run has an earlier attempt, which would be mixed with it";
            return Err(Error::exists(what)
                .at(mirror.address().to_string())
                .hint("choose another `name`, or remove what is there"));
        }
        return Ok(Some(mirror));
    }
    if request.resume != Resume::Auto || run.artifact().exists() {
        return Ok(Some(mirror));
    }
    if found.steps.first().is_some_and(|step| *step > here) {
        observer.on(Event::Doing("the checkpoints of the mirror".to_owned()));
        take_steps(run, request, &mirror, &found.steps, observer)?;
    }
    if found.result {
        observer.on(Event::Doing("the result from the mirror".to_owned()));
        write_atomic(&run.join("config.toml"), request.loaded.canonical.as_bytes())?;
        mirror.take_result(run.root())?;
        let from = mirror.address();
        observer.on(Event::Note(format!("the result is taken from {from}")));
    }
    Ok(Some(mirror))
}

/// Takes the newest checkpoint that is whole; all of them, where the result may be made of an
/// earlier one.
fn take_steps(
    run: &RunDirectory,
    request: &Request,
    mirror: &Mirror,
    steps: &[u64],
    observer: &mut dyn Observer,
) -> Result<()> {
    leave_checkpoints(run, observer)?;
    let all = request.loaded.config.eval.load_best_model_at_end;
    let mut taken = None;
    // The newest last, where all are taken: with each comes what lies beside it.
    let order: Vec<u64> = match all {
        true => steps.iter().rev().copied().collect(),
        false => steps.to_vec(),
    };
    for step in order {
        match mirror.take_step(run.root(), step) {
            Ok(()) => taken = Some(step),
            Err(error) => {
                let what = format!("step {step} of the mirror cannot be used");
                observer.on(Event::Warning(format!("{what}: {}", error.with_causes())));
            }
        }
        if taken.is_some() && !all {
            break;
        }
    }
    let from = mirror.address();
    let Some(step) = taken else {
        return Err(Error::store("no checkpoint of the mirror can be used")
            .at(from.to_string())
            .hint("choose another `name` to start over, or try again if it could not be reached"));
    };
    write_atomic(&run.join("config.toml"), request.loaded.canonical.as_bytes())?;
    observer.on(Event::Note(format!("step {step} is taken from {from}")));
    Ok(())
}

/// Sends the result of a run that has one, and says what was asked of the store.
///
/// # Errors
/// When the result is here, and could not be sent.
pub fn conclude(
    mirror: Option<&Mirror>,
    run: &RunDirectory,
    outcome: &RunOutcome,
    observer: &mut dyn Observer,
) -> Result<()> {
    let Some(mirror) = mirror else { return Ok(()) };
    if !matches!(outcome, RunOutcome::Paused { .. }) {
        observer.on(Event::Doing("the result for the mirror".to_owned()));
        mirror.put_result(run.root()).map_err(|error| {
            error.hint("the run is finished here; the same command sends its result again")
        })?;
    }
    if mirror.traffic().requests() > 0 {
        observer.on(Event::Note(format!("{}: {}", mirror.address(), mirror.traffic())));
    }
    Ok(())
}
