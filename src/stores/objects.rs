//! What every kind of store can do.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use super::traffic::TrafficCount;
use crate::error::Result;

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key, without the prefix of the store.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// What a kind of store can do; keys are whole, and checked.
pub(super) trait Objects: fmt::Debug + Send + Sync {
    fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()>;
    fn put_new(&self, key: &str, bytes: Vec<u8>) -> Result<bool>;
    fn put_file(&self, key: &str, path: &Path, size: u64) -> Result<()>;
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>>;
    fn read(&self, key: &str, size: u64, sink: &mut dyn Write) -> Result<()>;
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>>;
    fn delete(&self, key: &str) -> Result<()>;
    fn traffic(&self) -> TrafficCount;
}

/// A path with `/` between its parts on every system.
pub(super) fn slashed(path: &str) -> String {
    if cfg!(windows) { path.replace('\\', "/") } else { path.to_owned() }
}
