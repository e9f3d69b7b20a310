//! Containers: a file becomes records, one table entry per kind of file.

mod digest;
mod expansion;
mod input;
mod pieces;
mod jsonl;
mod json;
mod csv;
mod text;
mod parquet;
#[cfg(test)]
mod fixture;

pub use digest::of as digest_of_fields;

use std::path::Path;

use serde_json::{Map, Value};

use self::input::Packing;
use crate::error::{Error, Result, nearest};
use crate::files::{Digest, FileEntry, long_integer, open_regular};

/// Every container that can be read.
pub static SOURCES: &[&dyn Source] =
    &[&jsonl::Jsonl, &json::Json, &csv::COMMA, &csv::TAB, &parquet::Parquet, &text::PlainText];

/// A kind of file that holds records.
pub trait Source: Sync {
    /// The file name endings that select it, in lower case, without the dot.
    fn extensions(&self) -> &'static [&'static str];

    /// Whether it is also read out of `.gz` and `.zst`: whatever is read from front to back is.
    fn packable(&self) -> bool {
        true
    }

    /// Starts reading.
    fn open(&self, path: &Path, packing: Packing) -> Result<Box<dyn Records>>;
}

/// The records of one file, from the first to the last.
pub trait Records: Send {
    /// The next records, in file order; none at the end.
    fn next_batch(&mut self) -> Result<Vec<Record>>;

    /// Size and digest of the file's bytes as they lie on disk, compressed or not. What was not
    /// read yet is read for it, without looking at it.
    fn finish(self: Box<Self>) -> Result<FileEntry>;
}

/// One record as it stands in its file.
#[derive(Debug)]
pub struct Record {
    /// Where it stands, counted from 1: its first line where lines are what a person looks for
    /// (JSON lines, CSV, TSV, text), else its number (JSON lists, Parquet).
    pub line: u64,
    /// The same for the same record in every container and every revision of a file: SHA-256 of
    /// compact JSON with sorted keys and without null fields. Of an unreadable record: SHA-256 of
    /// its bytes.
    pub digest: Digest,
    /// Its fields, or why it cannot be read.
    pub content: Result<Map<String, Value>, String>,
}

impl Record {
    /// A record that was looked for in `raw`.
    fn new(line: u64, raw: &[u8], content: Result<Map<String, Value>, String>) -> Self {
        let digest = match &content {
            Ok(fields) => digest::of(fields),
            Err(_) => Digest::of(raw),
        };
        Self { line, digest, content }
    }
}

/// Opens a file by the ending of its name, in upper or lower case.
pub fn open(path: &Path) -> Result<Box<dyn Records>> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let name = name.unwrap_or_default();
    let (inner, packing) = Packing::of(&name);
    let extension = inner.rsplit_once('.').map_or("", |(_, extension)| extension);
    let found = SOURCES.iter().find(|source| source.extensions().contains(&extension));
    if path.exists() && !path.is_dir() {
        // Said before anything about its name.
        open_regular(path)?;
    }
    match found {
        _ if path.is_dir() => Err(unknown(path, extension)),
        Some(source) if packing == Packing::Plain || source.packable() => {
            source.open(path, packing)
        }
        Some(_) => {
            Err(Error::data(format!("`.{extension}` files are compressed inside, not outside"))
                .at(path)
                .hint("unpack the file once and name the unpacked one"))
        }
        None => Err(unknown(path, name.rsplit_once('.').map_or("", |(_, last)| last))),
    }
}

/// Every file name ending that can be read, without the leading dot: `jsonl`, `jsonl.gz`, …
pub fn extensions() -> Vec<String> {
    let mut all = Vec::new();
    for source in SOURCES {
        for extension in source.extensions() {
            all.push((*extension).to_owned());
            if source.packable() {
                all.extend(Packing::ENDINGS.map(|ending| format!("{extension}.{ending}")));
            }
        }
    }
    all
}

fn unknown(path: &Path, extension: &str) -> Error {
    let known: Vec<&str> = SOURCES.iter().flat_map(|source| source.extensions()).copied().collect();
    let endings: Vec<String> = known.iter().map(|name| format!("`.{name}`")).collect();
    let what = if path.is_dir() {
        "a data set is a file, and this is a folder".to_owned()
    } else if extension.is_empty() {
        "a data set without a file name ending cannot be read".to_owned()
    } else if Packing::ENDINGS.contains(&extension) {
        format!("a `.{extension}` file needs another ending before it that tells what is inside")
    } else {
        format!("data sets that end in `.{extension}` cannot be read")
    };
    let hint = format!(
        "supported endings: {}; all but `.parquet` also with `.gz` or `.zst` after it",
        endings.join(", ")
    );
    let error = Error::data(what).at(path).hint(hint);
    match nearest(extension, known) {
        Some(name) if !path.is_dir() => error.hint(format!("did you mean `.{name}`?")),
        _ => error,
    }
}

/// What a JSON value is, in words.
pub(in crate::data) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(text) if long_integer(text).is_some() => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "containers_tests.rs"]
mod tests;
