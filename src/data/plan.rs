//! Which rows come in which step: arithmetic from seed, epoch and window, so that a position in
//! the data is three numbers and finding it again costs one window.
//!
//! [`super::layout`] says which examples stand in a window. Here those that are trained on are
//! permuted, packed into rows, and the rows are permuted. Nothing is carried from a window to the
//! next. Without `data.shuffle` nothing is permuted, and rows are packed in order.

use crate::data::window::Packed;
use crate::data::window::Recipe;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::example::CorpusEntry;
use super::layout::{FileId, Window, total_bytes};
use super::prefetch::Ahead;
use crate::error::{Error, Result};
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

/// The rows of a run, in order.
pub struct Plan {
    windows: Ahead,
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
        let rows: Vec<Vec<&CorpusEntry>> = taken
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
                    return Err(Error::data(
                        "the training data holds no example with target tokens",
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
        Err(Error::data(format!(
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
        let all = total_bytes(&recipe.sets);
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
