//! The runs below a folder: what became of each, and what of it can go.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::checkpoint::{
    BAD, History, HistoryEntry, HistoryEvent, RestoredCheckpoint, RunState, best_first, newest,
    remove, unchecked_state,
};
use crate::config;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::event::{Evaluation, StepReport};
use crate::files::{RunDirectory, expect_regular, remove_dir, size_of_dir};
use crate::settings;
use crate::train::checkpoint_model;
use crate::train::finished::{has_result, has_whole_result};

/// How deep below a folder runs are looked for.
const DEPTH: usize = 3;

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Status {
    /// A process is at work in it.
    Running,
    /// Its result is there.
    Finished,
    /// It ended before its end, and goes on with the same command.
    Interrupted {
        /// Whether there is a checkpoint to go on from; else it restarts.
        resumable: bool,
    },
    /// It ended with an error.
    Failed {
        /// The error in one line.
        why: String,
        /// What kind of error it is; that of runs of earlier versions is not known.
        code: Option<ErrorCode>,
        /// Whether there is a checkpoint to go on from.
        resumable: bool,
    },
}

impl Status {
    /// In a few words; the run is to have so many `steps`, where that is known.
    pub fn line(&self, step: u64, steps: Option<u64>) -> String {
        let step = steps.map_or_else(|| step.to_string(), |steps| format!("{step} of {steps}"));
        match self {
            Self::Running => format!("running, saved at step {step}"),
            Self::Finished => format!("finished at step {step}"),
            Self::Interrupted { resumable: true } => format!("interrupted, resumes at step {step}"),
            Self::Interrupted { resumable: false } => "interrupted before a checkpoint".to_owned(),
            Self::Failed { why, resumable: true, .. } => {
                format!("failed, resumes at step {step}: {why}")
            }
            Self::Failed { why, .. } => format!("failed: {why}"),
        }
    }
}

/// A run in one line.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Name of its directory.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// What became of it.
    #[serde(flatten)]
    pub status: Status,
    /// The step of its newest checkpoint.
    pub step: u64,
    /// Steps that it was to have, where its settings say so.
    pub steps: Option<u64>,
    /// Loss of its last step.
    pub loss: Option<f64>,
    /// Bytes of everything in it.
    pub bytes: u64,
    /// When it was last written to, seconds since 1970.
    pub changed: u64,
}

/// A checkpoint in a run directory.
#[derive(Debug, Clone, Serialize)]
pub struct Checkpoint {
    /// Name of its folder.
    pub name: String,
    /// Its step.
    pub step: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Validation loss at its step, where it was measured.
    pub eval_loss: Option<f64>,
    /// Whether its validation loss is the least of all.
    pub best: bool,
    /// What is wrong with it; nothing if every byte is as it was written.
    pub problem: Option<String>,
}

/// Everything about a run.
#[derive(Debug, Clone, Serialize)]
pub struct Details {
    /// The line about it.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its checkpoints, newest first, each checked byte by byte.
    pub checkpoints: Vec<Checkpoint>,
    /// What was set aside: damaged checkpoints, earlier attempts, earlier results.
    pub set_aside: Vec<String>,
    /// What happened to it, oldest first.
    pub history: Vec<HistoryEntry>,
    /// State of its newest whole checkpoint.
    pub newest: Option<RunState>,
}

/// The runs below a folder, by path. A run inside a run is not looked for.
pub fn list(folder: &Path) -> Result<Vec<Summary>> {
    paths(folder)?.iter().map(|path| summary(path)).collect()
}

/// Their directories.
pub fn paths(folder: &Path) -> Result<Vec<PathBuf>> {
    if is_run(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    if !folder.is_dir() {
        return Err(Error::run("there is no such folder").at(folder));
    }
    let mut found = Vec::new();
    look(folder, DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

fn look(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).context_at("cannot list the folder", folder)? {
        let entry = entry.context_at("cannot list the folder", folder)?;
        let path = entry.path();
        // Links are not followed: a circle of them would never end.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if is_run(&path) {
            found.push(path);
        } else if depth > 1 {
            look(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

/// Whether a folder is that of a run.
pub fn is_run(folder: &Path) -> bool {
    folder.join("run.lock").is_file() && folder.join("config.toml").is_file()
}

/// An error in one line.
fn why(error: &Error) -> String {
    let place = error.place.as_ref().map(|place| place.file.display().to_string());
    [vec![error.what.clone()], error.causes.clone(), place.into_iter().collect()]
        .concat()
        .join(": ")
}

fn summary(path: &Path) -> Result<Summary> {
    let full = fs::canonicalize(path).context_at("cannot find the run", path)?;
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned());
    let (name, path) = (name.unwrap_or_default(), path.to_owned());
    if let Err(error) = expect_regular(&path) {
        let status = failed_with(&error);
        let (step, steps, loss, bytes, changed) = (0, None, None, 0, 0);
        return Ok(Summary { name, path, status, step, steps, loss, bytes, changed });
    }
    let path = path.as_path();
    let step = newest(path)?.first().map(|(step, _)| *step);
    let metrics = fs::read(path.join("metrics.jsonl")).unwrap_or_default();
    let mut lines = metrics.split(|byte| *byte == b'\n').rev();
    let last = lines.find_map(|line| serde_json::from_slice::<StepReport>(line).ok());
    let loaded = settings::load(&path.join("config.toml"), &[]).ok();
    let steps = loaded.and_then(|loaded| match loaded.config.train.length {
        config::Length::Steps(steps) => Some(steps),
        config::Length::Epochs(_) => None,
    });
    Ok(Summary {
        name,
        path: path.to_owned(),
        status: status(path, step.is_some())?,
        step: step.unwrap_or(0),
        steps,
        loss: last.map(|report| report.loss),
        bytes: size_of_dir(path),
        changed: changed(path),
    })
}

/// What became of a run; `resumable` says whether it has a checkpoint.
///
/// # Errors
/// When its history cannot be read.
pub fn status(path: &Path, resumable: bool) -> Result<Status> {
    if RunDirectory::is_locked(path) {
        return Ok(Status::Running);
    }
    match has_result(path) {
        Ok(true) => return Ok(Status::Finished),
        Ok(false) => {}
        Err(error) => return Ok(failed_with(&error)),
    }
    let history = History::of(path).entries()?;
    Ok(match history.last() {
        Some(HistoryEntry { what: HistoryEvent::Failed, why: Some(why), code, .. }) => {
            Status::Failed { why: why.clone(), code: *code, resumable }
        }
        _ => Status::Interrupted { resumable },
    })
}

/// That of a run whose folder cannot be used.
fn failed_with(error: &Error) -> Status {
    Status::Failed { why: why(error), code: Some(error.code), resumable: false }
}

fn changed(path: &Path) -> u64 {
    let files = ["metrics.jsonl", "history.jsonl", "artifact"];
    let time = |name: &&str| fs::metadata(path.join(name)).and_then(|found| found.modified()).ok();
    let newest = files.iter().filter_map(time).max();
    let since = newest.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

/// Everything about one run.
pub fn details(path: &Path) -> Result<Details> {
    details_by(path, |folder| Ok(RestoredCheckpoint::open(folder)?.state))
}

/// The same of a run at work, whose checkpoints are not checked.
pub fn glance(path: &Path) -> Result<Details> {
    details_by(path, unchecked_state)
}

fn details_by(path: &Path, state: impl Fn(&Path) -> Result<RunState>) -> Result<Details> {
    if !is_run(path) {
        return Err(Error::run("this is not a run directory")
            .at(path)
            .hint("`firebrand runs DIR` lists the runs below a folder"));
    }
    expect_regular(path)?;
    let mut newest_whole: Option<RunState> = None;
    let mut checkpoints = Vec::new();
    for (step, folder) in newest(path)? {
        let problem = match state(&folder) {
            Ok(state) => {
                newest_whole.get_or_insert(state);
                None
            }
            Err(error) => Some(error.into_what()),
        };
        checkpoints.push(Checkpoint {
            name: crate::checkpoint::folder_name(step),
            step,
            bytes: size_of_dir(&folder),
            eval_loss: None,
            best: false,
            problem,
        });
    }
    let best = newest_whole.as_ref().and_then(|state| best_of(&state.evaluations, &checkpoints));
    for checkpoint in &mut checkpoints {
        checkpoint.best = Some(checkpoint.step) == best;
        let judged = newest_whole.iter().flat_map(|state| &state.evaluations);
        checkpoint.eval_loss =
            judged.filter(|found| found.step == checkpoint.step).map(|f| f.eval_loss).next();
    }
    Ok(Details {
        summary: summary(path)?,
        checkpoints,
        set_aside: set_aside(path)?,
        history: History::of(path).entries()?,
        newest: newest_whole,
    })
}

/// The step of the checkpoint with the least validation loss.
fn best_of(evaluations: &[Evaluation], checkpoints: &[Checkpoint]) -> Option<u64> {
    let steps: Vec<u64> = checkpoints.iter().map(|checkpoint| checkpoint.step).collect();
    best_first(evaluations).into_iter().map(|it| it.step).find(|step| steps.contains(step))
}

fn set_aside(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).context_at("cannot list the folder", path)? {
        let entry = entry.context_at("cannot list the folder", path)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let aside = name.contains(BAD)
            || name.starts_with("earlier-")
            || name.starts_with(checkpoint_model::PREFIX)
            || name.starts_with("artifact-of-step-");
        if aside && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What of the runs is not needed any more.
#[derive(Debug, Clone, Copy)]
pub struct Prune {
    /// So many checkpoints of a finished run stay; of others at least two.
    pub keep: usize,
    /// Whether what was set aside goes too.
    pub set_aside: bool,
    /// Only say what would go.
    pub dry_run: bool,
}

/// Something that goes.
#[derive(Debug, Clone, Serialize)]
pub struct Removed {
    /// The folder.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
}

/// Removes what is not needed of the runs below a folder. Runs at work are left alone.
pub fn prune(folder: &Path, prune: Prune) -> Result<Vec<Removed>> {
    let mut removed = Vec::new();
    for run in list(folder)? {
        if run.status == Status::Running {
            continue;
        }
        // Nobody may begin to work in it meanwhile.
        let Ok(_lock) = RunDirectory::lock(&run.path) else { continue };
        // A result that does not hold needs the checkpoints that it can be made from again.
        let finished = run.status == Status::Finished && has_whole_result(&run.path).is_ok();
        let least = if finished { 1 } else { 2 };
        // Damaged ones do not count, and stay to be looked at.
        let whole = newest(&run.path)?
            .into_iter()
            .filter(|(_, path)| RestoredCheckpoint::open(path).is_ok());
        let best = best_is_result(&run.path).then(|| best_checkpoint(&run.path)).transpose()?;
        let best = best.flatten();
        let mut unneeded: Vec<_> = whole.skip(prune.keep.max(least)).collect();
        unneeded.retain(|(step, _)| Some(*step) != best);
        for (step, folder) in unneeded {
            removed.push(Removed { bytes: size_of_dir(&folder), path: folder.clone() });
            if !prune.dry_run {
                remove(&run.path, step, &folder)?;
            }
        }
        let mut names = leftovers(&run.path)?;
        if prune.set_aside {
            names.extend(set_aside(&run.path)?);
        }
        for name in names {
            let path = run.path.join(name);
            removed.push(Removed { bytes: size_of_dir(&path), path: path.clone() });
            if !prune.dry_run {
                remove_dir(&path)?;
            }
        }
    }
    Ok(removed)
}

/// Whether a run makes its result of its best checkpoint.
fn best_is_result(run: &Path) -> bool {
    let loaded = settings::load(&run.join("config.toml"), &[]);
    loaded.is_ok_and(|loaded| loaded.config.eval.load_best_model_at_end)
}

/// The step of the intact checkpoint with the least validation loss, as the newest one knows it.
fn best_checkpoint(run: &Path) -> Result<Option<u64>> {
    let whole: Vec<_> = newest(run)?
        .into_iter()
        .filter_map(|(_, folder)| RestoredCheckpoint::open(&folder).ok())
        .collect();
    let evaluations = whole.first().map_or(&[][..], |found| &found.state.evaluations);
    let best = best_first(evaluations).into_iter().map(|found| found.step);
    Ok(best.into_iter().find(|step| whole.iter().any(|found| found.state.step == *step)))
}

/// What interrupted saves and removals have left.
fn leftovers(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).context_at("cannot list the folder", path)? {
        let entry = entry.context_at("cannot list the folder", path)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if (name.starts_with(".tmp-") || name.starts_with(".trash-")) && entry.path().is_dir() {
            names.push(name);
        }
    }
    Ok(names)
}
