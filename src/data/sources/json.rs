//! A `.json` file: a list of objects, read one by one, or JSON lines under another name.

use std::path::Path;

use serde_json::{Map, Value};

use super::input::{Input, Packing};
use super::jsonl::{Lines, object};
use super::pieces::{Container, Pieces};
use super::{Records, Source};
use crate::error::{Error, Result};

/// So much is looked at to tell what the file holds.
const LOOK: usize = 1 << 20;

/// The container `.json`.
pub struct Json;

impl Source for Json {
    fn extensions(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn open(&self, path: &Path, packing: Packing) -> Result<Box<dyn Records>> {
        let mut input = Input::open(path, packing)?;
        let start = input.ahead(LOOK)?;
        match start.trim_ascii_start().first() {
            Some(b'[') | None => Ok(Box::new(Pieces::new(input, List::default()))),
            Some(b'{') if is_one_object(start) => {
                Err(Error::data("the file holds one JSON object over several lines, not records")
                    .at(path)
                    .hint(
                        "if its records are in one of its fields, save that list alone; \
                         otherwise write one record a line",
                    ))
            }
            Some(b'{') => Ok(Box::new(Pieces::new(input, Lines))),
            Some(_) => {
                Err(Error::data("the file holds neither a list nor an object").at(path).hint(
                    "a `.json` data set is a list of objects, or one object a line; other endings \
                 are for other containers",
                ))
            }
        }
    }
}

/// Whether the first line is no whole object and the second does not begin one.
fn is_one_object(start: &[u8]) -> bool {
    let start = start.trim_ascii_start();
    let Some(end) = memchr::memchr(b'\n', start) else { return false };
    let (first, rest) = start.split_at(end);
    let first: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(first);
    first.is_err_and(|error| error.is_eof()) && rest.trim_ascii_start().first() != Some(&b'{')
}

/// The items of a JSON list.
#[derive(Default)]
pub struct List {
    state: JsonState,
    /// How many brackets are open inside the item.
    depth: usize,
    in_string: bool,
    /// Whether the byte before was a backslash in a string.
    escaped: bool,
    /// Items that have begun.
    items: u64,
}

#[derive(Default, PartialEq, Eq)]
enum JsonState {
    #[default]
    Before,
    Within,
    After,
}

impl Container for List {
    const PLACE: &'static str = "record";

    fn skip(&mut self, bytes: &[u8]) -> Result<usize, String> {
        for (index, byte) in bytes.iter().enumerate() {
            match (byte, &self.state) {
                (b' ' | b'\t' | b'\r' | b'\n', _) => {}
                (b'[', JsonState::Before) => self.state = JsonState::Within,
                (b']', JsonState::Within) if self.items == 0 => self.state = JsonState::After,
                (_, JsonState::Within) => {
                    self.items += 1;
                    return Ok(index);
                }
                (_, JsonState::Before) => return Err("the file does not begin with a list".into()),
                (_, JsonState::After) => {
                    return Err("something follows the bracket that closes the list".into());
                }
            }
        }
        Ok(bytes.len())
    }

    fn scan(&mut self, bytes: &[u8]) -> Option<(usize, usize)> {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string {
                if std::mem::take(&mut self.escaped) {
                    at += 1;
                    continue;
                }
                let next = memchr::memchr2(b'"', b'\\', &bytes[at..])?;
                at += next;
                self.escaped = bytes[at] == b'\\';
                self.in_string = self.escaped;
            } else {
                match bytes[at] {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b',' if self.depth == 0 => return Some((at, at + 1)),
                    b']' if self.depth == 0 => {
                        self.state = JsonState::After;
                        return Some((at, at + 1));
                    }
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            at += 1;
        }
        None
    }

    fn end(&mut self, _begun: bool) -> Result<Option<String>, String> {
        match self.state {
            JsonState::Within => Err(format!(
                "the list is not closed: the file ends in or after record {}",
                self.items
            )),
            _ => Ok(None),
        }
    }

    fn blank(&self, _piece: &[u8]) -> bool {
        false
    }

    fn read(&self, piece: &[u8]) -> Result<Map<String, Value>, String> {
        match piece.trim_ascii() {
            [] => Err("a comma without a record beside it".into()),
            piece => object(piece, Self::PLACE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{fails, open_bytes, read_pieces, read_pieces_up_to, reason};
    use super::super::pieces::MAX_PIECE;
    use super::*;
    use crate::files::Digest;
    use crate::snapshots::says;

    #[test]
    fn items_are_told_apart_whatever_their_strings_hold() {
        let text =
            "\u{feff} [ {\"a\": \"],[}{\\\"\\\\\"},\r\n{\"b\":[1,[2,{\"c\":3}]]} , {} ]\r\n ";
        let (records, file) = read_pieces(text.as_bytes(), List::default());
        let values: Vec<Value> =
            records.iter().map(|record| record.content.clone().unwrap().into()).collect();
        assert_eq!(values[0]["a"], "],[}{\"\\");
        assert_eq!(values[1]["b"][1][1]["c"], 3);
        assert_eq!(records.iter().map(|record| record.line).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(records[2].digest, Digest::of(b"{}"));
        assert_eq!(file.sha256, Digest::of(text.as_bytes()));
    }

    #[test]
    fn empty_lists_and_empty_files_hold_no_records() {
        for text in ["[]", " [ \n ] \n", "", "  \n"] {
            assert!(read_pieces(text.as_bytes(), List::default()).0.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn bad_items_are_bad_rows_and_the_rest_is_read() {
        let text = b"[{\"a\":}, 7, , {\"a\":\"\xff\"}, {\"a\":1}}, {\"ok\":1}, ]";
        let (records, _) = read_pieces(text, List::default());
        let reasons: Vec<&str> = records
            .iter()
            .map(|record| record.content.as_ref().err().map_or("fine", String::as_str))
            .collect();
        says(reasons[0], snapbox::str!["not valid JSON: expected value at column 6"]);
        assert_eq!(reasons[1], "a JSON object was expected, a number was found");
        assert_eq!(reasons[2], "a comma without a record beside it");
        assert_eq!(reasons[3], "not valid UTF-8 at byte 7 of the record");
        says(reasons[4], snapbox::str!["not valid JSON: trailing characters at column 8"]);
        assert_eq!(reasons[5], "fine");
        assert_eq!(reasons[6], "a comma without a record beside it");
    }

    #[test]
    fn a_huge_item_is_a_bad_row() {
        let huge = format!("[{{\"a\":\"{}\"}},{{\"a\":1}}]", ",[x".repeat(1 << 20));
        let (records, _) = read_pieces_up_to(huge.as_bytes(), List::default(), 1000);
        assert!(reason(&records[0]).starts_with("the record is longer than 1000 bytes"));
        assert_eq!(records[1].content.as_ref().unwrap()["a"], 1);
        let huge = format!("[{{\"a\":\"{}\"}},{{}}]", "x".repeat(100 << 20));
        let (records, _) = read_pieces(huge.as_bytes(), List::default());
        let most = format!("the record is longer than {MAX_PIECE} bytes");
        assert!(reason(&records[0]).starts_with(&most));
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn a_list_that_is_cut_off_or_goes_on_is_an_error() {
        let mut messages = String::new();
        for text in [
            "[{\"a\":1},{\"b\":",
            "[{\"a\":1}",
            "[",
            "[{}] {}",
            "7",
            "{\n  \"data\": [\n    {}\n  ]\n}",
        ] {
            messages += &format!("{text}\n{}\n", fails("a.json", text.as_bytes()));
        }
        says(
            messages,
            snapbox::str![[r#"
[{"a":1},{"b":
error[data]: the list is not closed: the file ends in or after record 2
  at [FOLDER]/a.json
[{"a":1}
error[data]: the list is not closed: the file ends in or after record 1
  at [FOLDER]/a.json
[
error[data]: the list is not closed: the file ends in or after record 0
  at [FOLDER]/a.json
[{}] {}
error[data]: something follows the bracket that closes the list
  at [FOLDER]/a.json
7
error[data]: the file holds neither a list nor an object
  at [FOLDER]/a.json

hint: a `.json` data set is a list of objects, or one object a line; other endings are for other containers
{
  "data": [
    {}
  ]
}
error[data]: the file holds one JSON object over several lines, not records
  at [FOLDER]/a.json

hint: if its records are in one of its fields, save that list alone; otherwise write one record a line

"#]],
        );
    }

    #[test]
    fn json_lines_are_read_under_this_name_too() {
        let records = open_bytes("a.json", b" \n{\"a\":1}\n{\"a\":\n{\"a\":3}\n");
        assert_eq!(records.iter().map(|record| record.line).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(records[1].content.is_err());
        // A first line that is cut off makes no object over several lines of the rest.
        assert_eq!(open_bytes("a.json", b"{\"a\":\n{\"a\":2}\n").len(), 2);
    }
}
