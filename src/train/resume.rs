//! What to do about an earlier attempt in the run directory.

use std::path::PathBuf;

/// How to treat what is already in the run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Go on from the newest whole checkpoint, if there is one.
    Auto,
    /// Restart; what is there is archived.
    Never,
    /// Go on from this checkpoint folder.
    From(PathBuf),
}
