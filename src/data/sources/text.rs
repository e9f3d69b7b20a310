//! Plain text: one record `{"text": line}` per line that is not blank.

use std::path::Path;

use serde_json::{Map, Value};

use super::input::{Input, Packing};
use super::jsonl::utf8;
use super::pieces::{Container, Pieces};
use super::{Records, Source};
use crate::error::Result;

/// The container `.txt`.
pub struct PlainText;

impl Source for PlainText {
    fn extensions(&self) -> &'static [&'static str] {
        &["txt"]
    }

    fn open(&self, path: &Path, packing: Packing) -> Result<Box<dyn Records>> {
        Ok(Box::new(Pieces::new(Input::open(path, packing)?, TextLines)))
    }
}

struct TextLines;

impl Container for TextLines {
    const PLACE: &'static str = "line";

    fn scan(&mut self, bytes: &[u8]) -> Option<(usize, usize)> {
        memchr::memchr(b'\n', bytes).map(|end| (end, end + 1))
    }

    fn read(&self, piece: &[u8]) -> Result<Map<String, Value>, String> {
        let line = utf8(piece, Self::PLACE)?;
        Ok(Map::from_iter([("text".to_owned(), Value::from(line))]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{open_bytes, reason};
    use crate::files::Digest;

    #[test]
    fn lines_are_texts_as_they_are() {
        let records =
            open_bytes("a.txt", b"\xef\xbb\xbf  one \r\n\r\n \t\n{\"two\":2}\n\xff\nlast");
        let texts: Vec<_> = records
            .iter()
            .filter_map(|record| record.content.as_ref().ok())
            .map(|fields| fields["text"].as_str().unwrap())
            .collect();
        assert_eq!(texts, ["  one ", "{\"two\":2}", "last"]);
        assert_eq!(records.iter().map(|record| record.line).collect::<Vec<_>>(), [1, 4, 5, 6]);
        assert_eq!(reason(&records[2]), "not valid UTF-8 at byte 1 of the line");
        assert_eq!(records[3].digest, Digest::of(b"{\"text\":\"last\"}"));
    }

    #[test]
    fn a_line_of_100_mb_is_a_bad_row() {
        let mut bytes = vec![b'x'; 100 << 20];
        bytes.extend(b"\ny");
        let records = open_bytes("a.txt", &bytes);
        assert!(reason(&records[0]).starts_with("the line is longer than"));
        assert!(records[1].content.is_ok());
    }
}
