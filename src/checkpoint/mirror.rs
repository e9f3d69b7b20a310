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
    DATA_LOCK, Digest, MIRRORED_LOCK, ROLLOUTS, folder_of, hash_tree, remove_dir, rename_new,
    sync_dir, write_atomic,
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
/// The file that says under which settings a result was made.
const SETTINGS: &str = "settings.sha256";
/// What of a run directory goes along: facts, and nothing that says what is to be done. The lock
/// goes as well, and comes back under a name of its own ([`MIRRORED_LOCK`]).
pub const RECORDS: [&str; 8] = [
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

    /// Sends the result, which was made under settings with this digest; of what is there already,
    /// nothing is sent again.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn put_result(&self, root: &Path, settings: Digest) -> Result<()> {
        let there = self.store.list("")?;
        let artifact = root.join("artifact");
        let mut files = beside(root)?;
        files.push(BundleFile::of(SETTINGS, settings.to_string().into_bytes()));
        for file in hash_tree(&artifact)? {
            let from = artifact.join(&file.path);
            files.push(BundleFile::at(format!("{ARTIFACT}{}", file.path), from));
        }
        publish(&self.store, RESULT, &files, &there, true).map(drop)
    }

    /// The digest of the settings that the result was made under; none where it does not say.
    ///
    /// # Errors
    /// When it is not there, or the store does not give it.
    pub fn result_settings(&self) -> Result<Option<Digest>> {
        let text = self.bundle(RESULT)?.bytes(SETTINGS, 1024)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).parse().ok())
    }

    /// Makes a checkpoint of the store one of the run directory, checked byte by byte, with what
    /// lies beside it. `make_way` is called when that is whole and before anything is replaced.
    ///
    /// # Errors
    /// When it is not there, not whole, or the disk has no room: the directory is as it was, but
    /// for what lies beside checkpoints.
    pub fn take_step(
        &self,
        root: &Path,
        step: u64,
        make_way: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let name = folder_name(step);
        let bundle = self.bundle(&name)?;
        take(&bundle, (CHECKPOINT, &name), root, &name, |scratch| {
            expect_step(scratch, step)?;
            make_way()?;
            take_beside(&bundle, root)
        })
    }

    /// The same with one before it: what lies beside it is that of the later one.
    ///
    /// # Errors
    /// When it is not there, not whole, or the disk has no room: the directory is as it was.
    pub fn take_earlier_step(&self, root: &Path, step: u64) -> Result<()> {
        let name = folder_name(step);
        let bundle = self.bundle(&name)?;
        take(&bundle, (CHECKPOINT, &name), root, &name, |scratch| expect_step(scratch, step))
    }

    /// Makes the result of the store that of the run directory. `make_way` is called when it is
    /// whole and before anything is replaced.
    ///
    /// # Errors
    /// When it is not there, not whole, or the disk has no room.
    pub fn take_result(&self, root: &Path, make_way: impl FnOnce() -> Result<()>) -> Result<()> {
        let bundle = self.bundle(RESULT)?;
        // Removed with what an interrupted save has left, if this is interrupted.
        take(&bundle, (ARTIFACT, "step-result"), root, "artifact", |_| {
            make_way()?;
            take_beside(&bundle, root)
        })
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
    let lock = [DATA_LOCK, MIRRORED_LOCK].into_iter().find(|name| root.join(name).is_file());
    let lock = lock.map(|name| (DATA_LOCK, name));
    let mut files = Vec::new();
    for (path, name) in lock.into_iter().chain(RECORDS.map(|name| (name, name))) {
        let file = root.join(name);
        if file.is_file() {
            let bytes = fs::read(&file).context_at("cannot read the file", &file)?;
            files.push(BundleFile::of(path, bytes));
        }
    }
    Ok(files)
}

fn take_beside(bundle: &Bundle, root: &Path) -> Result<()> {
    let lock = (DATA_LOCK, MIRRORED_LOCK);
    for (path, name) in std::iter::once(lock).chain(RECORDS.map(|name| (name, name))) {
        if let Some(bytes) = bundle.bytes(path, BESIDE_BYTES_MAX)? {
            write_atomic(&root.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// Makes a folder of a bundle one of the run directory, by way of a scratch folder. `whole` is
/// called with that when all of it is there and durable.
fn take(
    bundle: &Bundle,
    (folder, scratch): (&str, &str),
    root: &Path,
    target: &str,
    whole: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    check_free(root, bundle.size())?;
    let scratch = scratch_for(root, scratch)?;
    let taken = save_below(bundle, folder, &scratch).and_then(|()| {
        whole(&scratch)?;
        rename_new(&scratch, &root.join(target))?;
        sync_dir(root)
    });
    if taken.is_err() {
        let _ = remove_dir(&scratch);
    }
    taken
}

fn expect_step(folder: &Path, step: u64) -> Result<()> {
    let found = RestoredCheckpoint::open(folder)?.state.step;
    match found == step {
        true => Ok(()),
        false => Err(Error::store(format!("`{}` holds step {found}", folder_name(step)))),
    }
}

/// Writes the files below a folder of a bundle into a folder of the disk, durably.
fn save_below(bundle: &Bundle, folder: &str, to: &Path) -> Result<()> {
    let names = bundle.files().filter_map(|(path, _)| path.strip_prefix(folder));
    let names: Vec<String> = names.map(str::to_owned).collect();
    let mut folders = BTreeSet::from([to.to_owned()]);
    for name in &names {
        let file = to.join(name);
        bundle.save(&format!("{folder}{name}"), &file)?;
        let inside = folder_of(&file).ancestors().take_while(|inside| *inside != to);
        folders.extend(inside.map(Path::to_owned));
    }
    folders.iter().rev().try_for_each(|folder| sync_dir(folder))
}
