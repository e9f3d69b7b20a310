//! Results that were measured before: the same model, suite and kind of machine give the same ones.

use std::path::{Path, PathBuf};

use super::report::{ModelRecord, Report, SuiteRecord, VERSION};
use crate::error::{Context, Result};
use crate::files::{Digest, write_atomic};

/// The folder's name in the cache.
pub const FOLDER: &str = "evaluations";

/// Where the result for a model and a suite is kept.
pub fn place(cache: &Path, model: &ModelRecord, suite: &SuiteRecord) -> PathBuf {
    let key = Digest::of(format!("{} {}", model.sha256, suite.sha256).as_bytes());
    cache.join(FOLDER).join(format!("{key}.json"))
}

/// Reads a result; `None` if there is none, or if it is damaged or of another version.
pub fn recall(place: &Path) -> Option<Report> {
    let bytes = std::fs::read(place).ok()?;
    // The digest of what follows stands in the first line.
    let (head, text) = bytes.split_at_checked(65)?;
    let expected = std::str::from_utf8(head).ok()?.strip_suffix('\n')?;
    if Digest::of(text).to_string() != expected {
        return None;
    }
    let report: Report = serde_json::from_slice(text).ok()?;
    (report.version == VERSION).then_some(report)
}

/// Keeps a result.
pub fn remember(place: &Path, report: &Report) -> Result<()> {
    let folder = crate::files::folder_of(place);
    std::fs::create_dir_all(folder).context_at("cannot make the cache folder", folder)?;
    let text = serde_json::to_string(report).context("cannot encode the result")?;
    write_atomic(place, format!("{}\n{text}", Digest::of(text.as_bytes())).as_bytes())
}
