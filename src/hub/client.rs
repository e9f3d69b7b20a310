//! The hub as the rest of the program sees it: which commit, which files, and each file on this
//! disk with its digest.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};

use super::cache::Cache;
use super::checked::{check, note_written};
use super::download::Download;
use super::file::RemoteFile;
use super::http::Client;
use super::names::{RepoKind, RepoName, check_revision, is_commit};
use super::refusal::{Asked, stopped};
use super::retry::LOOK_EVERY;
use super::settings::Settings;
use super::tree;
use super::url::encode;
use crate::error::{Context, Error, Result, printable};
use crate::files::{Digest, folder_of, read_json};

/// Largest kept list that is read, in bytes.
const KEPT_BYTES_MAX: u64 = 512 << 20;

/// A hub and the cache in front of it.
///
/// It may be used from several threads at once, and beside other processes.
pub struct Hub {
    pub(super) settings: Settings,
    pub(super) client: Client,
    pub(super) cache: Cache,
    pub(super) stop: Box<dyn Fn() -> bool + Send + Sync>,
    pub(super) notice: Box<dyn Fn(String) + Send + Sync>,
}

/// A file on this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// `snapshots/COMMIT/PATH` in the cache.
    pub path: PathBuf,
    /// Of the content, which was checked.
    pub sha256: Digest,
    /// Did any of it come over the network just now?
    pub downloaded: bool,
}

/// What the cache has under a name.
enum CachedFile {
    /// The file.
    Good(Digest),
    /// Something else.
    Bad,
    /// Nothing.
    Nothing,
}

impl Hub {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// An endpoint that is no address.
    pub fn new(settings: Settings) -> Result<Self> {
        let client = Client::new(&settings)?;
        let cache = Cache::new(settings.cache.clone());
        Ok(Self { settings, client, cache, stop: Box::new(|| false), notice: Box::new(|_| ()) })
    }

    /// Looks at `stop` while anything takes time: once it is true, all that is under way ends with
    /// an error within a moment, and nothing can be begun. What has come is kept.
    #[must_use]
    pub fn with_stop(mut self, stop: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.stop = Box::new(stop);
        self
    }

    /// Tells `notice` what a user may wonder about: pauses, damaged files, other processes.
    #[must_use]
    pub fn with_notice(mut self, notice: impl Fn(String) + Send + Sync + 'static) -> Self {
        // Names from the hub are among the words.
        self.notice = Box::new(move |text| notice(printable(&text)));
        self
    }

    /// How the hub is reached.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The commit, 40 hex digits, that a branch, tag or shortened commit is now. Everything else
    /// is asked by commit, so that nothing moves between two requests.
    ///
    /// Offline it is the commit that it was when it was last asked for, by any tool.
    pub fn commit_of(&self, repo: &RepoName, revision: &str) -> Result<String> {
        check_revision(revision)?;
        if is_commit(revision) {
            return Ok(revision.to_owned());
        }
        let last = self.cache.reference(repo, revision);
        if self.settings.offline {
            return last.ok_or_else(|| {
                self.offline(format!(
                    "which commit `{revision}` of the {} `{repo}` is",
                    repo.kind()
                ))
            });
        }
        let commit = self.commit_at_hub(repo, revision)?;
        // A cache that cannot be written is told when a file must be.
        if let Err(error) = self.cache.set_reference(repo, revision, &commit) {
            self.tell(format!("cannot note the commit of `{revision}`: {}", error.what));
        }
        Ok(commit)
    }

    /// All files of a commit, sorted by the bytes of their paths. A commit never changes, so the
    /// hub is asked once.
    ///
    /// # Errors
    /// Also for a list with names that could be written elsewhere, or that collide.
    pub fn tree(&self, repo: &RepoName, commit: &str) -> Result<Vec<RemoteFile>> {
        check_commit(commit)?;
        let kept = self.cache.tree(repo, commit);
        if kept.is_file() {
            let files = read_json(&kept, KEPT_BYTES_MAX).and_then(|kept| tree::from_kept(&kept));
            match files {
                Ok(files) => return Ok(files),
                Err(error) if self.settings.offline => return Err(error.at(kept)),
                Err(error) => self.tell(format!(
                    "the kept list of the files of `{repo}` is asked for again: {}",
                    error.causes.first().unwrap_or(&error.what)
                )),
            }
        }
        if self.settings.offline {
            let kind = repo.kind();
            return Err(self.offline(format!("the files of the {kind} `{repo}` at {commit}")));
        }
        let files = self.listed(repo, commit)?;
        let text =
            serde_json::to_vec_pretty(&tree::to_kept(&files)).context("cannot keep a list")?;
        if let Err(error) = self.cache.write(&kept, &text) {
            self.tell(format!("cannot keep the list of files: {}", error.what));
        }
        Ok(files)
    }

    /// A file on this disk, checked. What the cache has is used if its bytes are right; what is
    /// missing is fetched. `progress` is told how many bytes of the file are here.
    ///
    /// # Errors
    /// When it cannot be had in full. Nothing stands under the file's name then.
    pub fn fetch(
        &self,
        repo: &RepoName,
        commit: &str,
        file: &RemoteFile,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Fetched> {
        check_commit(commit)?;
        file.check()?;
        if let Some(fetched) = self.in_cache(repo, commit, file)? {
            progress(file.size);
            return Ok(fetched);
        }
        if self.settings.offline {
            return Err(self.missing_offline(repo, commit, file));
        }
        let blob = file.blob();
        let _lock = self.cache.lock(repo, &blob, &*self.stop, &*self.notice)?;
        // Whoever held the lock may have brought it.
        if let Some(fetched) = self.in_cache(repo, commit, file)? {
            progress(file.size);
            return Ok(fetched);
        }
        self.set_aside_bad(repo, commit, file)?;
        self.download(repo, commit, file, progress)
    }

    /// The file, if the cache has one of this name and size. Its bytes are not looked at: that is
    /// for [`Hub::fetch`].
    pub fn cached(&self, repo: &RepoName, commit: &str, file: &RemoteFile) -> Option<PathBuf> {
        check_commit(commit).and_then(|()| file.check()).ok()?;
        let has_size = |path: &Path| std::fs::metadata(path).is_ok_and(|it| it.len() == file.size);
        let pointer = self.snapshot_dir(repo, commit).join(&file.path);
        [pointer, self.blob_path(repo, file)].into_iter().find(|path| has_size(path))
    }

    /// The folder of a commit in the cache.
    pub fn snapshot_dir(&self, repo: &RepoName, commit: &str) -> PathBuf {
        self.cache.snapshot(repo, commit)
    }

    /// The same for a commit that a stranger names; `None` if it is none.
    pub fn cached_snapshot(&self, repo: &RepoName, commit: &str) -> Option<PathBuf> {
        is_commit(commit).then(|| self.cache.snapshot(repo, commit))
    }

    /// Where the content of a file lies in the cache.
    pub fn blob_path(&self, repo: &RepoName, file: &RemoteFile) -> PathBuf {
        self.cache.blob(repo, &file.blob())
    }

    fn in_cache(
        &self,
        repo: &RepoName,
        commit: &str,
        file: &RemoteFile,
    ) -> Result<Option<Fetched>> {
        let path = self.snapshot_dir(repo, commit).join(&file.path);
        if let CachedFile::Good(sha256) = self.look(&path, file)? {
            return Ok(Some(Fetched { path, sha256, downloaded: false }));
        }
        let blob = file.blob();
        if let CachedFile::Good(sha256) = self.look(&self.cache.blob(repo, &blob), file)? {
            let path = self.cache.link(repo, commit, &file.path, &blob)?;
            return Ok(Some(Fetched { path, sha256, downloaded: false }));
        }
        Ok(None)
    }

    fn look(&self, path: &Path, file: &RemoteFile) -> Result<CachedFile> {
        if !path.exists() {
            return Ok(CachedFile::Nothing); // or a link to nothing
        }
        let found = check(path, file, self.settings.notes.as_deref(), &*self.stop)?;
        Ok(found.map_or(CachedFile::Bad, CachedFile::Good))
    }

    /// Frees the names that stand for something else.
    fn set_aside_bad(&self, repo: &RepoName, commit: &str, file: &RemoteFile) -> Result<()> {
        let blob = file.blob();
        let pointer = self.snapshot_dir(repo, commit).join(&file.path);
        for path in [pointer, self.cache.blob(repo, &blob)] {
            if matches!(self.look(&path, file)?, CachedFile::Bad)
                && let Some(aside) = self.cache.set_aside(repo, &path, &blob)?
            {
                self.tell(format!(
                    "`{}` of `{repo}` was damaged in the cache and is fetched again; what was \
                     there is now {}",
                    file.path,
                    aside.display()
                ));
            }
        }
        Ok(())
    }

    fn download(
        &self,
        repo: &RepoName,
        commit: &str,
        file: &RemoteFile,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Fetched> {
        let partial = self.cache.partial(repo, &file.blob());
        let folder = folder_of(&partial);
        std::fs::create_dir_all(folder).context_at("cannot make the folder", folder)?;
        let prefix = match repo.kind() {
            RepoKind::Model => "",
            RepoKind::Dataset => "datasets/",
        };
        let path = format!("{prefix}{repo}/resolve/{commit}/{}", encode(&file.path, true));
        let download = Download {
            client: &self.client,
            timing: &self.settings.timing,
            asked: self.asked(repo, commit, Some(&file.path)),
            file,
            url: self.client.on_hub(&path)?,
            partial: &partial,
            progress,
            stop: &*self.stop,
            notice: &*self.notice,
        };
        let fetched = self.watched(|| download.run());
        if fetched.is_err() && std::fs::metadata(&partial).is_ok_and(|found| found.len() == 0) {
            let _ = std::fs::remove_file(&partial); // nothing that a next start could go on with
        }
        let (name, digests) = fetched?;
        let blob = self.cache.publish(repo, &partial, &name)?;
        let path = self.cache.link(repo, commit, &file.path, &name)?;
        note_written(&blob, file, digests.sha256, self.settings.notes.as_deref());
        Ok(Fetched { path, sha256: digests.sha256, downloaded: true })
    }

    /// Runs something that waits on the network, and ends it when the user wants to stop.
    pub(super) fn watched<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if (self.stop)() {
            return Err(stopped());
        }
        let result = std::thread::scope(|scope| {
            let (end, ended) = channel::<()>();
            scope.spawn(move || {
                while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                    if (self.stop)() {
                        self.client.shut_down();
                        break;
                    }
                }
            });
            let result = work();
            drop(end);
            result
        });
        // An interrupted request fails in some way of its own.
        if result.is_err() && (self.stop)() { Err(stopped()) } else { result }
    }

    pub(super) fn asked<'a>(
        &'a self,
        repo: &'a RepoName,
        revision: &'a str,
        file: Option<&'a str>,
    ) -> Asked<'a> {
        let endpoint = &self.settings.endpoint;
        Asked { repo, revision, file, endpoint, has_token: self.client.has_token() }
    }

    fn offline(&self, what: String) -> Error {
        Error::offline(format!("offline, and the cache does not tell {what}"))
            .at(&self.settings.cache)
            .hint("run it once with a connection, without `HF_HUB_OFFLINE`")
    }

    fn missing_offline(&self, repo: &RepoName, commit: &str, file: &RemoteFile) -> Error {
        let pointer = self.snapshot_dir(repo, commit).join(&file.path);
        let damaged = [pointer, self.blob_path(repo, file)].into_iter().find(|path| path.exists());
        let (what, at) = match damaged {
            Some(path) => ("is damaged in the cache, and no request may be sent (offline)", path),
            None => (
                "is not in the cache, and no request may be sent (offline)",
                self.settings.cache.clone(),
            ),
        };
        Error::hub(format!("`{}` of the {} `{repo}` {what}", file.path, repo.kind()))
            .at(at)
            .hint("run it once with a connection, without `HF_HUB_OFFLINE`")
    }

    pub(super) fn tell(&self, notice: String) {
        (self.notice)(notice);
    }
}

fn check_commit(commit: &str) -> Result<()> {
    if is_commit(commit) {
        return Ok(());
    }
    Err(Error::hub(format!("`{commit}` is not a commit: 40 lower-case hex digits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_can_be_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Hub>();
    }
}
