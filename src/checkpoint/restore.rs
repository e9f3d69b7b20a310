//! Finds the newest checkpoint that is whole, and goes on from it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::save::{file_name_of, weights_name};
use crate::checkpoint::{Identity, State, folder_name, tensors};
use crate::engine::{Moments, Trainer};
use crate::error::{Context, Error, Result};
use crate::files::{Digest, RunDirectory};
use crate::ops::from_vec;
use crate::weights::{Shard, to_f32};

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
pub struct Found {
    /// The newest whole checkpoint.
    pub folder: PathBuf,
    /// Its state.
    pub state: State,
    /// What was set aside on the way, for the user to read.
    pub set_aside: Vec<String>,
}

impl Found {
    /// Looks for the newest whole checkpoint; sets damaged ones aside as `….bad-…`.
    ///
    /// # Errors
    /// When there are checkpoints, but none is whole: a run never starts over silently.
    pub fn in_run(run: &RunDirectory) -> Result<Option<Self>> {
        sweep(run.root())?;
        let candidates = newest(run.root())?;
        let present = candidates.len();
        let mut set_aside = Vec::new();
        for (step, folder) in candidates {
            match Self::open(&folder) {
                Ok(found) => return Ok(Some(Self { set_aside, ..found })),
                Err(error) => {
                    let bad = format!("{}.bad-{}", folder_name(step), std::process::id());
                    fs::rename(&folder, run.join(&bad))
                        .context_at("cannot set the damaged checkpoint aside", &folder)?;
                    set_aside.push(format!("{}; kept as `{bad}`", error.what));
                }
            }
        }
        // Damaged ones of earlier attempts count as well.
        let damaged = present
            + fs::read_dir(run.root())
                .context_at("cannot list the folder", run.root())?
                .filter_map(std::result::Result::ok)
                .filter(|entry| entry.file_name().to_string_lossy().contains(".bad-"))
                .count();
        if damaged > 0 {
            let error = Error::new("no checkpoint of this run is whole, so it cannot go on")
                .at(run.root())
                .hint("choose another `name` to start over, or `--resume never` to discard it");
            return Err(set_aside.into_iter().fold(error, Error::because));
        }
        Ok(None)
    }

    /// Opens one checkpoint folder, checking every byte.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = Manifest::verify(folder)?;
        let path = folder.join("state.json");
        let bytes = fs::read(&path).context_at("cannot read the state", &path)?;
        let state: State = serde_json::from_slice(&bytes).context_at("broken state", &path)?;
        if state.step != manifest.step {
            return Err(Error::new("state and manifest are of different steps").at(folder));
        }
        Ok(Self { folder: folder.to_path_buf(), state, set_aside: Vec::new() })
    }
}

impl Found {
    /// Name of the file with the learning weights.
    pub fn weights_name(&self) -> &'static str {
        weights_name(self.folder.join(weights_name(true)).exists())
    }
}

/// Removes what an interrupted save or removal left behind.
fn sweep(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).context_at("cannot list the folder", root)? {
        let entry = entry.context_at("cannot list the folder", root)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".tmp-step-") || name.starts_with(".trash-step-") {
            let path = entry.path();
            fs::remove_dir_all(&path).context_at("cannot remove the leftover", &path)?;
        }
    }
    Ok(())
}

/// Puts a checkpoint into a trainer.
///
/// # Errors
/// When the checkpoint belongs to a run with another identity: the differences are listed.
pub fn restore(found: &Found, identity: &Identity, trainer: &mut Trainer) -> Result<()> {
    compare(&found.state.identity, identity, &found.folder)?;
    let shard = Shard::read(&found.folder, found.weights_name())?;
    tensors::put(&mut trainer.model, &shard, file_name_of)
        .map_err(|error| error.at(&found.folder))?;

    let shard = Shard::read(&found.folder, "optimizer.safetensors")?;
    let device = trainer.model.device.clone();
    let mut first = BTreeMap::new();
    let mut second = BTreeMap::new();
    for tensor in shard.tensors()? {
        let values = to_f32(tensor.element, tensor.bytes);
        let length = values.len();
        let values = from_vec(values, [length], &device);
        if let Some(path) = tensor.name.strip_prefix("first_moment.") {
            first.insert(path.to_owned(), values);
        } else if let Some(path) = tensor.name.strip_prefix("second_moment.") {
            second.insert(path.to_owned(), values);
        }
    }
    let broken = || Error::new("the optimiser's state is incomplete").at(&found.folder);
    let mut moments = BTreeMap::new();
    for (path, first) in first {
        let second = second.remove(&path).ok_or_else(broken)?;
        moments.insert(path, Moments { first, second });
    }
    trainer.optimizer.restore(moments, found.state.updates);
    trainer.step = found.state.step;
    Ok(())
}

fn codec(identity: &Identity) -> String {
    identity.codec.as_ref().map_or("unknown".to_owned(), Digest::short)
}

fn compare(saved: &Identity, now: &Identity, folder: &Path) -> Result<()> {
    let pairs = [
        ("the configuration", saved.config.short(), now.config.short()),
        ("the base model", saved.base.short(), now.base.short()),
        ("the data", saved.data.short(), now.data.short()),
        ("the tokenizer or chat template", codec(saved), codec(now)),
        ("the program's version", saved.code.clone(), now.code.clone()),
        ("the device", saved.device.clone(), now.device.clone()),
        ("the precision", saved.precision.clone(), now.precision.clone()),
    ];
    let changed: Vec<_> = pairs.iter().filter(|(_, saved, now)| saved != now).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let error = Error::new("cannot resume: the run is not what it was at the checkpoint")
        .at(folder)
        .hint("undo the change, or start a new run with another `name` or `output.dir`");
    Err(changed.into_iter().fold(error, |error, (what, saved, now)| {
        error.because(format!("{what} was {saved} and is {now}"))
    }))
}
