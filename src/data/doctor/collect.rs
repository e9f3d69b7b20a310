//! Findings as they come: counted, and written to disk one by one.
//!
//! Two files are written, so that memory does not grow with the data: the report, one line of JSON
//! for each finding, and a scratch file with the sketches of all records.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::groups::Groups;
use crate::data::codec::Codec;
use crate::data::corpus_file::Role;
use crate::data::finding::{Examiner, Finding, FindingKind};
use crate::data::sketch::{HASHES, Sketch};
use crate::data::watch::{RecordWatch, WatchedRecord};
use crate::error::{Context, ErrorCode, Result};
use crate::files::{Digest, folder_of};

/// So many different rules are kept.
const RULES: usize = 20;

/// A line of the report.
#[derive(Debug, Serialize)]
struct Line<'a> {
    file: &'a str,
    line: u64,
    set: Role,
    finding: FindingKind,
    reason: &'a str,
    /// Turns, or tokens where tokens are lost.
    count: u64,
}

/// A record in the scratch file.
pub struct Sketched {
    /// What its file is for.
    pub role: Role,
    /// Number of its file's name.
    pub file: u32,
    /// Where it stands.
    pub line: u64,
    /// Its digest.
    pub digest: Digest,
    /// Of its texts.
    pub sketch: Sketch,
}

/// What is written while data is read.
pub struct Collector {
    examiner: Examiner,
    collected: Mutex<Collected>,
}

/// What came together so far.
pub struct Collected {
    /// The findings, counted.
    pub groups: Groups,
    /// What holds for all records, of those that broke it.
    pub rules: Vec<String>,
    /// Names of the files.
    pub files: Vec<Arc<str>>,
    /// Lines of the report.
    pub lines: u64,
    report: Scratch,
    sketches: Scratch,
}

impl Collector {
    /// The report comes to stand at `report` in the end; `scratch` is a folder for what is needed
    /// until then.
    pub fn new(codec: &Codec, report: &Path, scratch: &Path) -> Result<Self> {
        let folder = folder_of(report);
        for folder in [folder, scratch] {
            fs::create_dir_all(folder).context_at("cannot make the folder", folder)?;
        }
        let collected = Collected {
            groups: Groups::default(),
            rules: Vec::new(),
            files: Vec::new(),
            lines: 0,
            report: Scratch::new(folder)?,
            sketches: Scratch::new(scratch)?,
        };
        Ok(Self { examiner: Examiner::new(codec)?, collected: Mutex::new(collected) })
    }

    /// What came together.
    pub fn with<T>(&self, work: impl FnOnce(&mut Collected) -> T) -> T {
        work(&mut self.collected.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RecordWatch for Collector {
    fn examiner(&self) -> &Examiner {
        &self.examiner
    }

    fn record(&self, role: Role, file: &Arc<str>, record: WatchedRecord) -> Result<()> {
        self.with(|collected| collected.record(role, file, record))
    }
}

impl Collected {
    fn record(&mut self, role: Role, file: &Arc<str>, record: WatchedRecord) -> Result<()> {
        let WatchedRecord { line, digest, examined, rule } = record;
        if let Some(rule) = rule.filter(|rule| !self.rules.contains(rule))
            && self.rules.len() < RULES
        {
            self.rules.push(rule);
        }
        let mut before = None;
        for finding in &examined.findings {
            if before.replace(finding.kind) != Some(finding.kind) {
                self.groups.add_record(finding.kind);
            }
            self.add(role, file, line, finding)?;
        }
        if examined.findings.iter().any(|finding| finding.kind == FindingKind::BadRecord) {
            return Ok(());
        }
        let file = self.number_of(file);
        let sketched = Sketched { role, file, line, digest, sketch: examined.sketch };
        self.sketches.write(&sketched.bytes())
    }

    /// Counts a finding and writes it into the report.
    pub fn add(&mut self, role: Role, file: &str, line: u64, finding: &Finding) -> Result<()> {
        let Finding { kind, reason, count } = finding;
        self.groups.add(*kind, reason, *count, &format!("{file}:{line}"));
        let line = Line { file, line, set: role, finding: *kind, reason, count: *count };
        let mut json = serde_json::to_vec(&line).context("cannot encode a finding")?;
        json.push(b'\n');
        self.lines += 1;
        self.report.write(&json)
    }

    fn number_of(&mut self, file: &Arc<str>) -> u32 {
        let number = match self.files.iter().rposition(|known| known == file) {
            Some(number) => number,
            None => {
                self.files.push(file.clone());
                self.files.len() - 1
            }
        };
        number as u32
    }

    /// Goes through the records that can be used, in the order in which they were read.
    pub fn each_sketch(
        &mut self,
        mut take: impl FnMut(&mut Self, Sketched) -> Result<()>,
    ) -> Result<()> {
        let mut reader = self.sketches.reader()?;
        while let Some(sketched) = Sketched::read(&mut reader)? {
            take(self, sketched)?;
        }
        Ok(())
    }

    /// Puts the report at its place.
    pub fn keep_report(&mut self, target: &Path) -> Result<()> {
        let flushed = self.report.file.flush();
        let moved = flushed.and_then(|()| fs::rename(&self.report.path, target));
        moved.context_at("cannot write the report", target)
    }
}

impl Sketched {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.role == Role::Validation), self.sketch.0.len() as u8];
        bytes.extend(self.file.to_le_bytes());
        bytes.extend(self.line.to_le_bytes());
        bytes.extend(self.digest.0);
        bytes.extend(self.sketch.0.iter().flat_map(|hash| hash.to_le_bytes()));
        bytes
    }

    fn read(reader: &mut impl Read) -> Result<Option<Self>> {
        let mut head = [0; 2 + 4 + 8 + 32];
        let mut hashes = [0; 4 * HASHES];
        match reader
            .read(&mut head[..1])
            .context_code(ErrorCode::File, "cannot read a scratch file")?
        {
            0 => return Ok(None),
            _ => reader
                .read_exact(&mut head[1..])
                .context_code(ErrorCode::File, "cannot read a scratch file")?,
        }
        let hashes = &mut hashes[..4 * usize::from(head[1])];
        reader.read_exact(hashes).context_code(ErrorCode::File, "cannot read a scratch file")?;
        let sketch = hashes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        Ok(Some(Self {
            role: if head[0] == 1 { Role::Validation } else { Role::Train },
            file: u32::from_le_bytes(head[2..6].try_into().expect("4 bytes")),
            line: u64::from_le_bytes(head[6..14].try_into().expect("8 bytes")),
            digest: Digest(head[14..].try_into().expect("32 bytes")),
            sketch: Sketch(sketch.collect()),
        }))
    }
}

/// A file that is gone again in the end, unless it was moved.
struct Scratch {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Scratch {
    fn new(folder: &Path) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".doctor-{}-{number}.tmp", std::process::id()));
        let _ = fs::remove_file(&path); // a leftover of a process that had the same number
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.context_at("cannot write the report", &path)?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context_at("cannot write the report", &self.path)
    }

    fn reader(&mut self) -> Result<BufReader<File>> {
        self.file.flush().context_at("cannot write the report", &self.path)?;
        let file = File::open(&self.path).context_at("cannot read the report", &self.path)?;
        Ok(BufReader::with_capacity(1 << 20, file))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
