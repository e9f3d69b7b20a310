//! The records of a file as they stand there, whatever their shape.

use std::path::Path;

use serde_json::{Map, Value};

use super::sources;
use crate::error::Result;
use crate::files::{Digest, FileEntry};

/// A record as it stands in its file.
pub struct RawRecord {
    /// Where it stands in its file, counted from 1.
    pub line: u64,
    /// The same for the same record in every container and every revision of a file.
    pub digest: Digest,
    /// Its fields; none where it cannot be read.
    pub fields: Option<Map<String, Value>>,
}

/// Shows all records of a file, a batch at a time; returns size and digest of its bytes.
///
/// # Errors
/// When the file cannot be read.
pub fn each_record(path: &Path, look: &mut dyn FnMut(&[RawRecord])) -> Result<FileEntry> {
    let mut records = sources::open(path)?;
    loop {
        let batch = records.next_batch()?;
        if batch.is_empty() {
            return records.finish();
        }
        let raw = |record: sources::Record| RawRecord {
            line: record.line,
            digest: record.digest,
            fields: record.content.ok(),
        };
        look(&batch.into_iter().map(raw).collect::<Vec<_>>());
    }
}
