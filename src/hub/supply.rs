//! Where the files of a configuration come from: this machine or a hub, under the lock.
//!
//! A name is resolved once, to a commit and a list of files; from then on only those are asked
//! for. The lock of the run directory comes first (a run goes on with what it began with), then
//! the one beside the configuration, then the newest revision of the hub.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::allow::ADAPTER_WEIGHTS;
use super::checked::sha256_of;
use super::downloads;
use super::local::{self, ModelDirectory};
use super::lock::{Asked, DataLock, Locked, LockedFile};
use super::set_file::{Place, SetFile};
use super::signed::{SIGNATURE, SIGNATURE_BYTES_MAX, covered};
use super::{
    Hub, RemoteFile, RepoKind, RepoName, Settings, model_files, needs_own_code, refuse_disguised,
};
use crate::config::{ModelConfig, RUNS};
use crate::error::{Error, ErrorCode, Result};
use crate::event::Transfers;
use crate::files::{Digest, FileEntry, has_file, read_json};
use crate::gguf;

/// What `revision` is when nobody gave one.
pub const DEFAULT_REVISION: &str = "main";
/// Files that are named where one is not there.
const GGUF_SHOWN: usize = 8;
/// Configurations are small.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// How files may be got.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Nothing but what the lock says.
    pub locked: bool,
    /// Nothing from the network.
    pub offline: bool,
    /// Locks in the order in which they are asked.
    pub locks: Vec<DataLock>,
    /// Locks of elsewhere, asked last: they say which revisions are meant, and nothing is allowed
    /// because it is in them.
    pub unpinned: Vec<DataLock>,
    /// Endings of data files that can be read.
    pub extensions: Vec<String>,
    /// Families (`model_type`) of models that are computed without a program of theirs.
    pub families: Vec<&'static str>,
}

/// Gets the files of a configuration.
pub struct Supply {
    pub(super) policy: Policy,
    pub(super) transfers: Arc<dyn Transfers>,
    /// Asked while something is fetched: does the user want to stop?
    interrupted: Arc<dyn Fn() -> bool + Send + Sync>,
    stop: Arc<Stop>,
    hub: OnceLock<Hub>,
    pub(super) cache: PathBuf,
}

/// Why a transfer should end.
#[derive(Default)]
struct Stop {
    /// Nobody waits for it any more.
    now: AtomicBool,
    /// The run has begun: a signal lets it save, for which it may still need data.
    patient: AtomicBool,
}

impl Stop {
    fn is_due(&self, interrupted: &(dyn Fn() -> bool + Send + Sync)) -> bool {
        self.now.load(Ordering::Relaxed) || (!self.patient.load(Ordering::Relaxed) && interrupted())
    }
}

impl Supply {
    /// Under a policy; `transfers` hears of what is downloaded, `interrupted` is asked whether to
    /// go on, and `cache` is our own cache folder.
    pub fn new(
        policy: Policy,
        transfers: Arc<dyn Transfers>,
        interrupted: Arc<dyn Fn() -> bool + Send + Sync>,
        cache: &Path,
    ) -> Self {
        let stop = Arc::new(Stop::default());
        let cache = cache.to_owned();
        Self { policy, transfers, interrupted, stop, hub: OnceLock::new(), cache }
    }

    /// All locks, in the order in which they are asked.
    pub(super) fn locks(&self) -> impl Iterator<Item = &DataLock> {
        self.policy.locks.iter().chain(&self.policy.unpinned)
    }

    /// The digests that the locks of this machine hold.
    pub fn pinned(&self) -> BTreeSet<Digest> {
        let entries = self.policy.locks.iter().flat_map(|lock| lock.model.iter().chain(&lock.data));
        entries.flat_map(|entry| &entry.files).filter_map(|file| file.sha256).collect()
    }

    /// Whether work for which someone waits should end: nobody waits any more, or the user wants
    /// to stop before the run has begun.
    pub fn stopped(&self) -> bool {
        self.stop.is_due(&*self.interrupted)
    }

    /// Ends all transfers soon, and lets none begin.
    pub fn stop(&self) {
        self.stop.now.store(true, Ordering::Relaxed);
    }

    /// From now on an interruption does not end transfers: the run saves first.
    pub fn be_patient(&self) {
        self.stop.patient.store(true, Ordering::Relaxed);
    }

    /// The hub, made when something is first asked of it.
    pub fn hub(&self) -> Result<&Hub> {
        if let Some(hub) = self.hub.get() {
            return Ok(hub);
        }
        let mut settings = Settings::from_env()?;
        settings.offline |= self.policy.offline;
        let (stop, interrupted) = (self.stop.clone(), self.interrupted.clone());
        let transfers = self.transfers.clone();
        let hub = Hub::new(settings)?
            .with_stop(move || stop.is_due(&*interrupted))
            .with_notice(move |text| transfers.tell(&text));
        Ok(self.hub.get_or_init(|| hub))
    }

    /// The base model of a configuration: a directory, or files of a hub, all of them fetched.
    pub fn base(&self, model: &ModelConfig) -> Result<ModelDirectory> {
        let found = self.find(&model.base, &model.revision)?.as_base()?;
        if found.locked.is_none() && model.revision != DEFAULT_REVISION {
            return Err(Error::config(
                "`model.revision` names a revision, but a directory has none",
            )
            .at(&found.path)
            .hint("leave it out: the directory's own bytes are recorded by digest"));
        }
        Ok(found)
    }

    /// A model by its name: a directory, an artifact, a run that has one, or one of a hub.
    pub fn find(&self, name: &str, revision: &str) -> Result<ModelDirectory> {
        let path = Path::new(name);
        if gguf::is_gguf(path) && has_file(path)? {
            return self.unpacked(path, name, None);
        }
        let (repo, file) = of_hub(name);
        match repo.filter(|_| !path.exists() && !path.starts_with(RUNS)) {
            Some(repo) => self.model(&repo, file, revision).map_err(|error| {
                error.hint(format!("on this machine there is no directory `{name}`"))
            }),
            None => local::resolve(name),
        }
    }

    /// A model by the name that a command line gives: as [`Supply::find`], and of a hub with its
    /// branch, tag or commit, too: `owner/name@revision`.
    pub fn named(&self, name: &str) -> Result<ModelDirectory> {
        match at_revision(name) {
            Some((name, revision)) => self.find(name, revision),
            None => self.find(name, DEFAULT_REVISION),
        }
    }

    /// A model of the hub by its name, whatever lies here under it.
    ///
    /// # Errors
    /// When the name is none of a hub, or the hub does not give the model.
    pub fn on_hub(&self, name: &str, revision: &str) -> Result<ModelDirectory> {
        self.model(&RepoName::parse(RepoKind::Model, name)?, None, revision)
    }

    /// The model directory that a GGUF file becomes; `locked` is what a hub says of the file.
    fn unpacked(&self, path: &Path, name: &str, locked: Option<Locked>) -> Result<ModelDirectory> {
        let tell = |text: &str| self.transfers.tell(text);
        let (folder, entry) = gguf::unpack(path, &self.cache, tell)?;
        let FileEntry { path: file, size, sha256 } = entry;
        let locked = locked.unwrap_or_else(|| {
            let sha256 = Some(sha256);
            let file = LockedFile { path: file, size, rows: None, sha256, oid: None };
            Locked { name: name.to_owned(), files: vec![file], ..Locked::default() }
        });
        let (id, locked) = (name.to_owned(), Some(locked));
        Ok(ModelDirectory { id, path: folder, adapter: false, locked })
    }

    /// A model of the hub: a repository, or a GGUF file in one.
    fn model(&self, repo: &RepoName, file: Option<&str>, revision: &str) -> Result<ModelDirectory> {
        let id = match file {
            Some(file) => format!("{}/{file}", repo.id()),
            None => repo.id(),
        };
        let asked =
            Asked { name: &id, subset: None, split: None, globs: &[], revision: Some(revision) };
        let mut entries = self.locks().filter_map(|lock| lock.model.as_ref());
        let locked = match entries.find(|entry| entry.answers(&asked)) {
            Some(found) => found.clone(),
            None if self.policy.locked => return Err(not_locked(&id)),
            None => match file {
                Some(file) => self.gguf_entry(repo, file, revision)?,
                None => self.model_entry(repo, revision)?,
            },
        };
        let commit = locked.commit.clone().unwrap_or_default();
        // The configuration first: a model that needs its own code is refused before its weights.
        let mut files: Vec<&LockedFile> = locked.files.iter().collect();
        files.sort_by_key(|file| (file.path != "config.json", &file.path));
        self.transfers.expect(files.iter().map(|file| file.size).sum());
        for file in files {
            let path = self.fetch_file(repo, &commit, &remote_file(file))?;
            if file.path == "config.json"
                && let Some(why) =
                    needs_own_code(&read_json(&path, TEXT_BYTES_MAX)?, &self.policy.families)
            {
                return Err(Error::refused(
                    ErrorCode::Untrusted,
                    format!("`{id}` cannot be used: {why}"),
                )
                .hint("Firebrand never runs code from a hub"));
            }
        }
        let path = self.hub()?.snapshot_dir(repo, &commit);
        if let Some(file) = file {
            return self.unpacked(&path.join(file), &id, Some(locked));
        }
        let adapter = locked.files.iter().any(|file| file.path == ADAPTER_WEIGHTS);
        Ok(ModelDirectory { id, path, adapter, locked: Some(locked) })
    }

    /// What a GGUF file is at this moment.
    fn gguf_entry(&self, repo: &RepoName, path: &str, revision: &str) -> Result<Locked> {
        let hub = self.hub()?;
        let commit = hub.commit_of(repo, revision)?;
        let tree = hub.tree(repo, &commit)?;
        let Some(file) = tree.iter().find(|file| file.path == path) else {
            let others: Vec<&str> = tree.iter().map(|file| file.path.as_str()).collect();
            let others = others.into_iter().filter(|path| gguf::is_gguf(Path::new(path)));
            let others: Vec<&str> = others.take(GGUF_SHOWN).collect();
            return Err(Error::hub(format!("`{}` has no file `{path}`", repo.id()))
                .because(format!("its commit {commit} was looked at"))
                .hint(format!("it has: {}", others.join(", "))));
        };
        Ok(Locked {
            name: format!("{}/{path}", repo.id()),
            endpoint: Some(hub.settings().endpoint.clone()),
            revision: Some(revision.to_owned()),
            commit: Some(commit),
            files: vec![locked_file(file)],
            ..Locked::default()
        })
    }

    /// What a model is at this moment.
    fn model_entry(&self, repo: &RepoName, revision: &str) -> Result<Locked> {
        let hub = self.hub()?;
        let commit = hub.commit_of(repo, revision)?;
        let looked_at =
            |error: Error| error.because(format!("`{}` at {commit} was looked at", repo.id()));
        let tree = hub.tree(repo, &commit)?;
        let mut files = model_files(&tree).map_err(looked_at)?;
        let signature = files.iter().find(|file| file.path == SIGNATURE);
        if let Some(file) = signature.filter(|file| file.size <= SIGNATURE_BYTES_MAX) {
            let found = hub.fetch(repo, &commit, file, &|_| {})?;
            let covered = covered(&found.path, &tree, &files).map_err(looked_at)?;
            covered.notice.into_iter().for_each(|notice| hub.tell(notice));
            files.extend(covered.files);
            files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        }
        Ok(Locked {
            name: repo.id(),
            endpoint: Some(hub.settings().endpoint.clone()),
            revision: Some(revision.to_owned()),
            commit: Some(commit),
            files: files.iter().map(locked_file).collect(),
            ..Locked::default()
        })
    }

    /// The digest of a file, if it is known without fetching it.
    pub fn digest_of(&self, file: &SetFile) -> Result<Option<Digest>> {
        match &file.place {
            _ if file.sha256.is_some() => Ok(file.sha256),
            Place::Here(path) => sha256_of(path, &self.cache).map(Some),
            Place::Hub { file, .. } => Ok(file.sha256),
        }
    }

    /// Sees to it that a file is on this machine, with the bytes that it must have.
    pub fn fetch(&self, file: &SetFile) -> Result<PathBuf> {
        match &file.place {
            Place::Here(path) => Ok(path.clone()),
            Place::Hub { repo, commit, file } => self.fetch_file(repo, commit, file),
        }
    }

    /// Fetches several files, a few at a time: many small ones would wait for each other.
    pub fn fetch_all(&self, files: &[SetFile]) -> Result<Vec<PathBuf>> {
        const AT_ONCE: usize = 4;
        let next = AtomicUsize::new(0);
        let take = || -> Vec<(usize, Result<PathBuf>)> {
            let mut fetched: Vec<(usize, Result<PathBuf>)> = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = files.get(number) else { return fetched };
                fetched.push((number, self.fetch(file)));
                if fetched.last().is_some_and(|(_, found)| found.is_err()) {
                    next.store(files.len(), Ordering::Relaxed); // the others need not begin more
                }
            }
        };
        let mut fetched: Vec<(usize, Result<PathBuf>)> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..AT_ONCE.min(files.len())).map(|_| scope.spawn(take)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
        });
        fetched.sort_by_key(|(number, _)| *number);
        fetched.into_iter().map(|(_, found)| found).collect()
    }

    /// What was read must be what was expected.
    pub fn confirm(&self, file: &SetFile, read: &FileEntry) -> Result<()> {
        match file.sha256 {
            Some(expected) if expected != read.sha256 => {
                Err(Error::changed("the file changed while it was being read")
                    .at(&*file.name)
                    .because(format!("its digest was {expected}, and {} was read", read.sha256)))
            }
            _ => Ok(()),
        }
    }

    fn fetch_file(&self, repo: &RepoName, commit: &str, file: &RemoteFile) -> Result<PathBuf> {
        let hub = self.hub()?;
        let title = format!("{}/{}", repo.id(), file.path);
        let transfer = self.transfers.begin(&title, file.size);
        let progress = |bytes| self.transfers.advance(transfer, bytes);
        let found = hub.fetch(repo, commit, file, &progress);
        self.transfers.end(transfer, found.as_ref().is_ok_and(|found| found.downloaded));
        let found = found?;
        match repo.kind() {
            RepoKind::Model => refuse_disguised(&found.path)?,
            RepoKind::Dataset => {
                downloads::note(&self.cache, &title, &found.path, found.downloaded)?
            }
        }
        Ok(found.path)
    }
}

/// The repository of a name on a hub, and the GGUF file in it: `owner/name/file.gguf`.
fn of_hub(name: &str) -> (Option<RepoName>, Option<&str>) {
    let parse = |name: &str| RepoName::parse(RepoKind::Model, name).ok();
    let mut slashes = name.match_indices('/').map(|(at, _)| at);
    match slashes.nth(1).map(|at| (&name[..at], &name[at + 1..])) {
        Some((repo, file)) if gguf::is_gguf(Path::new(file)) => (parse(repo), Some(file)),
        _ => (parse(name), None),
    }
}

/// The name and the revision of a model on a hub, where a name has both and is no path here.
pub fn at_revision(name: &str) -> Option<(&str, &str)> {
    let (model, revision) = name.rsplit_once('@')?;
    let on_hub = of_hub(model).0.is_some() && !revision.is_empty() && !Path::new(name).exists();
    on_hub.then_some((model, revision))
}

pub(super) fn locked_file(file: &RemoteFile) -> LockedFile {
    LockedFile {
        path: file.path.clone(),
        size: file.size,
        rows: None,
        sha256: file.sha256,
        oid: Some(file.oid.clone()),
    }
}

pub(super) fn remote_file(file: &LockedFile) -> RemoteFile {
    RemoteFile {
        path: file.path.clone(),
        size: file.size,
        oid: file.oid.clone().unwrap_or_default(),
        sha256: file.sha256,
    }
}

pub(super) fn not_locked(name: &str) -> Error {
    Error::refused(
        ErrorCode::LockDrift,
        format!("`{name}` is not in the lock as the configuration asks for it"),
    )
    .hint("`firebrand pull` with the configuration writes it there")
}
