//! What stands in a run's way is archived, never removed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::artifact::{provenance, signature};
use crate::checkpoint::{RECORDS, newest};
use crate::error::{Context, Result};
use crate::event::{Event, Observer};
use crate::files::{
    KERNELS, ROLLOUTS, RunDirectory, create_dir_new, rename_new, sync_dir, write_atomic,
};

/// A name in the run directory that nothing has yet: this one, or with a number behind it.
fn free_name(run: &RunDirectory, name: &str) -> String {
    let more = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(more);
    names.find(|name| !run.join(name).exists()).unwrap_or_default()
}

/// Moves files and folders of a run into a folder of their own.
fn put_aside(run: &RunDirectory, paths: &[PathBuf]) -> Result<PathBuf> {
    let shelf = (1..)
        .map(|number| run.join(&format!("earlier-{number}")))
        .find(|path| !path.exists())
        .expect("some number is free");
    create_dir_new(&shelf)?;
    for path in paths {
        let name = path.file_name().map(Path::new).unwrap_or(path);
        rename_new(path, &shelf.join(name))?;
    }
    sync_dir(run.root())?;
    Ok(shelf)
}

/// Moves everything of earlier attempts into a folder of its own, so that a run can restart.
pub fn shelve(run: &RunDirectory, observer: &mut dyn Observer) -> Result<()> {
    let failed = "cannot archive the earlier attempt";
    let mut old: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(run.root()).context_at(failed, run.root())? {
        let entry = entry.context_at(failed, run.root())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "run.lock" && name != KERNELS && !name.starts_with("earlier-") {
            old.push(entry.path());
        }
    }
    if old.is_empty() {
        return Ok(());
    }
    let shelf = put_aside(run, &old)?;
    observer.on(Event::Note(format!("the earlier attempt is archived in {}", shelf.display())));
    Ok(())
}

/// Checkpoints after the one that a run goes back to are moved out of its way, with the metrics.
pub fn leave_later_ones(run: &RunDirectory, step: u64, observer: &mut dyn Observer) -> Result<()> {
    let all = newest(run.root())?;
    let later = all.into_iter().filter(|(found, _)| *found > step).map(|(_, folder)| folder);
    leave(run, later.collect(), observer)
}

/// All checkpoints of a run are moved out of the way of one that comes from elsewhere.
pub fn leave_checkpoints(run: &RunDirectory, observer: &mut dyn Observer) -> Result<()> {
    leave(run, checkpoints(run)?, observer)
}

/// The same, of a run that is there elsewhere as well: its records come from there, too.
pub fn leave_for_mirrored(run: &RunDirectory, observer: &mut dyn Observer) -> Result<()> {
    let folders = checkpoints(run)?;
    match folders.is_empty() {
        true => leave_records(run, observer),
        false => leave_with(run, &folders, &RECORDS, observer),
    }
}

/// The records of a run are copied before those that come from elsewhere replace them.
pub fn leave_records(run: &RunDirectory, observer: &mut dyn Observer) -> Result<()> {
    if !RECORDS.iter().any(|name| run.join(name).exists()) {
        return Ok(());
    }
    let shelf = put_aside(run, &[])?;
    copy_records(run, &RECORDS, &shelf)?;
    observer
        .on(Event::Note(format!("the records of this machine are kept in {}", shelf.display())));
    Ok(())
}

fn checkpoints(run: &RunDirectory) -> Result<Vec<PathBuf>> {
    Ok(newest(run.root())?.into_iter().map(|(_, folder)| folder).collect())
}

fn leave(run: &RunDirectory, folders: Vec<PathBuf>, observer: &mut dyn Observer) -> Result<()> {
    match folders.is_empty() {
        true => Ok(()),
        false => leave_with(run, &folders, &["metrics.jsonl", ROLLOUTS], observer),
    }
}

fn leave_with(
    run: &RunDirectory,
    folders: &[PathBuf],
    records: &[&str],
    observer: &mut dyn Observer,
) -> Result<()> {
    let shelf = put_aside(run, folders)?;
    copy_records(run, records, &shelf)?;
    let (count, shelf) = (folders.len(), shelf.display());
    observer.on(Event::Note(format!("{count} checkpoints now lie in {shelf}")));
    Ok(())
}

fn copy_records(run: &RunDirectory, records: &[&str], shelf: &Path) -> Result<()> {
    for name in records {
        if let Ok(lines) = fs::read(run.join(name)) {
            write_atomic(&shelf.join(name), &lines)?;
        }
    }
    Ok(())
}

/// The result of a run that goes on is kept under a name that says of how many steps it is. Its
/// last sign, the folder, goes last, so that a run is either done or not.
pub fn set_result_aside(run: &RunDirectory, observer: &mut dyn Observer) -> Result<()> {
    if !run.artifact().exists() {
        return Ok(());
    }
    let step = newest(run.root())?.first().map_or(0, |(step, _)| *step);
    let free = free_name(run, &format!("artifact-of-step-{step:08}"));
    for beside in [signature::ATTESTATIONS, provenance::UNSIGNED] {
        let told = run.join(&format!("artifact{beside}"));
        if told.exists() {
            rename_new(&told, &run.join(&format!("{free}{beside}")))?;
        }
    }
    rename_new(&run.artifact(), &run.join(&free))?;
    sync_dir(run.root())?;
    let lies = run.join(&free);
    observer.on(Event::Note(format!("the earlier result is archived in {}", lies.display())));
    Ok(())
}
