//! JSON lines: one JSON object per line of a UTF-8 file.

use std::path::Path;

use serde_json::{Map, Value};

use super::input::{Input, Packing};
use super::pieces::{Container, Pieces};
use super::{Records, Source, kind};
use crate::error::Result;
use crate::files::parse_exact_json;

/// The container `.jsonl`.
pub struct Jsonl;

impl Source for Jsonl {
    fn extensions(&self) -> &'static [&'static str] {
        &["jsonl", "jsonlines", "ndjson"]
    }

    fn open(&self, path: &Path, packing: Packing) -> Result<Box<dyn Records>> {
        Ok(Box::new(Pieces::new(Input::open(path, packing)?, Lines)))
    }
}

/// Lines that each hold a JSON object.
pub struct Lines;

impl Container for Lines {
    const PLACE: &'static str = "line";

    fn scan(&mut self, bytes: &[u8]) -> Option<(usize, usize)> {
        memchr::memchr(b'\n', bytes).map(|end| (end, end + 1))
    }

    fn read(&self, piece: &[u8]) -> Result<Map<String, Value>, String> {
        object(piece, Self::PLACE)
    }
}

/// The JSON object that a record is; `place` is what a person calls its place.
pub fn object(bytes: &[u8], place: &str) -> Result<Map<String, Value>, String> {
    utf8(bytes, place)?;
    match parse_exact_json(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(format!("a JSON object was expected, {} was found", kind(&other))),
        // A record on one line has no line numbers of its own, so the parser's would mislead.
        Err(error) => Err(match error.causes.first() {
            Some(cause) => {
                format!("{}: {}", error.what, cause.replace(" at line 1 column", " at column"))
            }
            None => error.into_what(),
        }),
    }
}

/// The text that the bytes are.
pub fn utf8<'a>(bytes: &'a [u8], place: &str) -> Result<&'a str, String> {
    std::str::from_utf8(bytes).map_err(|error| {
        format!("not valid UTF-8 at byte {} of the {place}", error.valid_up_to() + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{read_pieces, read_pieces_up_to, reason};
    use super::super::pieces::MAX_PIECE;
    use super::*;
    use crate::files::Digest;
    use crate::snapshots::says;

    #[test]
    fn bom_crlf_blank_lines_and_a_missing_last_newline_are_no_trouble() {
        let bytes = b"\xef\xbb\xbf{\"a\":1}\r\n\r\n  \n{\"a\":2}";
        let (records, file) = read_pieces(bytes, Lines);
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
        let (records, _) = read_pieces(bytes, Lines);
        assert_eq!(records.len(), 6);
        says(
            reason(&records[0]),
            snapbox::str!["not valid JSON: EOF while parsing a value at column 5"],
        );
        assert_eq!(records[0].digest, Digest::of(b"{\"a\":"));
        assert_eq!(reason(&records[1]), "a JSON object was expected, a list was found");
        assert_eq!(reason(&records[2]), "not valid UTF-8 at byte 7 of the line");
        says(
            reason(&records[3]),
            snapbox::str!["not valid JSON: the key `a` appears twice at column 13"],
        );
        assert!(reason(&records[4]).starts_with("not valid JSON"));
        assert!(records[5].content.is_ok());
    }

    #[test]
    fn a_line_without_end_is_refused_without_keeping_it() {
        let mut bytes = vec![b'x'; 3 << 20];
        bytes.extend(b"\n{\"a\":1}\n");
        let (records, file) = read_pieces_up_to(&bytes, Lines, 1000);
        assert!(reason(&records[0]).starts_with("the line is longer than 1000 bytes"));
        assert_eq!(records[0].digest, Digest::of(&bytes[..3 << 20]));
        assert!(records[1].content.is_ok());
        assert_eq!(file.sha256, Digest::of(&bytes));
    }

    #[test]
    fn a_line_of_100_mb_is_a_bad_row() {
        let mut bytes = vec![b' '; 100 << 20];
        bytes[0] = b'{';
        bytes.extend(b"}\n{\"a\":1}");
        let (records, _) = read_pieces(&bytes, Lines);
        let most = format!("the line is longer than {MAX_PIECE} bytes");
        assert!(reason(&records[0]).starts_with(&most));
        assert_eq!((records[1].line, records.len()), (2, 2));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let bytes = [b"{\"a\":".as_slice(), &vec![b'['; 100_000]].concat();
        let (records, _) = read_pieces(&bytes, Lines);
        says(
            reason(&records[0]),
            snapbox::str!["not valid JSON: recursion limit exceeded at column 132"],
        );
    }

    #[test]
    fn many_batches_keep_the_order() {
        let text: String = (0..10_000).map(|i| format!("{{\"i\":{i}}}\n")).collect();
        let (records, _) = read_pieces(text.as_bytes(), Lines);
        assert_eq!(records.len(), 10_000);
        for (i, record) in records.iter().enumerate() {
            assert_eq!(record.line, i as u64 + 1);
            assert_eq!(record.content.as_ref().unwrap()["i"], i);
        }
    }
}
