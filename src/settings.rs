//! Everything that a config may say: the one list of the keys that parts of the program own beside
//! those of `config` itself. Whoever reads a config reads it through here.

use std::path::Path;
use std::sync::LazyLock;

use crate::adapters;
use crate::config::{self, Loaded, TrainOn};
use crate::document::{Effect, KeyTable};
use crate::engine::optimizers;
use crate::error::{Error, Result};
use crate::objectives;
use crate::trackers;
use crate::weights::formats;

/// All keys, in the order in which they are shown.
pub static KEYS: LazyLock<KeyTable> = LazyLock::new(|| {
    let owned = [
        adapters::keys(),
        formats::keys(),
        optimizers::keys(),
        objectives::keys(),
        trackers::keys(),
    ];
    config::keys(owned.concat())
});

/// Reads a config file and puts the overrides (`key=value`) over it.
///
/// # Errors
/// All problems of the file and the overrides at once, in the order of their places.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded> {
    config::load(&KEYS, path, overrides).and_then(|loaded| of_objective(loaded, path))
}

/// Reads the bytes of a config; `path` is for messages and for the default of `name`.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, bytes: &[u8], overrides: &[String]) -> Result<Loaded> {
    config::parse(&KEYS, path, bytes, overrides).and_then(|loaded| of_objective(loaded, path))
}

/// Tells the data what the objective wants of it.
fn of_objective(mut loaded: Loaded, path: &Path) -> Result<Loaded> {
    let pairs = objectives::entry(&loaded.config.owned).pairs;
    loaded.config.data.no_pairs = (!pairs).then(objectives::hint_of_pairs);
    if pairs && loaded.config.data.train_on == TrainOn::All {
        let what = "`data.train_on = \"all\"` has no effect on an objective that trains on pairs";
        return Err(Error::config(what)
            .at(path)
            .hint("remove it: the two answers of a pair are compared, not what precedes them"));
    }
    Ok(loaded)
}

/// What a change of a setting does to a run that has begun.
pub fn effect_of(path: &str) -> Effect {
    KEYS.effect(path)
}
