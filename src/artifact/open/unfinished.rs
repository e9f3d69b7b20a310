//! Opens a checkpoint of a run that is not finished, as its settings make the model.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::{OpenedModel, attach, below_base, new_head};
use crate::adapters::{self, unfreeze_all};
use crate::artifact::past::other_weights;
use crate::artifact::score_head;
use crate::artifact::stack;
use crate::checkpoint::{self, RestoredCheckpoint};
use crate::config::{Init, RunConfig, ScoreHead};
use crate::data::BaseTokenizer;
use crate::device::ComputeConfig;
use crate::error::{Error, Result};
use crate::hub::{DataLock, Supply};
use crate::model::{self, FrozenWeights, Loaded};
use crate::random::Stream;
use crate::settings;
use crate::weights::Shard;
use crate::weights::formats::{self, WeightFormat};

/// The first of the checkpoints of a run that is intact.
pub(super) fn open_checkpoint(
    run: &Path,
    folders: Vec<PathBuf>,
    linears: Option<&'static dyn WeightFormat>,
    device: &Device,
    supply: &Supply,
) -> Result<OpenedModel> {
    let config = settings::load(&run.join("config.toml"), &[])?.config;
    // The commit that the run began with, wherever the branch is now.
    let lock = DataLock::of_run(run)?;
    let commit = lock.and_then(|lock| lock.model).and_then(|model| model.commit);
    let revision = commit.as_deref().unwrap_or(&config.model.revision);
    let base = supply.find(&config.model.base, revision)?.as_base()?;
    let base = stack::on_named(base, &config.model.base_adapters, supply)?;
    let adapter = adapters::of_run(&config);
    let head = score_head::read(run)?;
    let head = head.as_ref();
    if let (Some(format), true) = (linears, adapter.as_ref().is_some_and(|of| of.changes_base())) {
        let what = "the adapter of this checkpoint changes the weights of its base";
        let why = format!("they cannot be in {}", format.name());
        return Err(Error::checkpoint(what).at(run).because(why));
    }
    if let (Some(format), None) = (linears, &adapter) {
        let what = "a checkpoint of full training has weights of its own";
        let why = format!("only those of a base model are taken in {}", format.name());
        return Err(Error::checkpoint(what).at(run).because(why));
    }
    let tokenizer = BaseTokenizer::of(&config.model, &base.path)?;
    let mut loaded = made(&config, (&tokenizer, linears), (head, adapter.is_some()), device)?;
    let trained = formats::chosen(&config.owned).filter(|format| formats::makes_codes(*format));
    let trained = trained.map(|format| format.name());
    let other = other_weights(trained, linears);
    let mut last = Error::checkpoint("this run has no intact checkpoint").at(run);
    for folder in folders {
        match RestoredCheckpoint::open(&folder) {
            Ok(found) => {
                let shard = Shard::read(&found.folder, found.weights_name())?;
                shard.refuse_not_finite().map_err(|error| error.at(&found.folder))?;
                checkpoint::put(&mut loaded.model, &shard, adapters::file_name_of)?;
                loaded.files = below_base(loaded.files);
                loaded.files.push(shard.entry.clone());
                let notes = loaded.note.clone().into_iter().chain(other).collect();
                let args = config.data.template_args;
                return Ok(OpenedModel {
                    chat_template: config.data.chat_template.map(PathBuf::from),
                    score_head: head.cloned(),
                    added_tokens: tokenizer.added().clone(),
                    ..OpenedModel::new(loaded, base.path, args, notes)
                });
            }
            Err(error) => last = last.because(error.into_what()),
        }
    }
    Err(last)
}

/// The model before it has the values of a checkpoint.
fn made(
    config: &RunConfig,
    (base, linears): (&BaseTokenizer, Option<&'static dyn WeightFormat>),
    (head, adapted): (Option<&ScoreHead>, bool),
    device: &Device,
) -> Result<Loaded> {
    let init = match config.model.init {
        Init::Pretrained => model::Init::Pretrained,
        Init::Random => model::Init::Random(Stream::new(config.seed)),
    };
    let frozen =
        FrozenWeights { frozen: adapted, linears, head: head.map(new_head), ..Default::default() };
    let computing = ComputeConfig::default();
    let mut loaded = model::load_for(base.folder(), init, device, computing, frozen)?;
    match adapters::of_run_on(config, (base, &loaded.model.description))? {
        Some(adapter) => attach(&mut loaded.model, adapter.as_ref())?,
        None => {
            if !base.added().is_empty() {
                let rows = base.get()?.rows_needed(loaded.model.description.vocabulary);
                loaded.model.resize_vocabulary(rows)?;
            }
            unfreeze_all(&mut loaded.model);
        }
    }
    Ok(loaded)
}
