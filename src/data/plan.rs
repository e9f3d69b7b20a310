//! Which rows come in which step: arithmetic from seed, epoch and window, so that a position in
//! the data is three numbers and finding it again costs one window.
//!
//! [`super::layout`] says which examples stand in a window. Here those that are learnt are
//! permuted, packed into rows, and the rows are permuted. Nothing is carried from a window to the
//! next. Without `data.shuffle` nothing is permuted, and rows are packed in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ahead::{Ahead, Key};
use super::batch::Batch;
use super::corpus::Entry;
use super::filter::Filter;
use super::layout::{Blocks, Epoch, FileId, Order, Unit, Window, total_bytes};
use super::order::permuted;
use super::pack::{Packing, pack};
use crate::config::DataConfig;
use crate::error::{Error, Result};
use crate::random::Stream;

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

/// A window that is ready to be trained on.
#[derive(Debug, Default)]
pub struct Packed {
    entries: Vec<Entry>,
    /// Places in `entries`.
    rows: Vec<Vec<u32>>,
}

impl Packed {
    fn row(&self, number: usize) -> Vec<&Entry> {
        self.rows[number].iter().map(|place| &self.entries[*place as usize]).collect()
    }
}

/// Lengths of all examples of a file in tokens; 0 for those that are not learnt.
pub type Lengths = BTreeMap<FileId, Arc<[u32]>>;

/// The rows of a run, in order.
pub struct Plan {
    windows: Ahead,
}

/// What the threads that prepare windows share.
pub struct Recipe {
    blocks: Arc<dyn Blocks>,
    filter: Filter,
    order: Order,
    max_seq_len: usize,
    packing: Packing,
    /// Known when all files were read before the start.
    lengths: Option<Lengths>,
    epochs: Mutex<BTreeMap<u64, Arc<Epoch>>>,
    /// What the windows of an epoch hold; a cache, no state.
    sizes: Mutex<BTreeMap<u64, Arc<[Size]>>>,
}

/// What a window holds, known without reading its examples.
#[derive(Debug, Clone, Copy)]
struct Size {
    rows: u64,
    /// The longest row, in tokens.
    longest: usize,
}

impl Recipe {
    /// With the settings of a run.
    pub fn new(
        blocks: Arc<dyn Blocks>,
        filter: Filter,
        lengths: Option<Lengths>,
        config: &DataConfig,
        seed: u64,
    ) -> Self {
        let packing = match (config.packing, config.shuffle) {
            (false, _) => Packing::None,
            (true, true) => Packing::BestFit,
            (true, false) => Packing::InOrder,
        };
        Self {
            blocks,
            filter,
            order: Order {
                key: Stream::new(seed),
                shuffle: config.shuffle,
                window_rows: config.window_rows,
                window_bytes: config.window_bytes,
            },
            max_seq_len: config.max_seq_len,
            packing,
            lengths,
            epochs: Mutex::new(BTreeMap::new()),
            sizes: Mutex::new(BTreeMap::new()),
        }
    }

    /// An epoch's windows.
    pub fn epoch(&self, number: u64) -> Arc<Epoch> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        // Two are at work at the end of one; a long run must not keep them all.
        while epochs.len() > 3 {
            epochs.pop_first();
        }
        let epoch = || Arc::new(Epoch::new(self.blocks.clone(), self.order, number));
        epochs.entry(number).or_insert_with(epoch).clone()
    }

    /// Reads, permutes and packs a window; `None` beyond the end of the epoch.
    pub fn window(&self, key: Key) -> Result<Option<Packed>> {
        let Some(window) = self.epoch(key.0).window(key.1)? else { return Ok(None) };
        let read = |unit: &Unit| -> Result<Vec<Entry>> {
            let entries = self.blocks.read(unit.file, unit.block)?;
            let mut kept = Vec::new();
            let mut chosen = chosen(unit).into_iter().peekable();
            for (place, entry) in (0..).zip(entries) {
                if chosen.next_if_eq(&place).is_some()
                    && self.filter.keeps((unit.file, unit.block, place), &entry.digest)
                {
                    kept.push(entry);
                }
            }
            Ok(kept)
        };
        let read: Vec<Result<Vec<Entry>>> = window.units.par_iter().map(read).collect();
        let mut entries = Vec::new();
        for unit in read {
            entries.extend(unit?);
        }
        let lengths = entries.iter().map(|entry| entry.example.tokens.len());
        let rows = self.pack(key, lengths);
        Ok(Some(Packed { entries, rows }))
    }

    /// Sees to it that the file after those of a window is at hand.
    pub fn reach_beyond(&self, (epoch, window): Key) -> Result<()> {
        let epoch = self.epoch(epoch);
        let known = epoch.files(window)?;
        let mut number = window + 1;
        while let Some(window) = epoch.window(number)?
            && window.units.iter().all(|unit| known.contains(&unit.file))
        {
            number += 1;
        }
        Ok(())
    }

    /// Asks work on other threads to end soon.
    pub fn stop(&self) {
        self.blocks.stop();
    }

    /// Permutes and packs examples of these lengths.
    fn pack(&self, (epoch, window): Key, lengths: impl Iterator<Item = usize>) -> Vec<Vec<u32>> {
        let key = |site: &str| self.order.key.site(site).number(epoch).number(window);
        let mut documents: Vec<(u32, usize)> = (0..).zip(lengths).collect();
        if self.order.shuffle {
            documents = shuffled(documents, key("data.records"));
        }
        let rows = pack(documents, self.max_seq_len, self.packing);
        // Rows that were begun late are filled less well, so they must not stand together.
        if self.order.shuffle { shuffled(rows, key("data.rows")) } else { rows }
    }

    /// What a window holds, without reading its examples.
    fn size(&self, key: Key, window: &Window, lengths: &Lengths) -> Result<Size> {
        let mut all = Vec::new();
        for unit in &window.units {
            let sizes = self.blocks.sizes(unit.file)?;
            let before: usize =
                sizes.iter().take(unit.block as usize).map(|b| b.examples).sum::<u32>() as usize;
            let of_file = &lengths[&unit.file];
            let length = |place: u32| of_file[before + place as usize] as usize;
            all.extend(chosen(unit).into_iter().map(length).filter(|length| *length > 0));
        }
        let rows = self.pack(key, all.iter().copied());
        let of_row = |row: &Vec<u32>| row.iter().map(|place| all[*place as usize]).sum();
        let longest = rows.iter().map(of_row).max().unwrap_or(0);
        Ok(Size { rows: rows.len() as u64, longest })
    }

    /// What the windows of an epoch hold.
    fn sizes(&self, epoch: u64) -> Result<Arc<[Size]>> {
        // Without shuffling, and without packing, all epochs have the same number of rows.
        let fixed = !self.order.shuffle;
        let epoch = if fixed { 0 } else { epoch };
        if let Some(found) = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(&epoch) {
            return Ok(found.clone());
        }
        let lengths = self.lengths.as_ref().ok_or_else(|| {
            Error::new("the number of rows is not known before the data was read to its end")
        })?;
        let windows = self.epoch(epoch);
        let size = |number: u64| -> Result<Size> {
            let window = windows.window(number)?.unwrap_or_else(|| Arc::new(Window::empty()));
            self.size((epoch, number), &window, lengths)
        };
        let sizes: Result<Arc<[Size]>> =
            (0..windows.windows()?).into_par_iter().map(size).collect();
        let sizes = sizes?;
        let mut known = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(epoch, sizes.clone());
        Ok(sizes)
    }
}

/// The places within its block of the examples of a unit, in order.
fn chosen(unit: &Unit) -> Vec<u32> {
    let all = unit.start..unit.end;
    let Some((count, key)) = unit.keep else { return all.collect() };
    let length = u64::from(unit.end - unit.start);
    let draw = |place| {
        let number = permuted(key, length, u64::from(place));
        unit.start + u32::try_from(number).expect("below the length of the unit")
    };
    let mut drawn: Vec<u32> = (0..count.min(unit.end - unit.start)).map(draw).collect();
    drawn.sort_unstable();
    drawn
}

fn shuffled<T: Default>(mut items: Vec<T>, key: Stream) -> Vec<T> {
    let length = items.len() as u64;
    let number = |position| {
        usize::try_from(permuted(key, length, position)).expect("below the length of the list")
    };
    (0..length).map(|position| std::mem::take(&mut items[number(position)])).collect()
}

impl Plan {
    /// Plans rows; `prefetch` windows are made ready on another thread while one is used.
    pub fn new(recipe: Recipe, prefetch: u64) -> Self {
        Self { windows: Ahead::new(recipe, prefetch) }
    }

    fn recipe(&self) -> &Recipe {
        self.windows.recipe()
    }

    /// Takes the rows of one step: `micro_batches` of `micro_batch_size` rows. A step never goes
    /// beyond the end of its epoch, so an epoch's last step may have fewer rows.
    pub fn take(
        &self,
        cursor: &mut Cursor,
        micro_batches: usize,
        micro_batch_size: usize,
    ) -> Result<Vec<Batch>> {
        let size = micro_batch_size.max(1);
        let mut missing = micro_batches.max(1) * size;
        let mut taken: Vec<(Arc<Packed>, std::ops::Range<usize>)> = Vec::new();
        let epoch = cursor.epoch;
        if *cursor == Cursor::default() {
            self.skip_empty(cursor)?; // any other position was found by `next_window`
        }
        while missing > 0 && cursor.epoch == epoch {
            let window = self.checked(cursor)?;
            let start = usize::try_from(cursor.row).expect("checked to be a row of the window");
            let end = window.rows.len().min(start + missing);
            missing -= end - start;
            cursor.row = end as u64;
            if end == window.rows.len() {
                self.next_window(cursor)?;
            }
            taken.push((window, start..end));
        }
        let rows: Vec<Vec<&Entry>> = taken
            .iter()
            .flat_map(|(window, rows)| rows.clone().map(|number| window.row(number)))
            .collect();
        Ok(rows.chunks(size).map(Batch::new).collect())
    }

    /// Moves on to the next window that has rows, into the next epoch if need be.
    fn next_window(&self, cursor: &mut Cursor) -> Result<()> {
        *cursor = Cursor { window: cursor.window + 1, row: 0, ..*cursor };
        if self.windows.get((cursor.epoch, cursor.window))?.is_none() {
            *cursor = Cursor { epoch: cursor.epoch + 1, window: 0, row: 0 };
        }
        self.skip_empty(cursor)
    }

    /// A window of which everything is left out has no rows; an epoch without rows is an error.
    fn skip_empty(&self, cursor: &mut Cursor) -> Result<()> {
        let epoch = cursor.epoch;
        while cursor.row == 0 {
            match self.windows.get((cursor.epoch, cursor.window))? {
                Some(window) if !window.rows.is_empty() => return Ok(()),
                Some(_) => cursor.window += 1,
                None if cursor.window > 0 && cursor.epoch == epoch => {
                    *cursor = Cursor { epoch: epoch + 1, window: 0, row: 0 };
                }
                None => {
                    return Err(Error::new(
                        "the training data holds no example that could be learnt from",
                    ));
                }
            }
        }
        Ok(())
    }

    /// The window that a cursor points into.
    fn checked(&self, cursor: &Cursor) -> Result<Arc<Packed>> {
        if let Some(window) = self.windows.get((cursor.epoch, cursor.window))?
            && cursor.row < window.rows.len() as u64
        {
            return Ok(window);
        }
        Err(Error::new(format!(
            "there is no row {} in window {} of epoch {}",
            cursor.row, cursor.window, cursor.epoch
        ))
        .hint("the position belongs to other data or other `[data]` settings"))
    }

    /// Whether the window at a position, and the one after it, need not be waited for.
    pub fn is_at_hand(&self, cursor: &Cursor) -> bool {
        let Cursor { epoch, window, .. } = *cursor;
        [window, window + 1].iter().all(|window| self.windows.has((epoch, *window)))
    }

    /// How many windows an epoch has; all files must be at hand for that.
    pub fn windows(&self, epoch: u64) -> Result<u64> {
        self.recipe().epoch(epoch).windows()
    }

    /// The files that rows up to here came from, in this epoch.
    pub fn files_through(&self, cursor: &Cursor) -> Result<Vec<FileId>> {
        let files = self.recipe().epoch(cursor.epoch).files(cursor.window)?;
        Ok(files.into_iter().collect())
    }

    /// How many rows an epoch has. Packing makes it differ from epoch to epoch.
    ///
    /// # Errors
    /// When the data is streamed, so that nobody knows.
    pub fn rows_in_epoch(&self, epoch: u64) -> Result<u64> {
        Ok(self.recipe().sizes(epoch)?.iter().map(|size| size.rows).sum())
    }

    /// How many steps the first `epochs` epochs have.
    pub fn steps_in_epochs(&self, epochs: u64, rows_per_step: u64) -> Result<u64> {
        let steps = |epoch| -> Result<u64> {
            Ok(self.rows_in_epoch(epoch)?.div_ceil(rows_per_step.max(1)))
        };
        (0..epochs).map(steps).sum()
    }

    /// A position as a number of epochs, by the bytes of the files.
    pub fn epochs_at(&self, cursor: &Cursor) -> Result<f64> {
        let packed = self.checked(cursor)?;
        let recipe = self.recipe();
        let window = recipe.epoch(cursor.epoch).window(cursor.window)?;
        let window = window.unwrap_or_else(|| Arc::new(Window::empty()));
        let all = total_bytes(recipe.blocks.sets());
        #[expect(clippy::cast_precision_loss)] // for people
        let (row, rows, epoch) = (cursor.row as f64, packed.rows.len() as f64, cursor.epoch as f64);
        Ok(epoch + (window.before + window.bytes * row / rows) / all)
    }

    /// The longest row of the first epoch in tokens; `max_seq_len` where nobody knows.
    pub fn longest_row(&self) -> Result<usize> {
        let recipe = self.recipe();
        if recipe.lengths.is_none() {
            return Ok(recipe.max_seq_len);
        }
        Ok(recipe.sizes(0)?.iter().map(|size| size.longest).max().unwrap_or(0))
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
