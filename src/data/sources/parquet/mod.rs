//! Parquet: one record a row, row groups one after another.
//!
//! The library reads pages and values. But a file of this kind is full of claims about itself, and
//! the library believes most of them. So they are looked at first (`claims`, `lengths`, `pages`),
//! panics of the library become errors, and a row is put together here (`leaf`, `assemble`). What
//! is in memory at once is bounded: pages, and the rows of one batch.

mod claims;
mod lengths;
mod pages;
mod leaf;
mod assemble;

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ::parquet::column::reader::{ColumnReader, get_column_reader};
use ::parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};
use rayon::prelude::*;

use self::assemble::Node;
use self::leaf::Leaf;
use self::pages::{Budget, Pages};
use super::expansion::{self, Expansion};
use super::input::{Packing, open_file};
use super::pieces::MAX_PIECE;
use super::{Record, Records, Source};
use crate::error::{Context, Error, ErrorCode, Result, catch_panic};
use crate::files::{FileEntry, Hashing};

/// A larger footer is refused; a thousand row groups of twenty columns need 3 MB.
const MAX_FOOTER: u64 = 16 << 20;
/// The file begins and ends with this; the length of the footer stands before the end.
const MAGIC: &[u8; 4] = b"PAR1";
/// Rows are read together as long as they take about so much memory, and never more of them.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_ROWS: usize = 1024;
/// So many rows are read while nothing is known of their size.
const FIRST_ROWS: usize = 8;

/// The container `.parquet`.
pub struct Parquet;

impl Source for Parquet {
    fn extensions(&self) -> &'static [&'static str] {
        &["parquet"]
    }

    /// Parquet packs its pages itself, and is not read from front to back.
    fn packable(&self) -> bool {
        false
    }

    fn open(&self, path: &Path, _packing: Packing) -> Result<Box<dyn Records>> {
        Ok(Box::new(Rows::open(path)?))
    }
}

/// The rows of a file.
struct Rows {
    path: PathBuf,
    file: Arc<File>,
    /// What the file was when it was opened.
    stamp: Stamp,
    metadata: ParquetMetaData,
    root: Node,
    leaves: Vec<Leaf>,
    budget: Arc<Budget>,
    /// What the records took so far: a dictionary gives few bytes to very many of them.
    given: Expansion,
    /// The row group that comes next.
    group: usize,
    readers: Vec<ColumnReader>,
    /// Rows of the row group that were not read yet.
    left: usize,
    /// How many rows are read next.
    rows: usize,
    /// What each row in memory costs, and the first of them that was not handed on.
    costs: Vec<usize>,
    next: usize,
    /// Rows that were handed on.
    behind: u64,
}

/// By what a changed file is recognised.
#[derive(PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let changed = {
            use std::os::unix::fs::MetadataExt;
            (metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let changed = (0, 0);
        Self { size: metadata.len(), modified: metadata.modified().ok(), changed }
    }
}

impl Rows {
    fn open(path: &Path) -> Result<Self> {
        let file = open_file(path)?;
        let stamp = Stamp::of(&file.metadata().context_at("cannot read the data set", path)?);
        let size = stamp.size;
        let footer = footer(&file, size).map_err(|error| error.at(path))?;
        let damaged = |reason: String| {
            Error::data("the Parquet file cannot be read").at(path).because(reason).hint(DAMAGED)
        };
        claims::check_footer(&footer).map_err(damaged)?;
        let mut options = ParquetMetaDataOptions::default();
        options.set_column_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let decode =
            || ParquetMetaDataReader::decode_metadata_with_options(&footer, Some(&options));
        let metadata = guarded(decode).map_err(damaged)?;
        let schema = metadata.file_metadata().schema_descr();
        let root = Node::new(schema.root_schema()).map_err(damaged)?;
        let leaves = schema.columns().iter().map(|column| Leaf::new(column)).collect();
        Ok(Self {
            path: path.to_path_buf(),
            file: Arc::new(file),
            stamp,
            metadata,
            root,
            leaves,
            budget: Arc::new(Budget::new(size)),
            given: Expansion::of(size),
            group: 0,
            readers: Vec::new(),
            left: 0,
            rows: FIRST_ROWS,
            costs: Vec::new(),
            next: 0,
            behind: 0,
        })
    }

    /// Reads more rows into memory; false at the end of the file.
    fn load(&mut self) -> Result<bool> {
        while self.left == 0 {
            self.readers.clear();
            if self.group == self.metadata.num_row_groups() {
                return Ok(false);
            }
            self.group += 1;
            self.open_group().map_err(|reason| self.broken(reason))?;
        }
        self.fill().map_err(|reason| self.broken(reason))?;
        Ok(true)
    }

    fn open_group(&mut self) -> Result<(), String> {
        let group = self.metadata.row_group(self.group - 1);
        let rows =
            usize::try_from(group.num_rows()).map_err(|_| "its number of rows is negative")?;
        if group.num_columns() != self.leaves.len() {
            return Err("it has other columns than the schema".to_owned());
        }
        let mut readers = Vec::with_capacity(self.leaves.len());
        for (chunk, leaf) in group.columns().iter().zip(&self.leaves) {
            let (file, size) = (&self.file, self.stamp.size);
            let pages = guarded(|| Pages::new(file, size, chunk, rows, leaf.width(), &self.budget));
            let pages = pages.map_err(|reason| in_column(chunk, &reason))?;
            readers.push(get_column_reader(chunk.column_descr_ptr(), Box::new(pages)));
        }
        (self.readers, self.left) = (readers, rows);
        Ok(())
    }

    /// Reads as many rows as are expected to make a batch.
    fn fill(&mut self) -> Result<(), String> {
        let rows = self.rows.min(self.left);
        self.leaves.iter_mut().for_each(Leaf::clear);
        self.budget.begin_rows();
        self.costs.clear();
        self.costs.resize(rows, 0);
        self.next = 0;
        let mut given = rows as u64 * expansion::RECORD;
        let chunks = self.metadata.row_group(self.group - 1).columns();
        for ((leaf, reader), chunk) in self.leaves.iter_mut().zip(&mut self.readers).zip(chunks) {
            let read = guarded(|| leaf.fill(reader, rows));
            let read = read.map_err(|reason| in_column(chunk, &reason))?;
            if read != rows {
                return Err(in_column(chunk, "it has fewer rows than the row group"));
            }
            given += leaf
                .index(&mut self.costs)
                .ok_or_else(|| in_column(chunk, "its levels do not make rows"))?;
        }
        self.given.add(given)?;
        self.left -= rows;
        let cost = self.costs.iter().fold(1_usize, |sum, cost| sum.saturating_add(*cost));
        let fitting = (rows as u128 * BATCH_BYTES as u128 / cost as u128) as usize;
        self.rows = fitting.clamp(1, (4 * rows).min(BATCH_ROWS));
        Ok(())
    }

    /// The next rows in memory, as many as make a batch.
    fn hand_on(&mut self) -> Vec<Record> {
        let start = self.next;
        let mut size = 0;
        while self.next < self.costs.len() && size < BATCH_BYTES {
            let cost = self.costs[self.next];
            // One that is too large is not put together.
            size += if cost > MAX_PIECE { 0 } else { cost };
            self.next += 1;
        }
        let before = self.behind - start as u64;
        self.behind += (self.next - start) as u64;
        let this = Assembler { root: &self.root, leaves: &self.leaves, costs: &self.costs };
        let rows = (start..self.next).into_par_iter();
        rows.map(|row| this.record(row, before + row as u64 + 1)).collect()
    }

    fn broken(&self, reason: String) -> Error {
        let (group, of) = (self.group, self.metadata.num_row_groups());
        let exceeded = self.given.is_exceeded() || self.budget.is_exceeded();
        Error::data(format!("row group {group} of {of} cannot be read"))
            .at(&self.path)
            .because(reason)
            .hint(if exceeded { expansion::HINT } else { DAMAGED })
    }
}

const DAMAGED: &str = "if the file was cut off or damaged on its way, fetch it again; otherwise \
                       write it again with a current library";

fn in_column(chunk: &::parquet::file::metadata::ColumnChunkMetaData, reason: &str) -> String {
    format!("column `{}`: {reason}", chunk.column_path().string())
}

/// What is needed to put rows together side by side.
struct Assembler<'a> {
    root: &'a Node,
    leaves: &'a [Leaf],
    costs: &'a [usize],
}

impl Assembler<'_> {
    fn record(&self, row: usize, number: u64) -> Record {
        let content = match self.costs[row] > MAX_PIECE {
            true => Err(format!(
                "the record is larger than {MAX_PIECE} bytes, which is the limit: split it"
            )),
            false => assemble::record(self.root, self.leaves, row),
        };
        let mut raw = Vec::new();
        if content.is_err() {
            self.leaves.iter().for_each(|leaf| leaf.raw(row, &mut raw));
        }
        Record::new(number, &raw, content)
    }
}

impl Records for Rows {
    fn next_batch(&mut self) -> Result<Vec<Record>> {
        while self.next == self.costs.len() {
            if !self.load()? {
                return Ok(Vec::new());
            }
        }
        Ok(self.hand_on())
    }

    fn finish(self: Box<Self>) -> Result<FileEntry> {
        let read = || -> std::io::Result<_> {
            let mut file = &*self.file;
            file.seek(SeekFrom::Start(0))?;
            let mut bytes = Hashing::new(file);
            let mut buffer = vec![0; 1 << 20];
            while bytes.read(&mut buffer)? > 0 {}
            let (_, size, sha256) = bytes.finish();
            Ok((size, sha256, Stamp::of(&self.file.metadata()?)))
        };
        let (size, sha256, stamp) = read().context_at("cannot read the data set", &self.path)?;
        if stamp != self.stamp || size != self.stamp.size {
            return Err(Error::changed("the data set was changed while it was read")
                .at(&self.path)
                .hint("run again once nothing writes to it"));
        }
        Ok(FileEntry { path: self.path.to_string_lossy().into_owned(), size, sha256 })
    }
}

/// The bytes of the footer.
fn footer(file: &File, size: u64) -> Result<Vec<u8>> {
    let read = |at: u64, count: u64| -> Result<Vec<u8>> {
        let mut file = file;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at)).context_code(ErrorCode::File, "cannot read the data set")?;
        file.take(count)
            .read_to_end(&mut bytes)
            .context_code(ErrorCode::File, "cannot read the data set")?;
        Ok(bytes)
    };
    let none = || Error::data("the file is not a whole Parquet file").hint(DAMAGED);
    if size < 12 || read(0, 4)? != MAGIC {
        return Err(none().because("it does not begin with `PAR1`"));
    }
    let tail = read(size - 8, 8)?;
    let length = match tail.split_first_chunk() {
        Some((length, magic)) if magic == MAGIC => u64::from(u32::from_le_bytes(*length)),
        _ => return Err(none().because("it does not end with `PAR1`")),
    };
    if length > size - 12 {
        return Err(none().because(format!("its footer claims {length} bytes")));
    }
    if length > MAX_FOOTER {
        return Err(none().because(format!("its footer of {length} bytes is refused")));
    }
    read(size - 8 - length, length)
}

/// Calls the library. It panics on some damaged files; that is an error like any other.
fn guarded<T>(work: impl FnOnce() -> ::parquet::errors::Result<T>) -> Result<T, String> {
    match catch_panic(work) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(said) => {
            Err(format!("its data make no sense ({})", said.lines().next().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests;
