//! What came of running points.

use crate::error::Error;
use crate::event::Stop;

/// What came of running points.
#[derive(Debug, Default)]
pub struct SweepOutcome {
    /// Points that are finished, before and now.
    pub finished: usize,
    /// Those of them that this process has run.
    pub run_now: usize,
    /// Points that were stopped, since others were better.
    pub stopped_early: usize,
    /// Points that failed, and why.
    pub failed: Vec<(String, String)>,
    /// Who asked to stop before all was done.
    pub stopped: Option<Stop>,
}

impl SweepOutcome {
    /// The failure of the sweep, if points failed.
    pub fn failure(&self) -> Option<Error> {
        let (id, why) = self.failed.first()?;
        let what = match self.failed.len() {
            1 => format!("the point {id} failed"),
            count => format!("{count} points failed, first {id}"),
        };
        Some(
            Error::run(what)
                .because(why)
                .hint("what is finished stays; the same command tries them again"),
        )
    }
}
