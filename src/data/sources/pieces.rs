//! Text files in pieces, one a record: found one after another in bounded memory, then read side
//! by side.

use std::io::{Sink, Write, sink};
use std::ops::Range;

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::input::Input;
use super::{Record, Records};
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry, Hashing};

/// A longer piece is a bad row. Two million tokens are more than any context holds; and what a
/// record is made into, its tokens above all, takes some fifty times its bytes while it is made.
pub const MAX_PIECE: usize = 8 << 20;
/// A longer piece ends the file: it has no records, whatever its name says.
const MAX_STEPPED_OVER: u64 = 1 << 30;
/// So many bytes of blank lines in a row end the file, too.
const MAX_BLANK: u64 = 64 << 20;
/// A batch ends at this many pieces or bytes, whichever comes first.
const BATCH_PIECES: usize = 4096;
const BATCH_BYTES: usize = 2 << 20;
/// Pieces are so short that handing them out one by one would take longer than reading them.
const AT_ONCE: usize = 16;

/// Where records stand in a text, and how one is read.
pub trait Container: Send + Sync {
    /// What a person calls the place of a record: "line" or "record".
    const PLACE: &'static str;

    /// How many of these bytes stand between pieces; fewer than all of them when a piece begins.
    fn skip(&mut self, _bytes: &[u8]) -> Result<usize, String> {
        Ok(0)
    }

    /// Looks for the end of the piece at hand in the bytes that come next. `None`: they all belong
    /// to it. Otherwise how many belong to it, and how many are done with.
    fn scan(&mut self, bytes: &[u8]) -> Option<(usize, usize)>;

    /// At the end of the file, with or without a piece begun: why that piece cannot be read.
    /// An error is one of the whole file.
    fn end(&mut self, _begun: bool) -> Result<Option<String>, String> {
        Ok(None)
    }

    /// Whether the piece is nothing at all.
    fn blank(&self, piece: &[u8]) -> bool {
        piece.trim_ascii().is_empty()
    }

    /// The fields of a record.
    fn read(&self, piece: &[u8]) -> Result<Map<String, Value>, String>;
}

/// A piece of the file.
struct FileSection {
    /// Its place, counted from 1.
    place: u64,
    /// Where it lies in the batch, or the digest of one that was too long to keep.
    bytes: Result<Range<usize>, Digest>,
    /// Why it cannot be read, where that is known already.
    reason: Option<String>,
}

/// The records of a text file.
pub struct Pieces<C> {
    input: Input,
    container: C,
    /// Pieces or lines that lie behind.
    behind: u64,
    max_piece: usize,
    batch: Vec<u8>,
}

impl<C: Container> Pieces<C> {
    /// The pieces of what is left of a file.
    pub fn new(input: Input, container: C) -> Self {
        Self::with_limit(input, container, MAX_PIECE)
    }

    /// With another limit than [`MAX_PIECE`] on the bytes of a piece.
    pub fn with_limit(input: Input, container: C, max_piece: usize) -> Self {
        Self { input, container, behind: 0, max_piece, batch: Vec::new() }
    }

    /// How records are told apart.
    pub fn container(&mut self) -> &mut C {
        &mut self.container
    }

    /// The next piece that is not blank: a copy of its bytes, or why it has none.
    pub fn next_alone(&mut self) -> Result<Option<Result<Vec<u8>, String>>> {
        self.batch.clear();
        let Some(piece) = self.next_piece()? else { return Ok(None) };
        let bytes = match (piece.reason, piece.bytes) {
            (Some(reason), _) => Err(reason),
            (None, Ok(range)) => Ok(self.batch[range].to_vec()),
            (None, Err(_)) => Err(too_long::<C>(self.max_piece)),
        };
        Ok(Some(bytes))
    }

    /// Moves the next piece that is not blank into the batch.
    fn next_piece(&mut self) -> Result<Option<FileSection>> {
        let mut blank = 0;
        loop {
            if !self.skip(&mut blank)? {
                self.at_end(false)?;
                return Ok(None);
            }
            let start = self.batch.len();
            let (place, mut dropped) = (self.behind + 1, None);
            let reason = self.take_piece(start, &mut dropped)?;
            if let Some(dropped) = dropped {
                let (_, _, digest) = dropped.finish();
                return Ok(Some(FileSection { place, bytes: Err(digest), reason }));
            }
            let by_line = C::PLACE == "line";
            if by_line && self.batch.len() > start && self.batch.ends_with(b"\r") {
                self.batch.pop();
            }
            if reason.is_none() && self.container.blank(&self.batch[start..]) {
                self.count_blank(&mut blank, self.batch.len() - start + 1)?;
                self.batch.truncate(start);
                continue;
            }
            self.input.count_record(self.batch.len() - start)?;
            return Ok(Some(FileSection { place, bytes: Ok(start..self.batch.len()), reason }));
        }
    }

    /// Steps over what stands between pieces; false at the end of the file.
    fn skip(&mut self, blank: &mut u64) -> Result<bool> {
        loop {
            let bytes = self.input.next_bytes()?;
            let all = bytes.len();
            if all == 0 {
                return Ok(false);
            }
            let skipped = self.container.skip(bytes).map_err(|reason| self.broken(reason))?;
            self.input.consume(skipped);
            if skipped < all {
                return Ok(true);
            }
            self.count_blank(blank, skipped)?;
        }
    }

    /// More of the blank bytes that follow each other.
    fn count_blank(&self, blank: &mut u64, bytes: usize) -> Result<()> {
        *blank += bytes as u64;
        match *blank > MAX_BLANK {
            true => Err(self.broken(format!(
                "more than {} MiB of blanks stand before {} {}",
                MAX_BLANK >> 20,
                C::PLACE,
                self.behind + 1
            ))),
            false => Ok(()),
        }
    }

    /// Appends a piece to the batch, which held `start` bytes before it. One that is too long is
    /// only hashed.
    fn take_piece(
        &mut self,
        start: usize,
        dropped: &mut Option<Hashing<Sink>>,
    ) -> Result<Option<String>> {
        let by_line = C::PLACE == "line";
        let mut stepped_over = 0;
        loop {
            let bytes = self.input.next_bytes()?;
            if bytes.is_empty() {
                self.behind += 1;
                return self.at_end(true);
            }
            let found = self.container.scan(bytes);
            let (taken, done) = found.unwrap_or((bytes.len(), bytes.len()));
            let part = &bytes[..taken];
            if dropped.is_none() && self.batch.len() - start + taken > self.max_piece {
                let mut hashing = Hashing::new(sink());
                hash(&mut hashing, &self.batch[start..]);
                self.batch.truncate(start);
                *dropped = Some(hashing);
            }
            match dropped {
                Some(hashing) => {
                    hash(hashing, part);
                    stepped_over += taken as u64;
                }
                None => {
                    // To grow by doubling would take twice as much for a moment.
                    if self.batch.len() + taken > self.batch.capacity().max(BATCH_BYTES) {
                        let room = self.max_piece - (self.batch.len() - start);
                        self.batch.reserve_exact(room.max(taken));
                    }
                    self.batch.extend_from_slice(part);
                }
            }
            if by_line {
                self.behind += memchr::memchr_iter(b'\n', &bytes[..done]).count() as u64;
            }
            self.input.consume(done);
            if stepped_over > MAX_STEPPED_OVER {
                let (place, most) = (C::PLACE, MAX_STEPPED_OVER >> 30);
                return Err(self.broken(format!("a {place} has no end within {most} GiB")));
            }
            if found.is_some() {
                self.behind += u64::from(!by_line);
                return Ok(None);
            }
        }
    }

    fn at_end(&mut self, begun: bool) -> Result<Option<String>> {
        self.container.end(begun).map_err(|reason| self.broken(reason))
    }

    fn broken(&self, reason: String) -> Error {
        Error::data(reason).at(self.input.path())
    }
}

fn hash(hashing: &mut Hashing<Sink>, bytes: &[u8]) {
    hashing.write_all(bytes).expect("a sink takes any bytes");
}

fn too_long<C: Container>(max: usize) -> String {
    let place = C::PLACE;
    format!("the {place} is longer than {max} bytes, which is the limit for a record: split it")
}

impl<C: Container> Records for Pieces<C> {
    fn next_batch(&mut self) -> Result<Vec<Record>> {
        self.batch.clear();
        // One huge piece must not cost memory for ever.
        self.batch.shrink_to(2 * BATCH_BYTES);
        let mut pieces = Vec::new();
        while pieces.len() < BATCH_PIECES && self.batch.len() < BATCH_BYTES {
            let Some(piece) = self.next_piece()? else { break };
            pieces.push(piece);
        }
        let (container, batch, max) = (&self.container, &self.batch, self.max_piece);
        let record = |piece: FileSection| match (piece.bytes, piece.reason) {
            (Err(digest), reason) => {
                let reason = reason.unwrap_or_else(|| too_long::<C>(max));
                Record { line: piece.place, digest, content: Err(reason) }
            }
            (Ok(range), reason) => {
                let bytes = &batch[range];
                let content = reason.map_or_else(|| container.read(bytes), Err);
                Record::new(piece.place, bytes, content)
            }
        };
        Ok(pieces.into_par_iter().with_min_len(AT_ONCE).map(record).collect())
    }

    fn finish(self: Box<Self>) -> Result<FileEntry> {
        self.input.finish()
    }
}
