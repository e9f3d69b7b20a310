//! Where what is to be looked at lies: a directory here, or a model of a hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::talk;
use crate::config::RUNS;
use crate::error::{Error, Result};
use crate::hub::{DEFAULT_REVISION, Policy, RepoKind, RepoName, at_revision};
use crate::report::Transfers;
use crate::train::Access;

/// How a place is found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place<'a> {
    /// Never use the network.
    pub offline: bool,
    /// Show no progress.
    pub quiet: bool,
    /// The revision that an option names.
    pub revision: Option<&'a str>,
}

impl Place<'_> {
    /// The directory of a model: the artifact of a run, or what [`Place::fetched`] gives.
    ///
    /// # Errors
    /// Those of [`Place::fetched`].
    pub fn of(self, path: &Path) -> Result<PathBuf> {
        Ok(self.fetched(path)?.unwrap_or_else(|| model_directory(path)))
    }

    /// Where a model of a hub lies now, `owner/name` or `owner/name@revision`, fetched as far as
    /// this program uses it; nothing for a path of this machine.
    ///
    /// # Errors
    /// When the hub does not give it, or a revision is asked of a directory.
    pub fn fetched(self, path: &Path) -> Result<Option<PathBuf>> {
        let name = path.to_string_lossy();
        let is_here = path.symlink_metadata().is_ok() || path.starts_with(RUNS);
        let (id, revision) = match at_revision(&name).filter(|_| !is_here) {
            Some(_) if self.revision.is_some() => {
                return Err(Error::usage("the revision is given twice").at(path));
            }
            Some((id, revision)) => (id, Some(revision)),
            None => (&*name, self.revision),
        };
        if is_here || RepoName::parse(RepoKind::Model, id).is_err() {
            return match self.revision {
                Some(_) => Err(Error::usage(
                    "`--revision` is for a model on the hub, a directory has none",
                )
                .at(path)),
                None => Ok(None),
            };
        }
        let transfers = Arc::new(Transfers::new(self.quiet));
        let access = Access { offline: self.offline, transfers, ..Access::default() };
        let policy = Policy { offline: self.offline, ..Policy::default() };
        let found = access.supply(policy)?.find(id, revision.unwrap_or(DEFAULT_REVISION))?;
        let commit = found.commit().unwrap_or_default();
        talk(&format!("note: {id} at {commit} is here as {}", found.path.display()));
        Ok(Some(found.path))
    }
}

/// The artifact of a run; anything else itself.
pub fn model_directory(path: &Path) -> PathBuf {
    let inside = path.join("artifact");
    let is_run = !path.join("model.sig").exists() && inside.is_dir();
    if is_run { inside } else { path.to_path_buf() }
}
