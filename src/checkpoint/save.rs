//! Writes a checkpoint. The order of steps is the contract: metrics synced, files, manifest,
//! folder synced, then one rename as the commit point, then the parent synced. Whatever kills the
//! process leaves either the old checkpoints or one more.

use crate::checkpoint::seal::scratch_for;
use crate::checkpoint::seal::seal;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::checkpoint::manifest::{Manifest, Unusable};
use crate::checkpoint::metrics::Lines;
use crate::checkpoint::restore::sweep;
use crate::checkpoint::room::check_free;
use crate::checkpoint::snapshot::{Snapshot, TRAINED, Tensors, Values};
use crate::checkpoint::uploads::Upload;
use crate::checkpoint::{
    Chain, History, HistoryEntry, HistoryEvent, Mirror, Retention, StepCache, Uploads, folder_name,
};

use crate::error::{Error, ErrorCode, Result};
use crate::files::{Digest, remove_dir, rename_new, sync_dir, write_atomic};

use crate::weights::write_safetensors;

/// A committed checkpoint.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Its step.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// Was it written now, or had it been there?
    pub new: bool,
    /// How long it took until it was durable on this machine.
    pub seconds: f64,
    /// What went wrong after the commit, and costs nothing but disk.
    pub warnings: Vec<String>,
}

/// Everything that is needed to save, so that any thread can do it.
pub struct Job {
    /// The run directory.
    pub root: PathBuf,
    /// What is saved.
    pub snapshot: Snapshot,
    /// The metrics up to there.
    pub metrics: Lines,
    /// The rollouts up to there, in a run that has them.
    pub rollouts: Option<Lines>,
    /// What is kept.
    pub retention: Retention,
    /// Where it is kept for other runs, and the name of this one.
    pub shelf: Option<(StepCache, String)>,
    /// Where the run is mirrored.
    pub mirror: Option<Mirror>,
    /// What is under way to stores.
    pub uploads: Uploads,
}

impl Job {
    /// Saves, commits, and removes what retention no longer wants. What goes to stores is under way
    /// then.
    ///
    /// # Errors
    /// When nothing was committed: what was begun is gone again. If the disk had no room, a second
    /// attempt was made after leftovers were removed, and steps that are only kept for other runs.
    pub fn commit(&self) -> Result<Saved> {
        match self.attempt() {
            Err(error) if error.code == ErrorCode::DiskFull => {
                if sweep(&self.root).and_then(|()| self.prune()).is_err() {
                    return Err(error);
                }
                let full = check_free(&self.root, self.snapshot.bytes()).is_err();
                if let Some((shelf, _)) = self.shelf.as_ref().filter(|_| full) {
                    shelf.make_way_on_the_disk_of(&self.root);
                }
                self.attempt()
            }
            other => other,
        }
    }

    fn attempt(&self) -> Result<Saved> {
        let began = Instant::now();
        let step = self.snapshot.state.step;
        let path = self.root.join(folder_name(step));
        let saved =
            |new, seconds, warnings| Saved { step, path: path.clone(), new, seconds, warnings };
        if path.exists() {
            // The same step of the same run.
            let manifest = Manifest::verify(&path).map_err(Unusable::into_error)?;
            if manifest.step != step {
                return Err(Error::checkpoint("the checkpoint is that of another step").at(path));
            }
            return Ok(saved(false, began.elapsed().as_secs_f64(), Vec::new()));
        }
        self.check_room()?;
        self.metrics.sync()?;
        self.rollouts.as_ref().map_or(Ok(()), Lines::sync)?;
        let scratch = scratch_for(&self.root, &folder_name(step))?;
        let written = write_files(&scratch, &self.snapshot);
        let committed = written.and_then(|digest| {
            rename_new(&scratch, &path)?;
            Ok(digest)
        });
        let manifest = match committed {
            Ok(manifest) => manifest,
            Err(error) => {
                let _ = remove_dir(&scratch);
                return Err(error);
            }
        };
        // Until here a failure leaves nothing; the names must be durable before it counts as saved.
        sync_dir(&self.root)?;
        let seconds = began.elapsed().as_secs_f64();
        let entry = HistoryEntry {
            manifest: Some(manifest),
            ..HistoryEntry::new(HistoryEvent::Saved, step)
        };
        let mut after = vec![
            write_atomic(&self.root.join("LATEST"), folder_name(step).as_bytes()),
            History::of(&self.root).note(&entry),
            self.prune(),
        ];
        let shelf = self.shelf.as_ref().map(|(shelf, name)| shelf.put(&self.root, step, name));
        let chain = match shelf.transpose() {
            Ok(chain) => chain.flatten(),
            Err(error) => {
                after.push(Err(error));
                None
            }
        };
        self.upload(step, chain);
        let warnings = after.into_iter().filter_map(Result::err);
        Ok(saved(true, seconds, warnings.map(|error| error.with_causes()).collect()))
    }

    /// Has a committed checkpoint go to stores.
    fn upload(&self, step: u64, chain: Option<Chain>) {
        let shelf = self.shelf.as_ref().map(|(shelf, _)| shelf.clone());
        let shared = shelf.filter(|shelf| shelf.shared().is_some()).zip(chain);
        if shared.is_some() || self.mirror.is_some() {
            let (root, mirror) = (self.root.clone(), self.mirror.clone());
            self.uploads.add(Upload { root, step, shared, mirror });
        }
    }

    fn prune(&self) -> Result<()> {
        self.retention.prune(&self.root, &self.snapshot.state.evaluations)
    }

    fn check_room(&self) -> Result<()> {
        let needed = self.snapshot.bytes();
        self.retention.make_room(&self.root, needed, &self.snapshot.state.evaluations)?;
        check_free(&self.root, needed)
    }
}

fn write_files(scratch: &Path, snapshot: &Snapshot) -> Result<Digest> {
    let write = |name: &str, tensors: &Tensors| {
        let metadata: BTreeMap<_, _> = [("format".to_owned(), "pt".to_owned())].into();
        let specs = tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let values: BTreeMap<&str, &Values> =
            tensors.iter().map(|(spec, values)| (spec.name.as_str(), values)).collect();
        write_safetensors(&scratch.join(name), specs, &metadata, |spec| {
            Ok(values[spec.name.as_str()].numbers())
        })
    };
    let mut files = vec![
        write(snapshot.weights_name(), &snapshot.weights)?,
        write("optimizer.safetensors", &snapshot.optimizer)?,
    ];
    if let Some(trained) = &snapshot.trained {
        files.push(write(TRAINED, trained)?);
    }
    seal(scratch, files, &snapshot.state)
}
