//! Writes a checkpoint. The order of steps is the contract: files, manifest, folder synced, then
//! one rename as the commit point, then the parent synced. Whatever kills the process leaves
//! either the old checkpoints or one more.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use crate::checkpoint::manifest::{MANIFEST, Manifest};
use crate::checkpoint::{FORMAT, State, folder_name, learning_specs, learning_values, newest};
use crate::engine::Trainer;
use crate::error::{Context, Result};
use crate::files::{
    Digest, FileEntry, RunDirectory, create_dir_new, hash_file, rename_new, sync_dir, write_atomic,
    write_synced,
};
use crate::ops::host;
use crate::weights::{Element, TensorSpec, write_safetensors};

/// A committed checkpoint.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Its folder.
    pub path: PathBuf,
    /// Digest of its manifest, which names every other byte.
    pub manifest: Digest,
    /// Was it written now, or had it been there?
    pub new: bool,
    /// How long training stood still.
    pub seconds: f64,
}

/// Name of the file with the learning weights.
pub fn weights_name(adapter: bool) -> &'static str {
    if adapter { "adapter.safetensors" } else { "model.safetensors" }
}

/// The name of a parameter in files: PEFT's for adapters, Hugging Face's otherwise.
pub fn file_name_of(path: &str) -> String {
    if path.contains(".lora_") { format!("base_model.model.{path}") } else { path.to_owned() }
}

/// Saves, commits, and removes what retention no longer wants.
pub fn save(
    run: &RunDirectory,
    trainer: &mut Trainer,
    state: &State,
    keep_last: usize,
) -> Result<Saved> {
    let began = Instant::now();
    let target = run.join(&folder_name(state.step));
    if target.exists() {
        // The same step of the same run: what is there was verified when it was loaded.
        Manifest::verify(&target)?;
        let manifest = hash_file(&target.join(MANIFEST), MANIFEST)?.sha256;
        return Ok(Saved { path: target, manifest, new: false, seconds: 0.0 });
    }
    let scratch = run.join(&format!(".tmp-{}.{}", folder_name(state.step), std::process::id()));
    let _ = fs::remove_dir_all(&scratch); // a leftover of a process that had the same number
    create_dir_new(&scratch)?;
    let manifest = match write_files(&scratch, trainer, state) {
        Ok(manifest) => manifest,
        Err(error) => {
            let _ = fs::remove_dir_all(&scratch);
            return Err(error);
        }
    };
    rename_new(&scratch, &target)?;
    sync_dir(run.root())?;
    write_atomic(&run.join("LATEST"), folder_name(state.step).as_bytes())?;
    prune(run, keep_last)?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Saved { path: target, manifest, new: true, seconds })
}

fn write_files(scratch: &std::path::Path, trainer: &mut Trainer, state: &State) -> Result<Digest> {
    let metadata: BTreeMap<_, _> = [("format".to_owned(), "pt".to_owned())].into();
    let (specs, values) = learning_specs(&mut trainer.model, file_name_of, |_| Element::F32);
    let adapter = specs.iter().all(|spec| spec.name.contains(".lora_"));
    let mut files =
        vec![write_safetensors(&scratch.join(weights_name(adapter)), specs, &metadata, |spec| {
            Ok(learning_values(&values, spec))
        })?];
    files.push(write_moments(&scratch.join("optimizer.safetensors"), trainer, &metadata)?);
    let json = serde_json::to_vec_pretty(state).context("cannot encode the state")?;
    write_synced(&scratch.join("state.json"), &json)?;
    files.push(FileEntry {
        path: "state.json".to_owned(),
        size: json.len() as u64,
        sha256: Digest::of(&json),
    });
    let manifest = Manifest { format: FORMAT, step: state.step, files };
    let json = serde_json::to_vec_pretty(&manifest).context("cannot encode the manifest")?;
    write_synced(&scratch.join(MANIFEST), &json)?;
    sync_dir(scratch)?;
    Ok(Digest::of(&json))
}

fn write_moments(
    path: &std::path::Path,
    trainer: &Trainer,
    metadata: &BTreeMap<String, String>,
) -> Result<FileEntry> {
    let mut values = BTreeMap::new();
    for (path, moments) in trainer.optimizer.moments() {
        values.insert(format!("first_moment.{path}"), moments.first.clone());
        values.insert(format!("second_moment.{path}"), moments.second.clone());
    }
    let specs = values
        .iter()
        .map(|(name, values)| TensorSpec {
            name: name.clone(),
            element: Element::F32,
            shape: values.dims().to_vec(),
        })
        .collect();
    write_safetensors(path, specs, metadata, |spec| Ok(host(values[&spec.name].clone())))
}

/// Removes all but the newest `keep_last` checkpoints: first renamed, so that a half-removed one
/// is never taken for a checkpoint.
fn prune(run: &RunDirectory, keep_last: usize) -> Result<()> {
    let folders = newest(run.root())?;
    for (step, folder) in folders.into_iter().skip(keep_last) {
        let trash = run.join(&format!(".trash-{}.{}", folder_name(step), std::process::id()));
        rename_new(&folder, &trash)?;
        fs::remove_dir_all(&trash).context_at("cannot remove the old checkpoint", &trash)?;
    }
    Ok(())
}
