//! Why a run cannot go on: which settings and files are others than when it began.

use std::collections::{BTreeMap, BTreeSet};

use crate::config;
use crate::error::Error;
use crate::files::RunDirectory;
use crate::hub::Lock;
use crate::train::{Prepared, Request};

/// Adds to the error of a refused resume what changed, key by key and file by file.
pub fn explain(error: Error, run: &RunDirectory, request: &Request, prepared: &Prepared) -> Error {
    let path = run.join("config.toml");
    let began = config::load(&path, &[]).map(|loaded| loaded.resolved).unwrap_or_default();
    let now = &request.loaded.resolved;
    let keys: BTreeSet<&String> = began.keys().chain(now.keys()).collect();
    let value = |of: &BTreeMap<String, String>, key: &str| {
        of.get(key).map_or("not set".to_owned(), |value| format!("`{value}`"))
    };
    let changed = keys.into_iter().filter(|key| {
        !began.is_empty() && began.get(*key) != now.get(*key) && config::decides(key)
    });
    let changed =
        changed.map(|key| format!("`{key}` was {} and is {}", value(&began, key), value(now, key)));
    let lock = Lock::read(&run.data_lock()).ok().flatten();
    let files = lock.map(|lock| lock.changes_to(&prepared.lock())).unwrap_or_default();
    changed.chain(files).fold(error, Error::because)
}
