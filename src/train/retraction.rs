//! Records are taken back from a run: which steps read them, what was made with them, and how the
//! run is made again without them.
//!
//! The rows of a run are a function of its data, settings and seed, so that the steps that read a
//! record are known exactly. A run with `data.retracted` has the same rows but for those records:
//! until the first step that read one it is the same run, and takes those steps from the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::artifact::descendants::{Descendant, descendants};
use crate::checkpoint::{Chain, RestoredCheckpoint, newest};
use crate::data::{Cursor, Extent, NamedRecord, named_records};
use crate::engine::learning_rate;
use crate::error::{Context, Error, Result};
use crate::event::Observer;
use crate::files::{Digest, RunDirectory, write_atomic};
use crate::hub::DataLock;
use crate::objectives;
use crate::settings;
use crate::train::checkpoint_model::{expect_same, settings_of};
use crate::train::fetch_policy::{Access, supply_for};
use crate::train::prepare::{Prepared, prepare};
use crate::train::reuse;

/// A record that is taken back, and the steps that read it.
#[derive(Debug, Clone, Serialize)]
pub struct RetractedRecord {
    /// Its place, `FILE:LINE`.
    pub record: String,
    /// The digest of what it holds.
    pub sha256: Digest,
    /// The steps that read it, of those that are done.
    pub steps: Vec<u64>,
}

/// What is known of records that are to be taken back from a run.
#[derive(Debug, Serialize)]
pub struct Retraction {
    /// Steps that the run has done.
    pub steps: u64,
    /// The records.
    pub records: Vec<RetractedRecord>,
    /// Lines of the list that name no record of the training data.
    pub unknown: Vec<u64>,
    /// Whether the rows are proved to be those of the run: their digest, with that of the learning
    /// rates, is the one that its newest checkpoint holds.
    pub proved: bool,
    /// The first step that read one of them.
    pub first_step: Option<u64>,
    /// The last checkpoint of the run that had read none of them; its beginning without one.
    pub checkpoint: Option<u64>,
    /// What was made with them.
    pub artifacts: Vec<Descendant>,
    /// Steps that the run was to have.
    #[serde(skip)]
    total_steps: u64,
}

/// Looks which steps of a run read the records that a list names, and what was made with them;
/// artifacts are looked for below `places`, too. The last checkpoint without them is filed where
/// the new run finds it.
///
/// # Errors
/// When the run is at work, has no checkpoint, or base, data or settings are not those of the run.
pub fn retraction(
    run: &Path,
    list: &Path,
    places: &[PathBuf],
    access: &Access,
    observer: &mut dyn Observer,
) -> Result<Retraction> {
    if !run.join("config.toml").is_file() {
        return Err(Error::run("there is no run here")
            .at(run)
            .hint("`--run` is the directory of a run, such as `checkpoints/NAME`"));
    }
    let directory = RunDirectory::lock(run)?;
    let Some((_, folder)) = newest(run)?.into_iter().next() else {
        return Err(Error::checkpoint("this run has no checkpoint").at(run));
    };
    let found = RestoredCheckpoint::open(&folder)?;
    let loaded = settings_of(run)?;
    let supply = supply_for(&run.join("config.toml"), Some(&directory), access)?;
    let prepared = prepare(&loaded, &supply, Extent::AsNeeded, observer)?;
    expect_same(&found, &loaded, &prepared)?;
    let named = named_records(&prepared.corpus, list)?;
    let steps = found.state.step;
    let (reads, chain) = reads(&prepared, steps, &named.records)?;
    let first_step = reads.values().flatten().min().copied();
    let before = |(step, _): &(u64, PathBuf)| first_step.is_some_and(|first| *step < first);
    let checkpoint = newest(run)?.into_iter().find(before).map(|(step, _)| step);
    if let Some(step) = checkpoint {
        let made_by = reuse::made_by(&prepared, &loaded, &prepared.identity(&loaded)?)?;
        if let Some(shelf) = reuse::shelf(made_by, &loaded.config, access)? {
            shelf.put(run, step, &loaded.config.name)?;
        }
    }
    let files: BTreeSet<Digest> = named.records.iter().map(|record| record.of_file).collect();
    let artifacts = match first_step {
        Some(first) => descendants(run, first, places, &files)?,
        None => Vec::new(),
    };
    let record = |named: NamedRecord| RetractedRecord {
        record: format!("{}:{}", named.file, named.line),
        sha256: named.digest,
        steps: reads.get(&(named.file, named.line)).cloned().unwrap_or_default(),
    };
    Ok(Retraction {
        steps,
        records: named.records.into_iter().map(record).collect(),
        unknown: named.unknown,
        proved: found.state.chain.is_some_and(|of_run| of_run == chain),
        first_step,
        checkpoint,
        artifacts,
        total_steps: prepared.total_steps,
    })
}

/// The steps that read a record, by its file and line.
type Reads = BTreeMap<(String, u64), Vec<u64>>;

/// Goes through the rows of the first steps again.
fn reads(prepared: &Prepared, steps: u64, records: &[NamedRecord]) -> Result<(Reads, Chain)> {
    let wanted: BTreeSet<(&str, u64)> =
        records.iter().map(|record| (record.file.as_str(), record.line)).collect();
    let (mut reads, mut cursor, mut chain) = (Reads::new(), Cursor::default(), Chain::default());
    let schedule = prepared.step_settings().schedule;
    let objective = objectives::chosen(&prepared.config.owned);
    // Some steps are made with what was written for the prompts of the step before.
    let iterations = objective.rollouts().map_or(1, |rollouts| rollouts.num_iterations.max(1));
    let mut batches = Vec::new();
    for step in 1..=steps {
        if (step - 1).is_multiple_of(iterations) {
            batches = prepared.take(&mut cursor)?;
        }
        chain = chain.after(learning_rate(&schedule, step), &batches);
        let sources = batches.iter().flat_map(|batch| batch.sources.iter().flatten());
        let here: BTreeSet<(&str, u64)> =
            sources.map(|record| (&*record.file, record.line)).collect();
        for (file, line) in here.intersection(&wanted) {
            reads.entry(((*file).to_owned(), *line)).or_default().push(step);
        }
    }
    Ok((reads, chain))
}

/// Writes the configuration of the run without the records, `OUT.toml`, whose run directory is
/// `out`, and the lock of the run beside it.
///
/// # Errors
/// When something is in their place, or cannot be written.
pub fn write_config(run: &Path, retraction: &Retraction, out: &Path) -> Result<PathBuf> {
    let config = PathBuf::from(format!("{}.toml", out.display()));
    for path in [out, &config, &DataLock::path_of(&config)] {
        if path.symlink_metadata().is_ok() {
            return Err(Error::exists("refusing to replace what is already there").at(path));
        }
    }
    let old = run.join("config.toml");
    let text = std::fs::read_to_string(&old).context_at("cannot read the configuration", &old)?;
    let mut table: toml::Table = toml::from_str(&text)
        .map_err(|error| Error::config("broken configuration").at(&old).because(error))?;
    let mut put = |section: &str, key: &str, value: toml::Value| {
        let empty = toml::Value::Table(toml::Table::new());
        let section = table.entry(section).or_insert(empty).as_table_mut();
        section.and_then(|section| section.insert(key.to_owned(), value))
    };
    put("output", "dir", out.display().to_string().into());
    // Rows of nothing else are gone: as many steps as before keep the learning rates of each.
    let total = i64::try_from(retraction.total_steps).unwrap_or(i64::MAX);
    put("train", "max_steps", total.into());
    let digests =
        |list: Vec<String>| toml::Value::Array(list.into_iter().map(Into::into).collect());
    let mut all: BTreeSet<String> =
        retraction.records.iter().map(|record| record.sha256.to_string()).collect();
    let earlier = put("data", "retracted", digests(Vec::new()));
    let earlier = earlier.as_ref().and_then(toml::Value::as_array);
    all.extend(earlier.into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned)));
    put("data", "retracted", digests(all.into_iter().collect()));
    if let Some(train) = table.get_mut("train").and_then(toml::Value::as_table_mut) {
        train.remove("epochs");
    }
    let text = toml::to_string(&table).context("cannot encode the configuration")?;
    // Checked before it is there.
    settings::parse(&config, text.as_bytes(), &[])?;
    let lock = run.join(crate::files::DATA_LOCK);
    if lock.is_file() {
        let text = std::fs::read(&lock).context_at("cannot read the lock", &lock)?;
        write_atomic(&DataLock::path_of(&config), &text)?;
    }
    write_atomic(&config, text.as_bytes())?;
    Ok(config)
}
