//! Event files as TensorBoard reads them: TFRecords of `Event` messages.
//!
//! A record is its length in eight bytes, the masked CRC-32C of those, the message, and the masked
//! CRC-32C of the message (`tensorflow/core/lib/io/record_writer.cc`). The messages are written by
//! hand (`tensorflow/core/util/event.proto`, `summary.proto`): there are two of them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::crc::crc32;
use super::point::Point;
use super::protobuf::{bytes, double, float, number};
use super::{Tracker, TrackerEntry};
use crate::error::{Context, Result};

const FOLDER: &str = "tensorboard";
/// What the names of event files begin with; TensorBoard looks for the second part.
const NAME: &str = "events.out.tfevents";
/// The version of the format, which the first event of a file tells.
const VERSION: &str = "brain.Event:2";

pub struct Entry;

impl TrackerEntry for Entry {
    fn name(&self) -> &'static str {
        "tensorboard"
    }

    fn place(&self) -> &'static str {
        "tensorboard/"
    }

    fn begin(&self, run: &Path) -> Result<Box<dyn Tracker>> {
        let folder = run.join(FOLDER);
        let failed = "cannot write event files";
        std::fs::create_dir_all(&folder).context_at(failed, &folder)?;
        for entry in std::fs::read_dir(&folder).context_at(failed, &folder)? {
            let path = entry.context_at(failed, &folder)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(NAME) {
                std::fs::remove_file(&path).context_at(failed, &path)?;
            }
        }
        let now = now();
        // Whole seconds, as others name theirs.
        let path = folder.join(format!("{NAME}.{now:.0}.firebrand"));
        let file = File::options().write(true).create_new(true).open(&path);
        let out = BufWriter::new(file.context_at(failed, &path)?);
        let mut events = Events { path, out };
        let mut first = Vec::new();
        double(&mut first, 1, now);
        bytes(&mut first, 3, VERSION.as_bytes());
        events.record(&first)?;
        Ok(Box::new(events))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

struct Events {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Events {
    fn record(&mut self, message: &[u8]) -> Result<()> {
        let length = (message.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] =
            [&length, &masked(&length).to_le_bytes(), message, &masked(message).to_le_bytes()];
        let written = parts.into_iter().try_for_each(|part| self.out.write_all(part));
        written.context_at("cannot write event files", &self.path)
    }
}

impl Tracker for Events {
    fn add(&mut self, point: &Point) -> Result<()> {
        let mut summary = Vec::new();
        for (name, value) in &point.values {
            let mut scalar = Vec::new();
            bytes(&mut scalar, 1, name.as_bytes()); // Summary.Value.tag
            #[expect(clippy::cast_possible_truncation)] // the format has no more
            float(&mut scalar, 2, *value as f32); // Summary.Value.simple_value
            bytes(&mut summary, 1, &scalar); // Summary.value
        }
        let mut event = Vec::new();
        double(&mut event, 1, now()); // Event.wall_time
        number(&mut event, 2, point.step); // Event.step
        bytes(&mut event, 5, &summary); // Event.summary
        self.record(&event)
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().context_at("cannot write event files", &self.path)
    }
}

/// A CRC that can stand in data of which CRCs are made again.
pub(super) fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli; RFC 3720, B.4).
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc32(bytes, 0x82f6_3b78)
}
