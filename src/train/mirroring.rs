//! A run that has a second place: what is there is taken first, and the result goes there last.
//! Checkpoints go there as they are saved.

use super::archive::{leave_for_mirrored, leave_records};
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
    let result = found.result && is_of_this_run(&mirror, request)?;
    let mut aside = false;
    if found.steps.first().is_some_and(|step| *step > here) {
        observer.on(Event::Doing("the checkpoints of the mirror".to_owned()));
        aside = take_steps(run, request, &mirror, &found.steps, (here, result), observer)?;
    }
    if result {
        observer.on(Event::Doing("the result from the mirror".to_owned()));
        mirror.take_result(run.root(), || {
            if !aside {
                leave_records(run, observer)?;
            }
            write_atomic(&run.join("config.toml"), request.loaded.canonical.as_bytes())
        })?;
        let from = mirror.address();
        observer.on(Event::Note(format!("the result is taken from {from}")));
    }
    Ok(Some(mirror))
}

/// Whether the result of a mirror is what this run would come to. One under other settings is not,
/// if the command line allows to go on from its checkpoints.
///
/// # Errors
/// When it was made under other settings, which the command line does not allow.
fn is_of_this_run(mirror: &Mirror, request: &Request) -> Result<bool> {
    if mirror.result_settings()? == Some(request.loaded.digest) {
        return Ok(true);
    }
    match request.allowed.0.is_empty() {
        false => Ok(false),
        true => Err(Error::run_changed("this run is finished, under other settings")
            .at(mirror.address().to_string())
            .hint("start a new run with another `name`, or remove what is there")),
    }
}

/// Takes the newest checkpoint that is whole and has more steps than there are here; all of the
/// mirror, where the result may be made of an earlier one. Whether one was taken; without one,
/// what is here stays.
fn take_steps(
    run: &RunDirectory,
    request: &Request,
    mirror: &Mirror,
    steps: &[u64],
    (here, result): (u64, bool),
    observer: &mut dyn Observer,
) -> Result<bool> {
    let cannot = |step: u64, error: Error, observer: &mut dyn Observer| {
        let what = format!("step {step} of the mirror cannot be used");
        observer.on(Event::Warning(format!("{what}: {}", error.with_causes())));
    };
    let mut taken = None;
    for step in steps.iter().copied().filter(|step| *step > here) {
        match mirror.take_step(run.root(), step, || leave_for_mirrored(run, observer)) {
            Ok(()) => {
                taken = Some(step);
                break;
            }
            Err(error) => cannot(step, error, observer),
        }
    }
    let from = mirror.address();
    let Some(step) = taken else {
        if here > 0 || result {
            return Ok(false);
        }
        return Err(Error::store("no checkpoint of the mirror can be used")
            .at(from.to_string())
            .hint("choose another `name` to start over, or try again if it could not be reached"));
    };
    if request.loaded.config.eval.load_best_model_at_end {
        for earlier in steps.iter().copied().filter(|earlier| *earlier < step) {
            if let Err(error) = mirror.take_earlier_step(run.root(), earlier) {
                cannot(earlier, error, observer);
            }
        }
    }
    write_atomic(&run.join("config.toml"), request.loaded.canonical.as_bytes())?;
    observer.on(Event::Note(format!("step {step} is taken from {from}")));
    Ok(true)
}

/// Sends the result of a run that has one, and says what was asked of the store.
///
/// # Errors
/// When the result is here, and could not be sent.
pub fn conclude(
    mirror: Option<&Mirror>,
    (run, request): (&RunDirectory, &Request),
    outcome: &RunOutcome,
    observer: &mut dyn Observer,
) -> Result<()> {
    let Some(mirror) = mirror else { return Ok(()) };
    if !matches!(outcome, RunOutcome::Paused { .. }) {
        observer.on(Event::Doing("the result for the mirror".to_owned()));
        mirror.put_result(run.root(), request.loaded.digest).map_err(|error| {
            error.hint("the run is finished here; the same command sends its result again")
        })?;
    }
    if mirror.traffic().requests() > 0 {
        observer.on(Event::Note(format!("{}: {}", mirror.address(), mirror.traffic())));
    }
    Ok(())
}
