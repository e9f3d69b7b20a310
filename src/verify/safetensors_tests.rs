//! Tests of the header check: every row that the common readers accept although they should not.

use super::*;
use crate::snapshots::says;

/// A file with this header and so many bytes of data, checked.
fn check(header: &str, data: usize) -> Vec<String> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    check_bytes(&bytes)
}

fn check_bytes(bytes: &[u8]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    std::fs::write(&path, bytes).unwrap();
    lint(&path).unwrap().problems
}

fn refused(header: &str, data: usize, part: &str) {
    let problems = check(header, data);
    assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
}

const ONE: &str = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;

#[test]
fn well_formed_files_pass() {
    assert_eq!(check(&format!("{{{ONE}}}"), 8), [""; 0]);
    assert_eq!(check(&format!("{{{ONE}}}   "), 8), [""; 0]);
    let metadata = r#""__metadata__":{"format":"pt","x":"y"}"#;
    assert_eq!(check(&format!("{{{metadata},{ONE}}}"), 8), [""; 0]);
    let scalar = r#""b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}"#;
    let empty = r#""c":{"dtype":"I64","shape":[0,4],"data_offsets":[8,8]}"#;
    assert_eq!(check(&format!("{{{scalar},{empty},{ONE}}}"), 10), [""; 0]);
}

#[test]
fn bad_lengths_are_refused() {
    assert_eq!(check_bytes(b"1234567"), ["the file is too short for a header"]);
    assert_eq!(check_bytes(&[0xff; 16]), ["the header is longer than the file"]);
    let mut huge = (MAX_HEADER_BYTES + 1).to_le_bytes().to_vec();
    huge.resize(huge.len() + usize::try_from(MAX_HEADER_BYTES).unwrap() + 1, b' ');
    says(
        &check_bytes(&huge)[0],
        snapbox::str!["the header has 16777217 bytes, more than 16777216"],
    );
}

#[test]
fn headers_that_readers_disagree_on_are_refused() {
    refused(&format!(" {{{ONE}}}"), 8, "begin with `{`");
    refused(&format!("{{{ONE}}}\n"), 8, "padded");
    refused("[]", 0, "begin with `{`");
    refused(&format!("{{{ONE},{ONE}}}"), 8, "appears twice");
    refused(&format!(r#"{{"__metadata__":{{"format":"pt","a":"1","a":"2"}},{ONE}}}"#), 8, "twice");
    refused(
        &format!(r#"{{"__metadata__":{{"format":"pt"}},"__metadata__":{{}},{ONE}}}"#),
        8,
        "twice",
    );
    refused(&"{\"a\":".repeat(1000), 0, "padded");
    refused(&format!("{}{}", "{\"a\":".repeat(1000), "}".repeat(1000)), 0, "not valid JSON");
    refused("{\"\u{fffd}\"}", 0, "not valid JSON");
    refused("{}", 0, "no tensor");
}

#[test]
fn metadata_is_text_with_a_format() {
    refused(&format!(r#"{{"__metadata__":{{"x":"y"}},{ONE}}}"#), 8, "`format`");
    refused(&format!(r#"{{"__metadata__":{{"format":"pt","x":1}},{ONE}}}"#), 8, "`x` is not text");
    refused(&format!(r#"{{"__metadata__":[],{ONE}}}"#), 8, "not an object");
}

#[test]
fn names_that_could_do_harm_are_refused() {
    let named = |name: &str| ONE.replacen("\"a\"", name, 1);
    refused(&format!("{{{}}}", named(r#""a\n\u001b[2J""#)), 8, "control characters");
    refused(&format!("{{{}}}", named(r#""""#)), 8, "control characters");
    refused(&format!("{{{}}}", named(r#""../../etc/passwd""#)), 8, "looks like a path");
    refused(&format!("{{{}}}", named(r#""/etc/passwd""#)), 8, "looks like a path");
    assert!(check(&format!("{{{}}}", named(r#""a\u001b""#)), 8)[0].is_ascii());
}

#[test]
fn entries_must_agree_with_themselves() {
    let entry = |text: &str| format!("{{\"a\":{{{text}}}}}");
    refused(&entry(r#""dtype":"F32","shape":[2],"data_offsets":[0,4]"#), 4, "8 bytes by shape");
    refused(&entry(r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#), 8, "8 to 0");
    refused(&entry(r#""dtype":"F33","shape":[2],"data_offsets":[0,8]"#), 8, "not a known dtype");
    refused(&entry(r#""dtype":"F4","shape":[3],"data_offsets":[0,2]"#), 2, "whole bytes");
    refused(&entry(r#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#), 8, "`shape`");
    refused(&entry(r#""dtype":"F32","shape":[2],"data_offsets":[0,8,8]"#), 8, "two numbers");
    refused(&entry(r#""dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1"#), 8, "key `x`");
    let shape = format!("[{},{},2]", u64::MAX, u64::MAX);
    let text = format!(r#""dtype":"F32","shape":{shape},"data_offsets":[0,8]"#);
    refused(&entry(&text), 8, "overflows");
}

#[test]
fn the_data_is_covered_once_and_wholly() {
    let two = |begin: u64, end: u64| {
        format!(r#"{{{ONE},"b":{{"dtype":"U8","shape":[4],"data_offsets":[{begin},{end}]}}}}"#)
    };
    assert_eq!(check(&two(8, 12), 12), [""; 0]);
    refused(&two(4, 8), 8, "overlaps");
    refused(&two(0, 4), 8, "overlaps");
    refused(&two(12, 16), 16, "hole");
    refused(&two(8, 12), 13, "the file has 13");
    refused(&two(8, 12), 8, "the file has 8");
}

#[test]
fn too_many_tensors_and_problems_are_cut_short() {
    let entries: Vec<_> = (0..=MAX_TENSORS + 1)
        .map(|i| format!(r#""t{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    refused(&format!("{{{}}}", entries.join(",")), 0, "more than 100000 tensors");
    let bad: Vec<_> = (0..100).map(|i| format!(r#""t{i}":1"#)).collect();
    assert_eq!(check(&format!("{{{}}}", bad.join(",")), 0).len(), MAX_PROBLEMS + 1);
}

/// Gives out every byte once and remembers how many.
struct Once<'a> {
    bytes: &'a [u8],
    given: usize,
}

impl Read for Once<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(self.bytes.len()).min(7);
        into[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        self.given += count;
        Ok(count)
    }
}

fn file_of(dtype: &str) -> Vec<u8> {
    let metadata = format!(r#""__metadata__":{{"format":"pt","of":"{dtype}"}}"#);
    let header = format!("{{{metadata},{}}}", ONE.replace("F32", dtype));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + 8, 0);
    bytes
}

#[test]
fn header_and_digest_are_of_the_same_bytes() {
    let bytes = file_of("F32");
    let mut source = Once { bytes: &bytes, given: 0 };
    let (entry, lint) = lint_and_hash_from(&mut source, bytes.len() as u64, "a").unwrap();
    assert_eq!(source.given, bytes.len(), "each byte was read once");
    assert_eq!(entry.sha256, files::Digest::of(&bytes));
    assert_eq!((lint.problems.len(), lint.metadata["of"].as_str()), (0, "F32"));

    // A header that cannot be right is no reason to hash less.
    let bad = [&u64::MAX.to_le_bytes()[..], &bytes].concat();
    let (entry, lint) = lint_and_hash_from(&bad[..], bad.len() as u64, "a").unwrap();
    assert_eq!((entry.sha256, lint.problems.len()), (files::Digest::of(&bad), 1));
    // One that grew or shrank since its size was asked is told.
    let (_, lint) = lint_and_hash_from(&bytes[..], bytes.len() as u64 - 1, "a").unwrap();
    assert!(lint.problems.iter().any(|problem| problem.contains("bytes and then")), "{lint:?}");
}

/// Someone puts another file into the place, again and again: it is either the one or the other.
#[test]
fn swaps_while_it_is_read_never_mix_two_files() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (file_of("F32"), file_of("F99"));
    let (digests, place) =
        ([&good, &bad].map(|bytes| files::Digest::of(bytes)), folder.path().join("a.safetensors"));
    std::fs::write(&place, &good).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut seen = [0, 0];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let scratch = folder.path().join("scratch");
            for bytes in [&bad, &good].into_iter().cycle() {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                std::fs::write(&scratch, bytes).unwrap();
                std::fs::rename(&scratch, &place).unwrap();
            }
        });
        for _ in 0..20_000 {
            let (entry, lint) = lint_and_hash(&place, "a").unwrap();
            let which = digests.iter().position(|digest| *digest == entry.sha256).unwrap();
            assert_eq!(lint.problems.is_empty(), which == 0, "{:?}", lint.problems);
            assert_eq!(lint.metadata["of"], ["F32", "F99"][which]);
            seen[which] += 1;
            if seen.iter().all(|count| *count > 50) {
                break;
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
