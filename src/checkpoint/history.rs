//! `history.jsonl`: what happened to a run, over all its processes. It goes into the lineage.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::Difference;
use crate::document::choices;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{Digest, NewFile, failed};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// What happened.
    pub what: HistoryEvent,
    /// Steps done.
    pub step: u64,
    /// When, RFC 3339.
    pub time: String,
    /// Digest of the checkpoint's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The run that the first steps were taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What was changed, and allowed by the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// Whether the result is still that of a run which had been so from its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<bool>,
    /// Why it failed, was divided or stopped early; what makes a checkpoint the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What kind of error it failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
}

choices! {
    /// What happened to a run.
    HistoryEvent {
        /// It began.
        Begun = "begun",
        /// Its first steps were taken from another run.
        Reused = "reused",
        /// A checkpoint was written.
        Saved = "saved",
        /// It went on from a checkpoint.
        Resumed = "resumed",
        /// It went on under other settings, as the user allowed.
        Changed = "changed",
        /// Micro-batches were divided, for want of memory.
        Divided = "divided",
        /// It was told to stop.
        Interrupted = "interrupted",
        /// It ended with an error.
        Failed = "failed",
        /// Validation did not improve for as long as the settings allow.
        StoppedEarly = "stopped-early",
        /// The checkpoint that the result is made of, where it is not the last one.
        Best = "best",
        /// Its result was published.
        Finished = "finished",
        /// Something that a newer version wrote.
        Unknown = "unknown",
    }
}

impl Serialize for HistoryEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for HistoryEvent {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Ok(Self::from_name(&name).unwrap_or(Self::Unknown))
    }
}

impl HistoryEntry {
    /// Something that happened now.
    pub fn new(what: HistoryEvent, step: u64) -> Self {
        Self {
            what,
            step,
            time: now(),
            manifest: None,
            from: None,
            differences: Vec::new(),
            exact: None,
            why: None,
            code: None,
        }
    }

    /// The run ended with an error.
    pub fn failed(error: &Error, step: u64) -> Self {
        let (why, code) = (Some(error.what.clone()), Some(error.code));
        Self { why, code, ..Self::new(HistoryEvent::Failed, step) }
    }
}

/// The file.
#[derive(Debug, Clone)]
pub struct History(PathBuf);

impl History {
    /// That of a run directory.
    pub fn of(root: &Path) -> Self {
        Self(root.join("history.jsonl"))
    }

    /// Adds a line, durably.
    pub fn note(&self, entry: &HistoryEntry) -> Result<()> {
        let mut line = serde_json::to_vec(entry).context("cannot encode the history")?;
        line.push(b'\n');
        let torn = |bytes: Vec<u8>| bytes.last().is_some_and(|last| *last != b'\n');
        if fs::read(&self.0).is_ok_and(torn) {
            line.insert(0, b'\n'); // else this line would be lost with the torn one
        }
        let write = || -> std::io::Result<()> {
            let mut file = NewFile::append(&self.0)?;
            file.write_all(&line)?;
            file.sync()
        };
        write().map_err(|error| failed("cannot write the history", &self.0, &error))
    }

    /// All lines; none of a run that has not begun.
    pub fn entries(&self) -> Result<Vec<HistoryEntry>> {
        if !self.0.exists() {
            return Ok(Vec::new());
        }
        let bytes = fs::read(&self.0).context_at("cannot read the history", &self.0)?;
        // A line that a power cut left half-written says nothing that a checkpoint needs.
        let lines = bytes.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

/// The present time, RFC 3339, whole seconds, UTC.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_costs_itself_only() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(folder.path());
        assert!(history.entries().unwrap().is_empty());
        history.note(&HistoryEntry::new(HistoryEvent::Begun, 0)).unwrap();
        let path = folder.path().join("history.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(b"{\"what\":\"sav");
        fs::write(&path, bytes).unwrap();
        let saved = HistoryEntry::new(HistoryEvent::Saved, 5);
        let saved = HistoryEntry { manifest: Some(Digest::of(b"")), ..saved };
        history.note(&saved).unwrap();
        let what: Vec<HistoryEvent> =
            history.entries().unwrap().into_iter().map(|entry| entry.what).collect();
        assert_eq!(what, [HistoryEvent::Begun, HistoryEvent::Saved]);
    }

    #[test]
    fn lines_of_earlier_versions_are_read() {
        let line = r#"{"what":"saved","step":3,"time":"2026-01-01T00:00:00Z","manifest":null}"#;
        let entry: HistoryEntry = serde_json::from_str(line).unwrap();
        assert_eq!((entry.what, entry.step, entry.manifest), (HistoryEvent::Saved, 3, None));
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(text, r#"{"what":"saved","step":3,"time":"2026-01-01T00:00:00Z"}"#);
    }

    #[test]
    fn what_a_newer_version_wrote_is_no_end() {
        let line = r#"{"what":"moved","step":3,"time":"2026-01-01T00:00:00Z","code":"of-later"}"#;
        let entry: HistoryEntry = serde_json::from_str(line).unwrap();
        assert_eq!((entry.what, entry.code), (HistoryEvent::Unknown, Some(ErrorCode::Other)));
    }

    #[test]
    fn a_failure_is_noted_with_its_code() {
        let entry = HistoryEntry::failed(&Error::disk_full("no room"), 7);
        let json = serde_json::to_value(&entry).unwrap();
        assert_eq!((&json["what"], &json["code"]), (&"failed".into(), &"disk-full".into()));
    }
}
