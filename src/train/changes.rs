//! A run goes on under other settings, data, program or device: only when the user says so, and
//! then it stands in the history and in the lineage.

use std::collections::BTreeSet;

use crate::checkpoint::{
    Allowed, Difference, History, HistoryEntry, HistoryEvent, IdentityPart, RestoredCheckpoint,
    option_for,
};
use crate::config;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::files::{RunDirectory, write_atomic};
use crate::hub::DataLock;
use crate::settings;
use crate::train::archive::set_result_aside;
use crate::train::finished::has_whole_result;
use crate::train::session::early_stopping;
use crate::train::{Prepared, Request, Resume, reuse};

/// What is not as it was at a checkpoint, and may be so.
pub struct Changes {
    /// None for most runs.
    pub differences: Vec<Difference>,
    /// Whether an earlier session has written them down.
    known: bool,
}

impl Changes {
    /// Whether something of this kind changed.
    pub fn has(&self, part: IdentityPart) -> bool {
        self.differences.iter().any(|found| found.part == part)
    }

    /// Compares a checkpoint with what the run is now.
    ///
    /// # Errors
    /// When something changed that was not allowed, now or in an earlier session.
    pub fn since(
        found: &RestoredCheckpoint,
        run: &RunDirectory,
        request: &Request,
        prepared: &Prepared,
    ) -> Result<Self> {
        let now = prepared.identity(request.loaded)?;
        let differences = found.state.identity.differences(&now);
        let told = |entry: &HistoryEntry| {
            entry.what == HistoryEvent::Changed && entry.differences == differences
        };
        let accepted = History::of(run.root()).entries()?.iter().any(told);
        if !differences.is_empty() && !accepted {
            let refused = request.allowed.refuses(&differences);
            if !refused.is_empty() {
                return Err(refusal(&refused, found, run, prepared));
            }
        }
        Ok(Self { differences, known: accepted })
    }

    /// Writes down what was allowed, and says what it means.
    pub fn accept(
        &self,
        found: &RestoredCheckpoint,
        run: &RunDirectory,
        request: &Request,
        prepared: &Prepared,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if self.differences.is_empty() || self.known {
            return Ok(());
        }
        let state = &found.state;
        let only_rows = !self.has(IdentityPart::Code) && !self.has(IdentityPart::Device);
        let stopping = early_stopping(&request.loaded.config.eval);
        let stopped = stopping.and_then(|it| it.stopped_at(&state.evaluations));
        let goes_so_far = stopped.is_none_or(|step| step >= state.step);
        let same = || -> Result<bool> {
            Ok(state.chain.is_some_and(|chain| chain.last.is_some() || state.step == 0)
                && state.chain == Some(reuse::chain_of(prepared, state.step)?))
        };
        let exact = only_rows && goes_so_far && same()?;
        let list: Vec<String> = self.differences.iter().map(ToString::to_string).collect();
        let list = list.join("; ");
        observer.on(match exact {
            true => Event::Note(format!(
                "{list}: the first {} steps are the same either way, so nothing is lost",
                state.step
            )),
            false => Event::Warning(format!(
                "{list}: from here on the result differs from that of a run with these settings \
                 from its start; the lineage records it"
            )),
        });
        // First of all: a result beside other settings would say that the run is done.
        set_result_aside(run, observer)?;
        write_atomic(&run.join("config.toml"), request.loaded.canonical.as_bytes())?;
        prepared.lock().write(&run.data_lock())?;
        let entry = HistoryEntry {
            differences: self.differences.clone(),
            exact: Some(exact),
            ..HistoryEntry::new(HistoryEvent::Changed, state.step)
        };
        History::of(run.root()).note(&entry)
    }
}

fn refusal(
    refused: &[&Difference],
    found: &RestoredCheckpoint,
    run: &RunDirectory,
    prepared: &Prepared,
) -> Error {
    let mut error =
        Error::run_changed("cannot resume: the run is not what it was at the checkpoint")
            .at(&found.folder)
            .hint("undo the change, or start a new run with another `name` or `output.dir`");
    let mut options: Vec<&str> =
        refused.iter().filter_map(|found| option_for(found.part)).collect();
    options.sort_unstable();
    options.dedup();
    if refused.iter().all(|found| option_for(found.part).is_some()) {
        error = error
            .hint(format!("`{}` continues anyway, and the lineage records it", options.join(" ")));
    }
    error = refused.iter().fold(error, |error, difference| error.because(difference));
    let lock = DataLock::read(&run.data_lock()).ok().flatten();
    let files = lock.map(|lock| lock.changes_to(&prepared.lock())).unwrap_or_default();
    files.into_iter().fold(error, Error::because)
}

/// What is measured or asked otherwise than the settings of a run directory say; nothing of it
/// changes a weight.
fn measured_otherwise(before: &config::Loaded, now: &config::Loaded) -> Option<String> {
    let (was, is) = (before.measuring(), now.measuring());
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let changed = keys.into_iter().filter(|key| was.get(*key) != is.get(*key));
    let list: Vec<String> = changed.map(|key| format!("`{key}`")).collect();
    (!list.is_empty()).then(|| format!("{} changed, which changes no weight", list.join(", ")))
}

/// Keeps the settings of a run directory up to date where a change needs no leave.
///
/// # Errors
/// When they cannot be written.
pub fn renew_settings(
    run: &RunDirectory,
    request: &Request,
    observer: &mut dyn Observer,
) -> Result<()> {
    let path = run.join("config.toml");
    let Ok(before) = settings::load(&path, &[]) else { return Ok(()) };
    if before.canonical == request.loaded.canonical {
        return Ok(());
    }
    if let Some(list) = measured_otherwise(&before, request.loaded) {
        observer.on(Event::Note(list));
    }
    write_atomic(&path, request.loaded.canonical.as_bytes())
}

/// Whether a run is done, and nothing is to be computed.
///
/// # Errors
/// When it was done under other settings, and is not to go on under these; when something else lies
/// where its result would.
pub fn is_finished(
    run: &RunDirectory,
    request: &Request,
    observer: &mut dyn Observer,
) -> Result<bool> {
    if matches!(request.resume, Resume::From(_)) || !has_whole_result(run.root())? {
        return Ok(false);
    }
    let path = run.join("config.toml");
    let Ok(before) = settings::load(&path, &[]) else { return Ok(true) };
    let (was, is) = (before.deciding(), request.loaded.deciding());
    if was == is {
        if let Some(list) = measured_otherwise(&before, request.loaded) {
            observer.on(Event::Note(format!(
                "{list}: the run is finished and stays as it is; `firebrand eval` and `firebrand \
                 generate` measure and ask a finished model"
            )));
        }
        return Ok(true);
    }
    let differences = crate::checkpoint::settings_differences(&was, &is);
    let refused = request.allowed.refuses(&differences);
    if refused.is_empty() {
        return Ok(false);
    }
    let error = Error::run_changed("this run is finished, under other settings")
        .at(run.root())
        .hint("start a new run with another `name`; `--resume never` archives this one");
    let error = match differences.iter().all(|found| found.part == IdentityPart::Length) {
        true => error.hint("`--extend` continues from its last step"),
        false => error,
    };
    Err(refused.into_iter().fold(error, |error, difference| error.because(difference)))
}

/// What the command line allows to be other than it was.
pub fn allowed(extend: bool, data: bool, code: bool, device: bool) -> Allowed {
    let all = [
        (extend, IdentityPart::Length),
        (data, IdentityPart::Data),
        (code, IdentityPart::Code),
        (device, IdentityPart::Device),
    ];
    Allowed(all.into_iter().filter(|(given, _)| *given).map(|(_, part)| part).collect())
}
