//! Archives and compressed files that are no zip.

use std::io::{self, Read};

use super::kinds::{self, Class};
use super::member::{self, Member};
use super::report::Report;
use super::rules::PATH_TRICK;
use super::rules::{ARCHIVE, DISGUISED};
use super::sample::Sample;
use crate::hub::path_fault;

/// How much of a compressed file is unpacked.
const MAX_UNPACKED: u64 = 1 << 20;
/// How many members of a tar archive are looked at.
const MAX_MEMBERS: usize = 10_000;
const BLOCK: u64 = 512;

/// Looks at a file by what its first bytes say; zip archives are looked into elsewhere.
pub(super) fn look(sample: &Sample, report: &mut Report) {
    if sample.is_safetensors() {
        return;
    }
    let Some(kind) = kinds::kind(&sample.head) else { return zlib(sample, report) };
    if kinds::promises_plain(&sample.extension()) {
        let detail = format!("it is {}, which its name does not say", kind.name);
        report.add(&DISGUISED, &sample.name, detail);
    }
    if kind.class != Class::Archive || kind.name == "a zip archive" {
        return;
    }
    let detail = format!("it is {}", kind.name);
    match kind.name {
        "a gzip file" => {
            report.add(&ARCHIVE, &sample.name, detail);
            inside(sample, flate2::read::MultiGzDecoder::new(sample.head.as_slice()), report);
        }
        "a zstd file" => {
            report.add(&ARCHIVE, &sample.name, detail);
            match zstd::stream::read::Decoder::new(sample.head.as_slice()) {
                Ok(decoder) => inside(sample, decoder, report),
                Err(error) => report.unread(&sample.name, error),
            }
        }
        "a tar archive" => {
            report.add(&ARCHIVE, &sample.name, detail);
            let read = |at, length| sample.read_at(at, length);
            if let Err(error) = tar(&sample.name, sample.size, read, report) {
                report.unread(&sample.name, error);
            }
        }
        _ => report.unread(&sample.name, format!("{detail}, which is not unpacked here")),
    }
}

/// joblib compresses with zlib, which has no signature worth the name.
fn zlib(sample: &Sample, report: &mut Report) {
    let Some([first, second]) = sample.head.first_chunk::<2>() else { return };
    let check = u16::from_be_bytes([*first, *second]);
    if *first == 0x78 && check.is_multiple_of(31) {
        let decoder = flate2::read::ZlibDecoder::new(sample.head.as_slice());
        inside(sample, decoder, report);
    }
}

/// What a compressed file holds.
fn inside(sample: &Sample, decoder: impl Read, report: &mut Report) {
    let mut bytes = Vec::new();
    // What is cut short ends in an error, and what came before it counts.
    let result = decoder.take(MAX_UNPACKED).read_to_end(&mut bytes);
    if bytes.is_empty() {
        if let (Err(error), Some(_)) = (result, kinds::kind(&sample.head)) {
            report.unread(&sample.name, error);
        }
        return;
    }
    let complete = result.is_ok() && (bytes.len() as u64) < MAX_UNPACKED;
    if bytes.get(257..262) == Some(b"ustar") {
        let end = bytes.len() as u64;
        let read = |at: u64, length: usize| {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Ok(bytes[at..].iter().take(length).copied().collect())
        };
        let walked = tar(&sample.name, end, read, report);
        if walked.is_err() || !complete {
            report.unread(&sample.name, "only the beginning of the tar archive in it was read");
        }
        return;
    }
    let member = Member { name: "its content", bytes: &bytes, complete };
    member::look_at_bytes(&sample.name, &member, report);
}

/// Goes from header to header of a tar archive.
fn tar(
    file: &str,
    size: u64,
    read: impl Fn(u64, usize) -> io::Result<Vec<u8>>,
    report: &mut Report,
) -> io::Result<()> {
    let mut at = 0;
    for _ in 0..MAX_MEMBERS {
        if at >= size {
            return Ok(());
        }
        let header = read(at, 512)?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        if header.get(257..262) != Some(b"ustar") {
            return Err(io::Error::other("its tar headers are damaged"));
        }
        let text = |from: usize, to: usize| {
            let field = header[from..to].split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(field).into_owned()
        };
        let length = number(&header[124..136]).ok_or_else(|| io::Error::other("a bad length"))?;
        let (name, prefix) = (text(0, 100), text(345, 500));
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        member::look_at_name(file, &name, report);
        match header[156] {
            b'1' | b'2' => {
                let target = text(157, 257);
                if path_fault(&target).is_some() {
                    let detail = format!("it holds a link `{name}` to `{target}`");
                    report.add(&PATH_TRICK, file, detail);
                }
            }
            b'0' | 0 | b'7' => {
                let head = usize::try_from(length).unwrap_or(usize::MAX).min(member::HEAD);
                let bytes = read(at + BLOCK, head)?;
                let complete = bytes.len() as u64 == length;
                let member = Member { name: &name, bytes: &bytes, complete };
                member::look_at_bytes(file, &member, report);
            }
            _ => {}
        }
        let blocks = length.div_ceil(BLOCK).checked_mul(BLOCK);
        at = blocks
            .and_then(|data| at.checked_add(BLOCK)?.checked_add(data))
            .ok_or_else(|| io::Error::other("a bad length"))?;
    }
    Err(io::Error::other("it has more files than are looked at"))
}

/// Octal digits, or with the first bit set a number in base 256.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        return field.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}
