//! A folder becomes a checkpoint: state and manifest beside its files, all of it durable.

use std::path::{Path, PathBuf};

use super::manifest::{MANIFEST, Manifest};
use super::{FORMAT, RunState};
use crate::error::{Context, Result};
use crate::files::{
    Digest, FileEntry, create_dir_new, hash_file, remove_dir, sync_dir, write_synced,
};

/// A new folder to write a checkpoint in. `name` begins with `step-`: so what an interrupted save
/// has left is known and removed.
pub(super) fn scratch_for(root: &Path, name: &str) -> Result<PathBuf> {
    let scratch = root.join(format!(".tmp-{name}.{}", std::process::id()));
    if scratch.exists() {
        remove_dir(&scratch)?; // a leftover of a process that had the same number
    }
    create_dir_new(&scratch)?;
    Ok(scratch)
}

/// Adds state and manifest to a folder that holds `files`, and makes it durable. Returns the
/// digest of the manifest, which names every other byte.
pub(super) fn seal(scratch: &Path, mut files: Vec<FileEntry>, state: &RunState) -> Result<Digest> {
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

/// The digest of a checkpoint's manifest.
pub fn manifest_digest(folder: &Path) -> Result<Digest> {
    Ok(hash_file(&folder.join(MANIFEST), MANIFEST)?.sha256)
}
