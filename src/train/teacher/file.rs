//! What a teacher says of the examples of a run, on disk: written once, then read example by
//! example, whatever rows they stand in.
//!
//! ```text
//! FBTEACH1, tokens a target (4 bytes) | targets of an example | … | index, its length, its SHA-256
//! ```
//!
//! Numbers are little-endian. A target: its likeliest tokens, each with its log-probability
//! (4 + 4), and the log-probability of all others (4). The index has of each example the digest of
//! its tokens and targets (32), where its own lie (8), how many they are (4), and their SHA-256
//! (32).

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::data::{Batch, CacheItem, TeacherTop};
use crate::error::{Context, Error, Result};
use crate::files::Digest;

const MAGIC: &[u8; 8] = b"FBTEACH1";
/// The folder in the cache.
const FOLDER: &str = "teachers";
/// An example in the index.
const ENTRY_BYTES: usize = 32 + 8 + 4 + 32;
/// Length and digest of the index.
const TRAILER_BYTES: u64 = 8 + 32;
/// An index of ten million examples has less; more is damage.
const INDEX_BYTES_MAX: u64 = 1 << 30;

/// Where what is said of an example lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    targets: u32,
    sha256: Digest,
}

/// A file that is read.
#[derive(Debug)]
pub struct TeacherFile {
    path: PathBuf,
    count: usize,
    index: HashMap<Digest, Place>,
}

/// Everything that teachers have said, in a cache.
pub fn filed_teachers(cache: &Path) -> Vec<CacheItem> {
    let shelves = fs::read_dir(cache.join(FOLDER)).into_iter().flatten().flatten();
    let files =
        shelves.flat_map(|shelf| fs::read_dir(shelf.path()).into_iter().flatten().flatten());
    let item = |entry: fs::DirEntry| {
        let (path, found) = (entry.path(), entry.metadata().ok()?);
        let name = match TeacherFile::open(&path) {
            Ok(file) => format!("what a teacher says of {} examples", file.index.len()),
            Err(_) => format!("{}: not finished, or damaged", path.display()),
        };
        let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let bytes = found.len();
        Some(CacheItem { name, paths: vec![path], bytes, used, download: false })
    };
    files.filter_map(item).collect()
}

/// Where what is said under a digest lies in a cache.
pub fn place_of(cache: &Path, digest: &Digest) -> PathBuf {
    let digest = digest.to_string();
    cache.join(FOLDER).join(&digest[..2]).join(format!("{digest}.teacher"))
}

/// What a document of a batch is filed under: its tokens, and which of them are targets.
pub fn key_of(batch: &Batch, (places, targets): (&Range<usize>, &Range<usize>)) -> Digest {
    let tokens = &batch.tokens[places.clone()];
    let mut bytes = Vec::with_capacity(8 + 4 * (tokens.len() + targets.len()));
    bytes.extend((tokens.len() as u64).to_le_bytes());
    bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    for target in &batch.targets[targets.clone()] {
        let within = target.index - u32::try_from(places.start).expect("a batch is small");
        bytes.extend(within.to_le_bytes());
    }
    Digest::of(&bytes)
}

fn target_bytes(count: usize) -> usize {
    8 * count + 4
}

impl TeacherFile {
    /// Reads the index of a file.
    pub fn open(path: &Path) -> Result<Self> {
        let found = Self::read(path).context_at("cannot read the cache", path)?;
        found.ok_or_else(|| damaged(path))
    }

    /// Notes that it is used now: what was not used for longest is removed first.
    pub fn used(&self) {
        // A hint; without it the file is just old.
        let file = File::options().append(true).open(&self.path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    fn read(path: &Path) -> std::io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let (mut head, mut trailer) = ([0; 12], [0; TRAILER_BYTES as usize]);
        if size < head.len() as u64 + TRAILER_BYTES {
            return Ok(None);
        }
        file.read_exact(&mut head)?;
        file.seek(SeekFrom::Start(size - TRAILER_BYTES))?;
        file.read_exact(&mut trailer)?;
        let length = u64::from_le_bytes(trailer[..8].try_into().expect("8 bytes"));
        let room = size - head.len() as u64 - TRAILER_BYTES;
        if head[..8] != *MAGIC || length > INDEX_BYTES_MAX.min(room) {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.seek(SeekFrom::Start(size - TRAILER_BYTES - length))?;
        file.read_exact(&mut bytes)?;
        let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        if Digest::of(&bytes).0 != trailer[8..] || !rest.is_empty() {
            return Ok(None);
        }
        let entry = |bytes: &[u8; ENTRY_BYTES]| {
            let digest = |at: usize| Digest(bytes[at..at + 32].try_into().expect("32 bytes"));
            let offset = u64::from_le_bytes(bytes[32..40].try_into().expect("8 bytes"));
            let targets = u32::from_le_bytes(bytes[40..44].try_into().expect("4 bytes"));
            (digest(0), Place { offset, targets, sha256: digest(44) })
        };
        let count = u32::from_le_bytes(head[8..].try_into().expect("4 bytes")) as usize;
        let index = entries.iter().map(entry).collect();
        Ok((count > 0).then(|| Self { path: path.to_owned(), count, index }))
    }

    /// Gives a batch what the teacher says of its targets.
    ///
    /// # Errors
    /// When the file is damaged, or has nothing of an example.
    pub fn teach(&self, batch: &mut Batch) -> Result<()> {
        let mut tops = Vec::with_capacity(batch.targets.len());
        for (places, targets) in batch.documents_with_targets() {
            let key = key_of(batch, (&places, &targets));
            let place = self.index.get(&key).ok_or_else(|| {
                Error::data("the teacher has said nothing of an example").at(&self.path).hint(
                    "`firebrand cache gc --all` empties the cache; the teacher is asked again then",
                )
            })?;
            tops.extend(self.tops(place)?);
        }
        batch.teacher = tops;
        Ok(())
    }

    fn tops(&self, place: &Place) -> Result<Vec<TeacherTop>> {
        let size = target_bytes(self.count);
        let mut bytes = vec![0; place.targets as usize * size];
        File::open(&self.path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(place.offset))?;
                file.read_exact(&mut bytes)
            })
            .context_at("cannot read the cache", &self.path)?;
        if Digest::of(&bytes) != place.sha256 {
            return Err(damaged(&self.path));
        }
        let number = |bytes: &[u8]| -> [u8; 4] { bytes.try_into().expect("4 bytes") };
        let top = |bytes: &[u8]| {
            let (named, rest) = bytes.split_at(size - 4);
            let token = |pair: &[u8]| {
                let (token, log_prob) = pair.split_at(4);
                (u32::from_le_bytes(number(token)), f32::from_le_bytes(number(log_prob)))
            };
            let likeliest = named.chunks_exact(8).map(token).collect();
            TeacherTop { likeliest, rest: f32::from_le_bytes(number(rest)) }
        };
        Ok(bytes.chunks_exact(size).map(top).collect())
    }
}

fn damaged(path: &Path) -> Error {
    Error::data("a file of the cache is damaged")
        .at(path)
        .hint("remove it: the teacher is asked again then")
}

/// Writes a file; nothing is left of one that is not finished.
pub struct TeacherWriter {
    path: PathBuf,
    target: PathBuf,
    file: BufWriter<File>,
    offset: u64,
    count: usize,
    index: Vec<u8>,
    done: bool,
}

impl TeacherWriter {
    /// Begins a file of so many tokens a target, beside the place where it will be.
    pub fn new(target: &Path, count: usize) -> Result<Self> {
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).context_at("cannot make the cache folder", folder)?;
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let path = target.with_file_name(name);
        let _ = fs::remove_file(&path); // a leftover of a process that had the same number
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.context_at("cannot write into the cache", &path)?;
        let file = BufWriter::with_capacity(1 << 20, file);
        let (target, index) = (target.to_owned(), Vec::new());
        let mut writer = Self { path, target, file, offset: 0, count, index, done: false };
        writer.put(MAGIC)?;
        writer.put(&u32::try_from(count).expect("tokens are few").to_le_bytes())?;
        Ok(writer)
    }

    /// Adds what is said of an example.
    pub fn push(&mut self, key: &Digest, tops: &[TeacherTop]) -> Result<()> {
        let mut bytes = Vec::with_capacity(tops.len() * target_bytes(self.count));
        for top in tops {
            for (token, log_prob) in top.likeliest.iter() {
                bytes.extend(token.to_le_bytes());
                bytes.extend(log_prob.to_le_bytes());
            }
            bytes.extend(top.rest.to_le_bytes());
        }
        self.index.extend(key.0);
        self.index.extend(self.offset.to_le_bytes());
        self.index.extend(u32::try_from(tops.len()).expect("an example is short").to_le_bytes());
        self.index.extend(Digest::of(&bytes).0);
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context_at("cannot write into the cache", &self.path)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Ends the file and puts it in its place.
    pub fn commit(mut self) -> Result<()> {
        let index = std::mem::take(&mut self.index);
        self.put(&index)?;
        self.put(&(index.len() as u64).to_le_bytes())?;
        self.put(&Digest::of(&index).0)?;
        // No fsync: a file that a power cut tears is found by its digests and made again.
        self.file.flush().context_at("cannot write into the cache", &self.path)?;
        fs::rename(&self.path, &self.target)
            .context_at("cannot write into the cache", &self.target)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for TeacherWriter {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Target;

    /// Two documents with targets, one without, and padding.
    fn batch() -> Batch {
        Batch {
            rows: 1,
            length: 9,
            tokens: vec![5, 6, 7, 1, 2, 8, 9, 3, 0],
            positions: vec![0, 1, 2, 0, 1, 0, 1, 2, 0],
            documents: vec![1, 1, 1, 2, 2, 3, 3, 3, 0],
            targets: [(0, 6), (1, 7), (6, 3)]
                .map(|(index, token)| Target { index, token })
                .to_vec(),
            ..Batch::default()
        }
    }

    fn top(number: u32) -> TeacherTop {
        TeacherTop { likeliest: [(number, -0.5), (number + 1, -2.0)].into(), rest: -1.25 }
    }

    #[test]
    fn what_is_written_of_an_example_is_found_in_any_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.teacher");
        let mut writer = TeacherWriter::new(&path, 2).unwrap();
        let whole = batch();
        let documents = whole.documents_with_targets();
        assert_eq!(documents, [(0..3, 0..2), (5..8, 2..3)]);
        let keys: Vec<Digest> =
            documents.iter().map(|(places, targets)| key_of(&whole, (places, targets))).collect();
        writer.push(&keys[1], &[top(70)]).unwrap();
        writer.push(&keys[0], &[top(10), top(20)]).unwrap();
        writer.commit().unwrap();
        let file = TeacherFile::open(&path).unwrap();
        let mut taught = whole.clone();
        file.teach(&mut taught).unwrap();
        assert_eq!(taught.teacher, [top(10), top(20), top(70)]);
        assert_eq!(taught.digest(), whole.digest(), "it is the same batch");
        // The last document alone, in a row of its own.
        let mut alone = Batch {
            length: 3,
            tokens: vec![8, 9, 3],
            positions: vec![0, 1, 2],
            documents: vec![1, 1, 1],
            targets: vec![Target { index: 1, token: 3 }],
            ..batch()
        };
        file.teach(&mut alone).unwrap();
        assert_eq!(alone.teacher, [top(70)]);
        alone.targets[0] = Target { index: 0, token: 9 };
        assert!(file.teach(&mut alone).is_err(), "another target is another example");
    }

    #[test]
    fn damage_is_found_and_an_unfinished_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.teacher");
        let mut writer = TeacherWriter::new(&path, 2).unwrap();
        let documents = batch().documents_with_targets();
        for (places, targets) in &documents {
            let tops: Vec<TeacherTop> = targets.clone().map(|it| top(it as u32)).collect();
            writer.push(&key_of(&batch(), (places, targets)), &tops).unwrap();
        }
        writer.commit().unwrap();
        drop(TeacherWriter::new(&folder.path().join("c"), 2).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 4;
            fs::write(&path, &bytes).unwrap();
            let taught = TeacherFile::open(&path).and_then(|file| file.teach(&mut batch()));
            let of_count = (8..12).contains(&place); // other records then
            assert!(taught.is_err() || of_count, "a flipped bit at {place} was not found");
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(TeacherFile::open(&path).is_err());
    }
}
