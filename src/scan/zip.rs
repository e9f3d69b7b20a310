//! Zip archives as their readers see them: by the directory at the end, whatever comes first.

use std::io::{self, Read};

use super::member;
use super::report::Report;
use super::rules::{APPENDED_ARCHIVE, ARCHIVE, ARCHIVE_BOMB};
use super::sample::Sample;

/// How many entries are looked into.
const MAX_ENTRIES: usize = 4096;
/// How much of the directory is read.
const MAX_DIRECTORY: usize = 4 << 20;
/// How many possible ends of an archive are tried.
const MAX_ENDS: usize = 32;
/// An archive that unpacks to more than this, and to many times its size, is a bomb.
const BOMB_BYTES: u64 = 1 << 30;
const BOMB_RATIO: u64 = 200;

/// Where the directory lies, and where the archive itself begins.
#[derive(Debug, PartialEq, Eq)]
struct Directory {
    at: u64,
    size: u64,
    base: u64,
}

/// One file in the archive.
struct ZipMember {
    name: String,
    stored: u64,
    unpacked: u64,
    at: u64,
    method: u16,
    encrypted: bool,
}

/// Looks into a zip archive, wherever in the file it begins.
pub(super) fn look(sample: &Sample, report: &mut Report) {
    let begins_so = sample.head.starts_with(b"PK\x03\x04") && !sample.is_safetensors();
    let Some(directory) = directory(sample) else {
        if begins_so {
            report.unread(&sample.name, "it begins as a zip archive but has no directory");
        }
        return;
    };
    if !begins_so && !sample.head.starts_with(b"PK\x05\x06") {
        let what = if sample.is_safetensors() { "safetensors" } else { "other bytes" };
        let detail = format!("a zip archive lies behind {what}");
        report.add(&APPENDED_ARCHIVE, &sample.name, detail);
    }
    match entries(sample, &directory) {
        Ok((entries, all)) => {
            if begins_so {
                let detail = format!("it is a zip archive of {} files", entries.len());
                report.add(&ARCHIVE, &sample.name, detail);
            }
            if !all {
                report.unread(&sample.name, "its zip directory is too long or damaged");
            }
            look_into(sample, &directory, &entries, report);
        }
        Err(error) => report.unread(&sample.name, error),
    }
}

fn look_into(sample: &Sample, directory: &Directory, entries: &[ZipMember], report: &mut Report) {
    let total = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.unpacked));
    if total > BOMB_BYTES && total / BOMB_RATIO > sample.size {
        let detail = format!("its {} bytes unpack to {total}", sample.size);
        report.add(&ARCHIVE_BOMB, &sample.name, detail);
    }
    for entry in entries.iter().filter(|entry| !entry.name.ends_with('/')) {
        match head(sample, directory, entry) {
            Ok(Some(bytes)) => {
                let complete = bytes.len() as u64 == entry.unpacked;
                let member = member::Member { name: &entry.name, bytes: &bytes, complete };
                member::look(&sample.name, &member, report);
            }
            Ok(None) => {
                member::look_at_name(&sample.name, &entry.name, report);
                let detail = format!("`{}` is packed in an unknown way", entry.name);
                report.unread(&sample.name, detail);
            }
            Err(error) => {
                member::look_at_name(&sample.name, &entry.name, report);
                report.unread(&sample.name, format!("`{}` is damaged: {error}", entry.name));
            }
        }
    }
}

/// Finds the directory as Python's and PyTorch's readers do: from the end of the file.
fn directory(sample: &Sample) -> Option<Directory> {
    let tail = &sample.tail;
    memchr::memmem::rfind_iter(tail, b"PK\x05\x06").take(MAX_ENDS).find_map(|end| {
        let size = u64::from(u32_at(tail, end + 12)?);
        let offset = u64::from(u32_at(tail, end + 16)?);
        let here = sample.tail_start() + end as u64;
        let (size, offset, here) = match (size, offset) {
            (0xffff_ffff, _) | (_, 0xffff_ffff) => {
                // Larger than 4 GB, or made for that: a second record and its locator come before.
                let record = end.checked_sub(76)?;
                (tail.get(record..record + 4)? == b"PK\x06\x06").then_some(())?;
                let at = sample.tail_start() + record as u64;
                (u64_at(tail, record + 40)?, u64_at(tail, record + 48)?, at)
            }
            _ => (size, offset, here),
        };
        let at = here.checked_sub(size)?;
        let start = sample.read_at(at, 4).ok()?;
        let empty = size == 0 && offset == 0 && end == 0;
        (start == b"PK\x01\x02" || empty).then_some(())?;
        Some(Directory { at, size, base: at.saturating_sub(offset) })
    })
}

/// The entries, and whether that is all of them.
fn entries(sample: &Sample, directory: &Directory) -> io::Result<(Vec<ZipMember>, bool)> {
    let length = usize::try_from(directory.size).unwrap_or(usize::MAX).min(MAX_DIRECTORY);
    let bytes = sample.read_at(directory.at, length)?;
    let mut entries = Vec::new();
    let mut at = 0;
    while at < bytes.len() && entries.len() < MAX_ENTRIES {
        let Some((entry, length)) = entry(&bytes[at..]) else { return Ok((entries, false)) };
        entries.push(entry);
        at += length;
    }
    Ok((entries, at as u64 == directory.size))
}

fn entry(bytes: &[u8]) -> Option<(ZipMember, usize)> {
    (bytes.get(..4)? == b"PK\x01\x02").then_some(())?;
    let (name, extra, comment) = (u16_at(bytes, 28)?, u16_at(bytes, 30)?, u16_at(bytes, 32)?);
    let name_end = 46 + usize::from(name);
    let extra_end = name_end + usize::from(extra);
    let mut entry = ZipMember {
        name: String::from_utf8_lossy(bytes.get(46..name_end)?).into_owned(),
        stored: u64::from(u32_at(bytes, 20)?),
        unpacked: u64::from(u32_at(bytes, 24)?),
        at: u64::from(u32_at(bytes, 42)?),
        method: u16_at(bytes, 10)?,
        encrypted: u16_at(bytes, 8)? & 1 != 0,
    };
    widen(&mut entry, bytes.get(name_end..extra_end)?);
    Some((entry, extra_end + usize::from(comment)))
}

/// Numbers of 64 bits stand in an extra field, in a fixed order, those that are needed.
fn widen(entry: &mut ZipMember, mut extra: &[u8]) {
    while let (Some(kind), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let end = 4 + usize::from(length);
        let Some(field) = extra.get(4..end) else { return };
        if kind == 1 {
            let mut at = 0;
            for value in [&mut entry.unpacked, &mut entry.stored, &mut entry.at] {
                if *value == 0xffff_ffff
                    && let Some(wide) = u64_at(field, at)
                {
                    *value = wide;
                    at += 8;
                }
            }
        }
        extra = &extra[end..];
    }
}

/// The first bytes of an entry; `None` if it is encrypted or packed in an unknown way.
fn head(sample: &Sample, directory: &Directory, entry: &ZipMember) -> io::Result<Option<Vec<u8>>> {
    if entry.encrypted || ![0, 8].contains(&entry.method) {
        return Ok(None);
    }
    let damaged = || io::Error::other("its header is not where the directory says");
    let at = directory.base.checked_add(entry.at).ok_or_else(damaged)?;
    let header = sample.read_at(at, 30)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(damaged());
    }
    let (name, extra) = (u16_at(&header, 26), u16_at(&header, 28));
    let (name, extra) = (name.ok_or_else(damaged)?, extra.ok_or_else(damaged)?);
    let data = at + 30 + u64::from(name) + u64::from(extra);
    let length = usize::try_from(entry.stored).unwrap_or(usize::MAX).min(member::HEAD);
    let stored = sample.read_at(data, length)?;
    if entry.method == 0 {
        return Ok(Some(stored));
    }
    let mut unpacked = Vec::new();
    let mut reader = flate2::read::DeflateDecoder::new(stored.as_slice());
    let limit = member::HEAD as u64;
    // What is cut short ends in an error, and what came before it counts.
    let result = reader.by_ref().take(limit).read_to_end(&mut unpacked);
    if unpacked.is_empty() && entry.unpacked > 0 {
        result?;
    }
    Ok(Some(unpacked))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u64::from_le_bytes(*bytes))
}
