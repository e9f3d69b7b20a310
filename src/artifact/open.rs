//! Opens what training made, for use: a model directory, an adapter beside its base, the newest
//! checkpoint of a run that is not finished, or any that is named.

mod unfinished;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::Value;

use self::unfinished::open_checkpoint;
use super::adapter_directory::{AdapterDirectory, read_weights};
use super::past::{Past, other_weights};
use super::score_head;
use super::stack;
use crate::adapters::{self, Adapter};
use crate::checkpoint::{self, NamedCheckpoint};
use crate::config::ScoreHead;
use crate::data::{AddedTokens, Codec};
use crate::device::{self, ComputeConfig};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{Digest, FileEntry, has_file};
use crate::hub::{DEFAULT_REVISION, ModelDirectory, RepoKind, RepoName, Supply};
use crate::model::{self, FrozenWeights, Loaded, Model, NewHead};
use crate::random::Stream;
use crate::weights::Shard;
use crate::weights::formats::WeightFormat;

/// A model that is ready to be used.
pub struct OpenedModel {
    /// The model, adapter included.
    pub model: Model,
    /// Where its tokenizer and chat template lie.
    pub codec: PathBuf,
    /// Tokens that its run adds to those there.
    pub added_tokens: AddedTokens,
    /// A chat template in place of the one there.
    pub chat_template: Option<PathBuf>,
    /// What its run handed to the template (`data.template_args`), as far as it is known.
    pub template_args: BTreeMap<String, Value>,
    /// The files of which bytes were used; those of an adapter's base below `base/`.
    pub files: Vec<FileEntry>,
    /// The digest of weights that were coded when they were loaded.
    pub quantised: Option<Digest>,
    /// What a user should know about the model.
    pub notes: Vec<String>,
    /// What it scores in the place of tokens, if it does.
    pub score_head: Option<ScoreHead>,
}

/// What takes the place of what a model or an adapter says of its weights.
#[derive(Debug, Clone, Copy, Default)]
pub struct BaseChoice<'a> {
    /// The base of an adapter.
    pub instead: Option<&'a str>,
    /// How linear layers are kept; as files have them without it.
    pub linears: Option<&'static dyn WeightFormat>,
}

/// Reads a model that nothing changes: the kernels of the CPU take matrices in 16 bits as they are,
/// for the same numbers.
fn load(
    directory: &Path,
    init: model::Init,
    device: &Device,
    linears: Option<&'static dyn WeightFormat>,
    head: Option<&ScoreHead>,
) -> Result<Loaded> {
    let head = head.map(new_head);
    let frozen = FrozenWeights { linears, head, ..FrozenWeights::from(true) };
    model::load_for(directory, init, device, ComputeConfig::default(), frozen)
}

/// A whole model of which nothing is trained, with so many rows for tokens at least: further ones
/// are what they begin as in training.
///
/// # Errors
/// When it cannot be loaded, or cannot have them.
pub fn with_rows(
    (directory, linears): (&Path, Option<&'static dyn WeightFormat>),
    rows: usize,
    device: &Device,
) -> Result<Model> {
    let mut model = load(directory, model::Init::Pretrained, device, linears, None)?.model;
    model.resize_vocabulary(rows)?;
    Ok(model)
}

/// What is drawn here is replaced at once by what is saved.
fn new_head(head: &ScoreHead) -> NewHead {
    NewHead { labels: head.labels.len(), stream: Stream::new(0) }
}

/// Opens a model on a device: a device that fails over it is an error, and what is computed stays
/// within what it takes.
///
/// # Errors
/// Those of `open`, and when the device fails.
pub fn opened_on(
    device: &device::OpenedDevice,
    open: impl FnOnce() -> Result<OpenedModel>,
) -> Result<OpenedModel> {
    let mut opened = device::guarded(device.on_gpu(), "loading the model", || {
        let opened = open()?;
        // Uploads fail when they are waited for.
        device
            .device
            .sync()
            .context_code(ErrorCode::Device, "the model could not be put on the device")?;
        Ok::<_, Error>(opened)
    })??;
    opened.model.computing = device.computing();
    Ok(opened)
}

/// Opens a model by name.
pub fn open(
    name: &str,
    choice: BaseChoice,
    device: &Device,
    supply: &Supply,
) -> Result<OpenedModel> {
    if let Some(named) = NamedCheckpoint::parse(name)? {
        let folders = vec![named.open()?.folder];
        return open_checkpoint(&named.run, folders, choice.linears, device, supply);
    }
    let run = Path::new(name);
    let unfinished = run.join("config.toml").is_file() && !run.join("artifact").exists();
    let saved = if unfinished { checkpoint::newest(run)? } else { Vec::new() };
    if !saved.is_empty() {
        let folders = saved.into_iter().map(|(_, folder)| folder).collect();
        return open_checkpoint(run, folders, choice.linears, device, supply);
    }
    let found = supply.named(name)?;
    if !found.adapter {
        let loaded = load(&found.path, model::Init::Pretrained, device, choice.linears, None)?;
        let past = Past::read(&found.path)?;
        let template_args = past.template_args().map_err(|error| error.at(&found.path))?;
        let notes = loaded.note.clone().into_iter().collect();
        let score_head = score_head::find(&found.path)?;
        let opened = OpenedModel::new(loaded, found.path, template_args, notes);
        return Ok(OpenedModel { score_head, ..opened });
    }
    let (own, settings) = AdapterDirectory::read_hashed(&found.path)?;
    let past = Past::read(&found.path)?;
    let base = base_of(&found, &own, choice.instead, supply)?;
    let base = match stack::of_adapter(&found, &past, &base, supply)? {
        Some(stack) => stack.merged(supply)?,
        None => base,
    };
    let (adapter, weights) = (own.adapter.as_ref(), (base.path.as_path(), choice.linears));
    let mut loaded = with_adapter(weights, &found.path, adapter, device)?;
    loaded.files.push(settings);
    let template_args = past.template_args().map_err(|error| error.at(&found.path))?;
    let other = other_weights(past.weight_format(), choice.linears);
    let notes = loaded.note.clone().into_iter().chain(other).collect();
    let has_tokenizer = has_file(&found.path.join("tokenizer.json"))?;
    let score_head = score_head::find(&found.path)?;
    let codec = if has_tokenizer { found.path } else { base.path };
    let opened = OpenedModel::new(loaded, codec, template_args, notes);
    Ok(OpenedModel { score_head, ..opened })
}

impl OpenedModel {
    fn new(
        loaded: Loaded,
        codec: PathBuf,
        template_args: BTreeMap<String, Value>,
        notes: Vec<String>,
    ) -> Self {
        let Loaded { model, files, quantised, .. } = loaded;
        Self {
            model,
            codec,
            added_tokens: AddedTokens::default(),
            chat_template: None,
            template_args,
            files,
            quantised,
            notes,
            score_head: None,
        }
    }

    /// Its tokenizer and chat template, or `template` in the place of that, as its run wrote to it.
    ///
    /// # Errors
    /// When they cannot be read, or do not belong to it.
    pub fn codec(&self, template: Option<&Path>) -> Result<Codec> {
        let rows = self.model.description.vocabulary;
        let template = template.or(self.chat_template.as_deref());
        let codec = Codec::load_for(rows, (&self.codec, &self.added_tokens), template)?;
        Ok(codec.with_template_args(self.template_args.clone()))
    }
}

/// A base model with an adapter beside its layers, which are kept as `linears` says, and the files
/// of both.
pub fn with_adapter(
    (base, linears): (&Path, Option<&'static dyn WeightFormat>),
    directory: &Path,
    adapter: &dyn Adapter,
    device: &Device,
) -> Result<Loaded> {
    // The small file first: what is wrong with it is said before the large ones are read.
    let head = score_head::find(directory)?;
    let labels = head.as_ref().map(|head| head.labels.len());
    let description = adapters::resized(adapter, &model::inspect_for(base, labels)?.description)?;
    let shard = read_weights(directory, adapter, &description)?;
    let mut loaded = load(base, model::Init::Pretrained, device, linears, head.as_ref())?;
    attach(&mut loaded.model, adapter)?;
    put_weights(&mut loaded.model, &shard, adapter).map_err(|error| error.at(directory))?;
    let mut files = below_base(loaded.files);
    files.push(shard.entry.clone());
    loaded.files = files;
    Ok(loaded)
}

/// Gives these weights to the adapter of a model.
///
/// # Errors
/// When they are not all of its parameters.
pub fn put_weights(model: &mut Model, shard: &Shard, adapter: &dyn Adapter) -> Result<()> {
    let stacked = adapter.stacked(&model.description);
    let copy = adapters::tied_copy(adapter, &model.description).map(|[copy, _]| copy);
    let names = adapters::names_in_files(adapter, &model.description)?;
    let description = model.description.clone();
    let is_copy = |name: &str| {
        copy.as_deref() == Some(name) || adapters::is_copy_of_table(name, &description)
    };
    checkpoint::put_stacked(model, shard, names, (&stacked, &is_copy))
}

fn below_base(files: Vec<FileEntry>) -> Vec<FileEntry> {
    let below = |file: FileEntry| FileEntry { path: format!("base/{}", file.path), ..file };
    files.into_iter().map(below).collect()
}

/// The base model of an adapter.
pub fn base_of(
    found: &ModelDirectory,
    adapter: &AdapterDirectory,
    instead: Option<&str>,
    supply: &Supply,
) -> Result<ModelDirectory> {
    let base = match instead {
        Some(name) => supply.named(name),
        // A stranger's word decides which model of the hub is read, and never which folder here.
        None if found.commit().is_some()
            && RepoName::parse(RepoKind::Model, &adapter.base).is_err() =>
        {
            Err(Error::adapter("the adapter names a folder of its maker as its base")
                .because(format!("`base_model_name_or_path` is `{}`", adapter.base))
                .at(&found.path))
        }
        None => {
            let revision = adapter.revision.as_deref().unwrap_or(DEFAULT_REVISION);
            match found.commit() {
                Some(_) => supply.on_hub(&adapter.base, revision),
                None => supply.find(&adapter.base, revision),
            }
        }
    };
    base.and_then(ModelDirectory::as_base).map_err(|error| {
        error.hint(format!(
            "`{}` is an adapter of the base model `{}`, which must be there as well: put it there, \
             or name it to `generate`, `eval`, `watch`, `merge` or `export` with `--base DIR`",
            found.id, adapter.base
        ))
    })
}

fn attach(model: &mut Model, adapter: &dyn Adapter) -> Result<()> {
    // The values drawn here are replaced at once by those of the file.
    adapters::attach(model, adapter, Stream::new(0)).map(|_| ())
}
