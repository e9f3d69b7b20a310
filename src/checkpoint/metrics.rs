//! `metrics.jsonl`: one line a step. It belongs to the exact state of a run: a checkpoint knows
//! its length, and going on cuts off what came later, so that no step stands in it twice.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::event::StepReport;
use crate::files::{NewFile, failed};

/// The open file. Lines that the disk did not take wait in memory.
pub struct Metrics {
    path: PathBuf,
    file: NewFile,
    written: u64,
    waiting: Vec<u8>,
}

/// What makes the lines up to a checkpoint durable, on any thread.
pub struct Lines {
    path: PathBuf,
    file: NewFile,
}

impl Metrics {
    /// Opens the file at the length that the checkpoint knows (0 for a new run).
    pub fn open_at(path: &Path, bytes: u64) -> Result<Self> {
        let broken = |error| failed("cannot open the metrics", path, &error);
        let mut file = NewFile::open(path).map_err(broken)?;
        let found = file.file().metadata().map_err(broken)?.len();
        if found < bytes {
            return Err(Error::new(format!(
                "the metrics have {found} bytes, but the checkpoint was made after {bytes}"
            ))
            .at(path)
            .hint("restore the file, or start a new run"));
        }
        if found > bytes {
            file.truncate(bytes).map_err(broken)?;
        }
        file.seek(SeekFrom::Start(bytes)).map_err(broken)?;
        Ok(Self { path: path.to_owned(), file, written: bytes, waiting: Vec::new() })
    }

    /// Appends one step.
    ///
    /// # Errors
    /// When the disk does not take it: the line is kept and written with the next one.
    pub fn append(&mut self, report: &StepReport) -> Result<()> {
        self.waiting.append(&mut line(report)?);
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        // What a failed attempt has left behind the last whole line is overwritten.
        let mut write = || -> std::io::Result<()> {
            self.file.seek(SeekFrom::Start(self.written))?;
            self.file.write_all(&self.waiting)
        };
        write().map_err(|error| failed("cannot write the metrics", &self.path, &error))?;
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// The length so far in bytes, and what makes it durable.
    pub fn lines(&mut self) -> Result<(u64, Lines)> {
        self.flush()?;
        let broken = |error| failed("cannot write the metrics", &self.path, &error);
        let lines = Lines { path: self.path.clone(), file: self.file.again().map_err(broken)? };
        Ok((self.written, lines))
    }
}

impl Lines {
    /// Waits until the disk has the lines.
    pub fn sync(&self) -> Result<()> {
        let synced = self.file.sync();
        synced.map_err(|error| failed("cannot write the metrics", &self.path, &error))
    }
}

/// One line of the file.
pub fn line(report: &StepReport) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(report).context("cannot encode the metrics")?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Call, watch};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn report(step: u64) -> StepReport {
        StepReport {
            step,
            epoch: 0.0,
            loss: 1.0,
            learning_rate: 1e-3,
            grad_norm: 1.0,
            target_tokens: 1,
            tokens: 1,
        }
    }

    #[test]
    fn lines_that_the_disk_refused_are_written_later_once_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open_at(&path, 0).unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let now = full.clone();
        let _watch = watch(folder.path(), move |call, _| {
            match call == Call::Write && now.load(Ordering::Relaxed) {
                true => Err(std::io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        });
        for step in 1..=6 {
            full.store((2..=4).contains(&step), Ordering::Relaxed);
            assert_eq!(metrics.append(&report(step)).is_err(), (2..=4).contains(&step));
        }
        let (bytes, lines) = metrics.lines().unwrap();
        lines.sync().unwrap();
        let text = std::fs::read(&path).unwrap();
        let expected: Vec<u8> = (1..=6).flat_map(|step| line(&report(step)).unwrap()).collect();
        assert!(text == expected && bytes == text.len() as u64);
    }
}
