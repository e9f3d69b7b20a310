//! A run of Weights & Biases as its client leaves one that was offline: `wandb sync` uploads it.
//!
//! The file is a log of LevelDB (`doc/log_format.md` there) behind a header of its own, with CRC-32
//! in the place of CRC-32C, of `Record` messages (`wandb/proto/wandb_internal.proto`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::crc::crc32;
use super::point::Point;
use super::protobuf::{bytes, number};
use super::{Tracker, TrackerEntry};
use crate::config::settings_of_run;
use crate::error::{Context, Result};
use crate::files::{Digest, remove_dir};

const FOLDER: &str = "wandb";
/// What names of folders begin with; `wandb sync` looks for it.
const OFFLINE: &str = "offline-run-";
const PROJECT: &str = "firebrand";
/// What a file begins with: a name, a number, and the version of the format.
const HEADER: &[u8] = b":W&B\xe1\xbe\x00";
/// Blocks of a log, and bytes before each of its records.
const BLOCK: usize = 32 << 10;
const RECORD_HEADER: usize = 7;
/// The polynomial of CRC-32 (ISO 3309).
const CRC_32: u32 = 0xedb8_8320;
const FAILED: &str = "cannot write the run for `wandb sync`";

pub struct Entry;

impl TrackerEntry for Entry {
    fn name(&self) -> &'static str {
        "wandb"
    }

    fn place(&self) -> &'static str {
        "wandb/"
    }

    fn begin(&self, run: &Path) -> Result<Box<dyn Tracker>> {
        let full = std::fs::canonicalize(run).context_at(FAILED, run)?;
        let name = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Another start of the same run is the same there, too.
        let id = Digest::of(full.to_string_lossy().as_bytes()).to_string()[..8].to_owned();
        let folder = run.join(FOLDER).join(format!("{OFFLINE}{id}"));
        if folder.exists() {
            remove_dir(&folder)?;
        }
        std::fs::create_dir_all(&folder).context_at(FAILED, &folder)?;
        let path = folder.join(format!("run-{id}.wandb"));
        let file = File::options().write(true).create_new(true).open(&path);
        let out = BufWriter::new(file.context_at(FAILED, &path)?);
        let mut log = OfflineRun { path, out, place: 0, records: 0, pending: None };
        log.write(HEADER)?;
        let (mut producer, mut header) = (Vec::new(), Vec::new());
        bytes(&mut producer, 1, concat!("firebrand ", env!("CARGO_PKG_VERSION")).as_bytes());
        bytes(&mut header, 1, &producer); // HeaderRecord.version_info
        log.record(21, &header)?;
        let mut described = Vec::new(); // RunRecord
        bytes(&mut described, 1, id.as_bytes());
        bytes(&mut described, 3, PROJECT.as_bytes());
        bytes(&mut described, 4, &settings(run));
        bytes(&mut described, 8, name.as_bytes());
        log.record(17, &described)?;
        Ok(Box::new(log))
    }
}

/// The settings of the run, as a `ConfigRecord`.
fn settings(run: &Path) -> Vec<u8> {
    let mut config = Vec::new();
    for (key, value) in settings_of_run(run).unwrap_or_default() {
        let mut item = Vec::new();
        bytes(&mut item, 1, key.as_bytes());
        // TOML and JSON write numbers, flags and most texts the same way.
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        bytes(&mut item, 16, value.to_string().as_bytes());
        bytes(&mut config, 1, &item);
    }
    config
}

struct OfflineRun {
    path: PathBuf,
    out: BufWriter<File>,
    /// Bytes that were written.
    place: usize,
    records: u64,
    /// A step that more may be told of: there is one record for each.
    pending: Option<Point>,
}

impl OfflineRun {
    fn write(&mut self, part: &[u8]) -> Result<()> {
        self.place += part.len();
        self.out.write_all(part).context_at(FAILED, &self.path)
    }

    /// Writes a `Record` with one of its kinds.
    fn record(&mut self, field: u64, message: &[u8]) -> Result<()> {
        self.records += 1;
        let mut record = Vec::new();
        number(&mut record, 1, self.records);
        bytes(&mut record, field, message);
        let (mut rest, mut first) = (&record[..], true);
        loop {
            let room = BLOCK - self.place % BLOCK;
            if room < RECORD_HEADER {
                self.write(&[0; RECORD_HEADER][..room])?;
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(room - RECORD_HEADER));
            // Whole, the first part, one of the middle, the last.
            let kind: u8 = match (first, after.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let crc = crc32(&[&[kind][..], part].concat(), CRC_32);
            self.write(&crc.to_le_bytes())?;
            self.write(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_le_bytes())?;
            self.write(&[kind])?;
            self.write(part)?;
            (rest, first) = (after, false);
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Writes the step that waits, as a `HistoryRecord`.
    fn write_pending(&mut self) -> Result<()> {
        let Some(point) = self.pending.take() else {
            return Ok(());
        };
        let mut history = Vec::new();
        let steps = std::iter::once(("_step", Value::from(point.step)));
        let values = point.values.iter().map(|(name, value)| (&**name, Value::from(*value)));
        for (name, value) in steps.chain(values) {
            let mut item = Vec::new();
            bytes(&mut item, 2, name.as_bytes()); // HistoryItem.nested_key
            bytes(&mut item, 16, value.to_string().as_bytes());
            bytes(&mut history, 1, &item);
        }
        let mut step = Vec::new();
        number(&mut step, 1, point.step);
        bytes(&mut history, 2, &step);
        self.record(2, &history)
    }
}

impl Tracker for OfflineRun {
    fn add(&mut self, point: &Point) -> Result<()> {
        match &mut self.pending {
            Some(pending) if pending.step == point.step => {
                pending.values.extend(point.values.iter().cloned());
            }
            _ => {
                self.write_pending()?;
                self.pending = Some(point.clone());
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().context_at(FAILED, &self.path)
    }

    fn end(&mut self, finished: bool) -> Result<()> {
        self.write_pending()?;
        if finished {
            self.record(18, &[])?; // RunExitRecord: exit code 0
        }
        self.flush()
    }
}
