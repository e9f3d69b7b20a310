//! How a run may get its files: under which locks, and whether from the network.

use std::path::Path;
use std::sync::Arc;

use crate::data;
use crate::error::{Error, ErrorCode, Result};
use crate::event::{Silence, Transfers};
use crate::files::{DATA_LOCK, MIRRORED_LOCK, RunDirectory, cache_home};
use crate::hub::{DataLock, Policy, Supply};
use crate::model::families;
use crate::stores::StoreAddress;

/// What the user allows.
#[derive(Clone)]
pub struct Access {
    /// Nothing but what the lock beside the configuration says.
    pub locked: bool,
    /// Nothing from the network.
    pub offline: bool,
    /// Hears of what is downloaded.
    pub transfers: Arc<dyn Transfers>,
    /// Whether the user wants to stop; asked while something is downloaded.
    pub interrupted: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            locked: false,
            offline: false,
            transfers: Arc::new(Silence),
            interrupted: Arc::new(|| false),
        }
    }
}

impl Access {
    /// Files under a policy.
    pub fn supply(&self, policy: Policy) -> Result<Supply> {
        let (transfers, interrupted) = (self.transfers.clone(), self.interrupted.clone());
        let policy = Policy { families: families::model_types().collect(), ..policy };
        Ok(Supply::new(policy, transfers, interrupted, &cache_home()?))
    }

    /// Looks whether the store that this key names may be used.
    ///
    /// # Errors
    /// When it is reached through the network, and nothing may be.
    pub fn expect_reachable(&self, key: &str, address: &str) -> Result<()> {
        match self.offline && StoreAddress::is_remote(address) {
            true => Err(Error::offline(format!("offline, and `{key}` is a store in the network"))
                .at(address)
                .hint(format!("run it without `--offline`, or name a folder in `{key}`"))),
            false => Ok(()),
        }
    }
}

/// Where the files of a configuration come from. A run that has begun goes on with the revisions
/// that it began with, wherever the lock beside the configuration has moved.
pub fn supply_for(
    config: &Path,
    run: Option<&RunDirectory>,
    access: &Access,
) -> Result<Arc<Supply>> {
    let path = DataLock::path_of(config);
    let beside = DataLock::read(&path)?;
    if access.locked && beside.is_none() {
        return Err(Error::refused(ErrorCode::Lock, "there is no lock")
            .at(path)
            .hint(format!("`firebrand pull {}` writes it", config.display())));
    }
    let of_run = |name: &str| match run {
        Some(run) if !access.locked => DataLock::read(&run.join(name)),
        _ => Ok(None),
    };
    let own = of_run(DATA_LOCK)?;
    // Who may write to a mirror says no more than which revisions are meant, and not where the run
    // has a lock of this machine.
    let mirrored = if own.is_none() { of_run(MIRRORED_LOCK)? } else { None };
    let policy = Policy {
        locked: access.locked,
        offline: access.offline,
        locks: own.into_iter().chain(beside).collect(),
        unpinned: mirrored.into_iter().collect(),
        extensions: data::extensions(),
        ..Policy::default()
    };
    access.supply(policy).map(Arc::new)
}
