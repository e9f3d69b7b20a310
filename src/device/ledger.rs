//! What the kernels of a device move and compute, and what goes to it and comes back. CubeCL tells
//! names of launches and no sizes of buffers, so that those who launch say what they launch; that
//! every launch was said is known by comparing both counts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::launches::{Launches, count_launches};

/// Launches of a kernel, and what they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// As the runtime counts them.
    pub launches: i64,
    /// Those of them of which is known what they do.
    pub known: i64,
    /// Bytes of inputs, each read once, and of outputs, each written once.
    pub bytes: i64,
    /// Operations on numbers of 32 bits or less.
    pub flops: i64,
}

/// What goes to a device, or comes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfers {
    /// How often.
    pub times: i64,
    /// All together.
    pub bytes: i64,
}

/// What some work does on a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// By the name of the kernel.
    pub kernels: BTreeMap<String, Work>,
    /// To the device.
    pub uploads: Transfers,
    /// From it.
    pub read_backs: Transfers,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.launches += other.launches;
        self.known += other.known;
        self.bytes += other.bytes;
        self.flops += other.flops;
    }
}

impl AddAssign for Transfers {
    fn add_assign(&mut self, other: Self) {
        self.times += other.times;
        self.bytes += other.bytes;
    }
}

impl Ledger {
    /// What the kernel of this name does.
    pub fn of(&self, kernel: &str) -> Work {
        self.kernels.get(kernel).copied().unwrap_or_default()
    }

    /// All kernels together.
    pub fn total(&self) -> Work {
        let mut total = Work::default();
        self.kernels.values().for_each(|work| total += *work);
        total
    }

    /// Kernels, the most bytes first.
    pub fn sorted(&self) -> Vec<(&str, Work)> {
        let mut all: Vec<_> =
            self.kernels.iter().map(|(name, work)| (name.as_str(), *work)).collect();
        all.sort_by_key(|(name, work)| (-work.bytes, *name));
        all
    }

    /// Kernels of which not every launch is known.
    pub fn unknown(&self) -> Vec<&str> {
        let all = self.kernels.iter();
        let unknown = all.filter(|(_, work)| work.launches != work.known);
        unknown.map(|(name, _)| name.as_str()).collect()
    }

    /// This without another; what the other has more of is negative.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = self.clone();
        for (name, work) in &other.kernels {
            let Work { launches, known, bytes, flops } = *work;
            let less = Work { launches: -launches, known: -known, bytes: -bytes, flops: -flops };
            *left.kernels.entry(name.clone()).or_default() += less;
        }
        left.kernels.retain(|_, work| *work != Work::default());
        let less = |of: Transfers| Transfers { times: -of.times, bytes: -of.bytes };
        left.uploads += less(other.uploads);
        left.read_backs += less(other.read_backs);
        left
    }

    /// Adds some work of the kernel of this name.
    pub fn add(&mut self, kernel: &str, work: Work) {
        *self.kernels.entry(kernel.to_owned()).or_default() += work;
    }

    fn with_launches(mut self, launches: &Launches) -> Self {
        for (name, count) in launches.sorted() {
            self.add(name, Work { launches: count, ..Work::default() });
        }
        self
    }
}

thread_local! {
    /// Of the work that this thread does now, if anybody wants it.
    static OPEN: RefCell<Option<Ledger>> = const { RefCell::new(None) };
}

/// Whether anybody wants to know what this thread launches.
pub fn keeps_ledger() -> bool {
    OPEN.with_borrow(Option::is_some)
}

fn note(write: impl FnOnce(&mut Ledger)) {
    OPEN.with_borrow_mut(|open| {
        if let Some(ledger) = open {
            write(ledger);
        }
    });
}

/// Says what one launch of a kernel moves and computes. `kernel` is its name as the runtime has it.
pub fn launching(kernel: &str, bytes: usize, flops: usize) {
    if keeps_ledger() {
        let number = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        let work = Work { launches: 0, known: 1, bytes: number(bytes), flops: number(flops) };
        note(|ledger| ledger.add(kernel, work));
    }
}

fn one(bytes: usize) -> Transfers {
    Transfers { times: 1, bytes: i64::try_from(bytes).unwrap_or(i64::MAX) }
}

/// Says that so many bytes go to a device.
pub fn uploading(bytes: usize) {
    note(|ledger| ledger.uploads += one(bytes));
}

/// Says that so many bytes are read back.
pub fn reading_back(bytes: usize) {
    note(|ledger| ledger.read_backs += one(bytes));
}

/// Does some work, and keeps account of what this thread launches meanwhile.
pub fn keep_ledger<T>(work: impl FnOnce() -> T) -> (T, Ledger) {
    let before = OPEN.replace(Some(Ledger::default()));
    let (done, launches) = count_launches(work);
    let kept = OPEN.replace(before).unwrap_or_default();
    (done, kept.with_launches(&launches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_kept_while_somebody_wants_it() {
        launching("Norm", 8, 1);
        uploading(4);
        let ((), kept) = keep_ledger(|| {
            launching("Norm", 100, 10);
            launching("Norm", 50, 5);
            launching("Gate", 200, 0);
            uploading(12);
            uploading(4);
            reading_back(8);
        });
        assert!(!keeps_ledger());
        let norm = Work { launches: 0, known: 2, bytes: 150, flops: 15 };
        assert_eq!(kept.of("Norm"), norm);
        assert_eq!(kept.uploads, Transfers { times: 2, bytes: 16 });
        assert_eq!(kept.read_backs, Transfers { times: 1, bytes: 8 });
        assert_eq!(kept.sorted()[0].0, "Gate");
        // Nothing was launched.
        assert_eq!(kept.unknown(), ["Gate", "Norm"]);
        assert_eq!(kept.without(&kept), Ledger::default());
        assert_eq!(kept.total(), Work { launches: 0, known: 3, bytes: 350, flops: 15 });
    }
}
