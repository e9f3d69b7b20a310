//! What a killed writer leaves in a registry: half a copy of a model, a pointer without its name.
//! The next one removes it, unless someone is writing at that moment.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::files::{remove_dir, remove_file};

/// How the names of half-written things of ours begin.
pub(super) const SCRATCH: &str = ".tmp-";
/// Scratch files of those who write without a word to us, such as the gate, live for milliseconds.
const OLD: Duration = Duration::from_secs(60 * 60);

/// Held while something is written into a registry; the system lets go of it for whoever is killed.
pub(super) struct Writing {
    _folder: Option<File>,
}

impl Writing {
    /// Says that someone writes. Where folders cannot be locked (on some shares, and outside Unix)
    /// nobody can know, and then nothing is ever removed.
    pub fn begin(registry: &Path) -> Self {
        let folder = File::open(registry).ok();
        Self { _folder: folder.filter(|folder| folder.lock_shared().is_ok()) }
    }

    /// The same, after what others left was removed from these folders.
    pub fn begin_clean(registry: &Path, folders: &[&Path]) -> Self {
        let folder = File::open(registry).ok();
        // Nobody else writes: then whatever is half written will never be whole.
        if folder.as_ref().is_some_and(|folder| folder.try_lock().is_ok()) {
            folders.iter().for_each(|folder| clean(folder));
        }
        Self { _folder: folder.filter(|folder| folder.lock_shared().is_ok()) }
    }
}

/// Removes leftovers. What cannot be removed takes room, and no more.
fn clean(folder: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let Ok(found) = path.symlink_metadata() else { continue };
        let age =
            found.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        let old = age.is_some_and(|age| age > OLD);
        let others = name.starts_with('.') && name.ends_with(".tmp") && old;
        if name.starts_with(SCRATCH) || others {
            let _ = if found.is_dir() { remove_dir(&path) } else { remove_file(&path) };
        }
    }
}
