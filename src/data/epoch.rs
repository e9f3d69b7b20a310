//! The windows of an epoch: as the files are walked through, or, in a curriculum, by a number that
//! each example has.
//!
//! A curriculum (`data.order`) puts all examples of the epoch into one order, those of the smallest
//! number first: the records of all sets, as often as their weights say. Which of equal ones comes
//! first is drawn each epoch, or is the order of the files without `data.shuffle`. Windows are then
//! consecutive parts of that order, and what they hold is read from all over the files: no more
//! of a block is kept than belongs to the window.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::examples::TOKEN_BYTES;
use super::layout::{Blocks, FileId, Order, SetShape, Unit, Walk, Window, total_bytes};
use super::order::shuffled;
use crate::error::Result;

/// Lengths of all examples of a file in tokens; 0 for those that have no place in a row.
pub type Lengths = BTreeMap<FileId, Arc<[u32]>>;

/// What a curriculum goes by.
pub struct Curriculum {
    /// Lengths of all examples.
    pub lengths: Lengths,
    /// The number of each, where it is not the length.
    pub numbers: Option<BTreeMap<FileId, Arc<[f64]>>>,
}

/// An example of an epoch: what its order goes by, its file, block, place, and tokens.
type Ordered = (f64, FileId, u32, u32, u32);

/// The windows of one epoch, found as far as they were asked for.
pub struct Epoch {
    blocks: Arc<dyn Blocks>,
    sets: Arc<[SetShape]>,
    order: Order,
    number: u64,
    curriculum: Option<Arc<Curriculum>>,
    /// Those that are known; read without waiting for those that are being found.
    known: RwLock<(Vec<Arc<Window>>, bool)>,
    walk: Mutex<Walk>,
}

impl Epoch {
    /// The epoch of this number.
    pub fn new(
        blocks: Arc<dyn Blocks>,
        sets: Arc<[SetShape]>,
        order: Order,
        number: u64,
        curriculum: Option<Arc<Curriculum>>,
    ) -> Self {
        let walk = Mutex::new(Walk::new(&sets, order, number));
        let known = RwLock::new((Vec::new(), false));
        Self { blocks, sets, order, number, curriculum, known, walk }
    }

    /// A window, or `None` beyond the end of the epoch.
    pub fn window(&self, number: u64) -> Result<Option<Arc<Window>>> {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let look = || {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let found = known.0.get(place).cloned();
            (found.is_some() || known.1).then_some(found)
        };
        if let Some(found) = look() {
            return Ok(found);
        }
        let mut walk = self.walk.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if let Some(curriculum) = &self.curriculum {
                let windows = self.by(curriculum)?;
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                *known = (windows, true);
                continue;
            }
            let next = walk.window(&*self.blocks)?;
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            match next {
                Some(window) => known.0.push(Arc::new(window)),
                None => known.1 = true,
            }
        }
    }

    /// How many windows there are; all files must be at hand for that.
    pub fn windows(&self) -> Result<u64> {
        self.window(u64::MAX)?;
        Ok(self.known.read().unwrap_or_else(PoisonError::into_inner).0.len() as u64)
    }

    /// The files of the windows up to this one.
    pub fn files(&self, through: u64) -> Result<BTreeSet<FileId>> {
        let mut files = BTreeSet::new();
        for number in 0..=through {
            let Some(window) = self.window(number)? else { break };
            files.extend(window.units.iter().map(|unit| unit.file));
        }
        Ok(files)
    }

    /// All windows of a curriculum.
    #[expect(clippy::cast_precision_loss)] // shares of an epoch, for people
    fn by(&self, curriculum: &Curriculum) -> Result<Vec<Arc<Window>>> {
        let all = self.ordered(curriculum)?;
        let share = total_bytes(&self.sets) / (all.len() as f64).max(1.0);
        let mut windows = Vec::new();
        let (mut first, mut bytes) = (0, 0);
        for (at, (.., tokens)) in all.iter().enumerate() {
            let own = u64::from(*tokens) * TOKEN_BYTES;
            let full = (at - first) as u64 >= self.order.window_rows
                || bytes + own > self.order.window_bytes;
            if full && at > first {
                windows.push(window(&all[first..at], first as f64 * share, share).into());
                (first, bytes) = (at, 0);
            }
            bytes += own;
        }
        if first < all.len() {
            windows.push(window(&all[first..], first as f64 * share, share).into());
        }
        Ok(windows)
    }

    /// All examples of the epoch that have a place in a row, in the order of the curriculum.
    fn ordered(&self, curriculum: &Curriculum) -> Result<Vec<Ordered>> {
        let mut walk = Walk::new(&self.sets, self.order, self.number);
        let mut starts: BTreeMap<FileId, Vec<usize>> = BTreeMap::new();
        let mut all = Vec::new();
        while let Some(unit) = walk.next(&*self.blocks)? {
            let file = unit.file;
            if let std::collections::btree_map::Entry::Vacant(entry) = starts.entry(file) {
                entry.insert(starts_of(&*self.blocks, file)?);
            }
            let start = starts[&file][unit.block as usize];
            for place in unit.chosen() {
                let at = start + place as usize;
                let tokens = curriculum.lengths[&file][at];
                let number = match &curriculum.numbers {
                    Some(numbers) => numbers[&file][at],
                    None => f64::from(tokens),
                };
                if tokens > 0 {
                    all.push((number, file, unit.block, place, tokens));
                }
            }
        }
        if self.order.shuffle {
            all = shuffled(all, self.order.key.site("data.order").number(self.number));
        }
        all.sort_by(|one, other| one.0.total_cmp(&other.0)); // stable: equal ones stay as they are
        Ok(all)
    }
}

/// How many examples of a file stand before each of its blocks.
fn starts_of(blocks: &dyn Blocks, file: FileId) -> Result<Vec<usize>> {
    let mut sum = 0;
    let start = |examples: u32| {
        sum += examples as usize;
        sum - examples as usize
    };
    Ok(blocks.sizes(file)?.iter().map(|block| block.examples).map(start).collect())
}

/// A window of these examples, of which each is so many bytes of the epoch.
#[expect(clippy::cast_precision_loss)] // shares of an epoch, for people
fn window(examples: &[Ordered], before: f64, share: f64) -> Window {
    let mut of_blocks: BTreeMap<(FileId, u32), Vec<(u32, u32)>> = BTreeMap::new();
    for (position, (_, file, block, place, _)) in (0..).zip(examples) {
        of_blocks.entry((*file, *block)).or_default().push((*place, position));
    }
    let unit = |((file, block), picked)| Unit::picked(file, block, picked);
    let bytes = examples.len() as f64 * share;
    Window { units: of_blocks.into_iter().map(unit).collect(), before, bytes }
}
