//! What the user asked for: a TOML file, checked against one table of keys.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::files::{Digest, open_regular};

#[macro_use]
mod choices;
mod check;
mod conflicts;
mod device_choice;
mod effect;
mod foreign;
pub mod key;
mod key_table;
mod overrides;
mod place;
mod render;
mod schema;
pub mod sections;
mod template;
mod tree;
mod typed;
mod unknown;
mod value;

#[cfg(test)]
mod tests;

pub use device_choice::{DeviceChoice, GraphicsApi};
pub use effect::Effect;
pub use key_table::{KeyTable, TableSection};
use render::Entries;
pub(crate) use render::quoted;
pub use schema::schema;
pub use sections::checkpoint::{CheckpointConfig, OnDiskFull, Reuse};
pub use sections::data::{DataConfig, OnUnused, Overlong, TrainOn, ValSize};
pub use sections::data_set::{DataSetConfig, FormatChoice};
pub use sections::device::{DeviceConfig, Kernels};
pub use sections::eval::EvalConfig;
pub use sections::model::{Init, ModelConfig};
pub use sections::output::OutputConfig;
pub use sections::train::{Length, PrecisionChoice, Recompute, Scheduler, TrainConfig, Warmup};
pub use sections::trust::TrustConfig;
pub use template::template;
pub use typed::set_defaults;
pub(crate) use typed::size;
pub use value::{Value, Values};

use place::{Origin, Problems, Source};

/// A config has a few hundred lines; a larger file is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

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
    std::fs::metadata(path).context_at("cannot read the config", path)?;
    let mut bytes = Vec::new();
    open_regular(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .context_at("cannot read the config", path)?;
    parse(known, path, &bytes, overrides)
}

/// Reads the bytes of a config; `path` is for messages and for the default of `name`.
///
/// # Errors
/// As [`load`].
pub fn parse(known: &KeyTable, path: &Path, bytes: &[u8], overrides: &[String]) -> Result<Loaded> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("the config is larger than {FILE_BYTES_MAX} bytes");
        let hint = "a config names data files, it does not hold them";
        return Err(Error::new(what).at(path).hint(hint));
    }
    let text = utf8(path, bytes)?;
    let pairs: Vec<_> = overrides.iter().map(|text| overrides::split(text)).collect();
    let keys = pairs.iter().map(|(key, _)| key.clone()).collect();
    let source = Source::new(path, text, keys);
    let mut problems = Problems::default();
    let (mut table, damage) = tree::parse(text, &source, &mut problems);
    overrides::apply(known, &mut table, &pairs, &mut problems);
    let mut found = Problems::default();
    let mut values = check::check(known, &table, damage.is_none(), &mut found);
    conflicts::settle(known, &mut values, &source, &mut found);
    check::fill_defaults(known, &mut values);
    let name = name(path, &values, &mut found);
    found.retain(|origin| damage.spares(origin, &source));
    problems.extend(found);
    if let Some(error) = problems.into_error(&source) {
        return Err(with_format_hint(error, path, &damage));
    }
    let config = resolve(known, &values, name);
    let entries = entries_of(known, &config);
    let resolved = entries.flat();
    Ok(Loaded {
        canonical: entries.to_toml(),
        digest: entries.digest(|path| known.effect(path).decides()),
        deciding: known.having(&resolved, Effect::decides),
        measuring: known.having(&resolved, |effect| effect == Effect::Measures),
        resolved,
        text_sha256: Digest::of(bytes),
        overrides: pairs.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect(),
        config,
    })
}

/// All values of a config, in the order in which they are rendered.
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

fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Error::new("the config is not valid UTF-8").at_position(path, line, column)
    })
}

/// The name of the run: as given, else that of the file.
fn name(path: &Path, values: &Values, problems: &mut Problems) -> String {
    if let Some(name) = values.optional_text("name") {
        return name;
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    // A name that was given and is unusable has been reported.
    if values.given("name").is_none() && !typed::is_name(&stem) {
        let shown = place::shown(&stem);
        let error = Error::new(format!("the file name `{shown}` cannot name the run"))
            .hint("add `name = \"my-run\"` above the first section");
        problems.report(Origin::File, error);
    }
    stem.into_owned()
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

/// People arrive with YAML and JSON.
fn with_format_hint(error: Error, path: &Path, damage: &tree::Damage) -> Error {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension {
        Some("yaml" | "yml" | "json") if !damage.is_none() => {
            error.hint("the config is TOML: `[section]` lines, and `key = value` below them")
        }
        _ => error,
    }
}
