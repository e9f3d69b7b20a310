//! Who looks over the shoulder of the one that makes examples.

use std::sync::Arc;

use super::corpus_file::Role;
use super::finding::{Examined, Examiner};
use crate::error::Result;
use crate::files::Digest;

/// Is told of every record of a file, in their order.
pub trait RecordWatch: Send + Sync {
    /// What looks at the records.
    fn examiner(&self) -> &Examiner;

    /// Takes a record.
    ///
    /// # Errors
    /// When what is noted of it cannot be written.
    fn record(&self, role: Role, file: &Arc<str>, record: WatchedRecord) -> Result<()>;
}

/// What is known of a record.
pub struct WatchedRecord {
    /// Where it stands.
    pub line: u64,
    /// Its digest.
    pub digest: Digest,
    /// What is odd about it.
    pub examined: Examined,
    /// What holds for all records, if it is an exception.
    pub rule: Option<String>,
}
