//! What an epoch is made of, as arithmetic: which examples stand in which window.
//!
//! The files of a data set are permuted, and the blocks of each file; so many consecutive blocks
//! as `data.window_rows` and `data.window_bytes` allow make a window. Several data sets advance
//! evenly: the next block is always one of the set of which the smallest share is used up.
//! Without `data.shuffle` sets, files and blocks come in their order. A set of weight 2.5 comes
//! two and a half times: its last round ends after half of its bytes.
//!
//! Only the files before a window must be known to know the window, so training starts with the
//! first file, and a window costs nothing but its own blocks wherever it lies.

use std::sync::Arc;

use super::example::CorpusEntry;
use super::examples::{ExampleFacts, TOKEN_BYTES};
use super::order::permuted;
use crate::error::Result;
use crate::random::Stream;

/// A file of a data set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// Number of the set in the configuration.
    pub set: u32,
    /// Number of the file in the set.
    pub file: u32,
}

/// What is known of a set without reading its files.
#[derive(Debug, Clone, PartialEq)]
pub struct SetShape {
    /// Sizes of its files in bytes, as they lie on the hub or on disk.
    pub sizes: Vec<u64>,
    /// How often its records come in an epoch.
    pub weight: f64,
}

/// How many examples and tokens each block of a file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSize {
    /// Examples.
    pub examples: u32,
    /// Tokens.
    pub tokens: u64,
}

/// Where examples come from; asked by several threads at once.
pub trait Blocks: Send + Sync {
    /// The sets, in the order of the configuration.
    fn sets(&self) -> &[SetShape];
    /// The blocks of a file; fetches and tokenises it if need be.
    fn sizes(&self, file: FileId) -> Result<Arc<[BlockSize]>>;
    /// The examples of a block.
    fn read(&self, file: FileId, block: u32) -> Result<Vec<CorpusEntry>>;
    /// Facts of the examples of a block, in order.
    fn facts(&self, file: FileId, block: u32) -> Result<Vec<ExampleFacts>>;
    /// Asks work on other threads to end soon; what they did not finish is an error to them.
    fn stop(&self);
}

/// Consecutive examples of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Their file.
    pub file: FileId,
    /// Their block.
    pub block: u32,
    /// The first, counted within the block.
    pub start: u32,
    /// One after the last.
    pub end: u32,
    /// Only so many of them, drawn with this key; at the end of a round that is not whole.
    pub keep: Option<(u32, Stream)>,
    /// What they take in memory.
    bytes: u64,
    /// Their share of the file in bytes.
    raw: f64,
    /// Those that are meant, by their places in the block, each with its position in a window that
    /// goes by a curriculum.
    pub picked: Option<Vec<(u32, u32)>>,
}

/// What is shuffled and packed together.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// In the epoch's order.
    pub units: Vec<Unit>,
    /// Bytes of the epoch before it.
    pub before: f64,
    /// Its own bytes.
    pub bytes: f64,
}

/// Settings of the order.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// The run's numbers.
    pub key: Stream,
    /// Whether anything is permuted.
    pub shuffle: bool,
    /// Examples in a window at most.
    pub window_rows: u64,
    /// Bytes of examples in a window at most.
    pub window_bytes: u64,
}

impl Unit {
    /// Examples of a block, with their positions in a window.
    pub fn picked(file: FileId, block: u32, picked: Vec<(u32, u32)>) -> Self {
        let end = picked.iter().map(|(place, _)| place + 1).max().unwrap_or(0);
        let (keep, bytes, raw) = (None, 0, 0.0);
        Self { file, block, start: 0, end, keep, bytes, raw, picked: Some(picked) }
    }

    /// The places of its examples within its block, in order; of a curriculum in that.
    pub fn chosen(&self) -> Vec<u32> {
        if let Some(picked) = &self.picked {
            return picked.iter().map(|(place, _)| *place).collect();
        }
        let all = self.start..self.end;
        let Some((count, key)) = self.keep else { return all.collect() };
        let length = u64::from(self.end - self.start);
        let draw = |place| {
            let number = permuted(key, length, u64::from(place));
            self.start + u32::try_from(number).expect("below the length of the unit")
        };
        let mut drawn: Vec<u32> = (0..count.min(self.end - self.start)).map(draw).collect();
        drawn.sort_unstable();
        drawn
    }
}

impl Window {
    /// A window without examples.
    pub fn empty() -> Self {
        Self { units: Vec::new(), before: 0.0, bytes: 0.0 }
    }
}

/// Bytes of all sets by their weights.
pub fn total_bytes(sets: &[SetShape]) -> f64 {
    sets.iter().map(set_bytes).sum()
}

#[expect(clippy::cast_precision_loss)] // a share of a set need not be exact
fn set_bytes(set: &SetShape) -> f64 {
    set.sizes.iter().sum::<u64>() as f64 * set.weight
}

/// Goes through an epoch unit by unit.
pub struct Walk {
    order: Order,
    sets: Vec<SetWalk>,
    /// Units of the window in the making. They stay here when a file cannot be had, so that
    /// trying again later goes on where it stopped.
    units: Vec<Unit>,
    /// A unit that did not fit into the window before.
    pending: Option<Unit>,
    before: f64,
}

impl Walk {
    /// At the beginning of an epoch.
    pub fn new(sets: &[SetShape], order: Order, epoch: u64) -> Self {
        let walk = |(number, set): (u32, &SetShape)| SetWalk {
            set: number,
            sizes: set.sizes.clone(),
            weight: set.weight,
            order,
            key: order.key.site("data.sets").number(epoch).number(u64::from(number)),
            total: set_bytes(set),
            used: 0.0,
            place: (0, 0),
            file: None,
        };
        let sets = (0..).zip(sets).map(walk).collect();
        Self { order, sets, units: Vec::new(), pending: None, before: 0.0 }
    }

    /// The next window; none at the end.
    pub fn window(&mut self, blocks: &dyn Blocks) -> Result<Option<Window>> {
        loop {
            let unit = match self.pending.take() {
                Some(unit) => Some(unit),
                None => self.next(blocks)?,
            };
            let Some(unit) = unit else { break };
            if self.is_full_with(&unit) {
                self.pending = Some(unit);
                break;
            }
            self.units.push(unit);
        }
        if self.units.is_empty() {
            return Ok(None);
        }
        let units = std::mem::take(&mut self.units);
        let bytes = units.iter().map(|unit| unit.raw).sum();
        let window = Window { units, before: self.before, bytes };
        self.before += bytes;
        Ok(Some(window))
    }

    /// Whether a unit is too much for the window in the making; a window has at least one.
    fn is_full_with(&self, unit: &Unit) -> bool {
        let all = || self.units.iter().chain([unit]);
        let examples: u64 = all().map(|unit| u64::from(unit.end - unit.start)).sum();
        let bytes: u64 = all().map(|unit| unit.bytes).sum();
        let full = examples > self.order.window_rows || bytes > self.order.window_bytes;
        full && !self.units.is_empty()
    }

    /// The next unit, whatever window it is in; none at the end.
    pub fn next(&mut self, blocks: &dyn Blocks) -> Result<Option<Unit>> {
        while !self.sets.is_empty() {
            let chosen = if self.order.shuffle {
                let share = |walk: &SetWalk| walk.used / walk.total.max(f64::MIN_POSITIVE);
                let places = 0..self.sets.len();
                // Of equal ones the first, so that nothing is left to chance.
                places
                    .min_by(|a, b| share(&self.sets[*a]).total_cmp(&share(&self.sets[*b])))
                    .unwrap_or(0)
            } else {
                0
            };
            match self.sets[chosen].next(blocks)? {
                Some(unit) => return Ok(Some(unit)),
                None => self.sets.remove(chosen),
            };
        }
        Ok(None)
    }
}

/// Goes through the rounds of one set.
struct SetWalk {
    set: u32,
    sizes: Vec<u64>,
    weight: f64,
    order: Order,
    key: Stream,
    /// Bytes of all rounds, and those that were passed.
    total: f64,
    used: f64,
    /// Round, and place in the order of its files.
    place: (u64, u64),
    file: Option<FileWalk>,
}

impl SetWalk {
    fn next(&mut self, blocks: &dyn Blocks) -> Result<Option<Unit>> {
        loop {
            let left = self.left_in_round();
            if left <= 0.0 {
                return Ok(None);
            }
            if let Some(file) = &mut self.file {
                if let Some(unit) = file.next(self.order) {
                    let unit = self.cut(unit, left);
                    self.used += unit.raw;
                    return Ok(Some(unit));
                }
                self.file = None;
            }
            self.next_file(blocks)?;
        }
    }

    /// Bytes that this round still has; without end in a whole round, none after the last.
    #[expect(clippy::cast_precision_loss)] // rounds are few
    fn left_in_round(&self) -> f64 {
        let share = self.weight - self.place.0 as f64;
        if share >= 1.0 {
            return f64::INFINITY;
        }
        let one = self.total / self.weight;
        let left = share * one - (self.used - self.place.0 as f64 * one);
        // What rounding leaves over is no example.
        if left > one * 1e-9 { left } else { 0.0 }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most the count
    fn cut(&self, mut unit: Unit, left: f64) -> Unit {
        if unit.raw > left {
            let count = (f64::from(unit.end - unit.start) * left / unit.raw).ceil() as u32;
            if self.order.shuffle {
                let key = self.key.site("share").number(self.place.0);
                let key = key.number(u64::from(unit.file.file)).number(u64::from(unit.block));
                unit.keep = Some((count, key.number(u64::from(unit.start))));
            } else {
                unit.end = unit.start + count;
            }
            unit.raw = left;
        }
        unit
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // files are few
    fn next_file(&mut self, blocks: &dyn Blocks) -> Result<()> {
        let count = self.sizes.len() as u64;
        let (round, place) = self.place;
        if place == count {
            self.place = (round + 1, 0);
            return Ok(());
        }
        let key = self.key.number(round);
        let number = match self.order.shuffle {
            true => permuted(key.site("files"), count, place),
            false => place,
        };
        let size = self.sizes[usize::try_from(number).expect("a place in a list")] as f64;
        let file = FileId { set: self.set, file: number as u32 };
        let sizes = blocks.sizes(file)?;
        self.place.1 += 1; // only now: a file that cannot be had is asked for again
        if sizes.is_empty() {
            self.used += size; // nothing in it: its share is passed over
            return Ok(());
        }
        let key = key.site("blocks").number(number);
        self.file = Some(FileWalk { file, size, sizes, key, block: 0, part: 0 });
        Ok(())
    }
}

/// Goes through the blocks of one file.
struct FileWalk {
    file: FileId,
    size: f64,
    sizes: Arc<[BlockSize]>,
    key: Stream,
    block: u64,
    part: u32,
}

impl FileWalk {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    fn next(&mut self, order: Order) -> Option<Unit> {
        let count = self.sizes.len() as u64;
        if self.block == count {
            return None;
        }
        let block = match order.shuffle {
            true => permuted(self.key, count, self.block),
            false => self.block,
        };
        let size = &self.sizes[usize::try_from(block).expect("a place in a list")];
        let examples = u64::from(size.examples);
        let bytes = size.tokens * TOKEN_BYTES;
        // A window smaller than a block takes a part of one.
        let parts = examples.div_ceil(order.window_rows).max(bytes.div_ceil(order.window_bytes));
        let parts = parts.clamp(1, examples.max(1));
        let cut = |part: u64| (examples * part / parts) as u32;
        let part = u64::from(self.part);
        let (start, end) = (cut(part), cut(part + 1));
        let all: u64 = self.sizes.iter().map(|size| u64::from(size.examples)).sum();
        let unit = Unit {
            file: self.file,
            block: block as u32,
            start,
            end,
            keep: None,
            picked: None,
            bytes: bytes / parts,
            raw: self.size * f64::from(end - start) / all.max(1) as f64,
        };
        self.part += 1;
        if part + 1 == parts {
            (self.block, self.part) = (self.block + 1, 0);
        }
        Some(unit)
    }
}
