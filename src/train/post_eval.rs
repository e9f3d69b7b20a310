//! What the suite of a configuration says of the finished model.

use std::path::Path;
use std::sync::Arc;

use super::prepare::Prepared;
use crate::checkpoint::{RestoredCheckpoint, newest};
use crate::config::RunConfig;
use crate::engine::Trainer;
use crate::error::{Error, Result};
use crate::evaluation::{Report, Subject, Suite, Unwatched, evaluate};
use crate::event::{Event, Observer};
use crate::files::{FileEntry, RunDirectory, cache_home, hash_file};
use crate::hub::Supply;

/// The suite that `eval.suite` names.
///
/// # Errors
/// Now and not after hours of work, when it cannot be used.
pub fn suite(config: &RunConfig) -> Result<Option<Suite>> {
    config.eval.suite.as_ref().map(|path| Suite::read(Path::new(path))).transpose()
}

/// Judges the model of a run at its end, and notes the result in the run's folder. The model is
/// that of the last checkpoint, or of `best`.
pub fn judge(
    suite: &Suite,
    (run, best): (&RunDirectory, Option<&Path>),
    prepared: &Prepared,
    trainer: &Trainer,
    supply: &Arc<Supply>,
    observer: &mut dyn Observer,
) -> Result<Report> {
    let files = files(run, best, prepared)?;
    let subject = Subject {
        name: &prepared.config.name,
        model: &trainer.model,
        codec: &prepared.corpus.codec,
        files: &files,
        quantised: prepared.quantised,
        score_head: prepared.score_head.as_ref().map(|of| &of.head),
    };
    let cache = cache_home()?;
    let kept = (cache.as_path(), false);
    let report = evaluate(&subject, suite, supply, &prepared.opened, kept, &Unwatched)?;
    report.note(run.root())?;
    let told = |(name, metric): (&String, &crate::evaluation::Metric)| {
        format!("{name} {:.4}", metric.value)
    };
    let numbers: Vec<String> = report.metrics.iter().map(told).collect();
    observer.on(Event::Note(format!("{}: {}", suite.name, numbers.join(", "))));
    Ok(report)
}

/// The base model, and what was trained on as the checkpoint holds it.
fn files(run: &RunDirectory, best: Option<&Path>, prepared: &Prepared) -> Result<Vec<FileEntry>> {
    let below =
        |file: &FileEntry| FileEntry { path: format!("base/{}", file.path), ..file.clone() };
    let mut files: Vec<FileEntry> = prepared.base_files.iter().map(below).collect();
    let last = newest(run.root())?.into_iter().next().map(|(_, folder)| folder);
    let folder = best.map(Path::to_owned).or(last);
    let none = || Error::checkpoint("the finished run has no checkpoint").at(run.root());
    let folder = folder.ok_or_else(none)?;
    let found = RestoredCheckpoint::open(&folder)?;
    files.push(hash_file(&folder.join(found.weights_name()), found.weights_name())?);
    Ok(files)
}
