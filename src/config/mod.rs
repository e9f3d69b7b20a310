//! What the user asked for: the run config, a document of which the keys stand here.

use std::collections::BTreeMap;
use std::path::Path;

use crate::document::key::OwnedKeys;
use crate::document::{
    self, DocumentKind, Effect, Entries, KeyTable, Origin, Override, Problems, Setting, Value,
    Values, is_name, shown,
};
use crate::error::{Error, Result};
use crate::files::{Digest, name_anywhere};

mod foreign;
mod of_run;
mod score_head;
pub mod sections;

#[cfg(test)]
mod tests;

pub use of_run::settings_of_run;
pub use score_head::{ProblemType, ScoreHead};
pub use sections::checkpoint::{CheckpointConfig, OnDiskFull, Reuse};
pub use sections::data::{DataConfig, OnUnused, Overlong, TrainOn, ValSize};
pub use sections::data_set::{DataSetConfig, FormatChoice};
pub use sections::device::{DeviceChoice, DeviceConfig, GraphicsApi, Kernels};
pub use sections::eval::EvalConfig;
pub use sections::model::{Init, ModelConfig};
pub use sections::output::OutputConfig;
pub use sections::train::{
    ActivationOffload, Length, MemoryChoice, OptimizerOffload, PrecisionChoice, Recompute,
    Scheduler, TrainConfig, Warmup,
};
pub use sections::trust::TrustConfig;

/// The setting whose list has names of models, which may be paths.
const BASE_ADAPTERS: &str = "model.base_adapters";
/// Where runs are, if nobody says otherwise: a folder for each, of its name.
pub const RUNS: &str = "checkpoints";

const KIND: DocumentKind = DocumentKind {
    name: "config",
    what: "the config",
    title: "Firebrand run",
    about: "One fine-tuning run.",
    opening: "A Firebrand run. `firebrand plan FILE` says what it would do, `firebrand train FILE` \
              does it.",
    paths: "Paths are relative to the folder where the command is run.",
    too_large: "a config names data files, it does not hold them",
};

/// The keys of the config: those that stand here, and those that other parts of the program own.
pub fn keys(owned: Vec<OwnedKeys>) -> KeyTable {
    KeyTable::new(&KIND, sections::SECTIONS).notes_of(foreign::WITHOUT_KEY).owned_by(owned)
}

/// Everything that decides a run: plain data, every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct RunConfig {
    /// Name of the run, safe as one component of a path.
    pub name: String,
    /// Decides every random choice.
    pub seed: u64,
    /// The model that is fine-tuned.
    pub model: ModelConfig,
    /// What is trained on.
    pub data: DataConfig,
    /// How long, how fast, in which arithmetic.
    pub train: TrainConfig,
    /// What is measured beside the training loss.
    pub eval: EvalConfig,
    /// How much work a stop can cost.
    pub checkpoint: CheckpointConfig,
    /// Where the result goes and who signs it.
    pub output: OutputConfig,
    /// Which inputs may be used.
    pub trust: TrustConfig,
    /// Where the work is done.
    pub device: DeviceConfig,
    /// Settings that belong to others: which optimizer, and what it is to be told. Their owners
    /// read them.
    pub owned: Values,
}

/// A config with everything that a record of the run needs to know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What the text and the overrides mean.
    pub config: RunConfig,
    /// Digest of the bytes of the file.
    pub text_sha256: Digest,
    /// The overrides as they were given, key and value.
    pub overrides: Vec<(String, String)>,
    /// All values as TOML, in one fixed way; reading it gives the same config.
    pub canonical: String,
    /// Digest of the canonical text of what decides numbers ([`Effect::decides`]).
    pub digest: Digest,
    /// All values by path, strings without quotes.
    pub resolved: BTreeMap<String, String>,
    deciding: BTreeMap<String, String>,
    measuring: BTreeMap<String, String>,
    portable: BTreeMap<String, String>,
}

impl Loaded {
    /// The settings that decide the numbers of a run, path and value.
    pub fn deciding(&self) -> BTreeMap<String, String> {
        self.deciding.clone()
    }

    /// The settings that only say what is measured and asked, path and value.
    pub fn measuring(&self) -> BTreeMap<String, String> {
        self.measuring.clone()
    }

    /// The settings that shape the artifact, path and value, as they are on whatever machine:
    /// files that were named by where they lie are named by their last name.
    pub fn portable(&self) -> BTreeMap<String, String> {
        self.portable.clone()
    }
}

/// Reads a config file and puts the overrides (`key=value`) over it; `known` are the keys that
/// there are.
///
/// # Errors
/// All problems of the file and the overrides at once, in the order of their places.
pub fn load(known: &KeyTable, path: &Path, overrides: &[String]) -> Result<Loaded> {
    parse(known, path, &document::bytes_of(known, path)?, of_options(overrides))
}

/// What options say: `key=value`.
pub fn of_options(options: &[String]) -> Vec<Override> {
    options.iter().map(|text| Override::of_option(text)).collect()
}

/// Reads the bytes of a config; `path` is for messages and for the default of `name`.
///
/// # Errors
/// As [`load`].
pub fn parse(
    known: &KeyTable,
    path: &Path,
    bytes: &[u8],
    overrides: Vec<Override>,
) -> Result<Loaded> {
    let further = |values: &Values, problems: &mut Problems| {
        check_name(path, values, problems);
        check_validation(values, problems);
    };
    let mut document = document::parse(known, path, bytes, overrides, further)?;
    decide(known, &mut document.values, path);
    let entries = Entries::of(known, &document.values);
    let resolved = entries.flat();
    Ok(Loaded {
        canonical: entries.to_toml(),
        digest: entries.digest(|path| known.effect(path).decides()),
        deciding: known.having(&resolved, Effect::decides),
        measuring: known.having(&resolved, |effect| effect == Effect::Measures),
        portable: portable(known, &resolved),
        resolved,
        text_sha256: document.sha256,
        overrides: document.overrides,
        config: RunConfig::read(known, &document.values),
    })
}

fn portable(known: &KeyTable, resolved: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let place_free = |(path, value): (String, String)| {
        let value = place_free(known, &path, &value);
        (path, value)
    };
    known.having(resolved, Effect::shapes_artifact).into_iter().map(place_free).collect()
}

/// The value of a key, path and value as lineages have them, without the place where files lie.
pub fn place_free(known: &KeyTable, path: &str, value: &str) -> String {
    if known.is_line(path) {
        return name_anywhere(value);
    }
    if path != BASE_ADAPTERS {
        return value.to_owned();
    }
    let list = document::literal(value);
    let names = list.as_ref().and_then(serde_json::Value::as_array).into_iter().flatten();
    let names = names.filter_map(serde_json::Value::as_str).map(name_anywhere);
    document::texts(&names.collect::<Vec<_>>())
}

/// The name of the run: as given, else that of the file.
fn name(path: &Path, values: &Values) -> String {
    let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    values.optional_text("name").or_else(stem).unwrap_or_default()
}

fn check_name(path: &Path, values: &Values, problems: &mut Problems) {
    // A name that was given and is unusable has been reported.
    let name = name(path, values);
    if !values.is_given("name") && !is_name(&name) {
        let error = Error::config(format!("the file name `{}` cannot name the run", shown(&name)))
            .hint("add `name = \"my-run\"` above the first section");
        problems.report(Origin::File, error);
    }
}

/// What compares validations needs them in the course of a run.
fn check_validation(values: &Values, problems: &mut Problems) {
    let (best, patience) = ("eval.load_best_model_at_end", "eval.early_stopping_patience");
    let wanted = |path: &str| match values.get(path) {
        Some(Value::Boolean(wanted)) => *wanted,
        other => other.is_some(),
    };
    let every = matches!(values.get("eval.every_steps"), Some(Value::Integer(steps)) if *steps > 0);
    let split = ValSize::of(values, "data.val_size") != ValSize::None;
    let data = split || values.is_given("data.validation");
    let missing = [
        (every, "validations in the course of the run", "`eval.every_steps`"),
        (data, "validation data", "`[[data.validation]]` or `data.val_size`"),
    ];
    for path in [best, patience].into_iter().filter(|path| wanted(path)) {
        for (_, what, key) in missing.iter().filter(|(there, ..)| !there) {
            let error = Error::config(format!("`{path}` requires {what}"));
            problems.report(values.place(path), error.hint(format!("set {key}")));
        }
    }
    let threshold = "eval.early_stopping_threshold";
    if values.is_given(threshold) && values.get(patience).is_none() {
        let error = Error::config(format!("`{threshold}` requires `{patience}`"));
        problems.report(values.place(threshold), error);
    }
}

/// Decides the defaults that other keys decide. All that is read or rendered of the values comes
/// after this.
fn decide(known: &KeyTable, values: &mut Values, path: &Path) {
    let name = name(path, values);
    // Trained weights are easily spoilt, random ones have nothing to lose.
    let of_section = known
        .default_by_section("train.learning_rate", values)
        .map(|toml| toml.parse().expect("the default of a section is a number"));
    let learning_rate = of_section.unwrap_or(match Init::of(values, "model.init") {
        Init::Random => 1e-3,
        Init::Pretrained => 2e-5,
    });
    let depending = [
        ("train.learning_rate", Value::Number(learning_rate)),
        ("output.dir", Value::Text(format!("{RUNS}/{name}"))),
        ("name", Value::Text(name)),
    ];
    for (path, default) in depending {
        if values.get(path).is_none() {
            values.set(path, default);
        }
    }
    // One of two keys that exclude each other may have a default.
    for key in known.keys() {
        for other in key.excludes {
            match (values.is_given(key.path), values.is_given(other)) {
                (true, false) => values.forget(other),
                (false, true) => values.forget(key.path),
                _ => {}
            }
        }
    }
    if let Some(columns) = values.get("data.columns").cloned() {
        values.forget("data.columns");
        for sets in ["data.train", "data.validation"] {
            for set in values.tables_mut(sets) {
                if set.get("columns").is_none() {
                    set.set("columns", columns.clone());
                }
            }
        }
    }
}

impl RunConfig {
    fn read(known: &KeyTable, values: &Values) -> Self {
        Self {
            name: values.text("name"),
            seed: values.integer("seed"),
            model: ModelConfig::read(values),
            data: DataConfig::read(values),
            train: TrainConfig::read(values),
            eval: EvalConfig::read(values),
            checkpoint: CheckpointConfig::read(values),
            output: OutputConfig::read(values),
            trust: TrustConfig::read(values),
            device: DeviceConfig::read(values),
            owned: known.owned_of(values),
        }
    }
}
