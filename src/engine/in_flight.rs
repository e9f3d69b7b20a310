//! A step that was begun, and what is known of it when the device has done it.

use std::time::Instant;

use crate::device::{self, Failure};
use crate::error::{Error, Result};
use crate::event::{StepReport, Timing};
use crate::ops::Reading;

/// Loss and norm of the gradient.
pub(super) enum StepNumbers {
    /// There is no norm where the update was left out.
    Known { loss: f64, norm: Option<f64> },
    /// Both, on their way from the device.
    Waiting(Reading),
}

/// A step of which the device may still be at work.
pub struct InFlight {
    pub(super) report: StepReport,
    pub(super) timing: Timing,
    pub(super) numbers: StepNumbers,
    pub(super) rows: Vec<String>,
    /// When it was begun.
    pub began: Instant,
}

impl InFlight {
    /// Whether [`Self::finish`] waits for the device.
    pub fn waits(&self) -> bool {
        matches!(self.numbers, StepNumbers::Waiting(_))
    }

    /// Waits until it is done.
    ///
    /// # Errors
    /// When loss or gradient is not finite, or the device failed.
    pub fn finish(self) -> Result<(StepReport, Timing)> {
        let step = self.report.step;
        let (loss, norm) = match self.numbers {
            StepNumbers::Known { loss, norm } => (loss, norm),
            StepNumbers::Waiting(both) => {
                let both = device::attempt(true, || both.wait()).map_err(|failure| {
                    let (Failure::Memory(why) | Failure::Other(why)) = failure;
                    broken(step, &why)
                })?;
                for (what, number) in [("loss", both[0]), ("gradient", both[1])] {
                    if !number.is_finite() {
                        let what = format!("the {what} is not finite");
                        return Err(diverged(step, &what, &self.rows));
                    }
                }
                (f64::from(both[0]), Some(f64::from(both[1])))
            }
        };
        let grad_norm = norm.unwrap_or(0.0);
        let report = StepReport { loss, grad_norm, skipped: norm.is_none(), ..self.report };
        Ok((report, self.timing))
    }
}

pub(super) fn broken(step: u64, why: &str) -> Error {
    Error::device(format!("the device failed at step {step}")).because(why).hint(
        "the same command continues from the last checkpoint; `firebrand doctor` checks the \
         device",
    )
}

pub(super) fn diverged(step: u64, what: &str, rows: &[String]) -> Error {
    const ROWS_SHOWN: usize = 8;
    let error = Error::device(format!("{what} at step {step}; nothing was published"))
        .hint("try a smaller `train.learning_rate` or a longer warm-up, and look at these records");
    let rows = rows.iter().take(ROWS_SHOWN);
    rows.fold(error, |error, row| error.because(format!("it came from {row}")))
}
