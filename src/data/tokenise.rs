//! A data file becomes examples, in parallel, with a result that does not depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::corpus::Statistics;
use super::detect::{Choice, detect};
use super::example::{Maker, Outcome, RecordId, line};
use super::examples::Writer;
use super::formats::{Content, Format, map_columns};
use super::sources::{self, Record, Records};
use crate::config::FormatChoice;
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry};

/// So many records are made examples of by one task, which has them rendered together.
const TOGETHER: usize = 32;
/// So many unusable records are kept to be shown; the rest is counted.
const SHOWN: usize = 10;

/// What is known of a data file once it was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Size and digest of the bytes that were read; the path is empty, since any name will do.
    pub file: FileEntry,
    /// The shape of its records; empty when none could be read.
    pub format: String,
    /// Why that shape.
    pub reason: String,
    /// Whether the records are conversations, written by a chat template.
    pub chat: bool,
    /// The tokens at which an answer or a text ends, of those that are targets.
    pub ends: BTreeSet<u32>,
    /// What was counted.
    pub statistics: Statistics,
    /// The first unusable records: line and reason.
    pub problems: Vec<(u64, String)>,
    /// Line of the first record that was cut off.
    pub truncated: Option<u64>,
    /// Line of the first record that was left out as too long.
    pub dropped: Option<u64>,
    /// Line of the first record with nothing to learn.
    pub nothing: Option<u64>,
}

impl About {
    fn new() -> Self {
        Self {
            file: FileEntry { path: String::new(), size: 0, sha256: Digest::of(b"") },
            format: String::new(),
            reason: String::new(),
            chat: false,
            ends: BTreeSet::new(),
            statistics: Statistics::default(),
            problems: Vec::new(),
            truncated: None,
            dropped: None,
            nothing: None,
        }
    }

    /// Counts what became of a record; returns its examples.
    fn count(&mut self, line: u64, outcome: Outcome) -> Vec<super::Example> {
        let counts = &mut self.statistics;
        counts.records += 1;
        match outcome {
            Outcome::Whole(example) => return vec![example],
            Outcome::Truncated(example) => {
                counts.truncated += 1;
                self.truncated.get_or_insert(line);
                return vec![example];
            }
            Outcome::Pieces(pieces) => {
                counts.split += 1;
                return pieces;
            }
            Outcome::Dropped => {
                counts.dropped += 1;
                self.dropped.get_or_insert(line);
            }
            Outcome::NothingToLearn => {
                counts.nothing_to_learn += 1;
                self.nothing.get_or_insert(line);
            }
            Outcome::Bad(reason) => {
                counts.bad_rows += 1;
                if self.problems.len() < SHOWN {
                    self.problems.push((line, reason));
                }
            }
        }
        Vec::new()
    }
}

/// How the records of a file are understood.
pub struct Reading<'a> {
    /// The file's name, for people.
    pub name: &'a Arc<str>,
    /// The shape, or that it is to be found out.
    pub format: FormatChoice,
    /// Our names of columns, and those in the records.
    pub columns: &'a BTreeMap<String, String>,
    /// What makes examples of them.
    pub maker: &'a Maker<'a>,
    /// Asked between batches: does nobody wait for the result any more?
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// Reads a file to its end and hands its examples to `writer`.
///
/// Three threads share the work, each a batch ahead of the next: one reads, this one makes
/// examples (and has the thread pool help), one counts and writes them in the order of the file.
///
/// # Errors
/// When the file cannot be read, or holds what no record would be free of.
pub fn tokenise(path: &Path, reading: &Reading, writer: &mut Writer) -> Result<About> {
    let records = sources::open(path).map_err(|error| named(error, reading.name))?;
    let (read, batches) = mpsc::sync_channel(1);
    let (give, made) = mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_all(records, &read));
        let ends = reading.maker.ends();
        let keeper = scope.spawn(move || keep_all(made, &ends, writer));
        // While the first batch is read. If the file cannot be looked at, the reader tells.
        reading.maker.expect(std::fs::metadata(path).map_or(0, |found| found.len()));
        let choice = make_all(batches, reading, &give);
        drop(give);
        // What failed first in the order of the file is what the keeper met, if it met anything.
        let about = keeper.join().map_err(|_| Error::new("writing examples failed"))?;
        let file = reader.join().map_err(|_| Error::new("reading a data file failed"))?;
        let mut about = about?;
        let choice = choice?;
        let file = file.map_err(|error| named(error, reading.name))?;
        about.file = FileEntry { path: String::new(), ..file };
        if let Some(Choice { format, reason }) = choice {
            about.format = format.name().to_owned();
            let plain = [FormatChoice::Completion, FormatChoice::Text];
            about.chat = !plain.contains(&format.choice());
            about.reason = reason;
        }
        Ok(about)
    })
}

/// Hands on the batches of a file until its end, an error, or until nobody takes them.
fn read_all(
    mut records: Box<dyn Records>,
    read: &SyncSender<Result<Vec<Record>>>,
) -> Result<FileEntry> {
    loop {
        let batch = records.next_batch();
        let failed = batch.is_err();
        if matches!(&batch, Ok(batch) if batch.is_empty()) || read.send(batch).is_err() || failed {
            return records.finish();
        }
    }
}

/// Makes examples of the records, and says which shape they have.
fn make_all(
    batches: Receiver<Result<Vec<Record>>>,
    reading: &Reading,
    give: &SyncSender<Vec<Result<Vec<Made>>>>,
) -> Result<Option<Choice>> {
    let mut choice = None;
    for batch in batches {
        let batch = batch.map_err(|error| named(error, reading.name))?;
        if (reading.stop)() {
            return Err(Error::new("stopped while reading").at(&**reading.name));
        }
        let batch: Vec<Record> = match reading.columns.is_empty() {
            true => batch,
            false => batch.into_par_iter().map(|record| renamed(record, reading.columns)).collect(),
        };
        if choice.is_none() {
            choice = detect(Path::new(&**reading.name), &batch, reading.format)?;
        }
        let format = choice.as_ref().map(|choice| choice.format);
        let make = |records: Vec<Record>| make(records, format, reading);
        if give.send(batch.into_par_iter().chunks(TOGETHER).map(make).collect()).is_err() {
            break; // the other side has failed and says why
        }
    }
    Ok(choice)
}

/// Counts and writes examples.
fn keep_all(
    made: Receiver<Vec<Result<Vec<Made>>>>,
    ends: &BTreeSet<u32>,
    writer: &mut Writer,
) -> Result<About> {
    let mut about = About::new();
    for made in made.into_iter().flatten() {
        for Made { line, digest, outcome } in made? {
            for example in about.count(line, outcome) {
                let targets = example.tokens.iter().zip(&example.learn).filter(|(_, it)| **it);
                about.ends.extend(targets.map(|(token, _)| *token).filter(|it| ends.contains(it)));
                let learnt = example.learnt();
                let counts = &mut about.statistics;
                counts.examples += 1;
                counts.tokens += example.tokens.len() as u64;
                counts.learnt_tokens += learnt as u64;
                counts.longest = counts.longest.max(example.tokens.len() as u64);
                writer.push(line, &digest, &example)?;
            }
        }
    }
    Ok(about)
}

/// What became of the record at `line`, whose digest is kept with its examples.
struct Made {
    line: u64,
    digest: Digest,
    outcome: Outcome,
}

/// Says the name by which people know the file, not where the cache keeps it.
fn named(mut error: Error, name: &str) -> Error {
    if let Some(place) = &mut error.place {
        place.file = name.into();
    }
    error
}

fn renamed(record: Record, columns: &BTreeMap<String, String>) -> Record {
    let content = record.content.and_then(|fields| map_columns(fields, columns));
    Record { content, ..record }
}

/// What becomes of records, in their order. An error is one that no other record would be free of.
fn make(records: Vec<Record>, format: Option<&dyn Format>, reading: &Reading) -> Result<Vec<Made>> {
    let mut places = Vec::with_capacity(records.len());
    let mut contents = Vec::with_capacity(records.len());
    for record in records {
        places.push((record.line, record.digest));
        let id = RecordId { file: reading.name.clone(), line: record.line };
        contents.push((content(record, format), id));
    }
    let outcomes = reading.maker.make_all(&contents)?;
    let made = |((line, digest), outcome)| Made { line, digest, outcome };
    Ok(places.into_iter().zip(outcomes).map(made).collect())
}

/// What a record says, or why it cannot be used.
fn content(record: Record, format: Option<&dyn Format>) -> Result<Content, String> {
    let fields = record.content?;
    let format = format.ok_or("the shape of the record is not known")?;
    format.read(fields).map_err(|reason| {
        let shape = format!("the shape `{}` has {}", format.name(), format.expects());
        format!("{reason}; {shape}")
    })
}

/// Unusable records of all data files: a bounded number may be skipped.
pub struct BadRows {
    limit: u64,
    count: u64,
    problems: Vec<Error>,
}

impl BadRows {
    /// Up to `limit` records may be skipped.
    pub fn new(limit: u64) -> Self {
        Self { limit, count: 0, problems: Vec::new() }
    }

    /// Counts those of a file.
    ///
    /// # Errors
    /// Once there are more than the limit.
    pub fn add(&mut self, name: &str, about: &About) -> Result<()> {
        self.count += about.statistics.bad_rows;
        for (place, reason) in &about.problems {
            if self.problems.len() < SHOWN {
                let record = RecordId { file: name.into(), line: *place };
                self.problems.push(Error::new(reason).at_position(name, line(&record), 1));
            }
        }
        if self.count <= self.limit {
            return Ok(());
        }
        let mut problems = std::mem::take(&mut self.problems);
        if let Some(last) = problems.pop() {
            let hint = match self.limit {
                0 => "correct them, or skip some with `data.max_bad_rows`".to_owned(),
                limit => format!("`data.max_bad_rows` lets {limit} unusable records pass"),
            };
            problems.push(last.hint(hint));
        }
        Err(Error::all(problems).unwrap_or_else(|| Error::new("too many unusable records")))
    }

    /// A sentence for each skipped record.
    pub fn warnings(&self) -> Vec<String> {
        let sentence = |problem: &Error| {
            let place = problem.place.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{place}: skipped: {}", problem.what)
        };
        let mut all: Vec<String> = self.problems.iter().map(sentence).collect();
        let more = self.count - self.problems.len() as u64;
        if more > 0 {
            all.push(format!("{more} more unusable records were skipped"));
        }
        all
    }
}
