//! Containers: a file becomes records, one table entry per kind of file.

mod jsonl;

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result, nearest};
use crate::files::{Digest, FileEntry};

/// Every container that can be read.
pub static SOURCES: &[&dyn Source] = &[&jsonl::Jsonl];

/// A kind of file that holds records.
pub trait Source: Sync {
    /// The file name endings that select it, in lower case, without the dot.
    fn extensions(&self) -> &'static [&'static str];

    /// Starts reading.
    fn open(&self, path: &Path) -> Result<Box<dyn Records>>;
}

/// The records of one file, from the first to the last.
pub trait Records {
    /// The next records, in file order; none at the end.
    fn next_batch(&mut self) -> Result<Vec<Record>>;

    /// Size and digest of the bytes that were read; whole only after the end was reached.
    fn finish(self: Box<Self>) -> FileEntry;
}

/// One record as it stands in its file.
#[derive(Debug)]
pub struct Record {
    /// Where it stands, counted from 1.
    pub line: u64,
    /// The digest of its bytes: the same record has the same digest in every revision of a file.
    pub digest: Digest,
    /// Its fields, or why it cannot be read.
    pub content: Result<Map<String, Value>, String>,
}

/// Opens a file by the ending of its name.
pub fn open(path: &Path) -> Result<Box<dyn Records>> {
    let extension =
        path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let found = SOURCES.iter().find(|source| source.extensions().contains(&extension.as_str()));
    match found {
        Some(source) => source.open(path),
        None => Err(unknown(path, &extension)),
    }
}

fn unknown(path: &Path, extension: &str) -> Error {
    let known: Vec<&str> = SOURCES.iter().flat_map(|source| source.extensions()).copied().collect();
    let endings: Vec<String> = known.iter().map(|name| format!("`.{name}`")).collect();
    let what = if path.is_dir() {
        "a data set is a file, and this is a folder".to_owned()
    } else if extension.is_empty() {
        "a data set without a file name ending cannot be read".to_owned()
    } else {
        format!("data sets that end in `.{extension}` cannot be read")
    };
    let hint = format!("supported endings: {}", endings.join(", "));
    let error = Error::new(what).at(path).hint(hint);
    match nearest(extension, known) {
        Some(name) => error.hint(format!("did you mean `.{name}`?")),
        None => error,
    }
}

/// What a JSON value is, in words.
pub(in crate::data) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_ending_lists_what_can_be_read() {
        let error = open(Path::new("a/b.parquet")).err().unwrap().to_string();
        assert!(error.contains("`.parquet`") && error.contains("`.jsonl`"), "{error}");
        let error = open(Path::new("a/b.jsonk")).err().unwrap().to_string();
        assert!(error.contains("did you mean `.jsonl`?"), "{error}");
    }

    #[test]
    fn a_folder_is_named_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("this is a folder"), "{error}");
    }
}
