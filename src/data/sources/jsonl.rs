//! JSON lines: one JSON object per line of a UTF-8 file.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::{Record, Records, Source, kind};
use crate::error::{Context, Error, Result};
use crate::files::{Digest, FileEntry, Hashing, parse_json};

/// A longer line is a bad row: it is no record that a model could learn from, and reading it
/// would cost memory without bound.
const MAX_LINE: usize = 64 << 20;
/// A batch of lines ends at this many lines or bytes, whichever comes first.
const BATCH_LINES: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;

/// The container `.jsonl`.
pub struct Jsonl;

impl Source for Jsonl {
    fn extensions(&self) -> &'static [&'static str] {
        &["jsonl", "jsonlines", "ndjson"]
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Records>> {
        Ok(Box::new(Lines::open(path, MAX_LINE)?))
    }
}

/// Reads lines, hashing exactly the bytes that it hands on.
struct Lines {
    path: PathBuf,
    reader: BufReader<Hashing<File>>,
    line: u64,
    max_line: usize,
}

/// A line without its end, or `None` for one that is too long.
type Line = (u64, Option<Vec<u8>>);

impl Lines {
    fn open(path: &Path, max_line: usize) -> Result<Self> {
        let file = File::open(path).context_at("cannot read the data set", path)?;
        let mut reader = BufReader::with_capacity(1 << 20, Hashing::new(file));
        let start = reader.fill_buf().context_at("cannot read the data set", path)?;
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
            return Err(Error::new("the data set is written in UTF-16")
                .at(path)
                .hint("save it as UTF-8"));
        }
        if start.starts_with(b"\xef\xbb\xbf") {
            reader.consume(3);
        }
        Ok(Self { path: path.to_path_buf(), reader, line: 0, max_line })
    }

    /// The next line; `None` at the end of the file.
    fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let (mut any, mut too_long) = (false, false);
        loop {
            let buffer = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if buffer.is_empty() {
                break;
            }
            any = true;
            let end = memchr::memchr(b'\n', buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            too_long |= bytes.len() + part.len() > self.max_line;
            if too_long {
                bytes = Vec::new();
            } else {
                bytes.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.line += 1;
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        Ok(Some((self.line, (!too_long).then_some(bytes))))
    }
}

impl Records for Lines {
    fn next_batch(&mut self) -> Result<Vec<Record>> {
        let (mut lines, mut size) = (Vec::new(), 0);
        while lines.len() < BATCH_LINES && size < BATCH_BYTES {
            let next = self.next_line().context_at("cannot read the data set", &self.path)?;
            let Some((line, bytes)) = next else { break };
            if bytes.as_ref().is_some_and(|bytes| bytes.trim_ascii().is_empty()) {
                continue;
            }
            size += bytes.as_ref().map_or(0, Vec::len);
            lines.push((line, bytes));
        }
        let max = self.max_line;
        Ok(lines.into_par_iter().map(|line| record(line, max)).collect())
    }

    fn finish(self: Box<Self>) -> FileEntry {
        let (_, size, sha256) = self.reader.into_inner().finish();
        FileEntry { path: self.path.to_string_lossy().into_owned(), size, sha256 }
    }
}

fn record((line, bytes): Line, max: usize) -> Record {
    match bytes {
        None => {
            let reason = format!("the line is longer than {max} bytes");
            Record { line, digest: Digest::of(b""), content: Err(reason) }
        }
        Some(bytes) => Record { line, digest: Digest::of(&bytes), content: parse(&bytes) },
    }
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(format!("not valid UTF-8 at byte {} of the line", error.valid_up_to() + 1));
    }
    match parse_json(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(format!("a JSON object was expected, {} was found", kind(&other))),
        // A record is one line, so its own line number in the parser's words would mislead.
        Err(error) => Err(match error.causes.first() {
            Some(cause) => {
                format!("{}: {}", error.what, cause.replace(" at line 1 column", " at column"))
            }
            None => error.what,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(bytes: &[u8], max_line: usize) -> (Vec<Record>, FileEntry) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(&path, bytes).unwrap();
        let mut lines = Box::new(Lines::open(&path, max_line).unwrap());
        let mut all = Vec::new();
        loop {
            let batch = lines.next_batch().unwrap();
            if batch.is_empty() {
                return (all, lines.finish());
            }
            all.extend(batch);
        }
    }

    fn reason(record: &Record) -> &str {
        record.content.as_ref().unwrap_err()
    }

    #[test]
    fn bom_crlf_blank_lines_and_a_missing_last_newline_are_no_trouble() {
        let bytes = b"\xef\xbb\xbf{\"a\":1}\r\n\r\n  \n{\"a\":2}";
        let (records, file) = read(bytes, 100);
        let lines: Vec<u64> = records.iter().map(|record| record.line).collect();
        assert_eq!(lines, [1, 4]);
        assert_eq!(records[1].content.as_ref().unwrap()["a"], 2);
        assert_eq!(file.size, bytes.len() as u64);
        assert_eq!(file.sha256, Digest::of(bytes));
        // The end of the line is no part of the record.
        assert_eq!(records[0].digest, Digest::of(b"{\"a\":1}"));
    }

    #[test]
    fn bad_rows_say_why_and_the_rest_is_read() {
        let bytes =
            b"{\"a\":\n[1]\n{\"a\":\"\xff\"}\n{\"a\":1,\"a\":2}\n{\"a\":NaN}\n{\"ok\":true}\n";
        let (records, _) = read(bytes, 100);
        assert_eq!(records.len(), 6);
        assert!(reason(&records[0]).contains("at column"), "{}", reason(&records[0]));
        assert_eq!(reason(&records[1]), "a JSON object was expected, a list was found");
        assert_eq!(reason(&records[2]), "not valid UTF-8 at byte 7 of the line");
        assert!(reason(&records[3]).contains("stands twice"));
        assert!(reason(&records[4]).starts_with("not valid JSON"));
        assert!(records[5].content.is_ok());
    }

    #[test]
    fn a_line_without_end_is_refused_without_keeping_it() {
        let mut bytes = vec![b'x'; 3 << 20];
        bytes.extend(b"\n{\"a\":1}\n");
        let (records, file) = read(&bytes, 1000);
        assert_eq!(reason(&records[0]), "the line is longer than 1000 bytes");
        assert!(records[1].content.is_ok());
        assert_eq!(file.sha256, Digest::of(&bytes));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let bytes = [b"{\"a\":".as_slice(), &vec![b'['; 100_000]].concat();
        let (records, _) = read(&bytes, 1 << 20);
        assert!(reason(&records[0]).contains("recursion limit"), "{}", reason(&records[0]));
    }

    #[test]
    fn utf16_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(&path, b"\xff\xfe{\0").unwrap();
        let error = Lines::open(&path, 10).err().unwrap().to_string();
        assert!(error.contains("UTF-16"), "{error}");
    }

    #[test]
    fn many_batches_keep_the_order() {
        let text: String = (0..10_000).map(|i| format!("{{\"i\":{i}}}\n")).collect();
        let (records, _) = read(text.as_bytes(), 100);
        assert_eq!(records.len(), 10_000);
        for (i, record) in records.iter().enumerate() {
            assert_eq!(record.line, i as u64 + 1);
            assert_eq!(record.content.as_ref().unwrap()["i"], i);
        }
    }
}
