//! Opens what training made, for use: a model directory, an adapter beside its base, or the newest
//! checkpoint of a run that is not finished.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::Value;

use super::peft;
use crate::adapters;
use crate::checkpoint::{self, Found};
use crate::config::{Init, LoraConfig, TargetModules};
use crate::device;
use crate::error::{Context, Error, Result};
use crate::files::{DATA_LOCK, FileEntry, read_json_hashed};
use crate::hub::{DEFAULT_REVISION, Lock, ModelDirectory, Supply};
use crate::model::{self, Facts, Loaded, Model};
use crate::random::Stream;
use crate::settings;
use crate::weights::{Shard, TensorPlace};

/// Largest `adapter_config.json` that is read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Limits of settings, as those of `[lora]`; the adapter's file must fit them besides.
const RANK_MAX: usize = 65_536;
const ALPHA_MAX: f64 = 1e6;
const MODULES_MAX: usize = 4096;

/// A model that is ready to be used.
pub struct Opened {
    /// The model, adapter included.
    pub model: Model,
    /// Where its tokenizer and chat template lie.
    pub codec: PathBuf,
    /// A chat template in place of the one there.
    pub chat_template: Option<PathBuf>,
    /// The files of which bytes were used; those of an adapter's base below `base/`.
    pub files: Vec<FileEntry>,
    /// What a user should know about the model.
    pub note: Option<String>,
}

/// The settings of an adapter directory.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Where the base model is, as the adapter names it.
    pub base: String,
    /// Its commit, if it is on a hub.
    pub revision: Option<String>,
    /// Rank, scale and layers.
    pub lora: LoraConfig,
}

impl Adapter {
    /// Reads `adapter_config.json`; kinds of adapters that are not plain LoRA are refused.
    pub fn read(adapter: &Path) -> Result<Self> {
        Self::read_hashed(adapter).map(|(adapter, _)| adapter)
    }

    /// The same, with the digest of the bytes that were read.
    pub fn read_hashed(adapter: &Path) -> Result<(Self, FileEntry)> {
        let path = adapter.join(peft::CONFIG_FILE);
        let (json, entry) = read_json_hashed(&path, peft::CONFIG_FILE, CONFIG_BYTES_MAX)?;
        Ok((Self::parse(&json, &path)?, entry))
    }

    fn parse(json: &Value, path: &Path) -> Result<Self> {
        let wrong = |what: &str| Error::new(what).at(path);
        if json["peft_type"] != "LORA" {
            return Err(wrong("only adapters of the type `LORA` are supported"));
        }
        for key in ["use_dora", "fan_in_fan_out", "lora_bias"] {
            if json[key] == true {
                return Err(wrong(&format!("adapters with `{key}` are not supported")));
            }
        }
        if !(json["use_rslora"].is_boolean() || json["use_rslora"].is_null()) {
            return Err(wrong("`use_rslora` must be true or false"));
        }
        for key in ["rank_pattern", "alpha_pattern"] {
            if json[key].as_object().is_some_and(|map| !map.is_empty()) {
                return Err(wrong(&format!("adapters with a `{key}` are not supported")));
            }
        }
        let rank = json["r"].as_u64().and_then(|r| usize::try_from(r).ok());
        let rank = rank.filter(|r| (1..=RANK_MAX).contains(r)).ok_or_else(|| {
            let found = shown(&json["r"]);
            wrong(&format!("`r` must be between 1 and {RANK_MAX}, and it {found}"))
        })?;
        let alpha = json["lora_alpha"].as_f64().filter(|alpha| alpha.abs() <= ALPHA_MAX);
        let alpha = alpha.ok_or_else(|| {
            let found = shown(&json["lora_alpha"]);
            wrong(&format!("`lora_alpha` must be a number up to {ALPHA_MAX}, and it {found}"))
        })?;
        let base = json["base_model_name_or_path"].as_str();
        Ok(Self {
            revision: json["revision"].as_str().map(str::to_owned),
            base: base.ok_or_else(|| wrong("`base_model_name_or_path` is missing"))?.to_owned(),
            lora: LoraConfig {
                r: rank,
                lora_alpha: alpha,
                lora_dropout: 0.0, // acts in training only
                target_modules: target_modules(json).ok_or_else(|| {
                    wrong("`target_modules` is neither a list of names nor `all-linear`")
                })?,
                use_rslora: json["use_rslora"] == true,
            },
        })
    }
}

/// What stands in place of what is wanted.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "is missing".to_owned(),
        Value::Number(number) => format!("is {number}"),
        _ => "is no number".to_owned(),
    }
}

fn target_modules(json: &Value) -> Option<TargetModules> {
    match &json["target_modules"] {
        Value::String(name) if name == "all-linear" => Some(TargetModules::AllLinear),
        Value::Array(names) => {
            let names = names.iter().take(MODULES_MAX + 1);
            if names.len() > MODULES_MAX {
                return None;
            }
            let names = names.map(|name| name.as_str().map(str::to_owned));
            names.collect::<Option<_>>().map(TargetModules::Names)
        }
        _ => None,
    }
}

/// Opens a model on a device: a device that fails over it is an error, and what is computed stays
/// within what it takes.
///
/// # Errors
/// Those of `open`, and when the device fails.
pub fn opened_on(device: &device::Opened, open: impl FnOnce() -> Result<Opened>) -> Result<Opened> {
    let mut opened = device::guarded(device.on_gpu(), "loading the model", || {
        let opened = open()?;
        // Uploads fail when they are waited for.
        device.device.sync().context("the model could not be put on the device")?;
        Ok::<_, Error>(opened)
    })??;
    opened.model.computing = device.computing();
    Ok(opened)
}

/// Opens a model by name; `base` takes the place of the base that an adapter names.
pub fn open(name: &str, base: Option<&str>, device: &Device, supply: &Supply) -> Result<Opened> {
    let run = Path::new(name);
    let unfinished = run.join("config.toml").is_file() && !run.join("artifact").exists();
    if unfinished && !checkpoint::newest(run)?.is_empty() {
        return open_checkpoint(run, device, supply);
    }
    let found = supply.find(name, DEFAULT_REVISION)?;
    if !found.adapter {
        let loaded = model::load(&found.path, model::Init::Pretrained, device)?;
        let Loaded { model, files, note, .. } = loaded;
        return Ok(Opened { model, codec: found.path, chat_template: None, files, note });
    }
    let (adapter, settings) = Adapter::read_hashed(&found.path)?;
    let base = base_of(&found, &adapter, base, supply)?;
    let loaded = with_adapter(&base.path, &found.path, &adapter.lora, device)?;
    let Loaded { model, mut files, note, .. } = loaded;
    files.push(settings);
    let has_tokenizer = found.path.join("tokenizer.json").is_file();
    let codec = if has_tokenizer { found.path } else { base.path };
    Ok(Opened { model, codec, chat_template: None, files, note })
}

/// A base model with an adapter beside its layers, and the files of both.
pub fn with_adapter(
    base: &Path,
    adapter: &Path,
    lora: &LoraConfig,
    device: &Device,
) -> Result<Loaded> {
    // The small file first: what is wrong with it is said before the large ones are read.
    let facts = model::inspect(base)?.facts;
    let fits = |places: &[TensorPlace]| fits(&facts, lora, places);
    let shard = Shard::read_if(adapter, peft::WEIGHTS_FILE, fits)?;
    shard.refuse_not_finite().map_err(|error| error.at(adapter))?;
    let mut loaded = model::load(base, model::Init::Pretrained, device)?;
    attach(&mut loaded.model, lora)?;
    checkpoint::put(&mut loaded.model, &shard, checkpoint::file_name_of)
        .map_err(|error| error.at(adapter))?;
    let mut files = below_base(loaded.files);
    files.push(shard.entry.clone());
    loaded.files = files;
    Ok(loaded)
}

/// Whether the tensors of an adapter's file are those that its settings and its base make. Nothing
/// is made of the settings' rank before this was asked.
fn fits(facts: &Facts, lora: &LoraConfig, places: &[TensorPlace]) -> Result<()> {
    let targets = adapters::targets(facts, lora)?;
    let mut expected: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (path, [outputs, inputs]) in targets {
        expected.insert(peft::peft_key(&path, "lora_A"), [lora.r, inputs]);
        expected.insert(peft::peft_key(&path, "lora_B"), [outputs, lora.r]);
    }
    for place in places {
        let (name, found) = (&place.name, &place.shape);
        let Some(wanted) = expected.remove(name) else {
            return Err(Error::new(format!("the model has no place for the tensor `{name}`")));
        };
        if found[..] != wanted {
            let what = format!("tensor `{name}` has shape {found:?}");
            let rank = lora.r;
            return Err(Error::new(format!("{what}, but {wanted:?} belongs there"))
                .because(format!("the base and the rank {rank} of the adapter make it so")));
        }
    }
    match expected.keys().next() {
        None => Ok(()),
        Some(name) => Err(Error::new(format!("tensor `{name}` is missing"))),
    }
}

fn below_base(files: Vec<FileEntry>) -> Vec<FileEntry> {
    let below = |file: FileEntry| FileEntry { path: format!("base/{}", file.path), ..file };
    files.into_iter().map(below).collect()
}

/// The base model of an adapter.
pub fn base_of(
    found: &ModelDirectory,
    adapter: &Adapter,
    instead: Option<&str>,
    supply: &Supply,
) -> Result<ModelDirectory> {
    let base = match instead {
        Some(name) => supply.find(name, DEFAULT_REVISION),
        None => {
            let revision = adapter.revision.as_deref().unwrap_or(DEFAULT_REVISION);
            supply.find(&adapter.base, revision)
        }
    };
    base.and_then(ModelDirectory::as_base).map_err(|error| {
        error.hint(format!(
            "`{}` is an adapter and needs its base model, `{}` by its own account: put it there, \
             or name it to `generate`, `eval`, `watch`, `merge` or `export` with `--base DIR`",
            found.id, adapter.base
        ))
    })
}

fn attach(model: &mut Model, lora: &LoraConfig) -> Result<()> {
    // The values drawn here are replaced at once by those of the file.
    adapters::attach_lora(model, lora, Stream::new(0)).map(|_| ())
}

fn open_checkpoint(run: &Path, device: &Device, supply: &Supply) -> Result<Opened> {
    let config = settings::load(&run.join("config.toml"), &[])?.config;
    // The commit that the run began with, wherever the branch is now.
    let lock = Lock::read(&run.join(DATA_LOCK))?;
    let commit = lock.and_then(|lock| lock.model).and_then(|model| model.commit);
    let revision = commit.as_deref().unwrap_or(&config.model.revision);
    let base = supply.find(&config.model.base, revision)?.as_base()?;
    let init = match config.model.init {
        Init::Pretrained => model::Init::Pretrained,
        Init::Random => model::Init::Random(Stream::new(config.seed)),
    };
    let mut loaded = model::load(&base.path, init, device)?;
    match &config.lora {
        Some(lora) => attach(&mut loaded.model, lora)?,
        None => adapters::learn_everything(&mut loaded.model),
    }
    let mut last = Error::new("this run has no whole checkpoint").at(run);
    for (_, folder) in checkpoint::newest(run)? {
        match Found::open(&folder) {
            Ok(found) => {
                let shard = Shard::read(&found.folder, found.weights_name())?;
                shard.refuse_not_finite().map_err(|error| error.at(&found.folder))?;
                checkpoint::put(&mut loaded.model, &shard, checkpoint::file_name_of)?;
                let mut files = below_base(loaded.files);
                files.push(shard.entry.clone());
                return Ok(Opened {
                    model: loaded.model,
                    codec: base.path,
                    chat_template: config.data.chat_template.map(PathBuf::from),
                    files,
                    note: loaded.note,
                });
            }
            Err(error) => last = last.because(error.what),
        }
    }
    Err(last)
}
