//! The run directory: names inside it, and one writer at a time.

use crate::files::ours::{DATA_LOCK, ROLLOUTS};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ours::{HOLDER, LOCK, expect_ours, expect_regular};
use crate::error::{Context, Error, Result};

/// A run directory that this process alone may write to, until it is dropped.
#[derive(Debug)]
pub struct RunDirectory {
    root: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Makes the directory if need be and locks it. The lock dies with the process, so a stale
    /// `run.lock` never stands in the way.
    ///
    /// # Errors
    /// When another process holds it: the message names that process. When it holds something else
    /// than a run, or what is no regular file: nothing was touched.
    pub fn lock(root: &Path) -> Result<Self> {
        match fs::metadata(root) {
            Ok(found) if !found.is_dir() => {
                return Err(Error::run("the run directory is not a folder")
                    .at(root)
                    .hint("choose another `name` or `output.dir`"));
            }
            Ok(_) => {
                expect_ours(root)?;
                expect_regular(root)?;
            }
            Err(_) if root.symlink_metadata().is_ok() => {
                return Err(Error::run("the run directory is a link that leads nowhere").at(root));
            }
            Err(_) => {
                fs::create_dir_all(root).context_at("cannot make the run directory", root)?;
            }
        }
        let path = root.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .context_at("cannot write into the run directory", &path)?;
        // Whoever only looks at a run holds the lock for a moment.
        let mut locked = file.try_lock();
        for _ in 0..6 {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            locked = file.try_lock();
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder); // the name is a courtesy
                return Err(Error::already_running(format!(
                    "another run is working in this directory ({})",
                    holder.trim()
                ))
                .at(root)
                .hint("wait for it, or choose another `name` or `output.dir`"));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::run("cannot lock the run directory").at(path).because(error));
            }
        }
        let holder = format!("{HOLDER}{}", std::process::id());
        // Never empty once it was written: that is how a run's directory is known.
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(holder.as_bytes()))
            .and_then(|()| file.set_len(holder.len() as u64))
            .context_at("cannot write into the run directory", &path)?;
        Ok(Self { root: root.to_path_buf(), _lock: file })
    }

    /// Whether a process is at work in a run directory. Looking at it leaves no trace.
    pub fn is_locked(root: &Path) -> bool {
        let path = root.join(LOCK);
        if !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            return false; // nobody waits at a pipe
        }
        let Ok(file) = File::open(path) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file or folder inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Deterministic facts of each step, one line a step.
    pub fn metrics(&self) -> PathBuf {
        self.join("metrics.jsonl")
    }

    /// What the model wrote in steps that learn from its own completions, one line a prompt.
    pub fn rollouts(&self) -> PathBuf {
        self.join(ROLLOUTS)
    }

    /// What each step cost.
    pub fn timings(&self) -> PathBuf {
        self.join("timings.jsonl")
    }

    /// Which bytes the names in the configuration stood for when the run began.
    pub fn data_lock(&self) -> PathBuf {
        self.join(DATA_LOCK)
    }

    /// The finished result.
    pub fn artifact(&self) -> PathBuf {
        self.join("artifact")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunDirectory::lock(folder.path()).unwrap();
        let error = RunDirectory::lock(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(RunDirectory::is_locked(folder.path()));
        drop(first);
        assert!(!RunDirectory::is_locked(folder.path()));
        RunDirectory::lock(folder.path()).unwrap();
    }
}
