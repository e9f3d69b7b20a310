//! The examples of one data file on disk: written once while the file is tokenised, then read
//! block by block, in any order.
//!
//! ```text
//! FBEXMPL2 | block, facts of its examples | … | index (JSON) | its length, its SHA-256
//! ```
//!
//! A block is up to [`BLOCK_EXAMPLES`] consecutive examples, or about [`BLOCK_BYTES`]. Numbers are
//! little-endian. An example: line (8 bytes), digest of its record (32), weight of its loss (4),
//! margin of a pair (4), number of tokens (4), number of runs (4), the runs (4 each: given, trained
//! on, given, …), the tokens (2 or 4 each). The facts: digest, line, what its order goes by,
//! tokens, target tokens (32 + 8 + 8 + 4 + 4). Blocks, facts and index carry digests that are
//! checked whenever they are read.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::example::CorpusEntry;
use super::example::{Example, RecordId, RecordNumbers};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::Digest;

const MAGIC: &[u8; 8] = b"FBEXMPL2";
/// Length and digest of the index.
const TRAILER: u64 = 8 + 32;
/// An index of a file of a billion records has a hundred megabytes; more is damage.
const INDEX_MAX: u64 = 1 << 30;

/// Examples in a block at most: the unit in which readers can seek.
pub const BLOCK_EXAMPLES: usize = 1000;
/// Bytes in memory after which a block ends.
pub const BLOCK_BYTES: u64 = 4 << 20;
/// What a token takes in memory: its number, and whether it is trained on.
pub const TOKEN_BYTES: u64 = 5;

/// Where a block lies and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleBlock {
    offset: u64,
    length: u64,
    sha256: Digest,
    facts_sha256: Digest,
    /// How many examples.
    pub examples: u32,
    /// How many tokens.
    pub tokens: u64,
}

/// What a reader needs to know of one example before it reads it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExampleFacts {
    /// Digest of the record.
    pub digest: Digest,
    /// Where the record stands in its file.
    pub line: u64,
    /// What its place in a curriculum goes by.
    pub order: f64,
    /// How many tokens.
    pub tokens: u32,
    /// How many of them are trained on.
    pub targets: u32,
}

const FACTS_BYTES: usize = 32 + 8 + 8 + 4 + 4;

/// The index at the end, with whatever the writer added.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Index<T> {
    wide: bool,
    blocks: Vec<ExampleBlock>,
    about: T,
}

/// Writes examples in order.
pub struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    offset: u64,
    wide: bool,
    blocks: Vec<ExampleBlock>,
    block: Vec<u8>,
    examples: u32,
    tokens: u64,
    facts: Vec<u8>,
    done: bool,
}

impl Writer {
    /// Begins a scratch file in `folder`; it is gone again unless [`Writer::commit`] is reached.
    /// `vocabulary` decides how wide tokens are.
    pub fn new(folder: &Path, vocabulary: usize) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(folder).context_at("cannot make the cache folder", folder)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".{}-{number}.tmp", std::process::id()));
        let _ = fs::remove_file(&path); // a leftover of a process that had the same number
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.context_at("cannot write into the cache", &path)?;
        let mut writer = Self {
            path,
            file: BufWriter::with_capacity(1 << 20, file),
            offset: 0,
            wide: vocabulary > 1 << 16,
            blocks: Vec::new(),
            block: Vec::new(),
            examples: 0,
            tokens: 0,
            facts: Vec::new(),
            done: false,
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    /// Adds an example of the record at `line`.
    pub fn push(
        &mut self,
        line: u64,
        digest: &Digest,
        numbers: RecordNumbers,
        example: &Example,
    ) -> Result<()> {
        let count = u32::try_from(example.tokens.len())
            .context_code(ErrorCode::Data, "an example is too long")?;
        let runs = runs(&example.loss_mask);
        let out = &mut self.block;
        out.extend(line.to_le_bytes());
        out.extend(digest.0);
        out.extend(numbers.weight.to_le_bytes());
        out.extend(numbers.margin.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend((runs.len() as u32).to_le_bytes());
        runs.iter().for_each(|run| out.extend_from_slice(&run.to_le_bytes()));
        out.reserve(4 * example.tokens.len());
        if self.wide {
            example.tokens.iter().for_each(|token| out.extend_from_slice(&token.to_le_bytes()));
        } else {
            if example.tokens.iter().any(|token| *token > u32::from(u16::MAX)) {
                return Err(Error::data("a token beyond the vocabulary"));
            }
            #[expect(clippy::cast_possible_truncation)] // checked
            out.extend(example.tokens.iter().flat_map(|token| (*token as u16).to_le_bytes()));
        }
        self.facts.extend(digest.0);
        self.facts.extend(line.to_le_bytes());
        self.facts.extend(numbers.order.to_le_bytes());
        self.facts.extend(count.to_le_bytes());
        self.facts.extend((example.target_count() as u32).to_le_bytes());
        self.examples += 1;
        self.tokens += u64::from(count);
        let full = self.examples as usize == BLOCK_EXAMPLES;
        if full || self.tokens * TOKEN_BYTES >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<()> {
        if self.examples == 0 {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.block);
        let mut facts = std::mem::take(&mut self.facts);
        self.blocks.push(ExampleBlock {
            offset: self.offset,
            length: bytes.len() as u64,
            sha256: Digest::of(&bytes),
            facts_sha256: Digest::of(&facts),
            examples: self.examples,
            tokens: self.tokens,
        });
        (self.examples, self.tokens) = (0, 0);
        self.put(&bytes)?;
        self.put(&facts)?;
        bytes.clear();
        facts.clear();
        (self.block, self.facts) = (bytes, facts); // to be filled again
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context_at("cannot write into the cache", &self.path)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Ends the file with `about` and puts it at `target`, where another writer of the same may
    /// have been sooner.
    pub fn commit<T: Serialize>(mut self, target: &Path, about: &T) -> Result<()> {
        self.end_block()?;
        let blocks = std::mem::take(&mut self.blocks);
        let index = Index { wide: self.wide, blocks, about };
        let json = serde_json::to_vec(&index).context("cannot encode the index")?;
        self.put(&json)?;
        self.put(&(json.len() as u64).to_le_bytes())?;
        self.put(&Digest::of(&json).0)?;
        // No fsync: a file that a power cut tears is found by its digests and made again.
        self.file.flush().context_at("cannot write into the cache", &self.path)?;
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).context_at("cannot make the cache folder", parent)?;
        }
        fs::rename(&self.path, target).context_at("cannot write into the cache", target)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Lengths of runs, beginning with one of given tokens.
fn runs(loss_mask: &[bool]) -> Vec<u32> {
    let mut runs = Vec::new();
    let (mut targets, mut length) = (false, 0);
    for &token in loss_mask {
        if token != targets {
            runs.push(length);
            (targets, length) = (token, 0);
        }
        length += 1;
    }
    runs.push(length);
    runs
}

/// The examples of a data file; `T` is what the writer added. The file is opened for each read,
/// so that a data set of thousands of files needs no thousands of descriptors.
#[derive(Debug)]
pub struct Reader<T> {
    path: PathBuf,
    wide: bool,
    /// The blocks, in file order.
    pub blocks: Vec<ExampleBlock>,
    /// What the writer added.
    pub about: T,
}

impl<T: DeserializeOwned> Reader<T> {
    /// Reads the index of a file.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).context_at("cannot read the cache", path)?;
        let index = read_index(&mut file).map_err(|error| error.at(path))?;
        let Index { wide, blocks, about } = index;
        Ok(Self { path: path.to_owned(), wide, blocks, about })
    }
}

impl<T> Reader<T> {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The facts of the examples of a block, in order.
    pub fn facts(&self, number: usize) -> Result<Vec<ExampleFacts>> {
        let block = &self.blocks[number];
        let length = block.examples as usize * FACTS_BYTES;
        let bytes = self.read_at(block.offset + block.length, length)?;
        self.check(&bytes, &block.facts_sha256)?;
        let facts = |bytes: &[u8]| ExampleFacts {
            digest: Digest(bytes[..32].try_into().expect("32 bytes")),
            line: u64::from_le_bytes(bytes[32..40].try_into().expect("8 bytes")),
            order: f64::from_le_bytes(bytes[40..48].try_into().expect("8 bytes")),
            tokens: u32::from_le_bytes(bytes[48..52].try_into().expect("4 bytes")),
            targets: u32::from_le_bytes(bytes[52..].try_into().expect("4 bytes")),
        };
        Ok(bytes.chunks_exact(FACTS_BYTES).map(facts).collect())
    }

    /// The examples of a block; `name` is the data file's.
    pub fn block(&self, number: usize, name: &Arc<str>) -> Result<Vec<CorpusEntry>> {
        let block = &self.blocks[number];
        let length =
            usize::try_from(block.length).context_code(ErrorCode::Data, "a block is too large")?;
        let bytes = self.read_at(block.offset, length)?;
        self.check(&bytes, &block.sha256)?;
        let mut rest = bytes.as_slice();
        let entry = |_| read_entry(&mut rest, self.wide, name);
        let entries: Option<Vec<CorpusEntry>> = (0..block.examples).map(entry).collect();
        entries.ok_or_else(|| self.damaged())
    }

    fn check(&self, bytes: &[u8], expected: &Digest) -> Result<()> {
        if Digest::of(bytes) == *expected { Ok(()) } else { Err(self.damaged()) }
    }

    fn damaged(&self) -> Error {
        damaged().at(&self.path)
    }

    fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        File::open(&self.path)
            .and_then(|file| read_exact_at(&file, &mut bytes, offset))
            .context_at("cannot read the cache", &self.path)?;
        Ok(bytes)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let read = std::os::windows::fs::FileExt::seek_read(
            file,
            &mut bytes[done..],
            offset + done as u64,
        )?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        done += read;
    }
    Ok(())
}

fn damaged() -> Error {
    Error::data("a file of the cache is damaged").hint("`firebrand cache gc --all` empties it")
}

fn read_index<T: DeserializeOwned>(file: &mut File) -> Result<Index<T>> {
    let mut read = || -> std::io::Result<Option<Vec<u8>>> {
        let size = file.metadata()?.len();
        let mut magic = [0; 8];
        file.read_exact(&mut magic)?;
        if size < 8 + TRAILER || magic != *MAGIC {
            return Ok(None);
        }
        let mut trailer = [0; TRAILER as usize];
        file.seek(SeekFrom::Start(size - TRAILER))?;
        file.read_exact(&mut trailer)?;
        let length = u64::from_le_bytes(trailer[..8].try_into().expect("8 bytes"));
        if length > INDEX_MAX || length > size - 8 - TRAILER {
            return Ok(None);
        }
        let mut json = vec![0; length as usize];
        file.seek(SeekFrom::Start(size - TRAILER - length))?;
        file.read_exact(&mut json)?;
        Ok((Digest::of(&json).0 == trailer[8..]).then_some(json))
    };
    let json = read().map_err(|error| damaged().because(error))?.ok_or_else(damaged)?;
    serde_json::from_slice(&json).map_err(|error| damaged().because(error))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?) as usize)
}

fn read_entry(rest: &mut &[u8], wide: bool, name: &Arc<str>) -> Option<CorpusEntry> {
    let line = u64::from_le_bytes(take(rest, 8)?.try_into().ok()?);
    let digest = Digest(take(rest, 32)?.try_into().ok()?);
    let weight = f32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
    let margin = f32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
    let (count, runs) = (number(rest)?, number(rest)?);
    let runs = take(rest, runs.checked_mul(4)?)?;
    let mut loss_mask = Vec::with_capacity(count.min(1 << 20));
    for (index, run) in runs.as_chunks::<4>().0.iter().enumerate() {
        let length = loss_mask.len() + u32::from_le_bytes(*run) as usize;
        if length > count {
            return None;
        }
        loss_mask.resize(length, index % 2 == 1);
    }
    let bytes = take(rest, count.checked_mul(if wide { 4 } else { 2 })?)?;
    let tokens = if wide {
        bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
    } else {
        bytes.as_chunks::<2>().0.iter().map(|b| u32::from(u16::from_le_bytes(*b))).collect()
    };
    let record = RecordId { file: name.clone(), line };
    (loss_mask.len() == count).then_some(CorpusEntry {
        record,
        digest,
        weight,
        margin,
        example: Example { tokens, loss_mask },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn example(number: u64, longest: u64) -> Example {
        let stream = Stream::new(number);
        let length = 1 + stream.bits(0) % longest;
        Example {
            tokens: (0..length).map(|i| (stream.bits(i) % 60_000) as u32).collect(),
            loss_mask: (0..length).map(|i| i > 0 && stream.bits(i) % 5 < 2).collect(),
        }
    }

    /// What the record of this number says of itself.
    fn numbers(number: u64) -> RecordNumbers {
        let (weight, margin) = (0.5 + number as f32, 2.0 * number as f32);
        RecordNumbers { weight, order: -(number as f64), margin }
    }

    fn written(folder: &Path, count: u64, vocabulary: usize) -> PathBuf {
        let mut writer = Writer::new(folder, vocabulary).unwrap();
        for number in 0..count {
            let digest = Digest::of(&number.to_le_bytes());
            writer.push(number + 1, &digest, numbers(number), &example(number, 50)).unwrap();
        }
        let path = folder.join("a/b.examples");
        writer.commit(&path, &"about").unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "nothing but the folder `a`");
        path
    }

    #[test]
    fn what_is_written_is_read_again_block_by_block() {
        let folder = tempfile::tempdir().unwrap();
        for vocabulary in [60_000, 200_000] {
            let path = written(folder.path(), 2345, vocabulary);
            let reader = Reader::<String>::open(&path).unwrap();
            assert_eq!(reader.about, "about");
            let sizes: Vec<u32> = reader.blocks.iter().map(|block| block.examples).collect();
            assert_eq!(sizes, [1000, 1000, 345]);
            for number in [2, 0, 1] {
                let entries = reader.block(number, &"x".into()).unwrap();
                let facts = reader.facts(number).unwrap();
                assert_eq!(entries.len(), reader.blocks[number].examples as usize);
                for (place, entry) in entries.iter().enumerate() {
                    let line = (number * BLOCK_EXAMPLES + place) as u64;
                    assert_eq!(entry.record.to_string(), format!("x:{}", line + 1));
                    assert_eq!(entry.example, example(line, 50));
                    let facts = &facts[place];
                    let RecordNumbers { weight, order, margin } = numbers(line);
                    assert_eq!((entry.weight, facts.order, entry.margin), (weight, order, margin));
                    assert_eq!((facts.digest, facts.line), (entry.digest, line + 1));
                    assert_eq!(facts.tokens as usize, entry.example.tokens.len());
                    assert_eq!(facts.targets as usize, entry.example.target_count());
                }
            }
        }
    }

    #[test]
    fn long_examples_end_blocks_early() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), 10).unwrap();
        let long = Example { tokens: vec![1; 500_000], loss_mask: vec![false; 500_000] };
        let numbers = RecordNumbers::default();
        (0..5).for_each(|line| writer.push(line, &Digest::of(b""), numbers, &long).unwrap());
        writer.commit(&folder.path().join("a"), &()).unwrap();
        let reader = Reader::<()>::open(&folder.path().join("a")).unwrap();
        let sizes: Vec<u32> = reader.blocks.iter().map(|block| block.examples).collect();
        assert_eq!(sizes, [2, 2, 1]);
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), 30, 100);
        let whole = fs::read(&path).unwrap();
        let all = |path: &Path| -> Result<()> {
            let reader = Reader::<String>::open(path)?;
            (0..reader.blocks.len()).try_for_each(|block| {
                reader.facts(block)?;
                reader.block(block, &"x".into()).map(drop)
            })
        };
        all(&path).unwrap();
        for place in (0..whole.len()).step_by(37).chain(whole.len() - 50..whole.len()) {
            let mut bytes = whole.clone();
            bytes[place] ^= 4;
            fs::write(&path, &bytes).unwrap();
            assert!(all(&path).is_err(), "a flipped bit at {place} was not found");
        }
        for length in [0, 5, 8, 47, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(all(&path).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_writer_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Writer::new(folder.path(), 10).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
