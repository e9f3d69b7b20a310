//! What the gate said of a model: the verification summaries (SLSA VSA) beside it.

use std::path::Path;

use jiff::Timestamp;

use super::attest;
use crate::artifact::signature::attestations_of;
use crate::error::{Error, ErrorCode, Result};
use crate::files::FileEntry;
use crate::gate::attest::{Verdict, verdict};
use crate::verify::Trust;

/// The verdicts on a model, and those that do not count.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// Those that count, from the oldest to the newest.
    pub valid: Vec<Verdict>,
    /// Line and reason of the others.
    pub others: Vec<String>,
}

impl Verdicts {
    /// Reads those beside a model of which the files were checked just now.
    ///
    /// # Errors
    /// When there is a file of attestations and it cannot be read.
    pub fn read(directory: &Path, files: &[FileEntry], trust: &Trust) -> Result<Self> {
        let mut verdicts = Self::default();
        let Some(path) = attestations_of(directory) else { return Ok(verdicts) };
        if path.symlink_metadata().is_err() {
            return Ok(verdicts);
        }
        let text = attest::read(&path)?;
        for (index, line) in text.lines().enumerate() {
            match verdict(line, index + 1, files, trust) {
                Some(Ok(verdict)) => verdicts.valid.push(verdict),
                Some(Err(why)) => verdicts.others.push(format!("line {}: {why}", index + 1)),
                None => {}
            }
        }
        // Of two of the same time the one that was written later is the newer one.
        verdicts.valid.sort_by_key(|verdict| verdict.time);
        Ok(verdicts)
    }

    /// The one that counts.
    pub fn newest(&self) -> Option<&Verdict> {
        self.valid.last()
    }

    /// The newest verdict, which must have passed the model after `since`.
    ///
    /// # Errors
    /// Refuses a model without a verdict, one that failed, and one that was taken back since.
    pub fn passed(&self, directory: &Path, since: Option<Timestamp>) -> Result<&Verdict> {
        let refused = |what: &str| Error::refused(ErrorCode::Channel, what).at(directory);
        let Some(newest) = self.newest() else {
            let error = refused("the gate has given no verdict on exactly these files");
            let error = self.others.iter().take(5).fold(error, |error, why| error.because(why));
            return Err(error.hint(format!(
                "`firebrand gate --policy gate.toml --candidate {}` gives one; its key needs the \
                 role `gate`",
                directory.display()
            )));
        };
        let time = newest.time;
        if !newest.passed {
            return Err(refused("the gate's newest verdict on this model is a refusal")
                .because(format!("it was given at {time:.0} by the {}", newest.by)));
        }
        // Pointers tell seconds.
        if let Some(since) = since.filter(|since| time.as_second() <= since.as_second()) {
            return Err(refused("this model was taken back after the gate had passed it")
                .because(format!("the verdict is of {time:.0}, the rollback of {since:.0}"))
                .hint("run `firebrand gate` on it again, for a newer verdict"));
        }
        Ok(newest)
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
