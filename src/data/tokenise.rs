//! A data file becomes examples, in parallel, with a result that does not depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use super::about::About;
use super::corpus_file::Role;
use super::detect::{Choice, detect, detect_anyway};
use super::example::{RecordId, RecordNumbers, RecordOutcome};
use super::examples::Writer;
use super::finding::{Examined, Finding, FindingKind};
use super::formats::{Content, Fields, Format, KNOWN, map_columns};
use super::made;
use super::maker::Maker;
use super::sources::{self, Record, Records};
use super::unused::{self, RULE, Unused};
use super::watch::{RecordWatch, WatchedRecord};
use crate::config::FormatChoice;
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry};
use rayon::prelude::*;

/// So many records are made examples of by one task, which has them rendered together.
const TOGETHER: usize = 32;

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
    /// Is told of every record, where the data is examined, and what the file is for.
    pub watch: Option<(&'a dyn RecordWatch, Role)>,
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
        let keeper = scope.spawn(move || keep_all(made, &ends, reading, writer));
        // While the first batch is read. If the file cannot be looked at, the reader tells.
        reading.maker.expect(std::fs::metadata(path).map_or(0, |found| found.len()));
        let choice = make_all(batches, reading, &give);
        drop(give);
        // What failed first in the order of the file is what the keeper met, if it met anything.
        let about = keeper.join().map_err(|_| Error::data("writing examples failed"))?;
        let file = reader.join().map_err(|_| Error::data("reading a data file failed"))?;
        let mut about = about?;
        let (choice, refusal) = choice?;
        about.refusal = refusal.or(about.refusal);
        let file = file.map_err(|error| named(error, reading.name))?;
        about.file = FileEntry { path: String::new(), ..file };
        if let Some(Choice { format, reason }) = choice {
            about.format = format.name().to_owned();
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
) -> Result<(Option<Choice>, Option<String>)> {
    let (mut choice, mut refusal) = (None, None);
    for batch in batches {
        let batch = batch.map_err(|error| named(error, reading.name))?;
        if (reading.stop)() {
            return Err(Error::interrupted("stopped while reading").at(&**reading.name));
        }
        let batch: Vec<Record> = match reading.columns.is_empty() {
            true => batch,
            false => batch.into_par_iter().map(|record| renamed(record, reading.columns)).collect(),
        };
        if choice.is_none() {
            let name = Path::new(&**reading.name);
            choice = match detect(name, &batch, reading.format) {
                Err(error) if reading.watch.is_some() => {
                    refusal.get_or_insert(error.into_what());
                    detect_anyway(&batch)
                }
                choice => choice?,
            };
        }
        let format = choice.as_ref().map(|choice| choice.format);
        let make = |records: Vec<Record>| make(records, format, reading);
        if give.send(batch.into_par_iter().chunks(TOGETHER).map(make).collect()).is_err() {
            break; // the other side has failed and says why
        }
    }
    Ok((choice, refusal))
}

/// Counts and writes examples.
fn keep_all(
    made: Receiver<Vec<Result<Vec<Made>>>>,
    ends: &BTreeSet<u32>,
    reading: &Reading,
    writer: &mut Writer,
) -> Result<About> {
    let mut about = About::new();
    for made in made.into_iter().flatten() {
        for Made { line, digest, numbers, mut read } in made? {
            if let Some((watch, role)) = reading.watch {
                watch.record(role, reading.name, read.watched(line, digest))?;
                about.refusal = about.refusal.or(read.refusal);
            }
            for name in read.undefined {
                about.undefined.entry(name).or_insert(line);
            }
            about.chat |= read.chat;
            about.plain |= read.plain;
            unused::count(&mut about.unused, &read.unused, line);
            for example in about.count(line, read.outcome, read.rule) {
                about.add(&example, ends);
                writer.push(line, &digest, numbers, &example)?;
            }
        }
    }
    Ok(about)
}

/// What became of the record at `line`, whose digest is kept with its examples.
struct Made {
    line: u64,
    digest: Digest,
    numbers: RecordNumbers,
    read: Read,
}

/// The same, with what there is to say of it.
struct Read {
    outcome: RecordOutcome,
    /// What holds for all records, if the record is an exception.
    rule: Option<String>,
    unused: Vec<Unused>,
    chat: bool,
    plain: bool,
    undefined: BTreeSet<String>,
    examined: Examined,
    refusal: Option<String>,
}

impl Read {
    /// What is told of the record.
    fn watched(&mut self, line: u64, digest: Digest) -> WatchedRecord {
        let mut examined = std::mem::take(&mut self.examined);
        if let RecordOutcome::Bad(reason) = &self.outcome {
            examined.findings.insert(0, Finding::new(FindingKind::BadRecord, reason));
        }
        WatchedRecord { line, digest, examined, rule: self.rule.clone() }
    }
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
        let id = RecordId { file: reading.name.clone(), line: record.line };
        let (line, digest) = (record.line, record.digest);
        let (content, rule) = match content(record, format) {
            Ok(content) => (Ok(content), None),
            Err((reason, rule)) => (Err(reason), rule),
        };
        let (chat, plain) = match &content {
            Ok((Content::Chat(_), _)) => (true, false),
            Ok((Content::Completion { .. } | Content::Text(_), _)) => (false, true),
            _ => (false, false),
        };
        places.push((line, digest, rule, chat, plain));
        contents.push(made::Record { id, content });
    }
    let all = reading.maker.make_all(&mut contents)?;
    let made = |((line, digest, rule, chat, plain), made): (_, made::Made)| {
        let made::Made { outcome, unused, undefined, lossy, examined, refusal, numbers } = made;
        // What is left out of an unusable record is said in the reason.
        let unused = if matches!(outcome, RecordOutcome::Bad(_)) { Vec::new() } else { unused };
        let rule = if lossy { Some(RULE.to_owned()) } else { rule };
        let read = Read { outcome, rule, unused, undefined, chat, plain, examined, refusal };
        Made { line, digest, numbers, read }
    };
    Ok(places.into_iter().zip(all).map(made).collect())
}

/// What a record says and what its shape leaves; or why it cannot be used, and what holds for all
/// records of the shape.
fn content(
    record: Record,
    format: Option<&dyn Format>,
) -> Result<(Content, Fields), (String, Option<String>)> {
    let mut fields = record.content.map_err(|reason| (reason, None))?;
    let format = format.ok_or_else(|| ("the shape of the record is not known".to_owned(), None))?;
    match format.read(&mut fields) {
        Ok(content) => Ok((content, fields)),
        Err(reason) => Err(match reason.split_once(KNOWN) {
            Some((what, known)) => (what.to_owned(), Some(format!("known roles are {known}"))),
            None => {
                let rule = format!("the shape `{}` has {}", format.name(), format.expects());
                (reason, Some(rule))
            }
        }),
    }
}
