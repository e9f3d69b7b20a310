//! Steps that were computed once are kept for other runs, filed under what determined them.
//!
//! `$FIREBRAND_CACHE/steps/<settings>/<step>-<chain>/` holds a checkpoint, the metrics up to it,
//! and the name of the run. `<settings>` is a digest over everything but the steps themselves
//! (base, settings, program, device); `<chain>` is [`Chain::last`]. All of it is checked by digest
//! before it is used. Files are shared with the run by a second name where the disk allows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::checkpoint::manifest::{MANIFEST, Manifest};
use crate::checkpoint::shared_steps::{KeptSteps, SharedSteps, chain_name, joined};
use crate::checkpoint::{
    Chain, FORMAT, RestoredCheckpoint, RunState, folder_name, manifest_digest, steps_of,
};
use crate::error::{Context, Error, Result};
use crate::event::StepReport;
use crate::files::{
    Digest, create_dir_new, hash_file, link_or_copy, remove_dir, rename_new, size_of_dir,
};

/// The folder in the cache.
pub const FOLDER: &str = "steps";
/// Nobody fills a folder for so long.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// The metrics of the steps.
pub(super) const METRICS: &str = "metrics.jsonl";
const ORIGIN: &str = "origin.json";

/// Where steps under the same settings are kept.
#[derive(Debug, Clone)]
pub struct StepCache {
    root: PathBuf,
    folder: PathBuf,
    limit: u64,
    /// Those that other machines can take, and give.
    shared: Option<SharedSteps>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    run: String,
}

/// Kept steps, checked.
pub struct CachedSteps {
    /// The checkpoint.
    pub found: RestoredCheckpoint,
    /// The metrics up to it.
    pub reports: Vec<StepReport>,
    /// Name of the run that computed them.
    pub from: String,
    /// Digest of the list of what is kept.
    pub manifest: Digest,
}

/// What is kept under one digest, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepCacheItem {
    /// Its folder.
    pub path: PathBuf,
    /// Steps and the run that computed them.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
}

/// Everything that is kept in a cache.
pub fn items(cache: &Path) -> Vec<StepCacheItem> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let item = |path: PathBuf| {
        let manifest = fs::metadata(path.join(MANIFEST)).and_then(|found| found.modified());
        let origin = fs::read(path.join(ORIGIN)).ok();
        let origin = origin.and_then(|bytes| serde_json::from_slice::<Origin>(&bytes).ok());
        let step = step_of(&path).map_or(0, |(step, _)| step);
        let run = origin.map_or_else(|| "an unknown run".to_owned(), |origin| origin.run);
        StepCacheItem {
            name: format!("{step} steps of {run}"),
            bytes: size_of_dir(&path),
            used: manifest.unwrap_or(SystemTime::UNIX_EPOCH),
            path,
        }
    };
    let (leftovers, shelves): (Vec<PathBuf>, Vec<PathBuf>) =
        folders(&cache.join(FOLDER)).into_iter().partition(|path| is_scratch(path));
    let leftover = |path: PathBuf| {
        let used = fs::metadata(&path).and_then(|found| found.modified()).ok()?;
        let old = SystemTime::now().duration_since(used).is_ok_and(|age| age > ABANDONED);
        let name = "left by a run that was killed".to_owned();
        old.then(|| StepCacheItem { name, bytes: size_of_dir(&path), used, path })
    };
    let kept = shelves.iter().flat_map(|shelf| folders(shelf)).map(item);
    kept.chain(leftovers.into_iter().filter_map(leftover)).collect()
}

fn is_scratch(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp-"))
}

/// Step and digest in the name of a folder.
fn step_of(path: &Path) -> Option<(u64, Digest)> {
    let (step, chain) = path.file_name()?.to_str()?.split_once('-')?;
    Some((step.parse().ok()?, chain.parse().ok()?))
}

impl StepCache {
    /// The shelf for these settings in a cache of which at most `limit` bytes are for steps.
    pub fn new(cache: &Path, settings: Digest, limit: u64) -> Self {
        let root = cache.to_owned();
        let folder = root.join(FOLDER).join(settings.to_string());
        Self { root, folder, limit, shared: None }
    }

    /// The same, before a store that other machines use.
    #[must_use]
    pub fn with_shared(self, shared: SharedSteps) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// The store that other machines use.
    pub fn shared(&self) -> Option<&SharedSteps> {
        self.shared.as_ref()
    }

    /// What is here and in the store: steps, by the name of all of them, of runs with this first
    /// step.
    ///
    /// # Errors
    /// When the store does not say; what is here can be had without it ([`Self::kept_here`]).
    pub fn kept(&self, first: Digest) -> Result<KeptSteps> {
        let here = self.kept_here(first);
        match &self.shared {
            Some(shared) => Ok(joined(here, shared.kept(first)?)),
            None => Ok(here),
        }
    }

    /// What is on this disk.
    pub fn kept_here(&self, first: Digest) -> KeptSteps {
        let mut all = KeptSteps::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let Some((step, last)) = step_of(&entry.path()) else { continue };
            let state = fs::read(entry.path().join("state.json")).ok();
            let state = state.and_then(|bytes| serde_json::from_slice::<RunState>(&bytes).ok());
            let chain = state.and_then(|state| state.chain);
            if chain == Some(Chain { first: Some(first), last: Some(last) }) {
                all.entry(step).or_default().insert(chain_name(last));
            }
        }
        all
    }

    /// Whether it is known that nothing is there at all.
    pub fn is_empty(&self) -> bool {
        self.shared.is_none() && self.is_empty_here()
    }

    fn is_empty_here(&self) -> bool {
        fs::read_dir(&self.folder).map_or(true, |mut entries| entries.next().is_none())
    }

    fn place(&self, step: u64, chain: Digest) -> PathBuf {
        self.folder.join(format!("{step:08}-{chain}"))
    }

    /// Takes steps from the shelf, or from the store onto it; damaged ones are removed and not
    /// found.
    pub fn open(&self, step: u64, chain: Chain) -> Option<CachedSteps> {
        let last = chain.last?;
        let here = self.place(step, last).exists().then(|| self.open_here(step, last)).flatten();
        if here.is_some() || !self.take_shared(step, chain).unwrap_or(false) {
            return here;
        }
        self.open_here(step, last)
    }

    /// Puts steps of the store onto the shelf.
    fn take_shared(&self, step: u64, chain: Chain) -> Result<bool> {
        let (Some(shared), Some(last)) = (&self.shared, chain.last) else { return Ok(false) };
        let (scratch, target) = (self.scratch(step)?, self.place(step, last));
        let taken = shared.take(step, chain, &scratch).and_then(|taken| {
            if !taken {
                return Ok(false);
            }
            self.make_room(size_of_dir(&scratch))?;
            fs::create_dir_all(&self.folder).context_at("cannot make the folder", &self.folder)?;
            rename_new(&scratch, &target).map(|()| true)
        });
        if !matches!(taken, Ok(true)) {
            let _ = remove_dir(&scratch);
        }
        match taken {
            Err(_) if target.exists() => Ok(true), // another run was sooner
            other => other,
        }
    }

    /// A new folder to fill.
    fn scratch(&self, step: u64) -> Result<PathBuf> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!(".tmp-{}-{step}-{number}", std::process::id());
        let scratch = self.root.join(FOLDER).join(name);
        if scratch.exists() {
            remove_dir(&scratch)?;
        }
        create_dir_new(&scratch)?;
        Ok(scratch)
    }

    fn open_here(&self, step: u64, chain: Digest) -> Option<CachedSteps> {
        let path = self.place(step, chain);
        let kept = Self::read(&path).ok().filter(|kept| {
            let state = &kept.found.state;
            let reports = kept.reports.iter().map(|report| report.step);
            state.step == step
                && state.chain.and_then(|chain| chain.last) == Some(chain)
                && reports.eq(1..=step)
        });
        match &kept {
            Some(_) => {
                // The time of the last use is a hint for what to remove.
                let manifest = fs::File::options().append(true).open(path.join(MANIFEST));
                let _ = manifest.and_then(|file| file.set_modified(SystemTime::now()));
            }
            None => drop(remove_dir(&path)),
        }
        kept
    }

    fn read(path: &Path) -> Result<CachedSteps> {
        let found = RestoredCheckpoint::open(path)?;
        let lines = path.join(METRICS);
        let bytes = fs::read(&lines).context_at("cannot read the metrics", &lines)?;
        let reports = steps_of(&bytes).context_at("broken metrics", &lines)?;
        let origin = path.join(ORIGIN);
        let bytes = fs::read(&origin).context_at("cannot read the origin", &origin)?;
        let origin: Origin = serde_json::from_slice(&bytes).context_at("broken origin", &origin)?;
        Ok(CachedSteps { found, reports, from: origin.run, manifest: manifest_digest(path)? })
    }

    /// Gives filed steps to the store, if there is one.
    ///
    /// # Errors
    /// When it does not take them.
    pub fn send(&self, step: u64, chain: Chain) -> Result<()> {
        match (&self.shared, chain.last.map(|last| self.place(step, last))) {
            (Some(shared), Some(place)) if place.exists() => shared.put(&place, step, chain),
            _ => Ok(()),
        }
    }

    /// Files a committed checkpoint of the run `name`; `root` is its directory. What was not used
    /// for longest goes, to stay below the limit. Returns the name of its steps, if they have one.
    ///
    /// # Errors
    /// When it cannot be read or filed.
    pub fn put(&self, root: &Path, step: u64, name: &str) -> Result<Option<Chain>> {
        let checkpoint = root.join(folder_name(step));
        let path = checkpoint.join("state.json");
        let bytes = fs::read(&path).context_at("cannot read the state", &path)?;
        let state: RunState = serde_json::from_slice(&bytes).context_at("broken state", &path)?;
        let Some(chain) = state.chain else { return Ok(None) };
        let Some(last) = chain.last else { return Ok(None) };
        let target = self.place(step, last);
        let needed = size_of_dir(&checkpoint) + state.metrics_bytes;
        if target.exists() || needed > self.limit {
            return Ok(Some(chain));
        }
        self.make_room(needed)?;
        let scratch = self.scratch(step)?;
        let filed = fill(&scratch, &checkpoint, root, &state, name).and_then(|()| {
            fs::create_dir_all(&self.folder).context_at("cannot make the folder", &self.folder)?;
            rename_new(&scratch, &target)
        });
        if filed.is_err() {
            let _ = remove_dir(&scratch);
        }
        match filed {
            Err(_) if target.exists() => Ok(Some(chain)), // another run was sooner
            other => other.map(|()| Some(chain)),
        }
    }

    /// Removes everything that is kept, whoever computed it, if it lies on the same disk as a run:
    /// it can be computed again, and the disk has no room for what cannot.
    pub fn make_way_on_the_disk_of(&self, run: &Path) {
        if same_disk(&self.root.join(FOLDER), run) {
            for item in items(&self.root) {
                let _ = remove_dir(&item.path); // another run may be doing the same
            }
        }
    }

    fn make_room(&self, needed: u64) -> Result<()> {
        let mut items = items(&self.root);
        items.sort_by_key(|item| item.used);
        let mut total: u64 = items.iter().map(|item| item.bytes).sum();
        for item in items {
            if total + needed <= self.limit {
                break;
            }
            match remove_dir(&item.path) {
                Err(error) if item.path.exists() => return Err(error),
                _ => total -= item.bytes, // whoever removed it
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn same_disk(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let disk = |path: &Path| fs::metadata(path).map(|found| found.dev());
    matches!((disk(a), disk(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(not(unix))]
fn same_disk(_: &Path, _: &Path) -> bool {
    false
}

fn fill(scratch: &Path, from: &Path, root: &Path, state: &RunState, name: &str) -> Result<()> {
    let manifest = Manifest::verify(from).map_err(crate::checkpoint::Unusable::into_error)?;
    let mut files = manifest.files;
    for file in &files {
        link_or_copy(&from.join(&file.path), &scratch.join(&file.path))?;
    }
    let path = root.join(METRICS);
    let lines = fs::read(&path).context_at("cannot read the metrics", &path)?;
    let length = usize::try_from(state.metrics_bytes).unwrap_or(usize::MAX);
    let lines = lines.get(..length).ok_or_else(|| Error::checkpoint("the metrics are cut off"))?;
    let origin = serde_json::to_vec(&Origin { run: name.to_owned() }).context("cannot encode")?;
    for (name, bytes) in [(METRICS, lines), (ORIGIN, &origin)] {
        let path = scratch.join(name);
        // No fsync: what a power cut tears is found by its digest and computed again.
        fs::write(&path, bytes).context_at("cannot write into the cache", &path)?;
        files.push(hash_file(&path, name)?);
    }
    let manifest = Manifest { format: FORMAT, step: state.step, files };
    let json = serde_json::to_vec_pretty(&manifest).context("cannot encode the manifest")?;
    let path = scratch.join(MANIFEST);
    fs::write(&path, json).context_at("cannot write into the cache", &path)
}
