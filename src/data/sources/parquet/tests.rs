//! Parquet files that are odd, damaged, or made to do harm.

use crate::snapshots::{each_says, says};
use std::fs;
use std::path::Path;

use ::parquet::file::metadata::ParquetMetaDataReader;
use serde_json::{Value, json};

use super::super::fixture::{fails, open_bytes, read_file, reason};
use super::claims::page_header;
use crate::error::ErrorCode;
use crate::files::Digest;

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/containers");
    fs::read(folder.join(name)).unwrap()
}

fn contents(bytes: &[u8]) -> Vec<Value> {
    let records = open_bytes("a.parquet", bytes);
    records.into_iter().map(|record| record.content.unwrap().into()).collect()
}

#[test]
fn no_row_and_one_row_are_read() {
    assert!(contents(&fixture("none.parquet")).is_empty());
    assert_eq!(contents(&fixture("one.parquet")), [json!({"text": "the sea"})]);
}

#[test]
fn nulls_are_said_and_lists_keep_their_places() {
    let records = contents(&fixture("nested.parquet"));
    assert_eq!(records[0]["tags"], json!(["x", null, "", "y"]));
    assert_eq!(records[0]["grid"], json!([[1, 2], [], null, [3]]));
    assert_eq!(records[0]["meta"], json!({"source": "s", "lines": {"first": 1, "last": null}}));
    let calls = json!([{"name": "add", "size": 2}, null, {"name": "add", "size": 2}]);
    let turn = json!({"role": "assistant", "content": null, "calls": calls});
    assert_eq!(records[0]["turns"][1], turn);
    assert_eq!(records[0]["counts"], json!({"a": 1, "b": null}));
    assert!(records[1].as_object().unwrap().values().all(Value::is_null));
    assert_eq!(records[1].as_object().unwrap().len(), 10);
    assert_eq!(records[3]["meta"], json!({"source": null, "lines": null}));
    let turn = json!({"role": "user", "content": "Hi", "calls": null});
    assert_eq!(records[3]["turns"], json!([null, turn]));
    assert!(records[4]["score"].is_null(), "a number that is none");
}

/// What JSON lines say, nulls and all, Parquet says: whoever reads records cannot tell them apart.
#[test]
fn a_record_is_the_same_value_as_its_json_twin() {
    for (name, twin) in [("nested.parquet", "nested.jsonl"), ("tools.parquet", "tools.jsonl")] {
        let twins = open_bytes("a.jsonl", &fixture(twin));
        let twins: Vec<Value> = twins.into_iter().map(|it| it.content.unwrap().into()).collect();
        assert_eq!(contents(&fixture(name)), twins, "{name}");
    }
}

#[test]
fn records_are_counted_over_row_groups() {
    let records = open_bytes("a.parquet", &fixture("completion.none.parquet"));
    let lines: Vec<u64> = records.iter().map(|record| record.line).collect();
    assert_eq!(lines, (1..=16).collect::<Vec<_>>());
}

#[test]
fn every_kind_of_value_has_a_form_in_json() {
    let record = json!({
        "day": 1, "price": "-12.50", "picture": "/9g=", "plain": "text", "single": 1.5, "time": 7,
        "big": u64::MAX, "nothing": null, "choice": "a", "half": -0.5,
        "id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
    });
    assert_eq!(contents(&fixture("kinds.parquet")), [record]);
}

#[test]
fn what_is_not_read_is_named() {
    let forged = Forged { rows: 1, codec: LZO, ..Forged::default() };
    let error = forged.page(1, PLAIN, 5, &plain("a")).fails();
    says(
        &error,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: NYI: The codec type LZO is not supported yet

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
}

#[test]
fn json_text_means_its_value() {
    let json = |text: &str| {
        let data = plain(text);
        let forged = Forged { rows: 1, json: true, ..Forged::default() };
        open_bytes("a.parquet", &forged.page(1, PLAIN, data.len(), &data).bytes())
    };
    for text in [r#"{"b":[1,{"a":null}],"c":"\u00e9"}"#, "[]", "null", "\"text\"", "1.5", "true"] {
        let record = &json(text)[0];
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(record.content.as_ref().unwrap()["text"], value);
        let twin = open_bytes("a.jsonl", format!("{{\"text\":{text}}}").as_bytes());
        assert_eq!(record.digest, twin[0].digest, "{text}");
    }
    let deep = "[".repeat(100_000);
    let refused = |text: &str| reason(&json(text)[0]).to_owned();
    says(
        refused(""),
        snapbox::str!["not valid JSON in the column `text`: EOF while parsing a value at column 0"],
    );
    says(
        refused("{\"a\":"),
        snapbox::str!["not valid JSON in the column `text`: EOF while parsing a value at column 5"],
    );
    says(
        refused("{\"a\":1,\"a\":2}"),
        snapbox::str![
            "not valid JSON in the column `text`: the key `a` appears twice at column 13"
        ],
    );
    says(
        refused(&deep),
        snapbox::str![
            "not valid JSON in the column `text`: recursion limit exceeded at column 128"
        ],
    );
}

#[test]
fn a_file_that_is_none_or_only_its_beginning_is_an_error() {
    let whole = fixture("one.parquet");
    let ends = (0..whole.len()).step_by(7);
    each_says(
        ends.map(|end| fails("a.parquet", &whole[..end])),
        snapbox::str![[r#"
error[data]: the file is not a whole Parquet file
  at [FOLDER]/a.parquet
  because it does not begin with `PAR1`

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
error[data]: the file is not a whole Parquet file
  at [FOLDER]/a.parquet
  because it does not end with `PAR1`

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
    let mut longer = whole.clone();
    let end = longer.len() - 8;
    longer[end..end + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    says(
        fails("a.parquet", &longer),
        snapbox::str![[r#"
error[data]: the file is not a whole Parquet file
  at [FOLDER]/a.parquet
  because its footer claims 4294967295 bytes

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
}

/// What is said of a damaged file, with N for digits.
const DAMAGES: [&str; 3] = [
    "the Parquet file cannot be read",
    "the file is not a whole Parquet file",
    "row group N of N cannot be read",
];

/// Reads bytes that may be damaged: the error, if any, which must name file and place.
fn survives(bytes: &[u8]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    fs::write(&path, bytes).unwrap();
    match read_file(&path) {
        Ok(_) => None,
        Err(error) => {
            let what = error.what.replace(|c: char| c.is_ascii_digit(), "N");
            assert!(DAMAGES.contains(&&*what), "{error}");
            assert_eq!((error.code, &error.place.as_ref().unwrap().file), (ErrorCode::Data, &path));
            let text = error.to_string();
            assert!(text.len() < 2000, "{text}");
            Some(text)
        }
    }
}

/// Where the data of pages lie in a file with one row group; check sums do not cover headers.
fn page_data(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let end = bytes.len() - 8;
    let length = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
    let footer = ParquetMetaDataReader::decode_metadata(&bytes[end - length..end]).unwrap();
    let mut all = Vec::new();
    for chunk in footer.row_group(0).columns() {
        let (start, length) = chunk.byte_range();
        let (mut at, end) = (start as usize, (start + length) as usize);
        while at < end {
            let header = page_header(&bytes[at..end]).unwrap();
            let data = at + header.length..at + header.length + header.packed as usize;
            at = data.end;
            all.push(data);
        }
    }
    all
}

#[test]
fn a_changed_byte_in_a_page_with_a_check_sum_is_found() {
    let mut messages = Vec::new();
    for name in ["messages.parquet", "nested.v2.parquet"] {
        let whole = fixture(name);
        let pages = page_data(&whole);
        assert!(pages.len() > 3, "{pages:?}");
        for place in pages.into_iter().flatten().step_by(11) {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            let error = survives(&bytes).unwrap();
            let (before, column) = error.split_once("column `").unwrap();
            let after = column.split_once('`').unwrap().1;
            messages.push(format!("{before}column `[COLUMN]`{after}"));
        }
    }
    each_says(
        messages,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `[COLUMN]`: Parquet error: Page CRC checksum mismatch

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
}

#[test]
fn no_changed_byte_ends_the_program() {
    let mut errors = 0;
    for (name, step) in
        [("nested.v2.parquet", 3), ("nested.small.parquet", 29), ("completion.none.parquet", 7)]
    {
        let whole = fixture(name);
        for place in (4..whole.len()).step_by(step) {
            let mut bytes = whole.clone();
            bytes[place] ^= if place % 2 == 0 { 0xff } else { 1 << (place / 2 % 8) };
            errors += usize::from(survives(&bytes).is_some());
        }
    }
    assert!(errors > 500, "{errors}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let bytes = fixture("one.parquet");
    fs::write(&path, &bytes).unwrap();
    let mut records = super::super::open(&path).unwrap();
    assert_eq!(records.next_batch().unwrap().len(), 1);
    assert_eq!(records.finish().unwrap().sha256, Digest::of(&bytes));
    let mut records = super::super::open(&path).unwrap();
    assert_eq!(records.next_batch().unwrap().len(), 1);
    fs::write(&path, [bytes.as_slice(), b"x"].concat()).unwrap();
    let error = records.finish().unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[file-changed]: the data set was changed while it was read
  at [FOLDER]/a.parquet

hint: run again once nothing writes to it
"#]],
    );
}

/// Writes headers in Thrift's compact protocol, fields in their order.
#[derive(Default)]
struct Thrift {
    bytes: Vec<u8>,
    last: u8,
}

impl Thrift {
    fn field(&mut self, number: u8, kind: u8) {
        self.bytes.push((number - self.last) << 4 | kind);
        self.last = number;
    }

    fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn int(mut self, number: u8, value: i64) -> Self {
        self.field(number, 6);
        self.unsigned(((value << 1) ^ (value >> 63)) as u64);
        self
    }

    fn text(mut self, number: u8, text: &str) -> Self {
        self.field(number, 8);
        self.unsigned(text.len() as u64);
        self.bytes.extend(text.as_bytes());
        self
    }

    fn texts(mut self, number: u8, texts: &[&str]) -> Self {
        self.field(number, 9);
        self.bytes.push((texts.len() as u8) << 4 | 8);
        for text in texts {
            self.unsigned(text.len() as u64);
            self.bytes.extend(text.as_bytes());
        }
        self
    }

    fn structure(mut self, number: u8, inner: Thrift) -> Self {
        self.field(number, 12);
        self.bytes.extend(inner.done());
        self
    }

    fn structures(mut self, number: u8, all: Vec<Thrift>) -> Self {
        self.field(number, 9);
        self.bytes.push((all.len() as u8) << 4 | 12);
        all.into_iter().for_each(|inner| self.bytes.extend(inner.done()));
        self
    }

    fn done(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

const PLAIN: i64 = 0;
const DICTIONARY: i64 = 8;
const DELTA_LENGTHS: i64 = 6;
const DELTA_TEXTS: i64 = 7;
const GZIP: i64 = 2;
const LZO: i64 = 3;
const BROTLI: i64 = 4;
const ZSTD: i64 = 6;

/// A file with one column of texts and claims of its own.
#[derive(Default)]
struct Forged {
    list: bool,
    /// Whether the texts are JSON.
    json: bool,
    rows: i64,
    codec: i64,
    pages: Vec<u8>,
    dictionary: bool,
    /// Bytes that the column claims to unpack to.
    claimed: i64,
}

impl Forged {
    fn page(mut self, values: i64, encoding: i64, unpacked: usize, data: &[u8]) -> Self {
        let header = Thrift::default()
            .int(1, 0)
            .int(2, unpacked as i64)
            .int(3, data.len() as i64)
            .structure(5, Thrift::default().int(1, values).int(2, encoding).int(3, 3).int(4, 3));
        self.pages.extend(header.done());
        self.pages.extend(data);
        self
    }

    fn dictionary(mut self, values: i64, data: &[u8]) -> Self {
        self.dictionary = true;
        let header = Thrift::default()
            .int(1, 2)
            .int(2, data.len() as i64)
            .int(3, data.len() as i64)
            .structure(7, Thrift::default().int(1, values).int(2, PLAIN));
        self.pages.extend(header.done());
        self.pages.extend(data);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let root = Thrift::default().text(4, "root").int(5, 1);
        let repetition = if self.list { 2 } else { 0 };
        // Type 6: bytes; converted type 0: text, 19: JSON.
        let column = Thrift::default().int(1, 6).int(3, repetition).text(4, "text");
        let column = column.int(6, if self.json { 19 } else { 0 });
        let mut chunk = Thrift::default().int(1, 6);
        chunk.field(2, 9);
        chunk.bytes.extend([0x15, 0]);
        let chunk = chunk.texts(3, &["text"]).int(4, self.codec).int(5, self.rows);
        let size = self.pages.len() as i64;
        let mut chunk = chunk.int(6, self.claimed.max(size)).int(7, size).int(9, 4);
        if self.dictionary {
            chunk = chunk.int(11, 4);
        }
        let chunk = Thrift::default().int(2, 4).structure(3, chunk);
        let group = Thrift::default().structures(1, vec![chunk]).int(2, size).int(3, self.rows);
        let footer = Thrift::default()
            .int(1, 1)
            .structures(2, vec![root, column])
            .int(3, self.rows)
            .structures(4, vec![group])
            .done();
        let length = (footer.len() as u32).to_le_bytes();
        [b"PAR1".as_slice(), &self.pages, &footer, &length, b"PAR1"].concat()
    }

    fn fails(&self) -> String {
        fails("a.parquet", &self.bytes())
    }
}

/// A text as PLAIN writes it.
fn plain(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// Levels: runs of the same level, with their length before them.
fn levels(runs: &[(u64, u8)]) -> Vec<u8> {
    let mut writer = Thrift::default();
    for &(count, level) in runs {
        writer.unsigned(count << 1);
        writer.bytes.push(level);
    }
    [&(writer.bytes.len() as u32).to_le_bytes(), writer.bytes.as_slice()].concat()
}

/// So many times the first value of a dictionary.
fn repeated(count: u64) -> Vec<u8> {
    let mut writer = Thrift { bytes: vec![1], last: 0 };
    writer.unsigned(count << 1);
    writer.bytes.push(0);
    writer.bytes
}

/// The head of packed lengths, in blocks of 128 in 4 parts.
fn lengths_head(count: u64, first: u64) -> Thrift {
    let mut data = Thrift::default();
    [128, 4, count, 2 * first].into_iter().for_each(|number| data.unsigned(number));
    data
}

/// Packed lengths, each difference of 32 bits.
fn packed_lengths(lengths: &[u64]) -> Vec<u8> {
    let mut data = lengths_head(lengths.len() as u64, lengths[0]);
    let steps: Vec<i64> = lengths.windows(2).map(|pair| pair[1] as i64 - pair[0] as i64).collect();
    for block in steps.chunks(128) {
        let least = *block.iter().min().unwrap();
        data.unsigned(((least << 1) ^ (least >> 63)) as u64);
        let parts = block.len().div_ceil(32);
        data.bytes.extend((0..4).map(|part| if part < parts { 32 } else { 0 }));
        for step in block {
            data.bytes.extend(((step - least) as u32).to_le_bytes());
        }
        data.bytes.extend(vec![0; 4 * (32 * parts - block.len())]);
    }
    data.bytes
}

#[test]
fn texts_that_repeat_the_one_before_are_read_within_bounds() {
    // Two texts: `abc`, and `ab` of it followed by `d`.
    let mut data = [packed_lengths(&[0, 2]), packed_lengths(&[3, 1]), b"abcd".to_vec()].concat();
    let forged = Forged { rows: 2, ..Forged::default() };
    let forged = forged.page(2, DELTA_TEXTS, data.len(), &data);
    assert_eq!(contents(&forged.bytes()), [json!({"text": "abc"}), json!({"text": "abd"})]);
    data.truncate(20);
    let forged = Forged { rows: 2, ..Forged::default() };
    let error = forged.page(2, DELTA_TEXTS, data.len(), &data).fails();
    says(
        &error,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: the lengths of a page's texts make no sense

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
    // A text of 1 MiB, and a thousand that repeat it.
    let long = 1 << 20;
    let repeated = [vec![0], vec![long; 1000]].concat();
    let own = [vec![long], vec![0; 1000]].concat();
    let data = [packed_lengths(&repeated), packed_lengths(&own), vec![b'x'; long as usize]];
    let data = data.concat();
    let forged = Forged { rows: 1001, ..Forged::default() };
    let error = forged.page(1001, DELTA_TEXTS, data.len(), &data).fails();
    says(
        &error,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: the texts of a page take 1049624576 bytes, and at most 268435456 are read

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
}

#[test]
fn a_dictionary_gives_only_so_many_bytes_to_very_many_rows() {
    let long = "x".repeat(100_000);
    let rows = 1_000_000;
    let bomb = Forged { rows, ..Forged::default() }.dictionary(1, &plain(&long)).page(
        rows,
        DICTIONARY,
        6,
        &repeated(rows as u64),
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    fs::write(&path, bomb.bytes()).unwrap();
    let mut records = super::super::open(&path).unwrap();
    let mut bytes = 0;
    let error = loop {
        match records.next_batch() {
            Ok(batch) => bytes += batch.len() * long.len(),
            Err(error) => break error.to_string(),
        }
    };
    assert!(bytes > 200 << 20 && bytes < 300 << 20, "{bytes}");
    says(
        &error,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because it unpacks to more than 200 times its size, and to more than 256 MiB, which no text does

hint: if the data really repeat that much, unpack the file first
"#]],
    );
    // Very many rows of a short text are read: they are no more than a small file may hold.
    let rows = 50_000;
    let constant = Forged { rows, ..Forged::default() }.dictionary(1, &plain("the sea")).page(
        rows,
        DICTIONARY,
        6,
        &repeated(rows as u64),
    );
    assert_eq!(open_bytes("a.parquet", &constant.bytes()).len(), 50_000);
}

#[test]
fn a_forged_file_without_harm_is_read() {
    let data = [plain("a"), plain("b")].concat();
    let forged = Forged { rows: 2, ..Forged::default() }.page(2, PLAIN, data.len(), &data);
    assert_eq!(contents(&forged.bytes()), [json!({"text": "a"}), json!({"text": "b"})]);
    let forged = Forged { rows: 2, ..Forged::default() }.dictionary(1, &plain("x")).page(
        2,
        DICTIONARY,
        4,
        &repeated(2),
    );
    assert_eq!(contents(&forged.bytes()), [json!({"text": "x"}), json!({"text": "x"})]);
    let list = [levels(&[(1, 0), (2, 1), (1, 0)]), levels(&[(3, 1), (1, 0)])].concat();
    let list = [list, repeated(3)].concat();
    let forged = Forged { rows: 2, list: true, ..Forged::default() }
        .dictionary(1, &plain("x"))
        .page(4, DICTIONARY, list.len(), &list);
    assert_eq!(contents(&forged.bytes()), [json!({"text": ["x", "x", "x"]}), json!({"text": []})]);
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    let size = 300 << 20;
    let zeros = || std::io::Read::take(std::io::repeat(0), size as u64);
    let packed = zstd::encode_all(zeros(), 1).unwrap();
    let forged = Forged { rows: 1, codec: ZSTD, ..Forged::default() };
    let error = forged.page(1, PLAIN, size, &packed).fails();
    says(
        &error,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: a page claims to unpack to 314572800 bytes, and at most 268435456 are read

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut zeros(), &mut packed).unwrap();
    let forged = Forged { rows: 1, codec: GZIP, ..Forged::default() };
    let error = forged.page(1, PLAIN, 100, &packed.finish().unwrap()).fails();
    says(
        &error,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: a page unpacks to more than the 100 bytes it claims

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );

    // A MiB of zeros.
    let packed = b"\x5b\xff\xff\x0f\x40\x02\x20\x1e\x0b\x24\xf7\xfe\x01";
    let forged = Forged { rows: 1, codec: BROTLI, ..Forged::default() };
    let error = forged.page(1, PLAIN, 100, packed).fails();
    says(
        &error,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: a page unpacks to more than the 100 bytes it claims

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );

    let forged = Forged { rows: 1, claimed: 5 << 40, ..Forged::default() };
    let error = forged.page(1, PLAIN, 5, &plain("a")).fails();
    says(
        &error,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: it claims to unpack to 5497558138880 bytes: it unpacks to more than 200 times its size, and to more than 256 MiB, which no text does

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
}

#[test]
fn claims_of_many_values_are_refused_before_memory_is_taken() {
    let dictionary = Forged { rows: 1, ..Forged::default() }
        .dictionary(i32::MAX.into(), &plain("a"))
        .page(1, DICTIONARY, 3, &repeated(1));
    says(
        dictionary.fails(),
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: a dictionary claims more values than it has bytes for

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );

    // Lengths as packed differences: blocks of 128 values in 4 parts, and very many values.
    let many = i32::MAX as u64;
    let mut errors = Vec::new();
    for (values, lengths) in [(1, 1 << 40), (many, many)] {
        for encoding in [DELTA_LENGTHS, DELTA_TEXTS] {
            let data = lengths_head(lengths, 0).bytes;
            let delta = Forged { rows: 1, ..Forged::default() };
            errors.push(delta.page(values as i64, encoding, data.len(), &data).fails());
        }
    }
    each_says(
        errors,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: the lengths of a page's texts make no sense

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: a page claims 2147483647 lengths, and 16777216 are the most

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
    // What texts repeat has one length, and what they have of their own claims very many.
    let data = [packed_lengths(&[0]), lengths_head(1 << 40, 1).bytes, b"a".to_vec()].concat();
    let delta = Forged { rows: 1, ..Forged::default() };
    let error = delta.page(1, DELTA_TEXTS, data.len(), &data).fails();
    says(
        &error,
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: the lengths of a page's texts make no sense

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );

    let list = [levels(&[(1, 0), (many - 1, 1)]), levels(&[(many, 1)]), repeated(many)].concat();
    let list = Forged { rows: 1, list: true, ..Forged::default() }.dictionary(1, &plain("a")).page(
        many as i64,
        DICTIONARY,
        list.len(),
        &list,
    );
    says(
        list.fails(),
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: the lists of a few rows take more than 805306368 bytes

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
}

#[test]
fn a_row_that_repeats_a_large_text_is_a_bad_row() {
    let (long, count) = ("x".repeat(1 << 20), 100);
    let list =
        [levels(&[(1, 0), (count - 1, 1), (1, 0)]), levels(&[(count + 1, 1)]), repeated(count + 1)];
    let list = list.concat();
    let forged = Forged { rows: 2, list: true, ..Forged::default() }
        .dictionary(1, &plain(&long))
        .page(count as i64 + 1, DICTIONARY, list.len(), &list);
    let records = open_bytes("a.parquet", &forged.bytes());
    says(
        reason(&records[0]),
        snapbox::str!["the record is larger than 8388608 bytes, which is the limit: split it"],
    );
    assert_eq!(records[1].content.as_ref().unwrap()["text"][0].as_str().unwrap().len(), 1 << 20);
}

#[test]
fn rows_that_repeat_a_large_text_come_in_small_batches() {
    let long = "x".repeat(1 << 20);
    let forged = Forged { rows: 200, ..Forged::default() }.dictionary(1, &plain(&long)).page(
        2000,
        DICTIONARY,
        4,
        &repeated(2000),
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    fs::write(&path, forged.bytes()).unwrap();
    let mut records = super::super::open(&path).unwrap();
    let mut count = 0;
    loop {
        let batch = records.next_batch().unwrap();
        if batch.is_empty() {
            break;
        }
        assert!(batch.len() <= 17, "{}", batch.len());
        count += batch.len();
    }
    assert_eq!(count, 200);
}

#[test]
fn a_text_that_is_not_utf8_is_a_bad_row_and_the_rest_is_read() {
    let mut data = [plain("a"), plain("bad"), plain("c")].concat();
    data[9] = 0xff;
    let forged = Forged { rows: 3, ..Forged::default() }.page(3, PLAIN, data.len(), &data);
    let records = open_bytes("a.parquet", &forged.bytes());
    assert_eq!(reason(&records[1]), "not valid UTF-8 at byte 1 of the column `text`");
    assert_eq!(records[1].digest, Digest::of(b"\xffad"));
    assert_eq!(records[2].content.as_ref().unwrap()["text"], "c");
}

#[test]
fn fewer_rows_than_claimed_are_an_error() {
    let data = plain("a");
    let forged = Forged { rows: 2, ..Forged::default() }.page(1, PLAIN, data.len(), &data);
    says(
        forged.fails(),
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: it has fewer rows than the row group

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
    let forged = Forged { rows: -1, ..Forged::default() }.page(1, PLAIN, data.len(), &data);
    says(
        fails("a.parquet", &forged.bytes()),
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because its number of rows is negative

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
}

#[test]
fn an_index_beyond_its_dictionary_and_a_panic_are_errors() {
    let mut index = repeated(1);
    *index.last_mut().unwrap() = 1;
    let forged = Forged { rows: 1, ..Forged::default() }.dictionary(1, &plain("a")).page(
        1,
        DICTIONARY,
        index.len(),
        &index,
    );
    says(
        forged.fails(),
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: Parquet error: dictionary index out of bounds: the len is 1 but the index is 1

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
    // No dictionary before the values that need one: the library panics.
    let forged = Forged { rows: 1, ..Forged::default() };
    let forged = forged.page(1, DICTIONARY, index.len(), &index);
    says(
        forged.fails(),
        snapbox::str![[r#"
error[data]: row group 1 of 1 cannot be read
  at [FOLDER]/a.parquet
  because column `text`: its data make no sense (Decoder for dict should have been set)

hint: if the file was cut off or damaged on its way, fetch it again; otherwise write it again with a current library
"#]],
    );
}
