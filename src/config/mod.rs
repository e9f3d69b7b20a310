//! What the user asked for: the run config, a document of which the keys stand here.

use std::collections::BTreeMap;
use std::path::Path;

use crate::document::key::OwnedKeys;
use crate::document::{
    self, DocumentKind, Effect, Entries, KeyTable, Origin, Problems, Values, is_name, shown,
};
use crate::error::{Error, Result};
use crate::files::Digest;

mod foreign;
pub mod sections;

#[cfg(test)]
mod tests;

pub use sections::checkpoint::{CheckpointConfig, OnDiskFull, Reuse};
pub use sections::data::{DataConfig, OnUnused, Overlong, TrainOn, ValSize};
pub use sections::data_set::{DataSetConfig, FormatChoice};
pub use sections::device::{DeviceChoice, DeviceConfig, GraphicsApi, Kernels};
pub use sections::eval::EvalConfig;
pub use sections::model::{Init, ModelConfig};
pub use sections::output::OutputConfig;
pub use sections::train::{Length, PrecisionChoice, Recompute, Scheduler, TrainConfig, Warmup};
pub use sections::trust::TrustConfig;

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
}

/// Reads a config file and puts the overrides (`key=value`) over it; `known` are the keys that
/// there are.
///
/// # Errors
/// All problems of the file and the overrides at once, in the order of their places.
pub fn load(known: &KeyTable, path: &Path, overrides: &[String]) -> Result<Loaded> {
    parse(known, path, &document::bytes_of(known, path)?, overrides)
}

/// Reads the bytes of a config; `path` is for messages and for the default of `name`.
///
/// # Errors
/// As [`load`].
pub fn parse(known: &KeyTable, path: &Path, bytes: &[u8], overrides: &[String]) -> Result<Loaded> {
    let named = |values: &Values, problems: &mut Problems| check_name(path, values, problems);
    let document = document::parse(known, path, bytes, overrides, named)?;
    let config = resolve(known, &document.values, name(path, &document.values));
    let entries = entries_of(known, &config);
    let resolved = entries.flat();
    Ok(Loaded {
        canonical: entries.to_toml(),
        digest: entries.digest(|path| known.effect(path).decides()),
        deciding: known.having(&resolved, Effect::decides),
        measuring: known.having(&resolved, |effect| effect == Effect::Measures),
        resolved,
        text_sha256: document.sha256,
        overrides: document.overrides,
        config,
    })
}

/// All values of a config.
fn entries_of(known: &KeyTable, config: &RunConfig) -> Entries {
    let mut entries = Entries::default();
    entries.text("name", &config.name);
    entries.integer("seed", config.seed);
    config.model.write(&mut entries);
    config.data.write(&mut entries);
    config.train.write(&mut entries);
    config.eval.write(&mut entries);
    config.checkpoint.write(&mut entries);
    config.output.write(&mut entries);
    config.trust.write(&mut entries);
    config.device.write(&mut entries);
    known.write_owned(&config.owned, &mut entries);
    entries
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

/// Defaults that other keys decide are decided here.
fn resolve(known: &KeyTable, values: &Values, name: String) -> RunConfig {
    let model = ModelConfig::read(values);
    // Trained weights are easily spoilt, random ones have nothing to lose.
    let of_section = known
        .default_by_section("train.learning_rate", values)
        .map(|toml| toml.parse().expect("the default of a section is a number"));
    let learning_rate = of_section.unwrap_or(match model.init {
        Init::Random => 1e-3,
        Init::Pretrained => 2e-5,
    });
    RunConfig {
        seed: values.integer("seed"),
        data: DataConfig::read(values),
        train: TrainConfig::read(values, learning_rate),
        eval: EvalConfig::read(values),
        checkpoint: CheckpointConfig::read(values),
        output: OutputConfig::read(values, &name),
        trust: TrustConfig::read(values),
        device: DeviceConfig::read(values),
        owned: known.owned_of(values),
        model,
        name,
    }
}
