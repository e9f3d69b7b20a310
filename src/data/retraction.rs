//! Which records of the training data a list names, so that they can be taken back.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::corpus::Corpus;
use super::raw::RawRecord;
use super::sources::digest_of_fields;
use crate::error::{Error, Result};
use crate::files::{Digest, read_text};

/// The longest list that is read.
const LIST_BYTES_MAX: u64 = 256 << 20;

/// A record of the training data that a list names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedRecord {
    /// Its file, as the configuration names it.
    pub file: String,
    /// Its line in the file, counted from 1.
    pub line: u64,
    /// The digest of what it holds.
    pub digest: Digest,
    /// The digest of the whole file.
    pub of_file: Digest,
}

/// What a list names.
#[derive(Debug)]
pub struct NamedRecords {
    /// In the order of the data.
    pub records: Vec<NamedRecord>,
    /// Lines of the list that name no record of the training data, counted from 1.
    pub unknown: Vec<u64>,
}

/// A list of records, read.
#[derive(Default)]
struct List {
    /// Line of the list, by what it names.
    digests: HashMap<Digest, Vec<usize>>,
    places: HashMap<(String, u64), Vec<usize>>,
    /// By the fields that it gives: records with those values of them.
    fields: HashMap<Vec<String>, HashMap<Digest, Vec<usize>>>,
    /// Which lines have named a record.
    met: Vec<(u64, bool)>,
}

impl List {
    /// One a line: the SHA-256 of a record, `FILE:LINE`, or a JSON object of fields.
    fn read(path: &Path) -> Result<Self> {
        let text = read_text(path, LIST_BYTES_MAX)?;
        let (mut list, mut problems) = (Self::default(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(why) = list.take(number, line) {
                let place = path.display().to_string();
                let error = Error::data("this line names no record").because(why);
                problems.push(error.at_position(place, number as usize, 1));
            }
        }
        if let Some(last) = problems.pop() {
            problems.push(last.hint(
                "a line is the SHA-256 of a record, `FILE:LINE`, or the record as JSON, of which \
                 fields may be left out: `{\"user\": 17}` names every record of that user",
            ));
        }
        match Error::all(problems) {
            Some(error) => Err(error),
            None => Ok(list),
        }
    }

    fn take(&mut self, number: u64, line: &str) -> Result<(), String> {
        let index = self.met.len();
        if line.starts_with('{') {
            let fields: Map<String, Value> =
                serde_json::from_str(line).map_err(|error| format!("it is no JSON: {error}"))?;
            let fields: Map<String, Value> =
                fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
            if fields.is_empty() {
                return Err("an object without fields would name every record".to_owned());
            }
            let mut keys: Vec<String> = fields.keys().cloned().collect();
            keys.sort();
            let of_keys = self.fields.entry(keys).or_default();
            of_keys.entry(digest_of_fields(&fields)).or_default().push(index);
        } else if let Ok(digest) = line.trim_start_matches("sha256:").parse() {
            self.digests.entry(digest).or_default().push(index);
        } else if let Some((file, place)) = line.rsplit_once(':')
            && let Ok(place) = place.parse()
        {
            self.places.entry((file.to_owned(), place)).or_default().push(index);
        } else {
            return Err("it is none of the three".to_owned());
        }
        self.met.push((number, false));
        Ok(())
    }

    /// Whether it names a record.
    fn names(&mut self, file: &str, record: &RawRecord) -> bool {
        let mut lines: Vec<usize> = Vec::new();
        lines.extend(self.digests.get(&record.digest).into_iter().flatten());
        if !self.places.is_empty() {
            let place = (file.to_owned(), record.line);
            lines.extend(self.places.get(&place).into_iter().flatten());
        }
        for (keys, wanted) in &self.fields {
            let Some(fields) = &record.fields else { continue };
            let own = |key: &String| Some((key.clone(), fields.get(key)?.clone()));
            let Some(own) = keys.iter().map(own).collect::<Option<Map<String, Value>>>() else {
                continue;
            };
            lines.extend(wanted.get(&digest_of_fields(&own)).into_iter().flatten());
        }
        lines.iter().for_each(|index| self.met[*index].1 = true);
        !lines.is_empty()
    }
}

/// Goes through the training data, record by record.
///
/// # Errors
/// When a line of the list names no record in any data, or a data file cannot be read.
pub fn named_records(corpus: &Corpus, list: &Path) -> Result<NamedRecords> {
    let mut list = List::read(list)?;
    let mut records = Vec::new();
    for id in corpus.train.files() {
        let file = corpus.train.file(id).name.to_string();
        let mut of_file: Vec<(u64, Digest)> = Vec::new();
        let read = corpus.train.raw(id, &mut |batch| {
            let named = batch.iter().filter(|record| list.names(&file, record));
            of_file.extend(named.map(|record| (record.line, record.digest)));
        })?;
        records.extend(of_file.into_iter().map(|(line, digest)| NamedRecord {
            file: file.clone(),
            line,
            digest,
            of_file: read.sha256,
        }));
    }
    let unknown = list.met.iter().filter(|(_, met)| !met).map(|(line, _)| *line).collect();
    Ok(NamedRecords { records, unknown })
}
