//! A second place for a run: finished checkpoints and the result go to a store as well, each as a
//! bundle, so that the run can go on where its first machine is gone.
//!
//! The run directory stays the truth: what the store has is looked at once, before a run begins or
//! goes on. What the store gives is data; settings, programs and places come from the
//! configuration that the user has here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::restore::RestoredCheckpoint;
use super::room::check_free;
use super::seal::scratch_for;
use super::{folder_name, newest};
use crate::error::{Context, Error, Result};
use crate::files::{
    DATA_LOCK, ROLLOUTS, create_dir_new, hash_tree, remove_dir, rename_new, sync_dir, write_atomic,
};
use crate::stores::{
    Bundle, BundleFile, ObjectInfo, Store, StoreAddress, TrafficCount, bundle_of, data_prefix,
    fetch, publish, remove_bundle,
};

/// The bundle with the result of a run.
const RESULT: &str = "result";
/// Where a bundle has the files of the checkpoint.
const CHECKPOINT: &str = "checkpoint/";
/// Where it has those of the artifact.
const ARTIFACT: &str = "artifact/";
/// What of a run directory goes along: facts, and nothing that says what is to be done.
const BESIDE: [&str; 9] = [
    DATA_LOCK,
    "metrics.jsonl",
    "history.jsonl",
    "evaluations.jsonl",
    ROLLOUTS,
    "gradient-check.json",
    "score_head.json",
    "artifact.sigstore.jsonl",
    "artifact.provenance.json",
];
/// Longer records no run writes.
const BESIDE_BYTES_MAX: u64 = 4 << 30;

/// The second place of a run.
#[derive(Debug, Clone)]
pub struct Mirror {
    store: Store,
}

/// What a mirror has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Whether the result is there.
    pub result: bool,
    /// The steps of its checkpoints, newest first.
    pub steps: Vec<u64>,
}

impl Mirror {
    /// That of the run `name` at an address; nothing is asked of it yet.
    ///
    /// # Errors
    /// When the address is none, or the environment does not say how to reach it.
    pub fn open(address: &str, name: &str) -> Result<Self> {
        let address = StoreAddress::parse(address)?;
        Ok(Self { store: Store::open(&address)?.within(name)? })
    }

    /// That of the run `name` in a store.
    ///
    /// # Errors
    /// When the name is not one that every store can have.
    pub fn within(store: &Store, name: &str) -> Result<Self> {
        Ok(Self { store: store.within(name)? })
    }

    /// Where it is.
    pub fn address(&self) -> &StoreAddress {
        self.store.address()
    }

    /// Requests and bytes so far.
    pub fn traffic(&self) -> TrafficCount {
        self.store.traffic()
    }

    /// What is there.
    ///
    /// # Errors
    /// When the store does not say.
    pub fn mirrored(&self) -> Result<Mirrored> {
        Ok(mirrored(&self.store.list("")?))
    }

    /// Sends a committed checkpoint, then removes those that the run directory has no longer, and
    /// the result of fewer steps, if the run goes on behind it.
    ///
    /// # Errors
    /// When the store does not take it: what is there already stays.
    pub fn put_step(&self, root: &Path, step: u64) -> Result<()> {
        let folder = root.join(folder_name(step));
        let mut files = beside(root)?;
        for entry in fs::read_dir(&folder).context_at("cannot list the folder", &folder)? {
            let entry = entry.context_at("cannot list the folder", &folder)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push(BundleFile::at(format!("{CHECKPOINT}{name}"), entry.path()));
        }
        let there = self.store.list("")?;
        publish(&self.store, &folder_name(step), &files, &there, true)?;
        let here: BTreeSet<u64> = newest(root)?.into_iter().map(|(step, _)| step).collect();
        for old in steps_of(&there) {
            if old < step && !here.contains(&old) {
                remove_bundle(&self.store, &folder_name(old), &there)?;
            }
        }
        remove_bundle(&self.store, RESULT, &there)
    }

    /// Sends the result; of what is there already, nothing is sent again.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn put_result(&self, root: &Path) -> Result<()> {
        let there = self.store.list("")?;
        let artifact = root.join("artifact");
        let mut files = beside(root)?;
        for file in hash_tree(&artifact)? {
            let from = artifact.join(&file.path);
            files.push(BundleFile::at(format!("{ARTIFACT}{}", file.path), from));
        }
        publish(&self.store, RESULT, &files, &there, true).map(drop)
    }

    /// Makes a checkpoint of the store one of the run directory, checked byte by byte.
    ///
    /// # Errors
    /// When it is not there, not whole, or the disk has no room: the directory is as it was, but
    /// for what lies beside checkpoints.
    pub fn take_step(&self, root: &Path, step: u64) -> Result<()> {
        let name = folder_name(step);
        let bundle = self.bundle(&name)?;
        check_free(root, bundle.size())?;
        let scratch = scratch_for(root, step)?;
        let taken = save_below(&bundle, CHECKPOINT, &scratch).and_then(|()| {
            let found = RestoredCheckpoint::open(&scratch)?;
            match found.state.step == step {
                true => Ok(()),
                false => Err(Error::store(format!("`{name}` holds step {}", found.state.step))),
            }
        });
        let taken = taken.and_then(|()| {
            sync_dir(&scratch)?;
            take_beside(&bundle, root)?;
            rename_new(&scratch, &root.join(&name))?;
            sync_dir(root)
        });
        if taken.is_err() {
            let _ = remove_dir(&scratch);
        }
        taken
    }

    /// Makes the result of the store that of the run directory.
    ///
    /// # Errors
    /// When it is not there, not whole, or the disk has no room.
    pub fn take_result(&self, root: &Path) -> Result<()> {
        let bundle = self.bundle(RESULT)?;
        check_free(root, bundle.size())?;
        // Removed with what an interrupted save has left, if this is interrupted.
        let scratch = root.join(format!(".tmp-step-result.{}", std::process::id()));
        if scratch.exists() {
            remove_dir(&scratch)?;
        }
        create_dir_new(&scratch)?;
        let taken = save_below(&bundle, ARTIFACT, &scratch).and_then(|()| {
            take_beside(&bundle, root)?;
            rename_new(&scratch, &root.join("artifact"))?;
            sync_dir(root)
        });
        if taken.is_err() {
            let _ = remove_dir(&scratch);
        }
        taken
    }

    /// Writes what people and tables look at into a folder: records of the newest checkpoint or of
    /// the result, and of its artifact the files that `wanted` names. Whether anything is there.
    ///
    /// # Errors
    /// When the store does not give it.
    pub fn take_records(&self, root: &Path, wanted: &[&str]) -> Result<bool> {
        let found = self.mirrored()?;
        let name = match (found.result, found.steps.first()) {
            (true, _) => RESULT.to_owned(),
            (false, Some(step)) => folder_name(*step),
            (false, None) => return Ok(false),
        };
        let bundle = self.bundle(&name)?;
        take_beside(&bundle, root)?;
        for file in wanted {
            let path = format!("{ARTIFACT}{file}");
            if let Some(bytes) = bundle.bytes(&path, BESIDE_BYTES_MAX)? {
                let artifact = root.join("artifact");
                fs::create_dir_all(&artifact).context_at("cannot make the folder", &artifact)?;
                write_atomic(&artifact.join(file), &bytes)?;
            }
        }
        Ok(true)
    }

    fn bundle(&self, name: &str) -> Result<Bundle<'_>> {
        let missing = || Error::store(format!("{} has no `{name}`", self.store.address()));
        fetch(&self.store, name)?.ok_or_else(missing)
    }
}

fn mirrored(there: &[ObjectInfo]) -> Mirrored {
    let complete = |object: &&ObjectInfo| bundle_of(&object.key).is_some();
    let complete: Vec<ObjectInfo> = there.iter().filter(complete).cloned().collect();
    Mirrored {
        result: complete.iter().any(|object| bundle_of(&object.key) == Some(RESULT)),
        steps: steps_of(&complete).into_iter().rev().collect(),
    }
}

/// The steps of which there is something.
fn steps_of(there: &[ObjectInfo]) -> BTreeSet<u64> {
    let step = |object: &ObjectInfo| {
        let name = object.key.split(['.', '/']).next()?;
        let step: u64 = name.strip_prefix("step-")?.parse().ok()?;
        let own = object.key.starts_with(&data_prefix(&folder_name(step)));
        (own || bundle_of(&object.key) == Some(&folder_name(step))).then_some(step)
    };
    there.iter().filter_map(step).collect()
}

/// What lies beside checkpoints and result, as it is at this moment: a run may be adding to it, and
/// cuts off what is too much when it goes on.
fn beside(root: &Path) -> Result<Vec<BundleFile>> {
    let mut files = Vec::new();
    for name in BESIDE {
        let path = root.join(name);
        if path.is_file() {
            let bytes = fs::read(&path).context_at("cannot read the file", &path)?;
            files.push(BundleFile::of(name, bytes));
        }
    }
    Ok(files)
}

fn take_beside(bundle: &Bundle, root: &Path) -> Result<()> {
    for name in BESIDE {
        if let Some(bytes) = bundle.bytes(name, BESIDE_BYTES_MAX)? {
            write_atomic(&root.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// Writes the files below a folder of a bundle into a folder of the disk.
fn save_below(bundle: &Bundle, folder: &str, to: &Path) -> Result<()> {
    let names = bundle.files().filter(|(path, _)| path.starts_with(folder));
    let names: Vec<String> = names.map(|(path, _)| path.to_owned()).collect();
    names.iter().try_for_each(|path| bundle.save(path, &to.join(&path[folder.len()..])))
}
