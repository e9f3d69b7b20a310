//! A base model that several runs of one process have in memory once.
//!
//! Weights that nothing trains are the same for every adapter beside them. Where a process runs
//! several, the first to need a base loads it and the others take it from here. What each run
//! records of its base are digests of the bytes that were read, as if it had read them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;

use crate::config::Init;
use crate::device::ComputeConfig;
use crate::error::Result;
use crate::model::{FrozenWeights, Loaded};
use crate::weights::formats::WeightFormat;

/// What two runs must have in common to have a base in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseKey {
    /// The directory of the base.
    pub directory: PathBuf,
    /// How frozen linear layers are kept, where they are computed, and in which arithmetic.
    pub how: String,
}

impl BaseKey {
    /// That of a base that is read from `directory`; none where it is trained, drawn, or not wholly
    /// in memory.
    pub fn of(
        directory: &Path,
        init: Init,
        device: &Device,
        computing: ComputeConfig,
        frozen: &FrozenWeights,
    ) -> Option<Self> {
        let shared = frozen.frozen
            && frozen.on_disk.is_none()
            && frozen.head.is_none()
            && init == Init::Pretrained;
        let format = frozen.linears.map(WeightFormat::name);
        let how = format!("{format:?} {computing:?} {device:?}");
        shared.then(|| Self { directory: directory.to_path_buf(), how })
    }
}

/// The base that was used last, if bases are kept at all.
#[derive(Default)]
struct Kept {
    keeps: bool,
    base: Option<(BaseKey, Loaded)>,
    shared: u64,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept { keeps: false, base: None, shared: 0 });

/// From now on this process keeps the frozen base that it has loaded last for further runs.
pub fn keep_base() {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).keeps = true;
}

/// How often a run has taken a base that another had loaded.
pub fn bases_shared() -> u64 {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).shared
}

/// The base that `key` stands for: the one that is kept, or what `load` gives, which is kept then.
/// Without a key, or where none is kept, it is loaded for this run alone. Whoever needs the same
/// one meanwhile waits.
///
/// # Errors
/// Those of `load`.
pub fn base(key: Option<BaseKey>, load: impl FnOnce() -> Result<Loaded>) -> Result<Loaded> {
    let Some(key) = key else { return load() };
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if !kept.keeps {
        drop(kept);
        return load();
    }
    if let Some((known, loaded)) = &kept.base
        && *known == key
    {
        let shared = loaded.sharing();
        kept.shared += 1;
        return Ok(shared);
    }
    kept.base = None; // another one: two of them need not fit
    let loaded = load()?;
    let shared = loaded.sharing();
    kept.base = Some((key, loaded));
    Ok(shared)
}
