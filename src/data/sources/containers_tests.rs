//! What holds for every container: endings, packing, limits, damage.

use std::fs;
use std::io::Write;

use flate2::write::GzEncoder;

use super::fixture::{open_bytes, read_file, reason};
use super::*;
use crate::snapshots::{each_says, says};

#[test]
fn an_unknown_ending_lists_what_can_be_read() {
    let mut messages = String::new();
    for name in ["a/b.pkl", "a/b.bin", "a/b.arrow"] {
        let error = open(Path::new(name)).err().unwrap().to_string();
        assert!(error.contains(name.rsplit_once('.').unwrap().1), "{error}");
        messages += &format!("{error}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
error[data]: data sets that end in `.pkl` cannot be read
  at a/b.pkl

hint: supported endings: `.jsonl`, `.jsonlines`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`, `.txt`; all but `.parquet` also with `.gz` or `.zst` after it
error[data]: data sets that end in `.bin` cannot be read
  at a/b.bin

hint: supported endings: `.jsonl`, `.jsonlines`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`, `.txt`; all but `.parquet` also with `.gz` or `.zst` after it
error[data]: data sets that end in `.arrow` cannot be read
  at a/b.arrow

hint: supported endings: `.jsonl`, `.jsonlines`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`, `.txt`; all but `.parquet` also with `.gz` or `.zst` after it

"#]],
    );
    let error = open(Path::new("a/b.jsonk")).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: data sets that end in `.jsonk` cannot be read
  at a/b.jsonk

hint: supported endings: `.jsonl`, `.jsonlines`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`, `.txt`; all but `.parquet` also with `.gz` or `.zst` after it

hint: did you mean `.jsonl`?
"#]],
    );
    let error = open(Path::new("a/b")).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: a data set without a file name ending cannot be read
  at a/b

hint: supported endings: `.jsonl`, `.jsonlines`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`, `.txt`; all but `.parquet` also with `.gz` or `.zst` after it
"#]],
    );
    let error = open(Path::new("a/b.gz")).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: a `.gz` file needs another ending before it that tells what is inside
  at a/b.gz

hint: supported endings: `.jsonl`, `.jsonlines`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`, `.txt`; all but `.parquet` also with `.gz` or `.zst` after it
"#]],
    );
    let error = open(Path::new("a/b.parquet.gz")).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: `.parquet` files are compressed inside, not outside
  at a/b.parquet.gz

hint: unpack the file once and name the unpacked one
"#]],
    );
}

#[test]
fn a_folder_is_named_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path()).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: a data set is a file, and this is a folder
  at [FOLDER]

hint: supported endings: `.jsonl`, `.jsonlines`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`, `.txt`; all but `.parquet` also with `.gz` or `.zst` after it
"#]],
    );
    let named = folder.path().join("x.jsonl");
    fs::create_dir(&named).unwrap();
    let error = open(&named).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[data]: a data set is a file, and this is a folder
  at [FOLDER]/x.jsonl

hint: supported endings: `.jsonl`, `.jsonlines`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`, `.txt`; all but `.parquet` also with `.gz` or `.zst` after it
"#]],
    );
}

#[test]
fn endings_are_listed_and_read_in_any_case() {
    let all = extensions();
    for extension in ["jsonl", "jsonl.gz", "json.zst", "csv.gz", "tsv", "txt", "parquet"] {
        assert!(all.iter().any(|known| known == extension), "{extension}: {all:?}");
    }
    assert!(!all.iter().any(|known| known == "parquet.gz"));
    assert_eq!(open_bytes("A.JSONL", b"{}").len(), 1);
    assert_eq!(open_bytes("a.Txt.GZ", &gzip(b"x\ny")).len(), 2);
}

#[test]
fn utf16_is_named_whatever_the_container() {
    let mut messages = String::new();
    for name in ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt"] {
        let error = super::fixture::fails(name, b"\xff\xfe{\0");
        messages += &format!("{name}: {error}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
a.jsonl: error[data]: the data set is written in UTF-16
  at [FOLDER]/a.jsonl

hint: save it as UTF-8
a.json: error[data]: the data set is written in UTF-16
  at [FOLDER]/a.json

hint: save it as UTF-8
a.csv: error[data]: the data set is written in UTF-16
  at [FOLDER]/a.csv

hint: save it as UTF-8
a.tsv: error[data]: the data set is written in UTF-16
  at [FOLDER]/a.tsv

hint: save it as UTF-8
a.txt: error[data]: the data set is written in UTF-16
  at [FOLDER]/a.txt

hint: save it as UTF-8

"#]],
    );
}

/// Each would be read for ever, or wait for ever, or be gone after the first reading.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_by_every_container() {
    let folder = tempfile::tempdir().unwrap();
    let mut messages = Vec::new();
    for extension in extensions() {
        let name = folder.path().join(format!("device.{extension}"));
        std::os::unix::fs::symlink("/dev/zero", &name).unwrap();
        let error = open(&name).err().unwrap().to_string();
        messages.push(error.replace(&extension, "[ENDING]"));
        let name = folder.path().join(format!("pipe.{extension}"));
        assert!(std::process::Command::new("mkfifo").arg(&name).status().unwrap().success());
        let error = open(&name).err().unwrap().to_string();
        messages.push(error.replace(&extension, "[ENDING]"));
    }
    each_says(
        messages,
        snapbox::str![[r#"
error[file]: a regular file is needed, and this is a device
  at [FOLDER]/device.[ENDING]

hint: write what it gives into a file first
error[file]: a regular file is needed, and this is a pipe
  at [FOLDER]/pipe.[ENDING]

hint: write what it gives into a file first
"#]],
    );
    let error = open(Path::new("/dev/zero")).err().unwrap().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[file]: a regular file is needed, and this is a device
  at /dev/zero

hint: write what it gives into a file first
"#]],
    );
}

#[test]
fn a_git_lfs_pointer_is_named_as_one_whatever_the_container() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5530624\n";
    let mut messages = Vec::new();
    for extension in extensions() {
        let error = super::fixture::fails(&format!("a.{extension}"), pointer);
        messages.push(error.replace(&extension, "[ENDING]"));
    }
    each_says(
        messages,
        snapbox::str![[r#"
error[file]: the file is a Git LFS pointer, not the file that it stands for
  at [FOLDER]/a.[ENDING]

hint: run `git lfs pull` in its repository, or download the file itself
"#]],
    );
}

#[test]
fn very_much_of_nothing_ends() {
    let lines = vec![b'\n'; 65 << 20];
    let blanks = [b"[{},".to_vec(), vec![b' '; 65 << 20]].concat();
    let (packed, frames) = (gzip(&lines), zstd(&lines));
    let mut messages = String::new();
    for (name, bytes) in [
        ("a.jsonl", &lines),
        ("a.jsonl.gz", &packed),
        ("a.jsonl.zst", &frames),
        ("a.txt", &lines),
        ("a.csv", &lines),
        ("a.json", &blanks),
    ] {
        let error = super::fixture::fails(name, bytes);
        messages += &format!("{name}: {error}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
a.jsonl: error[data]: more than 64 MiB of blanks stand before line 67108866
  at [FOLDER]/a.jsonl
a.jsonl.gz: error[data]: more than 64 MiB of blanks stand before line 67108866
  at [FOLDER]/a.jsonl.gz
a.jsonl.zst: error[data]: more than 64 MiB of blanks stand before line 67108866
  at [FOLDER]/a.jsonl.zst
a.txt: error[data]: more than 64 MiB of blanks stand before line 67108866
  at [FOLDER]/a.txt
a.csv: error[data]: more than 64 MiB of blanks stand before line 67108866
  at [FOLDER]/a.csv
a.json: error[data]: more than 64 MiB of blanks stand before record 2
  at [FOLDER]/a.json

"#]],
    );
}

#[test]
fn what_unpacks_to_far_more_than_text_does_is_refused() {
    // 300 MiB of long records, and of one line that is longer than a record may be.
    let record = format!("{{\"text\":\"{}\"}}\n", "a".repeat(1 << 20));
    let line = format!("{}\n", "a".repeat(300 << 20));
    let mut messages = Vec::new();
    for bytes in [record.repeat(300), line] {
        let error = super::fixture::fails("a.jsonl.zst", &zstd(bytes.as_bytes()));
        messages.push(error);
    }
    each_says(
        messages,
        snapbox::str![[r#"
error[data]: cannot read the data set
  at [FOLDER]/a.jsonl.zst
  because it unpacks to more than 200 times its size, and to more than 256 MiB, which no text does

hint: if the data really repeat that much, unpack the file first
"#]],
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

#[test]
fn several_members_and_frames_are_one_text() {
    let packed = [gzip(b"{\"a\":1}\n{\"a\""), gzip(b":2}\n")].concat();
    assert_eq!(open_bytes("a.jsonl.gz", &packed)[1].content.as_ref().unwrap()["a"], 2);
    let packed = [zstd(b"a,b\n1,"), zstd(b"2\n")].concat();
    assert_eq!(open_bytes("a.csv.zst", &packed)[0].content.as_ref().unwrap()["b"], "2");
}

#[test]
fn the_digest_is_that_of_the_file_on_disk_even_when_little_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..9000).map(|i| format!("{{\"i\":{i}}}\n")).collect();
    let files = [("a.jsonl.gz", gzip(lines.as_bytes())), ("a.jsonl.zst", zstd(lines.as_bytes()))];
    for (name, packed) in files {
        let path = folder.path().join(name);
        fs::write(&path, &packed).unwrap();
        let (records, file) = read_file(&path).unwrap();
        assert_eq!(records.len(), 9000);
        assert_eq!((file.size, file.sha256), (packed.len() as u64, Digest::of(&packed)));
        let mut records = open(&path).unwrap();
        assert!(records.next_batch().unwrap().len() < 9000);
        assert_eq!(records.finish().unwrap(), file);
    }
}

#[test]
fn damaged_packing_is_an_error_that_names_the_file() {
    let lines: Vec<u8> =
        (0..20_000_u32).flat_map(|i| format!("{{\"i\":{i}}}\n").into_bytes()).collect();
    let mut messages = Vec::new();
    for (name, packed) in [("a.jsonl.gz", gzip(&lines)), ("a.jsonl.zst", zstd(&lines))] {
        let cut = &packed[..packed.len() / 2];
        let mut flipped = packed.clone();
        flipped[packed.len() / 2] ^= 0x55;
        // The check sum at the end of gzip; Zstandard has one only where its writer made it.
        let mut wrong_sum = packed.clone();
        let sum = packed.len() - 6;
        wrong_sum[sum] ^= 1;
        let garbage = [packed.as_slice(), b"garbage"].concat();
        let mut damaged = vec![cut.to_vec(), b"no such thing".to_vec(), garbage];
        if name.ends_with("gz") {
            damaged.extend([flipped, wrong_sum]);
        }
        for bytes in damaged {
            let error = super::fixture::fails(name, &bytes);
            messages.push(error);
        }
    }
    each_says(
        messages,
        snapbox::str![[r#"
error[data]: cannot read the data set
  at [FOLDER]/a.jsonl.gz
  because incomplete deflate stream

hint: if the file was cut off or damaged on its way, fetch it again
error[data]: cannot read the data set
  at [FOLDER]/a.jsonl.gz
  because invalid gzip header

hint: if the file was cut off or damaged on its way, fetch it again
error[data]: cannot read the data set
  at [FOLDER]/a.jsonl.gz
  because unexpected end of file

hint: if the file was cut off or damaged on its way, fetch it again
error[data]: cannot read the data set
  at [FOLDER]/a.jsonl.gz
  because corrupt gzip stream does not have a matching checksum

hint: if the file was cut off or damaged on its way, fetch it again
error[data]: cannot read the data set
  at [FOLDER]/a.jsonl.zst
  because incomplete frame

hint: if the file was cut off or damaged on its way, fetch it again
error[data]: cannot read the data set
  at [FOLDER]/a.jsonl.zst
  because Unknown frame descriptor

hint: if the file was cut off or damaged on its way, fetch it again
"#]],
    );
}

#[test]
fn what_unpacks_without_end_is_bounded() {
    // 100 MB that hold no end of a line, in 100 kB: one bad row, in bounded memory.
    let mut bytes = vec![b'x'; 100 << 20];
    bytes.extend(b"\n{\"a\":1}");
    for (name, packed) in [("a.jsonl.gz", gzip(&bytes)), ("a.jsonl.zst", zstd(&bytes))] {
        let records = open_bytes(name, &packed);
        assert!(reason(&records[0]).starts_with("the line is longer than"));
        assert!(records[1].content.is_ok());
    }
}

#[test]
fn a_window_beyond_the_limit_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(b"{}\n").unwrap();
    let packed = encoder.finish().unwrap();
    let error = super::fixture::fails("a.jsonl.zst", &packed);
    says(
        &error,
        snapbox::str![[r#"
error[data]: cannot read the data set
  at [FOLDER]/a.jsonl.zst
  because Frame requires too much memory for decoding

hint: if the file was cut off or damaged on its way, fetch it again
"#]],
    );
}

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every file of `tests/fixtures/containers/` that was made of a data set, with that data set.
const TWINS: [(&str, &str); 24] = [
    ("completion.csv", "datasets/completion.jsonl"),
    ("completion.tsv", "datasets/completion.jsonl"),
    ("text.txt", "datasets/text.jsonl"),
    ("text.txt.zst", "datasets/text.jsonl"),
    ("messages.json", "datasets/messages.jsonl"),
    ("messages.jsonl.gz", "datasets/messages.jsonl"),
    ("messages.parquet", "datasets/messages.jsonl"),
    ("sharegpt.parquet", "datasets/sharegpt.jsonl"),
    ("completion.snappy.parquet", "datasets/completion.jsonl"),
    ("completion.gzip.parquet", "datasets/completion.jsonl"),
    ("completion.zstd.parquet", "datasets/completion.jsonl"),
    ("completion.lz4.parquet", "datasets/completion.jsonl"),
    ("completion.none.parquet", "datasets/completion.jsonl"),
    ("completion.delta.parquet", "datasets/completion.jsonl"),
    ("completion.brotli.parquet", "datasets/completion.jsonl"),
    ("completion.prefixes.parquet", "datasets/completion.jsonl"),
    ("tools.parquet", "tests/fixtures/containers/tools.jsonl"),
    ("encodings.parquet", "tests/fixtures/containers/encodings.jsonl"),
    ("nested.parquet", "tests/fixtures/containers/nested.jsonl"),
    ("nested.v2.parquet", "tests/fixtures/containers/nested.jsonl"),
    ("nested.small.parquet", "tests/fixtures/containers/nested.jsonl"),
    ("nested.jsonl", "tests/fixtures/containers/nested.jsonl"),
    ("messages.json", "tests/fixtures/containers/messages.parquet"),
    ("text.txt", "tests/fixtures/containers/text.txt.zst"),
];

/// A value as Parquet and CSV hold it: without null fields.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[test]
fn every_container_gives_the_records_and_digests_of_its_twin() {
    let read = |path: &Path| {
        let (records, file) = read_file(path).unwrap();
        assert_eq!(file.sha256, Digest::of(&fs::read(path).unwrap()), "{}", path.display());
        records.into_iter().map(|record| (record.digest, record.content.unwrap()))
    };
    for (name, twin) in TWINS {
        let path = repository("tests/fixtures/containers").join(name);
        let ours: Vec<_> = read(&path).collect();
        let twins: Vec<_> = read(&repository(twin)).collect();
        assert_eq!(ours.len(), twins.len(), "{name}");
        assert!(twins.len() >= 5, "{twin}");
        for (index, (ours, twins)) in ours.into_iter().zip(twins).enumerate() {
            let (found, expected) = (without_nulls(ours.1.into()), without_nulls(twins.1.into()));
            assert_eq!(found, expected, "{name}, record {}", index + 1);
            assert_eq!(ours.0, twins.0, "{name}, record {}", index + 1);
        }
    }
}
