//! What a window of the data holds, made ready: its examples permuted and packed into rows. A pure
//! function of seed, epoch and window.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::epoch::{Curriculum, Epoch, Lengths};
use super::example::CorpusEntry;
use super::filter::Filter;
use super::layout::{Blocks, Order, SetShape, Unit, Window};
use super::mixing::mixed;
use super::order::shuffled;
use super::pack::{Packing, pack};
use crate::config::DataConfig;
use crate::error::{Error, Result};
use crate::files::Digest;
use crate::random::Stream;

/// Epoch and window.
pub type Key = (u64, u64);

/// A window that is ready to be trained on.
#[derive(Debug, Default)]
pub struct Packed {
    pub(super) entries: Vec<CorpusEntry>,
    /// Places in `entries`.
    pub(super) rows: Vec<Vec<u32>>,
}

impl Packed {
    pub(super) fn row(&self, number: usize) -> Vec<&CorpusEntry> {
        self.rows[number].iter().map(|place| &self.entries[*place as usize]).collect()
    }
}

/// What the threads that prepare windows share.
pub struct Recipe {
    pub(super) blocks: Arc<dyn Blocks>,
    /// The sets, with the weights by which they are mixed.
    pub(super) sets: Arc<[SetShape]>,
    filter: Filter,
    order: Order,
    pub(super) max_seq_len: usize,
    packing: Packing,
    /// Known when all files were read before the start.
    pub(super) lengths: Option<Lengths>,
    curriculum: Option<Arc<Curriculum>>,
    epochs: Mutex<BTreeMap<u64, Arc<Epoch>>>,
    /// What the windows of an epoch hold; a cache, no state.
    sizes: Mutex<BTreeMap<u64, Arc<[Size]>>>,
}

/// What a window holds, known without reading its examples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) rows: u64,
    /// The longest row, in tokens.
    pub(super) longest: usize,
}

impl Recipe {
    /// With the settings of a run.
    pub fn new(
        blocks: Arc<dyn Blocks>,
        filter: Filter,
        (lengths, curriculum): (Option<Lengths>, Option<Arc<Curriculum>>),
        config: &DataConfig,
        seed: u64,
    ) -> Self {
        let drawn = config.shuffle && curriculum.is_none();
        let sets = match &lengths {
            Some(lengths) => mixed(blocks.sets(), lengths, config.mixing_temperature),
            None => blocks.sets().to_vec(),
        };
        let packing = match (config.packing, drawn) {
            (false, _) => Packing::None,
            (true, true) => Packing::BestFit,
            (true, false) => Packing::InOrder,
        };
        Self {
            blocks,
            sets: sets.into(),
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
            curriculum,
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
        let epoch = || {
            let (blocks, sets) = (self.blocks.clone(), self.sets.clone());
            Arc::new(Epoch::new(blocks, sets, self.order, number, self.curriculum.clone()))
        };
        epochs.entry(number).or_insert_with(epoch).clone()
    }

    /// Reads, permutes and packs a window; `None` beyond the end of the epoch.
    pub fn window(&self, key: Key) -> Result<Option<Packed>> {
        let Some(window) = self.epoch(key.0).window(key.1)? else { return Ok(None) };
        let read = |unit: &Unit| self.read(unit);
        let read: Vec<Result<Vec<(u32, CorpusEntry)>>> =
            window.units.par_iter().map(read).collect();
        let mut entries = Vec::new();
        for unit in read {
            entries.extend(unit?);
        }
        entries.sort_by_key(|(position, _)| *position); // those without stay as they are
        let entries: Vec<CorpusEntry> = entries.into_iter().map(|(_, entry)| entry).collect();
        let lengths = entries.iter().map(|entry| entry.example.tokens.len());
        let rows = self.pack(key, lengths);
        let rows = self.without_retracted(rows, |place| &entries[place as usize].digest);
        Ok(Some(Packed { entries, rows }))
    }

    /// The examples of a unit, each with its position in a window that goes by a curriculum.
    fn read(&self, unit: &Unit) -> Result<Vec<(u32, CorpusEntry)>> {
        let entries = self.blocks.read(unit.file, unit.block)?;
        if let Some(picked) = &unit.picked {
            // One may come twice.
            let entry =
                |(place, position): &(u32, u32)| (*position, entries[*place as usize].clone());
            return Ok(picked.iter().map(entry).collect());
        }
        let mut kept = Vec::new();
        let mut chosen = unit.chosen().into_iter().peekable();
        for (place, entry) in (0..).zip(entries) {
            if chosen.next_if_eq(&place).is_some()
                && self.filter.places((unit.file, unit.block, place), &entry.digest)
            {
                kept.push((0, entry));
            }
        }
        Ok(kept)
    }

    /// Whether records come in an order that is drawn.
    fn is_drawn(&self) -> bool {
        self.order.shuffle && self.curriculum.is_none()
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
        if self.is_drawn() {
            documents = shuffled(documents, key("data.records"));
        }
        let rows = pack(documents, self.max_seq_len, self.packing);
        // Rows that were begun late are filled less well, so they must not stand together.
        if self.is_drawn() { shuffled(rows, key("data.rows")) } else { rows }
    }

    /// Takes out of the rows what was retracted. Nothing else moves, but that a row of nothing
    /// else is gone: so steps before the first of them are what they were.
    fn without_retracted<'a>(
        &self,
        rows: Vec<Vec<u32>>,
        digest: impl Fn(u32) -> &'a Digest,
    ) -> Vec<Vec<u32>> {
        if self.filter.retracted.is_empty() {
            return rows;
        }
        let without = |mut row: Vec<u32>| {
            row.retain(|place| !self.filter.retracted.contains(digest(*place)));
            (!row.is_empty()).then_some(row)
        };
        rows.into_iter().filter_map(without).collect()
    }

    /// What a window holds, without reading its examples.
    fn size(&self, key: Key, window: &Window, lengths: &Lengths) -> Result<Size> {
        // Each with its position, of which those without stay as they are.
        let (mut all, mut digests) = (Vec::new(), Vec::new());
        for unit in &window.units {
            let sizes = self.blocks.sizes(unit.file)?;
            let before: usize =
                sizes.iter().take(unit.block as usize).map(|b| b.examples).sum::<u32>() as usize;
            let of_file = &lengths[&unit.file];
            let length = |place: u32| of_file[before + place as usize] as usize;
            let chosen = unit.chosen();
            let picked = unit.picked.as_deref().unwrap_or_default();
            let position = |at: usize| picked.get(at).map_or(0, |(_, position)| *position);
            let placed = |(at, place): (usize, &u32)| {
                let length = length(*place);
                (length > 0).then_some((position(at), length))
            };
            if !self.filter.retracted.is_empty() {
                let facts = self.blocks.facts(unit.file, unit.block)?;
                let of = |(at, place): (usize, &u32)| {
                    placed((at, place)).map(|(to, _)| (to, facts[*place as usize].digest))
                };
                digests.extend(chosen.iter().enumerate().filter_map(of));
            }
            all.extend(chosen.iter().enumerate().filter_map(placed));
        }
        all.sort_by_key(|(position, _)| *position);
        digests.sort_by_key(|(position, _)| *position);
        let all: Vec<usize> = all.into_iter().map(|(_, length)| length).collect();
        let rows = self.pack(key, all.iter().copied());
        let rows = self.without_retracted(rows, |place| &digests[place as usize].1);
        let of_row = |row: &Vec<u32>| row.iter().map(|place| all[*place as usize]).sum();
        let longest = rows.iter().map(of_row).max().unwrap_or(0);
        Ok(Size { rows: rows.len() as u64, longest })
    }

    /// What the windows of an epoch hold.
    pub(super) fn sizes(&self, epoch: u64) -> Result<Arc<[Size]>> {
        // Without shuffling, and without packing, all epochs have the same number of rows.
        let fixed = !self.order.shuffle;
        let epoch = if fixed { 0 } else { epoch };
        if let Some(found) = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(&epoch) {
            return Ok(found.clone());
        }
        let lengths = self.lengths.as_ref().ok_or_else(|| {
            Error::data("the number of rows is not known before the data was read to its end")
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
