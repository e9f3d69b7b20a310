//! Whether a disk has room for what is about to be written.

use std::path::Path;

use crate::error::{Error, Result};
use crate::event::bytes;
use crate::files::free_bytes;

/// Left free on the disk: logs and other programs need some too.
const RESERVE_BYTES: u64 = 16 << 20;

/// An error when the disk has no room for so many bytes.
pub fn check_free(root: &Path, needed: u64) -> Result<()> {
    match free_bytes(root) {
        Some(free) if free < needed.saturating_add(RESERVE_BYTES) => {
            let (need, kept) = (bytes(needed), bytes(RESERVE_BYTES));
            let free = bytes(free);
            let why =
                format!("{need} are needed and {kept} must stay free, but only {free} are free");
            Err(Error::disk_full("the disk has no room for a checkpoint").at(root).because(why))
        }
        _ => Ok(()),
    }
}
