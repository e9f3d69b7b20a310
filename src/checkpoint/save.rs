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
use crate::checkpoint::{
    History, HistoryEntry, HistoryEvent, Mirror, Retention, StepCache, folder_name,
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
    /// How long writing took.
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
}

impl Job {
    /// Saves, commits, and removes what retention no longer wants.
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
        let saved = |new, warnings| {
            let seconds = began.elapsed().as_secs_f64();
            Saved { step, path: path.clone(), new, seconds, warnings }
        };
        if path.exists() {
            // The same step of the same run.
            let manifest = Manifest::verify(&path).map_err(Unusable::into_error)?;
            if manifest.step != step {
                return Err(Error::checkpoint("the checkpoint is that of another step").at(path));
            }
            return Ok(saved(false, Vec::new()));
        }
        self.check_room()?;
        self.metrics.sync()?;
        self.rollouts.as_ref().map_or(Ok(()), Lines::sync)?;
        let scratch = scratch_for(&self.root, step)?;
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
        let entry = HistoryEntry {
            manifest: Some(manifest),
            ..HistoryEntry::new(HistoryEvent::Saved, step)
        };
        let after = [
            write_atomic(&self.root.join("LATEST"), folder_name(step).as_bytes()),
            History::of(&self.root).note(&entry),
            self.prune(),
            self.shelf.as_ref().map_or(Ok(()), |(shelf, name)| shelf.put(&self.root, step, name)),
            self.mirror.as_ref().map_or(Ok(()), |mirror| mirror.put_step(&self.root, step)),
        ];
        let warnings = after.into_iter().filter_map(Result::err).map(|error| one_line(&error));
        Ok(saved(true, warnings.collect()))
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

fn one_line(error: &Error) -> String {
    std::iter::once(&error.what).chain(&error.causes).cloned().collect::<Vec<_>>().join(": ")
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
