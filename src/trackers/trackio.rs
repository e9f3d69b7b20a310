//! Fragments for trackio (`trackio/fragments.py`): lines of JSON that it takes into its database,
//! in its folder `inbox`, when it is started with `TRACKIO_DIR`. Its database itself is SQLite,
//! which trackio alone writes; each line has a number of its own, by which it is taken once.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::point::Point;
use super::{Tracker, TrackerEntry};
use crate::config::settings_of_run;
use crate::error::{Context, Result};
use crate::files::{Digest, remove_dir, write_atomic};

/// What `TRACKIO_DIR` is to name.
const FOLDER: &str = "trackio";
const INBOX: &str = "inbox";
const PROJECT: &str = "firebrand";
/// Version of the format.
const VERSION: u32 = 1;
/// Lines that are kept back at most.
const LINES_MAX: usize = 500;
const FAILED: &str = "cannot write the fragments for trackio";

pub struct Entry;

impl TrackerEntry for Entry {
    fn name(&self) -> &'static str {
        "trackio"
    }

    fn place(&self) -> &'static str {
        "trackio/"
    }

    fn begin(&self, run: &Path) -> Result<Box<dyn Tracker>> {
        let full = std::fs::canonicalize(run).context_at(FAILED, run)?;
        let name = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The same run is the same there, however often it goes on.
        let id = Digest::of(full.to_string_lossy().as_bytes()).to_string()[..32].to_owned();
        // What trackio has taken already stays in its database.
        let inbox = full.join(FOLDER).join(INBOX);
        if inbox.exists() {
            remove_dir(&inbox)?;
        }
        let folder = inbox.join(&id[..16]);
        let settings = settings_of_run(run).unwrap_or_default();
        let settings = settings.into_iter().map(|(key, value)| {
            // TOML and JSON write numbers, flags and most texts the same way.
            let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
            (key, value)
        });
        let settings: Map<String, Value> = settings.collect();
        let settings = (!settings.is_empty()).then_some(settings);
        Ok(Box::new(Fragments { folder, name, id, settings, lines: Vec::new(), written: 0 }))
    }
}

struct Fragments {
    /// Of this writer, within the inbox.
    folder: PathBuf,
    name: String,
    id: String,
    /// Told with the first line.
    settings: Option<Map<String, Value>>,
    lines: Vec<String>,
    /// Fragments that were written.
    written: u64,
}

impl Fragments {
    fn line(&mut self, point: &Point) -> String {
        let metrics = point.values.iter().map(|(name, value)| (name.clone(), number(*value)));
        let metrics: Map<String, Value> = metrics.collect();
        // Steps and validations are told apart by what they tell.
        let first = point.values.first().map_or("", |(name, _)| name);
        let kind = first.split('/').next().unwrap_or_default();
        let log = Digest::of(format!("{} {} {kind}", self.id, point.step).as_bytes()).to_string();
        let record = json!({
            "v": VERSION,
            "kind": "metric",
            "project": PROJECT,
            "run": self.name,
            "run_id": self.id,
            "metrics": metrics,
            "step": point.step,
            "timestamp": jiff::Timestamp::now().to_string(),
            "config": self.settings.take(),
            "log_id": log[..32],
        });
        record.to_string()
    }
}

/// As trackio keeps what JSON does not have.
fn number(value: f64) -> Value {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => value.into(),
    }
}

impl Tracker for Fragments {
    fn add(&mut self, point: &Point) -> Result<()> {
        let line = self.line(point);
        self.lines.push(line);
        if self.lines.len() < LINES_MAX { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        // trackio removes what it has taken, and the folder with it.
        std::fs::create_dir_all(&self.folder).context_at(FAILED, &self.folder)?;
        let path = self.folder.join(format!("{:08}.jsonl", self.written));
        write_atomic(&path, (self.lines.join("\n") + "\n").as_bytes())?;
        self.written += 1;
        self.lines.clear();
        Ok(())
    }
}
