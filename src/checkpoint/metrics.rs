//! `metrics.jsonl`: one line a step. It belongs to the exact state of a run: a checkpoint knows
//! its length, and going on cuts off what came later, so that no step stands in it twice.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::event::StepReport;

/// The open file.
pub struct Metrics {
    file: File,
    bytes: u64,
}

impl Metrics {
    /// Opens the file at the length that the checkpoint knows (0 for a new run).
    pub fn open_at(path: &Path, bytes: u64) -> Result<Self> {
        let failed = "cannot open the metrics";
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .context_at(failed, path)?;
        let found = file.metadata().context_at(failed, path)?.len();
        if found < bytes {
            return Err(Error::new(format!(
                "the metrics have {found} bytes, but the checkpoint was made after {bytes}"
            ))
            .at(path)
            .hint("restore the file, or start a new run"));
        }
        file.set_len(bytes).context_at(failed, path)?;
        file.seek(SeekFrom::End(0)).context_at(failed, path)?;
        Ok(Self { file, bytes })
    }

    /// Appends one step.
    pub fn append(&mut self, report: &StepReport) -> Result<()> {
        let mut line = serde_json::to_vec(report).context("cannot encode the metrics")?;
        line.push(b'\n');
        self.file.write_all(&line).context("cannot write the metrics")?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Makes the lines so far durable; returns their length in bytes.
    pub fn sync(&self) -> Result<u64> {
        self.file.sync_data().context("cannot write the metrics")?;
        Ok(self.bytes)
    }
}
