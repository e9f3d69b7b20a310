//! A run as a job of another trainer, for who needs more than one device: the rows that it would
//! train on, tokenised and packed, in their order, and its settings under the other's names.
//!
//! A tool is a file with its table of settings, and a line of [`TARGETS`]; a form of the rows is
//! one in `rows`. What has no counterpart there is told by name.

mod axolotl;
mod rows;
mod settings;
mod trainer;
mod trl;

use std::path::{Path, PathBuf};

pub use rows::{RowsFormat, USUAL_ROWS_FORMAT, rows_format, rows_formats};
use settings::{Became, JobSettings};

use crate::engine::learning_rate;
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::files::{create_dir_new, remove_dir, rename_new, sync_dir, write_synced};
use crate::objectives;
use crate::train::{Prepared, schedule_of};

/// A trainer that jobs are written for.
pub struct JobTarget {
    /// Its name on the command line.
    pub name: &'static str,
    /// What becomes of each setting; the first table that has one decides.
    settings: &'static [&'static [(&'static str, settings::Rule)]],
    /// The files that it reads beside the rows.
    files: fn(&Job) -> Result<Vec<(&'static str, String)>>,
    /// What starts it, in the folder of the job.
    pub command: &'static str,
}

const TARGETS: &[&JobTarget] = &[&axolotl::TARGET, &trl::TARGET];

/// Names of all targets.
pub fn job_targets() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().map(|target| target.name)
}

/// What a target needs to know.
struct Job<'a> {
    settings: &'a JobSettings,
    /// Settings of the target, in the order of the table.
    theirs: Vec<(String, serde_json::Value)>,
    /// Settings without a counterpart, and why.
    left: Vec<(String, String)>,
    /// The learning rate of each step.
    rates: Vec<f64>,
    /// The form of the rows.
    rows: &'static RowsFormat,
    has_validation: bool,
}

/// What was written.
#[derive(Debug)]
pub struct ExportedJob {
    /// The folder.
    pub folder: PathBuf,
    /// Rows of training, of which so many only fill up the last step of an epoch.
    pub rows: u64,
    /// See there.
    pub filled: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Settings that have no counterpart, with their values, and why.
    pub left: Vec<(String, String)>,
    /// What starts the job.
    pub command: &'static str,
}

impl JobTarget {
    /// Whether it says what becomes of a setting.
    pub fn knows(&self, key: &str) -> bool {
        self.rule(key).is_some()
    }

    fn rule(&self, key: &str) -> Option<settings::Rule> {
        let mut rules = self.settings.iter().flat_map(|table| table.iter());
        rules.find(|(name, _)| settings::names(name, key)).map(|(_, rule)| *rule)
    }
}

/// The target of this name.
pub fn job_target(name: &str) -> Option<&'static JobTarget> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// Writes a run as a job of another trainer into a new folder, with its rows in a form.
///
/// # Errors
/// When its rows are not known beforehand or are no texts to go on with, or something is in the
/// place of the folder: nothing is left then.
pub fn export_job(
    prepared: &Prepared,
    resolved: &std::collections::BTreeMap<String, String>,
    target: &JobTarget,
    rows: &'static RowsFormat,
    folder: &Path,
    observer: &mut dyn Observer,
) -> Result<ExportedJob> {
    let config = prepared.config();
    let writes_rows = objectives::chosen(&config.owned).writes_rows();
    let objective = resolved.get("train.objective").map_or("sft", String::as_str);
    if objective != "sft" || writes_rows || prepared.has_teacher() {
        let what = format!("a run with `train.objective = \"{objective}\"` cannot be exported");
        return Err(Error::export(what)
            .because("its rows are not texts to go on with, or are not known before it runs")
            .hint("runs with `train.objective = \"sft\"` and without `[distillation]` can"));
    }
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
        return Err(Error::usage("the job needs a folder with a name of its own").at(folder));
    };
    if folder.exists() {
        return Err(Error::exists("there is something already").at(folder));
    }
    let scratch = folder.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    create_dir_new(&scratch)?;
    let made = fill(prepared, resolved, target, rows, &scratch, observer).and_then(|made| {
        sync_dir(&scratch)?;
        rename_new(&scratch, folder)?;
        Ok(ExportedJob { folder: folder.to_path_buf(), ..made })
    });
    if made.is_err() {
        let _ = remove_dir(&scratch); // half of it is of no use
    }
    made
}

fn fill(
    prepared: &Prepared,
    resolved: &std::collections::BTreeMap<String, String>,
    target: &JobTarget,
    rows: &'static RowsFormat,
    folder: &Path,
    observer: &mut dyn Observer,
) -> Result<ExportedJob> {
    let settings = JobSettings::new(prepared, resolved);
    let written = rows::write(prepared, rows, folder, observer)?;
    let (mut theirs, mut left) = (Vec::new(), Vec::new());
    for (key, value) in settings.all() {
        let Some(rule) = target.rule(key) else { continue };
        match settings.apply(rule, key, value) {
            Became::Settings(found) => theirs.extend(found),
            Became::Nothing => {}
            Became::Left(why) => left.push((format!("{key} = {value}"), why)),
        }
    }
    if written.weighted {
        left.push((
            "data.sample_weight".to_owned(),
            "labels have no weights: every target token counts the same there".to_owned(),
        ));
    }
    let schedule = schedule_of(&prepared.config().train, prepared.total_steps);
    let rates = (1..=prepared.total_steps).map(|step| learning_rate(&schedule, step)).collect();
    let has_validation = written.validation > 0;
    let job = Job { settings: &settings, theirs, left, rates, rows, has_validation };
    for (name, text) in (target.files)(&job)? {
        write_synced(&folder.join(name), text.as_bytes())?;
    }
    Ok(ExportedJob {
        folder: folder.to_path_buf(),
        rows: written.rows,
        filled: written.filled,
        tokens: written.tokens,
        left: job.left,
        command: target.command,
    })
}
