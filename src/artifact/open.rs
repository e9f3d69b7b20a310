//! Opens what training made, for use: a model directory, an adapter beside its base, or the newest
//! checkpoint of a run that is not finished.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::Value;

use super::peft;
use crate::adapters;
use crate::checkpoint::{self, Found};
use crate::config::{self, Init, LoraConfig, TargetModules};
use crate::device;
use crate::error::{Context, Error, Result};
use crate::files::{DATA_LOCK, Digest, FileEntry, parse_json};
use crate::hub::{DEFAULT_REVISION, Lock, ModelDirectory, Supply};
use crate::model::{self, Model};
use crate::random::Stream;
use crate::weights::Shard;

/// Largest `adapter_config.json` that is read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

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
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes))
            .context_at("cannot read the file", &path)?;
        let size = bytes.len() as u64;
        if size > CONFIG_BYTES_MAX {
            let what = format!("the file has more than {CONFIG_BYTES_MAX} bytes");
            return Err(Error::new(what).at(&path));
        }
        let json = parse_json(&bytes).map_err(|error| error.at(&path))?;
        let name = peft::CONFIG_FILE.to_owned();
        let entry = FileEntry { path: name, size, sha256: Digest::of(&bytes) };
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
        for key in ["rank_pattern", "alpha_pattern"] {
            if json[key].as_object().is_some_and(|map| !map.is_empty()) {
                return Err(wrong(&format!("adapters with a `{key}` are not supported")));
            }
        }
        let rank = json["r"].as_u64().and_then(|r| usize::try_from(r).ok());
        let rank = rank.filter(|r| *r > 0).ok_or_else(|| wrong("`r` is missing"))?;
        let alpha = json["lora_alpha"].as_f64().filter(|alpha| alpha.is_finite());
        let base = json["base_model_name_or_path"].as_str();
        Ok(Self {
            revision: json["revision"].as_str().map(str::to_owned),
            base: base.ok_or_else(|| wrong("`base_model_name_or_path` is missing"))?.to_owned(),
            lora: LoraConfig {
                r: rank,
                lora_alpha: alpha.ok_or_else(|| wrong("`lora_alpha` is missing"))?,
                lora_dropout: 0.0, // acts in training only
                target_modules: target_modules(json).ok_or_else(|| {
                    wrong("`target_modules` is neither a list of names nor `all-linear`")
                })?,
                use_rslora: json["use_rslora"] == true,
            },
        })
    }
}

fn target_modules(json: &Value) -> Option<TargetModules> {
    match &json["target_modules"] {
        Value::String(name) if name == "all-linear" => Some(TargetModules::AllLinear),
        Value::Array(names) => {
            let names = names.iter().map(|name| name.as_str().map(str::to_owned));
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
        let (model, files) = (loaded.model, loaded.files);
        return Ok(Opened { model, codec: found.path, chat_template: None, files });
    }
    let (adapter, settings) = Adapter::read_hashed(&found.path)?;
    let base = base_of(&found, &adapter, base, supply)?;
    let (model, mut files) = with_adapter(&base.path, &found.path, &adapter.lora, device)?;
    files.push(settings);
    let has_tokenizer = found.path.join("tokenizer.json").is_file();
    let codec = if has_tokenizer { found.path } else { base.path };
    Ok(Opened { model, codec, chat_template: None, files })
}

/// A base model with an adapter beside its layers, and the files of both.
pub fn with_adapter(
    base: &Path,
    adapter: &Path,
    lora: &LoraConfig,
    device: &Device,
) -> Result<(Model, Vec<FileEntry>)> {
    let mut loaded = model::load(base, model::Init::Pretrained, device)?;
    attach(&mut loaded.model, lora)?;
    let shard = Shard::read(adapter, peft::WEIGHTS_FILE)?;
    checkpoint::put(&mut loaded.model, &shard, checkpoint::file_name_of)
        .map_err(|error| error.at(adapter))?;
    let mut files = below_base(loaded.files);
    files.push(shard.entry.clone());
    Ok((loaded.model, files))
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
            "`{}` is an adapter and needs its base model: name it with `--base DIR`",
            found.id
        ))
    })
}

fn attach(model: &mut Model, lora: &LoraConfig) -> Result<()> {
    // The values drawn here are replaced at once by those of the file.
    adapters::attach_lora(model, lora, Stream::new(0)).map(|_| ())
}

fn open_checkpoint(run: &Path, device: &Device, supply: &Supply) -> Result<Opened> {
    let config = config::load(&run.join("config.toml"), &[])?.config;
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
                checkpoint::put(&mut loaded.model, &shard, checkpoint::file_name_of)?;
                let mut files = below_base(loaded.files);
                files.push(shard.entry.clone());
                return Ok(Opened {
                    model: loaded.model,
                    codec: base.path,
                    chat_template: config.data.chat_template.map(PathBuf::from),
                    files,
                });
            }
            Err(error) => last = last.because(error.what),
        }
    }
    Err(last)
}
