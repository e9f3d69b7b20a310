//! Data set files become examples, in parallel, with a result that does not depend on it.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::codec::Codec;
use super::corpus::{CorpusFile, Entry, Role, Statistics};
use super::detect::{Choice, detect};
use super::example::{Maker, Outcome, RecordId, line};
use super::sources::{self, Record};
use crate::config::{DataConfig, DataSetConfig, FormatChoice};
use crate::error::{Error, Result};

/// So many unusable records are shown; the rest is counted.
const SHOWN: usize = 10;

/// What reading the data sets of one role gave.
pub struct Reading {
    /// Examples in file order.
    pub entries: Vec<Entry>,
    /// What was counted.
    pub statistics: Statistics,
    /// The files.
    pub files: Vec<CorpusFile>,
    /// Which shapes were chosen, and why.
    pub notes: Vec<String>,
    shapes: Vec<FormatChoice>,
    first: First,
}

/// The first record of each kind, for people to look at.
#[derive(Default)]
struct First {
    truncated: Option<RecordId>,
    dropped: Option<RecordId>,
    nothing: Option<RecordId>,
}

/// Unusable records of all data sets: a bounded number may be skipped.
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

    fn add(&mut self, record: &RecordId, reason: String) {
        self.count += 1;
        if self.problems.len() < SHOWN {
            let problem = Error::new(reason).at_position(&*record.file, line(record), 1);
            self.problems.push(problem);
        }
    }

    /// An error once there are more than the limit.
    fn check(&mut self) -> Result<()> {
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

impl Reading {
    /// Whether any data set holds conversations (`chat`), or plain text.
    pub fn has_shape(&self, chat: bool) -> bool {
        let plain = [FormatChoice::Completion, FormatChoice::Text];
        self.shapes.iter().any(|shape| plain.contains(shape) != chat)
    }

    /// A sentence for each kind of record that was not taken as it is.
    pub fn warnings(&self) -> Vec<String> {
        let all = self.statistics.records;
        let mut warnings = Vec::new();
        let mut say = |count: u64, first: Option<&RecordId>, what: &str| {
            if let Some(first) = first {
                warnings.push(format!("{count} of {all} records {what}, first {first}"));
            }
        };
        let counts = &self.statistics;
        let cut = "are longer than `data.max_seq_len` and were cut off";
        say(counts.truncated, self.first.truncated.as_ref(), cut);
        let dropped = "are longer than `data.max_seq_len` and were left out";
        say(counts.dropped, self.first.dropped.as_ref(), dropped);
        let nothing = "hold nothing to learn and were left out";
        say(counts.nothing_to_learn, self.first.nothing.as_ref(), nothing);
        warnings
    }

    fn take(&mut self, record: RecordId, digest: crate::files::Digest, outcome: Outcome) {
        let mut examples = Vec::new();
        let counts = &mut self.statistics;
        match outcome {
            Outcome::Whole(example) => examples.push(example),
            Outcome::Truncated(example) => {
                counts.truncated += 1;
                self.first.truncated.get_or_insert_with(|| record.clone());
                examples.push(example);
            }
            Outcome::Pieces(pieces) => {
                counts.split += 1;
                examples = pieces;
            }
            Outcome::Dropped => {
                counts.dropped += 1;
                self.first.dropped.get_or_insert_with(|| record.clone());
            }
            Outcome::NothingToLearn => {
                counts.nothing_to_learn += 1;
                self.first.nothing.get_or_insert_with(|| record.clone());
            }
            Outcome::Bad(_) => counts.bad_rows += 1,
        }
        let entry = |example| Entry { record: record.clone(), digest, example };
        self.entries.extend(examples.into_iter().map(entry));
    }

    fn check(&self) -> Result<()> {
        let counts = &self.statistics;
        let Some(first) = &self.first.nothing else { return Ok(()) };
        if counts.nothing_to_learn * 2 <= counts.records {
            return Ok(());
        }
        let what = format!(
            "{} of {} records hold nothing to learn",
            counts.nothing_to_learn, counts.records
        );
        Err(Error::new(what).at_position(&*first.file, line(first), 1).hint(
            "either they have no turn of the assistant, or `data.max_seq_len` cuts it off; \
             `firebrand plan` shows what is learnt of a record",
        ))
    }
}

/// Reads all data sets of a role.
pub fn read_sets(
    codec: &Codec,
    config: &DataConfig,
    role: Role,
    bad: &mut BadRows,
) -> Result<Reading> {
    let mut reading = Reading {
        entries: Vec::new(),
        statistics: Statistics::default(),
        files: Vec::new(),
        notes: Vec::new(),
        shapes: Vec::new(),
        first: First::default(),
    };
    let sets = match role {
        Role::Train => &config.train,
        Role::Validation => &config.validation,
    };
    let maker = Maker::new(codec, config);
    for set in sets {
        read_set(set, &maker, role, &mut reading, bad)?;
    }
    reading.check()?;
    Ok(reading)
}

fn read_set(
    set: &DataSetConfig,
    maker: &Maker,
    role: Role,
    reading: &mut Reading,
    bad: &mut BadRows,
) -> Result<()> {
    let path = Path::new(&set.path);
    let name: Arc<str> = set.path.as_str().into();
    let mut records = sources::open(path)?;
    let mut choice = None;
    let mut rows = 0;
    loop {
        let batch = records.next_batch()?;
        if batch.is_empty() {
            break;
        }
        rows += batch.len() as u64;
        if choice.is_none() {
            choice = detect(path, &batch, set.format)?;
        }
        let made: Vec<_> = batch
            .into_par_iter()
            .map(|record| {
                let id = RecordId { file: name.clone(), line: record.line };
                let digest = record.digest;
                make(record, &id, choice.as_ref(), maker).map(|outcome| (id, digest, outcome))
            })
            .collect();
        for made in made {
            let (id, digest, outcome) = made?;
            reading.statistics.records += 1;
            if let Outcome::Bad(reason) = &outcome {
                bad.add(&id, reason.clone());
            }
            reading.take(id, digest, outcome);
        }
        bad.check()?;
    }
    if rows == 0 {
        return Err(Error::new("the data set holds no records").at(path));
    }
    let file = records.finish()?;
    let (format, reason) = match &choice {
        Some(choice) => (choice.format.name(), choice.reason.as_str()),
        None => ("unknown", "no record can be read"),
    };
    reading.shapes.extend(choice.as_ref().map(|choice| choice.format.choice()));
    reading.notes.push(format!("{}: {rows} records of the shape `{format}`: {reason}", set.path));
    reading.files.push(CorpusFile { file, role, format: format.to_owned(), rows });
    Ok(())
}

fn make(record: Record, id: &RecordId, choice: Option<&Choice>, maker: &Maker) -> Result<Outcome> {
    let fields = match record.content {
        Ok(fields) => fields,
        Err(reason) => return Ok(Outcome::Bad(reason)),
    };
    let Some(Choice { format, .. }) = choice else {
        return Ok(Outcome::Bad("the shape of the record is not known".to_owned()));
    };
    match format.read(fields) {
        Ok(content) => maker.make(&content, id),
        Err(reason) => {
            let shape = format!("the shape `{}` has {}", format.name(), format.expects());
            Ok(Outcome::Bad(format!("{reason}; {shape}")))
        }
    }
}
