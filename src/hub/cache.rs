//! The cache folder, laid out as `huggingface_hub` and hf-hub lay it out:
//!
//! ```text
//! models--OWNER--NAME/
//!   blobs/ETAG                 the content, once for all commits that have it
//!   snapshots/COMMIT/PATH      a relative symbolic link into blobs/
//!   refs/REVISION              the commit that a branch or tag last was
//!   trees/COMMIT.json          the list of files
//! .locks/models--OWNER--NAME/ETAG.lock
//! ```
//!
//! Ours alone are `blobs/ETAG.firebrand.incomplete`, a download that is not done, which
//! `hf cache prune` knows by its ending, and `blobs/ETAG.bad-N`, a file that was not what its name
//! said.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hf_hub::{Cache as Layout, Repo, RepoType};

use super::names::{RepoKind, RepoName};
use super::retry::LOOK_EVERY;
use crate::error::{Context, Error, Result};
use crate::files::{folder_of, is_still, sync_dir, write_atomic};

/// Waiting for another process is told after this many seconds.
const NOTICE_AFTER_SECONDS: u64 = 2;

/// The cache folder.
pub(super) struct Cache {
    root: PathBuf,
}

/// Held while a blob is fetched; other tools hold the same one.
pub(super) struct CacheLock {
    _file: File,
}

impl Cache {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn layout(repo: &RepoName) -> Repo {
        let kind = match repo.kind() {
            RepoKind::Model => RepoType::Model,
            RepoKind::Dataset => RepoType::Dataset,
        };
        Repo::new(repo.id(), kind)
    }

    fn folder(&self, repo: &RepoName) -> PathBuf {
        self.root.join(Self::layout(repo).folder_name())
    }

    /// Where a content lies.
    pub fn blob(&self, repo: &RepoName, name: &str) -> PathBuf {
        self.folder(repo).join("blobs").join(name)
    }

    /// Where a content lies until it is whole and checked.
    pub fn partial(&self, repo: &RepoName, name: &str) -> PathBuf {
        self.blob(repo, &format!("{name}.firebrand.incomplete"))
    }

    /// The folder of one commit.
    pub fn snapshot(&self, repo: &RepoName, commit: &str) -> PathBuf {
        Layout::new(self.root.clone()).repo(Self::layout(repo)).pointer_path(commit)
    }

    /// The list of files of one commit.
    pub fn tree(&self, repo: &RepoName, commit: &str) -> PathBuf {
        self.folder(repo).join("trees").join(format!("{commit}.json"))
    }

    /// The commit that a branch or tag was when it was last asked for, by any tool.
    pub fn reference(&self, repo: &RepoName, revision: &str) -> Option<String> {
        let path = self.folder(repo).join("refs").join(revision);
        let text = fs::read_to_string(path).ok()?.trim().to_owned();
        super::names::is_commit(&text).then_some(text)
    }

    /// Notes which commit a branch or tag is.
    pub fn set_reference(&self, repo: &RepoName, revision: &str, commit: &str) -> Result<()> {
        if self.reference(repo, revision).as_deref() == Some(commit) {
            return Ok(());
        }
        self.write(&self.folder(repo).join("refs").join(revision), commit.as_bytes())
    }

    /// Writes a small file in one step, and the folders above it.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        make_folder(folder_of(path))?;
        write_atomic(path, bytes)
    }

    /// Takes the lock of a blob, waiting for as long as another process holds it.
    pub fn lock(
        &self,
        repo: &RepoName,
        name: &str,
        stop: &dyn Fn() -> bool,
        notice: &dyn Fn(String),
    ) -> Result<CacheLock> {
        let folder = self.root.join(".locks").join(Self::layout(repo).folder_name());
        make_folder(&folder)?;
        let path = folder.join(format!("{name}.lock"));
        let begun = Instant::now();
        let mut told = false;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .context_at("cannot write into the cache", &path)?;
            match file.try_lock() {
                // Python's lock files are removed when they are let go: what was locked must still
                // be what others will open.
                Ok(()) if is_still(&file, &path) => return Ok(CacheLock { _file: file }),
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {}
                // Then two processes may fetch the same file, and write into each other's; what
                // comes of that is no file with the right digest, and fetched again.
                Err(TryLockError::Error(error)) if has_no_locks(&error) => {
                    notice(format!("the file system of {} has no locks", self.root.display()));
                    return Ok(CacheLock { _file: file });
                }
                Err(TryLockError::Error(error)) => {
                    return Err(Error::file("cannot lock the cache").at(path).because(error));
                }
            }
            if stop() {
                return Err(super::refusal::stopped());
            }
            if !told && begun.elapsed().as_secs() >= NOTICE_AFTER_SECONDS {
                told = true;
                notice(format!("waiting for another process that downloads from `{repo}`"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Puts a whole, checked and synced partial file under its final name.
    pub fn publish(&self, repo: &RepoName, partial: &Path, name: &str) -> Result<PathBuf> {
        let blob = self.blob(repo, name);
        fs::rename(partial, &blob).context_at("cannot rename the finished download", &blob)?;
        sync_dir(folder_of(&blob))?;
        Ok(blob)
    }

    /// Makes a file of a snapshot point to its content, replacing what stood there in one step.
    pub fn link(&self, repo: &RepoName, commit: &str, path: &str, name: &str) -> Result<PathBuf> {
        let snapshot = self.snapshot(repo, commit);
        let pointer = snapshot.join(path);
        let mut folder = snapshot.clone();
        make_folder(&folder)?;
        let parts: Vec<&str> = path.split('/').collect();
        for part in &parts[..parts.len() - 1] {
            folder.push(part);
            // One folder at a time, so that none of them is a link to elsewhere.
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.context_at("cannot make the folder", &folder)?,
            }
            if !fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
                return Err(Error::file("a folder of the cache is something else").at(folder));
            }
        }
        let target = format!("{}blobs/{name}", "../".repeat(parts.len() + 1));
        // Made beside the blobs: a leftover in a snapshot would pass for one of its files.
        static LINKS: AtomicU64 = AtomicU64::new(0);
        let number = LINKS.fetch_add(1, Ordering::Relaxed);
        let scratch = format!("{name}.link-{}-{number}.incomplete", std::process::id());
        let scratch = self.blob(repo, &scratch);
        let _ = fs::remove_file(&scratch); // a leftover of a process that had the same number
        point(&target, &self.blob(repo, name), &scratch)
            .and_then(|()| fs::rename(&scratch, &pointer))
            .context_at("cannot link the file into its snapshot", &pointer)?;
        sync_dir(&folder)?;
        Ok(pointer)
    }

    /// Takes a file that is not what its name says out of the way, and tells where it is now. A
    /// link is removed: what it points to is evaluated under its own name.
    pub fn set_aside(&self, repo: &RepoName, path: &Path, name: &str) -> Result<Option<PathBuf>> {
        let found = fs::symlink_metadata(path).context_at("cannot look at the file", path)?;
        if found.is_symlink() {
            fs::remove_file(path).context_at("cannot remove the link", path)?;
            return Ok(None);
        }
        make_folder(&self.folder(repo).join("blobs"))?;
        let free = (1..).map(|number| self.blob(repo, &format!("{name}.bad-{number}")));
        let aside = free
            .into_iter()
            .find(|path| fs::symlink_metadata(path).is_err())
            .expect("there is always another number");
        fs::rename(path, &aside).context_at("cannot move the damaged file away", path)?;
        Ok(Some(aside))
    }
}

/// Where the links of a snapshot lead to, if a folder is laid out as one: `snapshots/COMMIT` beside
/// `blobs`, whoever made it.
pub fn store_of(folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    let snapshots = folder.parent().filter(|above| above.ends_with("snapshots"))?;
    let store = snapshots.with_file_name("blobs");
    store.symlink_metadata().is_ok_and(|found| found.is_dir()).then_some(store)
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| {
        Error::file("cannot make the folder").at(path).because(error).hint(
            "downloads are kept in `HF_HUB_CACHE`, else `HF_HOME/hub`; name a folder that can be \
             written",
        )
    })
}

#[cfg(unix)]
fn point(target: &str, _blob: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Without the right to make symbolic links: a second name for the content, or a copy.
#[cfg(not(unix))]
fn point(target: &str, blob: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target.replace('/', "\\"), link)
        .or_else(|_| fs::hard_link(blob, link))
        .or_else(|_| fs::copy(blob, link).map(|_| ()))
}

#[cfg(unix)]
fn has_no_locks(error: &io::Error) -> bool {
    let none = rustix::io::Errno::NOLCK.raw_os_error();
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(none)
}

#[cfg(not(unix))]
fn has_no_locks(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
}
