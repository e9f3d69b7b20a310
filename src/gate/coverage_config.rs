//! `[coverage]` of a policy: how much of what the training exercises the evaluation must exercise.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::coverage::Coverage;
use crate::document::{Placed, Values};
use crate::error::Error;

/// How much of what the training exercises the evaluation must exercise.
#[derive(Debug, Clone)]
pub struct CoverageRule {
    /// Where the result on the training data was read.
    pub path: PathBuf,
    /// The result.
    pub training: Arc<Coverage>,
    /// The least share.
    pub min_share: f64,
    /// The line in the policy.
    pub line: usize,
}

/// What the section means in a policy that lies in a folder; `line` is where it stands.
pub(super) fn coverage(values: &Values, folder: &Path, line: usize) -> Placed<CoverageRule> {
    let path = folder.join(values.text("coverage.training"));
    let place = || values.place("coverage.training");
    let (training, _) = Coverage::read(&path).map_err(|error| (error, place()))?;
    if training.reference.is_some() {
        let error = Error::config("the coverage of the training data has a reference of its own")
            .at(&path)
            .hint("measure it without `--reference`");
        return Err((error, place()));
    }
    let min_share = values.number("coverage.min_share");
    Ok(CoverageRule { path, training: Arc::new(training), min_share, line })
}
