//! What is done in a run directory before a checkpoint is gone on from.

use std::io::Read;
use std::path::Path;

use crate::checkpoint::RestoredCheckpoint;
use crate::error::{Context, Error, Result};
use crate::event::{Event, Observer};
use crate::files::{RunDirectory, open_regular, write_atomic};
use crate::train::archive::{leave_checkpoints, leave_later_ones, set_result_aside};
use crate::train::changes::{Changes, renew_settings};
use crate::train::{Prepared, Request, Resume};

/// A checkpoint that the run may go on from, with everything else out of its way.
pub struct Entered {
    /// The checkpoint.
    pub found: RestoredCheckpoint,
    /// What is not as it was.
    pub changes: Changes,
}

/// Checks that a run may go on from a checkpoint, and makes way for it.
///
/// # Errors
/// When it may not: then nothing was touched.
pub fn enter(
    found: RestoredCheckpoint,
    run: &RunDirectory,
    request: &Request,
    prepared: &Prepared,
    observer: &mut dyn Observer,
) -> Result<Entered> {
    for line in &found.set_aside {
        observer.on(Event::Warning(format!("a damaged checkpoint is not used: {line}")));
    }
    let (step, total) = (found.state.step, prepared.total_steps);
    let changes = Changes::since(&found, run, request, prepared)?;
    if step > total {
        let what = format!("{step} steps are done, and the run is to have {total}");
        return Err(Error::run(what)
            .at(&found.folder)
            .hint("`--resume PATH` goes back to an earlier checkpoint"));
    }
    if matches!(request.resume, Resume::From(_)) {
        set_result_aside(run, observer)?;
        match is_inside(&found.folder, run) {
            true => leave_later_ones(run, step, observer)?,
            false => leave_checkpoints(run, observer)?,
        }
    }
    changes.accept(&found, run, request, prepared, observer)?;
    renew_settings(run, request, observer)?;
    if !run.data_lock().exists() {
        // It came from elsewhere, and is what it was there: from now on it is known here.
        prepared.lock().write(&run.data_lock())?;
    }
    let (metrics, rollouts) = (found.state.metrics_bytes, found.state.rollouts);
    bring(&found, run, "metrics", metrics)?;
    bring(&found, run, "rollouts", rollouts.map_or(0, |written| written.bytes))?;
    Ok(Entered { found, changes })
}

/// Whether a checkpoint lies in a run directory, however both are spelled.
fn is_inside(folder: &Path, run: &RunDirectory) -> bool {
    let parent = folder.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
    parent.is_some() && parent == run.root().canonicalize().ok()
}

/// A run that begins with the checkpoint of another begins with its metrics and rollouts, too.
fn bring(found: &RestoredCheckpoint, run: &RunDirectory, what: &str, bytes: u64) -> Result<()> {
    if is_inside(&found.folder, run) || bytes == 0 {
        return Ok(());
    }
    let Some(folder) = found.folder.parent() else { return Ok(()) };
    let name = format!("{what}.jsonl");
    let theirs = folder.join(&name);
    let mut lines = Vec::new();
    let mut file = open_regular(&theirs)?;
    file.read_to_end(&mut lines).context_at(format!("cannot read the {what}"), &theirs)?;
    let lines = usize::try_from(bytes).ok().and_then(|bytes| lines.get(..bytes));
    let cut_off =
        || Error::checkpoint(format!("the {what} of the checkpoint are cut off")).at(&theirs);
    write_atomic(&run.join(&name), lines.ok_or_else(cut_off)?)
}
