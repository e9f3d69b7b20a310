//! Which rows come in which step: arithmetic from seed, epoch and window, so that a position in
//! the data is three numbers and finding it again costs one window.
//!
//! An epoch is the list of examples in file order, cut into blocks of consecutive examples. The
//! blocks are permuted; so many as fit into `data.window_rows` make a window. The examples of a
//! window are permuted, packed into rows, and the rows are permuted. Nothing is carried from a
//! window to the next. Without `data.shuffle` nothing is permuted, and rows are packed in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::corpus::{Entry, Part};
use super::order::permuted;
use super::pack::{Packing, pack};
use crate::config::DataConfig;
use crate::error::{Error, Result};
use crate::random::Stream;

/// Examples that stay together when windows are drawn: the unit in which later readers can seek.
const BLOCK: u64 = 1000;

/// The next row to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Epochs done.
    pub epoch: u64,
    /// Windows of this epoch done.
    pub window: u64,
    /// Rows of this window done; always less than it has.
    pub row: u64,
}

/// A row: the places of its examples.
type Row = Vec<u32>;
/// A window that was packed, with its epoch and number.
type Packed = ((u64, u64), Arc<Vec<Row>>);

/// The rows of a run, in order.
pub struct Plan {
    entries: Arc<[Entry]>,
    max_seq_len: usize,
    packing: Packing,
    shuffle: bool,
    key: Stream,
    block: u64,
    window_blocks: u64,
    /// The window at hand; a cache, no state.
    window: Mutex<Option<Packed>>,
    /// Rows in each window of an epoch; a cache, no state.
    sizes: Mutex<BTreeMap<u64, Arc<Vec<u64>>>>,
}

impl Plan {
    /// Plans the training examples of a corpus, of which there is at least one.
    pub fn new(train: &Part, config: &DataConfig, seed: u64) -> Self {
        let block = config.window_rows.clamp(1, BLOCK);
        let packing = match (config.packing, config.shuffle) {
            (false, _) => Packing::None,
            (true, true) => Packing::BestFit,
            (true, false) => Packing::InOrder,
        };
        Self {
            entries: train.entries.clone(),
            max_seq_len: config.max_seq_len,
            packing,
            shuffle: config.shuffle,
            key: Stream::new(seed),
            block,
            window_blocks: (config.window_rows / block).max(1),
            window: Mutex::new(None),
            sizes: Mutex::new(BTreeMap::new()),
        }
    }

    /// Takes the rows of one step: `micro_batches` of `micro_batch_size` rows. A step never goes
    /// beyond the end of its epoch, so an epoch's last step may have fewer rows.
    pub fn take(
        &self,
        cursor: &mut Cursor,
        micro_batches: usize,
        micro_batch_size: usize,
    ) -> Result<Vec<Batch>> {
        let mut missing = micro_batches.max(1) * micro_batch_size.max(1);
        let mut rows: Vec<Row> = Vec::new();
        let epoch = cursor.epoch;
        while missing > 0 && cursor.epoch == epoch {
            let window = self.checked(cursor)?;
            let start = usize::try_from(cursor.row).expect("checked to be a row of the window");
            let end = window.len().min(start + missing);
            rows.extend_from_slice(&window[start..end]);
            missing -= end - start;
            cursor.row = end as u64;
            if end == window.len() {
                *cursor = Cursor { epoch, window: cursor.window + 1, row: 0 };
                if cursor.window == self.windows() {
                    *cursor = Cursor { epoch: epoch + 1, window: 0, row: 0 };
                }
            }
        }
        let batch = |rows: &[Row]| Batch::new(rows, &self.entries);
        Ok(rows.chunks(micro_batch_size.max(1)).map(batch).collect())
    }

    /// How many windows an epoch has.
    pub fn windows(&self) -> u64 {
        self.blocks().div_ceil(self.window_blocks)
    }

    /// How many rows an epoch has. Packing makes it differ from epoch to epoch.
    pub fn rows_in_epoch(&self, epoch: u64) -> u64 {
        self.sizes(epoch).iter().sum()
    }

    /// How many steps an epoch has.
    pub fn steps_in_epoch(&self, epoch: u64, rows_per_step: u64) -> u64 {
        self.rows_in_epoch(epoch).div_ceil(rows_per_step.max(1))
    }

    /// How many steps the first `epochs` epochs have.
    pub fn steps_in_epochs(&self, epochs: u64, rows_per_step: u64) -> u64 {
        (0..epochs).map(|epoch| self.steps_in_epoch(epoch, rows_per_step)).sum()
    }

    /// A position as a number of epochs.
    pub fn epochs_at(&self, cursor: &Cursor) -> Result<f64> {
        self.checked(cursor)?;
        let sizes = self.sizes(cursor.epoch);
        let before: u64 = sizes.iter().zip(0..cursor.window).map(|(rows, _)| rows).sum();
        let all: u64 = sizes.iter().sum();
        #[allow(clippy::cast_precision_loss)] // for people
        let share = (before + cursor.row) as f64 / all as f64;
        #[allow(clippy::cast_precision_loss)]
        Ok(cursor.epoch as f64 + share)
    }

    /// The longest row of the first epoch in tokens.
    pub fn longest_row(&self) -> usize {
        let length = |row: &Row| -> usize {
            row.iter().map(|place| self.entries[*place as usize].example.tokens.len()).sum()
        };
        let longest = |window| self.pack(0, window).iter().map(length).max().unwrap_or(0);
        (0..self.windows()).into_par_iter().map(longest).max().unwrap_or(0)
    }

    /// The window that a cursor points into.
    fn checked(&self, cursor: &Cursor) -> Result<Arc<Vec<Row>>> {
        if cursor.window < self.windows() {
            let window = self.window(cursor.epoch, cursor.window);
            if cursor.row < window.len() as u64 {
                return Ok(window);
            }
        }
        Err(Error::new(format!(
            "there is no row {} in window {} of epoch {}",
            cursor.row, cursor.window, cursor.epoch
        ))
        .hint("the position belongs to other data or other `[data]` settings"))
    }

    fn blocks(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(self.block)
    }

    fn window(&self, epoch: u64, window: u64) -> Arc<Vec<Row>> {
        let mut cached = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some((number, rows)) if *number == (epoch, window) => rows.clone(),
            _ => {
                let rows = Arc::new(self.pack(epoch, window));
                *cached = Some(((epoch, window), rows.clone()));
                rows
            }
        }
    }

    fn sizes(&self, epoch: u64) -> Arc<Vec<u64>> {
        // Without shuffling, and without packing, all epochs have the same rows.
        let fixed = !self.shuffle || self.packing == Packing::None;
        let epoch = if fixed { 0 } else { epoch };
        let mut cached = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = || {
            let windows = (0..self.windows()).into_par_iter();
            Arc::new(windows.map(|window| self.pack(epoch, window).len() as u64).collect())
        };
        cached.entry(epoch).or_insert_with(count).clone()
    }

    /// The rows of a window.
    fn pack(&self, epoch: u64, window: u64) -> Vec<Row> {
        let key = |site: &str| self.key.site(site).number(epoch);
        let first = window * self.window_blocks;
        let blocks = first..(first + self.window_blocks).min(self.blocks());
        let mut places: Vec<u32> = Vec::new();
        for number in blocks {
            let block = match self.shuffle {
                true => permuted(key("data.blocks"), self.blocks(), number),
                false => number,
            };
            let end = ((block + 1) * self.block).min(self.entries.len() as u64);
            places.extend((block * self.block..end).map(|place| {
                u32::try_from(place).expect("fewer than 2^32 examples fit into memory")
            }));
        }
        if self.shuffle {
            places = shuffled(places, key("data.records").number(window));
        }
        let length = |place: u32| self.entries[place as usize].example.tokens.len();
        let documents = places.into_iter().map(|place| (place, length(place)));
        let rows = pack(documents, self.max_seq_len, self.packing);
        // Rows that were begun late are filled less well, so they must not stand together.
        if self.shuffle { shuffled(rows, key("data.rows").number(window)) } else { rows }
    }
}

fn shuffled<T: Default>(mut items: Vec<T>, key: Stream) -> Vec<T> {
    let length = items.len() as u64;
    let number = |position| {
        usize::try_from(permuted(key, length, position)).expect("below the length of the list")
    };
    (0..length).map(|position| std::mem::take(&mut items[number(position)])).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
