//! `metrics.jsonl`: one line a step, and one for each validation; `rollouts.jsonl`: one for each
//! prompt that was answered. They belong to the exact state of a run: a checkpoint knows their
//! lengths, and going on cuts off what came later, so that no step stands in them twice.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::event::{EvaluationLine, StepReport};
use crate::files::{Digest, NewFile, Rolling, failed};

/// The open file. Lines that the disk did not take wait in memory.
pub struct Metrics {
    /// What messages call its lines.
    what: &'static str,
    path: PathBuf,
    file: NewFile,
    written: u64,
    /// Over what is written.
    digest: Rolling,
    waiting: Vec<u8>,
}

/// How far a file of lines goes at a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinesState {
    /// Its length.
    pub bytes: u64,
    /// The digest of that.
    pub sha256: Digest,
}

/// What makes the lines up to a checkpoint durable, on any thread.
pub struct Lines {
    what: &'static str,
    path: PathBuf,
    file: NewFile,
}

impl Metrics {
    /// Opens the file at the length that the checkpoint knows (0 for a new run); what is before it
    /// must have the digest that the checkpoint knows, if it does.
    pub fn open_at(path: &Path, bytes: u64, expected: Option<Digest>) -> Result<Self> {
        Self::open("metrics", path, bytes, expected)
    }

    /// The same for the rollouts of a run.
    pub fn rollouts_at(path: &Path, bytes: u64, expected: Option<Digest>) -> Result<Self> {
        Self::open("rollouts", path, bytes, expected)
    }

    fn open(what: &'static str, path: &Path, bytes: u64, expected: Option<Digest>) -> Result<Self> {
        let broken = |error| failed(&format!("cannot open the {what}"), path, &error);
        let mut file = NewFile::open(path).map_err(broken)?;
        let found = file.file().metadata().map_err(broken)?.len();
        if found < bytes {
            return Err(Error::checkpoint(format!(
                "the {what} have {found} bytes, but the checkpoint was made after {bytes}"
            ))
            .at(path)
            .hint("restore the file, or start a new run"));
        }
        let mut digest = Rolling::default();
        let before = std::fs::File::open(path).map_err(broken)?;
        std::io::copy(&mut before.take(bytes), &mut digest).map_err(broken)?;
        if expected.is_some_and(|expected| expected != digest.digest()) {
            return Err(Error::checkpoint(format!("the {what} are not those of the checkpoint"))
                .at(path)
                .hint("restore the file, or start a new run"));
        }
        if found > bytes {
            file.truncate(bytes).map_err(broken)?;
        }
        file.seek(SeekFrom::Start(bytes)).map_err(broken)?;
        let path = path.to_owned();
        Ok(Self { what, path, file, written: bytes, digest, waiting: Vec::new() })
    }

    /// Appends one step ([`StepReport`]) or one validation result ([`EvaluationLine`]).
    ///
    /// # Errors
    /// When the disk does not take it: the line is kept and written with the next one.
    pub fn append(&mut self, report: &impl Serialize) -> Result<()> {
        self.waiting.append(&mut line(report)?);
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        // What a failed attempt has left behind the last whole line is overwritten.
        let mut write = || -> std::io::Result<()> {
            self.file.seek(SeekFrom::Start(self.written))?;
            self.file.write_all(&self.waiting)
        };
        write().map_err(|error| unwritten(self.what, &self.path, &error))?;
        self.written += self.waiting.len() as u64;
        self.digest.update(&self.waiting);
        self.waiting.clear();
        Ok(())
    }

    /// The length so far in bytes, the digest of that, and what makes it durable.
    pub fn lines(&mut self) -> Result<(u64, Digest, Lines)> {
        self.flush()?;
        let broken = |error| unwritten(self.what, &self.path, &error);
        let what = self.what;
        let lines =
            Lines { what, path: self.path.clone(), file: self.file.again().map_err(broken)? };
        Ok((self.written, self.digest.digest(), lines))
    }
}

impl Lines {
    /// Waits until the disk has the lines.
    pub fn sync(&self) -> Result<()> {
        let synced = self.file.sync();
        synced.map_err(|error| unwritten(self.what, &self.path, &error))
    }
}

fn unwritten(what: &str, path: &Path, error: &std::io::Error) -> Error {
    failed(&format!("cannot write the {what}"), path, error)
}

/// The steps of lines, in order, without the validation results between them.
///
/// # Errors
/// When a line is neither.
pub fn steps_of(bytes: &[u8]) -> serde_json::Result<Vec<StepReport>> {
    let mut steps = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(step) => steps.push(step),
            Err(error) => match serde_json::from_slice::<EvaluationLine>(line) {
                Ok(_) => {}
                Err(_) => return Err(error),
            },
        }
    }
    Ok(steps)
}

/// One line of the file.
pub fn line(report: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(report).context("cannot encode the metrics")?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Call, watch};
    use crate::snapshots::says;
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
            loss_scale: None,
            skipped: false,
            rows_at_once: None,
            metrics: std::collections::BTreeMap::new(),
            tokens: 1,
        }
    }

    #[test]
    fn validation_results_are_no_steps() {
        let found = crate::event::Evaluation {
            step: 1,
            eval_loss: 2.5,
            target_tokens: 7,
            metrics: std::collections::BTreeMap::new(),
        };
        let judged = line(&EvaluationLine::from(&found)).unwrap();
        assert_eq!(judged, b"{\"step\":1,\"eval_loss\":2.5,\"eval_target_tokens\":7}\n");
        let lines = [line(&report(1)).unwrap(), judged, line(&report(2)).unwrap()].concat();
        assert_eq!(steps_of(&lines).unwrap(), [report(1), report(2)]);
        assert!(steps_of(b"{}\n").is_err());
    }

    #[test]
    fn lines_that_the_disk_refused_are_written_later_once_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open_at(&path, 0, None).unwrap();
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
        let (bytes, digest, lines) = metrics.lines().unwrap();
        lines.sync().unwrap();
        let text = std::fs::read(&path).unwrap();
        let expected: Vec<u8> = (1..=6).flat_map(|step| line(&report(step)).unwrap()).collect();
        assert!(text == expected && bytes == text.len() as u64);
        assert_eq!(digest, Digest::of(&text));
        // The same file goes on; a changed one does not.
        let mut again = Metrics::open_at(&path, bytes, Some(digest)).unwrap();
        again.append(&report(7)).unwrap();
        assert_eq!(again.lines().unwrap().1, Digest::of(&std::fs::read(&path).unwrap()));
        let changed = String::from_utf8(text).unwrap().replace("\"loss\":1.0", "\"loss\":2.0");
        std::fs::write(&path, changed).unwrap();
        let error = Metrics::open_at(&path, bytes, Some(digest)).err().unwrap().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[checkpoint]: the metrics are not those of the checkpoint
  at [FOLDER]/metrics.jsonl

hint: restore the file, or start a new run
"#]],
        );
    }
}
