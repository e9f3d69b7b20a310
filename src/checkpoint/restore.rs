//! Finds the newest checkpoint that is whole, and goes on from it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::adapters::file_name_of;
use crate::checkpoint::manifest::{Manifest, Unusable, read};
use crate::checkpoint::snapshot::{TRAINED, weights_name};
use crate::checkpoint::{RunState, folder_name, tensors};
use crate::engine::Trainer;
use crate::error::{Context, Error, Result};
use crate::files::{RunDirectory, expect_regular, remove_dir, remove_file, rename_new};
use crate::model::Model;
use crate::weights::{Shard, ShardStream, to_f32};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 1 << 20;

/// What the name of a checkpoint that was set aside has in it.
pub const BAD: &str = ".bad-";

/// The checkpoints of a run directory, newest first.
pub fn newest(root: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).context_at("cannot list the folder", root)? {
        let entry = entry.context_at("cannot list the folder", root)?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("step-"));
        if let Some(step) = step.and_then(|digits| digits.parse().ok())
            && folder_name(step) == name.to_string_lossy()
        {
            found.push((step, entry.path()));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// What was found in a run directory.
pub struct RestoredCheckpoint {
    /// The newest whole checkpoint.
    pub folder: PathBuf,
    /// Its state.
    pub state: RunState,
    /// What was set aside on the way, for the user to read.
    pub set_aside: Vec<String>,
}

impl RestoredCheckpoint {
    /// Looks for the newest whole checkpoint; sets damaged ones aside as `….bad-…`.
    ///
    /// # Errors
    /// When there are checkpoints, but none is whole: a run never starts over silently. When one
    /// cannot be looked at as things are, or is of a newer format: it is left alone.
    pub fn in_run(run: &RunDirectory) -> Result<Option<Self>> {
        sweep(run.root())?;
        let mut set_aside = Vec::new();
        for (step, folder) in newest(run.root())? {
            match Self::examine(&folder) {
                Ok(found) if found.state.step == step => {
                    return Ok(Some(Self { set_aside, ..found }));
                }
                Ok(found) => {
                    let bad = set_bad_aside(run, step, &folder, "mixed")?;
                    let real = found.state.step;
                    set_aside.push(format!("step {step} holds step {real}; kept as `{bad}`"));
                }
                Err(Unusable::Refused(error)) => return Err(error),
                Err(Unusable::Bad(why, error)) => {
                    let bad = set_bad_aside(run, step, &folder, why)?;
                    set_aside.push(format!("{}; kept as `{bad}`", error.what));
                }
            }
        }
        // Damaged ones of earlier attempts count as well.
        let damaged = fs::read_dir(run.root())
            .context_at("cannot list the folder", run.root())?
            .filter_map(std::result::Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().contains(BAD));
        if damaged {
            let error =
                Error::checkpoint("no checkpoint of this run is intact, so it cannot resume")
                    .at(run.root())
                    .hint("choose another `name` to start over, or `--resume never` to discard it");
            return Err(set_aside.into_iter().fold(error, Error::because));
        }
        Ok(None)
    }

    /// Opens one checkpoint folder, checking every byte.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::examine(folder).map_err(Unusable::into_error)
    }

    /// The same, told apart by what is to be done about it.
    pub fn examine(folder: &Path) -> Result<Self, Unusable> {
        expect_regular(folder).map_err(Unusable::Refused)?;
        let manifest = Manifest::verify(folder)?;
        let bytes = read(&folder.join("state.json"))?;
        let state = parsed(&bytes, folder).map_err(|error| Unusable::Bad("damaged", error))?;
        if state.step != manifest.step {
            let error = Error::checkpoint("state and manifest are of different steps").at(folder);
            return Err(Unusable::Bad("mixed", error));
        }
        Ok(Self { folder: folder.to_path_buf(), state, set_aside: Vec::new() })
    }

    /// Name of the file with the trainable weights.
    pub fn weights_name(&self) -> &'static str {
        weights_name(self.folder.join(weights_name(true)).exists())
    }
}

fn parsed(bytes: &[u8], folder: &Path) -> Result<RunState> {
    serde_json::from_slice(bytes).context_at("broken state", folder)
}

/// The state in the folder of a checkpoint, which is not checked.
///
/// # Errors
/// When it cannot be read.
pub fn unchecked_state(folder: &Path) -> Result<RunState> {
    expect_regular(folder)?;
    let bytes = fs::read(folder.join("state.json")).context_at("cannot read the state", folder)?;
    parsed(&bytes, folder)
}

fn set_bad_aside(run: &RunDirectory, step: u64, folder: &Path, why: &str) -> Result<String> {
    let name = format!("{}{BAD}{why}", folder_name(step));
    let names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}")));
    let free = names.into_iter().find(|name| !run.join(name).exists());
    let free = free.unwrap_or(name);
    rename_new(folder, &run.join(&free))?;
    Ok(free)
}

/// Removes what an interrupted save or removal left behind.
pub(super) fn sweep(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).context_at("cannot list the folder", root)? {
        let entry = entry.context_at("cannot list the folder", root)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".tmp-step-") || name.starts_with(".trash-step-") {
            remove_dir(&entry.path())?;
        } else if name.starts_with('.') && name.ends_with(".tmp") && entry.path().is_file() {
            remove_file(&entry.path())?; // of `write_atomic`
        }
    }
    Ok(())
}

/// Puts the weights of a checkpoint that are measured and used into a model.
///
/// # Errors
/// When they are not those of the model.
pub fn restore_weights(found: &RestoredCheckpoint, model: &mut Model) -> Result<()> {
    let shard = Shard::read(&found.folder, found.weights_name())?;
    tensors::put(model, &shard, file_name_of).map_err(|error| error.at(&found.folder))
}

/// Puts a checkpoint into a trainer.
///
/// # Errors
/// When its tensors are not those of the model.
pub fn restore(found: &RestoredCheckpoint, trainer: &mut Trainer) -> Result<()> {
    match found.folder.join(TRAINED).exists() {
        true => {
            let shard = Shard::read(&found.folder, TRAINED)?;
            tensors::put(&mut trainer.model, &shard, file_name_of)
                .map_err(|error| error.at(&found.folder))?;
        }
        false => restore_weights(found, &mut trainer.model)?,
    }
    let kept = kept_tensors(&found.folder)?;
    let state = tensors::optimizer_state(&mut trainer.model, &trainer.optimizer, kept)?;
    let broken = || {
        Error::checkpoint("the optimizer's state is incomplete, or belongs to another optimizer")
            .at(&found.folder)
    };
    trainer.optimizer.restore(state.ok_or_else(broken)?, found.state.updates);
    trainer.step = found.state.step;
    trainer.loss_scale = found.state.loss_scale.or(trainer.loss_scale);
    trainer.micro_batch_split = found.state.division.unwrap_or(trainer.micro_batch_split);
    Ok(())
}

/// What the optimizer kept, a tensor at a time.
fn kept_tensors(folder: &Path) -> Result<impl Iterator<Item = Result<(String, Vec<f32>)>>> {
    let mut stream = ShardStream::open(folder, "optimizer.safetensors")?;
    Ok(std::iter::from_fn(move || {
        let place = stream.begin()?;
        let (mut values, mut buffer) = (Vec::new(), Vec::new());
        let read = stream.read_all(&mut buffer, PIECE_BYTES, |piece| {
            values.extend(to_f32(place.element, piece));
        });
        Some(read.map(|()| (place.name, values)))
    }))
}
