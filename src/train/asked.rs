//! What others ask of a run that is ready to begin.

use super::Prepared;
use crate::config::RunConfig;

impl Prepared<'_> {
    /// What was asked for.
    pub fn config(&self) -> &RunConfig {
        self.config
    }

    /// Whether it learns from another model.
    pub fn has_teacher(&self) -> bool {
        self.teacher.is_some()
    }
}
