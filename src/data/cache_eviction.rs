//! How much disk the data takes: what was not used for longest goes first.
//!
//! Two things count: the examples in our cache, and the data files that Firebrand itself has put
//! into the hub's cache. What other tools have downloaded is theirs and is never touched.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::about::About;
use super::examples::Reader;
use crate::error::{Context, Result};
use crate::hub::downloads;

/// Where examples lie in the cache.
pub const FOLDER: &str = "examples";

/// The files used last are never removed: they are the windows at hand.
const AT_HAND: usize = 8;

/// A file that may be removed, since it can be made or fetched again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheItem {
    /// What people know it by.
    pub name: String,
    /// The file, and what else goes with it.
    pub paths: Vec<PathBuf>,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// Whether it came from a hub; else it was made here.
    pub download: bool,
}

/// Everything that may be removed.
pub fn items(cache: &Path) -> Result<Vec<CacheItem>> {
    let mut items = Vec::new();
    let folder = cache.join(FOLDER);
    for shelf in fs::read_dir(&folder).into_iter().flatten().flatten() {
        for entry in fs::read_dir(shelf.path()).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            items.push(CacheItem {
                name: name_of(&entry.path()),
                paths: vec![entry.path()],
                bytes: found.len(),
                used: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                download: false,
            });
        }
    }
    for download in downloads(cache)? {
        items.push(CacheItem {
            name: download.name,
            bytes: download.bytes,
            used: download.used,
            paths: vec![download.blob, download.link, download.note],
            download: true,
        });
    }
    Ok(items)
}

/// The data file that examples were made of, as its digest says; else the file's own name.
fn name_of(path: &Path) -> String {
    match Reader::<About>::open(path) {
        Ok(reader) => {
            let about = reader.about;
            let (digest, counts) = (about.file.sha256.short(), about.statistics);
            format!("sha256 {digest}: {} examples, {} tokens", counts.examples, counts.tokens)
        }
        Err(_) => format!("{}: damaged", path.display()),
    }
}

/// Removes a file and what goes with it.
pub fn remove(item: &CacheItem) -> Result<()> {
    for path in &item.paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context_at("cannot remove from the cache", path);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Keeps the cache below its limit.
pub struct Room {
    cache: PathBuf,
    limit: Option<u64>,
    at_hand: Mutex<VecDeque<PathBuf>>,
}

impl Room {
    /// Without a limit nothing is ever removed.
    pub fn new(cache: &Path, limit: Option<u64>) -> Self {
        Self { cache: cache.to_owned(), limit, at_hand: Mutex::new(VecDeque::new()) }
    }

    /// Notes that a file is used now.
    pub fn used(&self, path: &Path) {
        // The time of the last use is a hint for what to remove; without it the file is just old.
        let file = fs::File::options().append(true).open(path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        at_hand.retain(|known| known != path);
        at_hand.push_back(path.to_owned());
        if at_hand.len() > AT_HAND {
            at_hand.pop_front();
        }
    }

    /// Removes what was not used for longest until `bytes` more fit under the limit. Files from a
    /// hub go before examples of the same age: examples are what is read again.
    pub fn make(&self, bytes: u64) -> Result<()> {
        let Some(limit) = self.limit else { return Ok(()) };
        let mut items = items(&self.cache)?;
        let mut total: u64 = items.iter().map(|item| item.bytes).sum::<u64>() + bytes;
        let at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner).clone();
        items.sort_by_key(|item| (!item.download, item.used));
        for item in items {
            if total <= limit {
                break;
            }
            if at_hand.contains(&item.paths[0]) {
                continue;
            }
            remove(&item)?;
            total -= item.bytes;
        }
        Ok(())
    }
}
