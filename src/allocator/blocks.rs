//! Which parts of an address range are blocks, and which of the others have memory.

use std::collections::{BTreeMap, BTreeSet};

/// Blocks begin at multiples of this many bytes.
pub const UNIT: usize = 1 << 12;
/// Memory comes and goes in such parts: the large pages of most systems.
pub const GRANULE: usize = 1 << 21;

/// What is done to memory.
pub trait Pages {
    /// Lets a range be used that never was; whether that is possible.
    fn commit(&mut self, from: usize, to: usize) -> bool;
    /// Gives the memory of a range back, which is zeros when it is used again.
    fn release(&mut self, from: usize, to: usize) -> bool;
}

/// A block that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Where it begins.
    pub offset: usize,
    /// Whether all of it comes from the system just now.
    pub is_zero: bool,
}

/// The blocks of an address range.
#[derive(Debug, Default)]
pub struct Blocks {
    /// Ranges without blocks below `top`, by where they begin: no two of them touch.
    free: BTreeMap<usize, usize>,
    /// The same as length and begin.
    by_length: BTreeSet<(usize, usize)>,
    /// All blocks end before.
    top: usize,
    /// What can be used ends here.
    committed: usize,
    /// Granules that have memory.
    resident: BTreeSet<usize>,
}

/// Whole granules about a range.
fn granules(from: usize, to: usize) -> std::ops::Range<usize> {
    from / GRANULE..to.div_ceil(GRANULE)
}

impl Blocks {
    /// A block of this size: where the least memory has to come from the system, and then in the
    /// smallest range. As much as comes goes back before that, from ranges without blocks.
    pub fn take(&mut self, size: usize, pages: &mut impl Pages) -> Option<Taken> {
        let size = size.checked_next_multiple_of(UNIT)?;
        let from = self.place(size);
        let to = from.checked_add(size)?;
        self.occupy(from, to, pages).map(|is_zero| Taken { offset: from, is_zero })
    }

    /// Where the least is missing, and of such places in the smallest range.
    fn place(&self, size: usize) -> usize {
        let mut best = None;
        for (length, from) in self.by_length.range((size, 0)..) {
            for from in [*from, from + length - size] {
                let missing = self.missing(from, from + size);
                if missing == 0 {
                    return from;
                }
                if best.is_none_or(|(least, _)| missing < least) {
                    best = Some((missing, from));
                }
            }
        }
        // Beyond the last block, where a range without blocks may begin before.
        let last = self.free.last_key_value().filter(|(from, length)| *from + *length == self.top);
        let beyond = last.map_or(self.top, |(from, _)| *from);
        match best {
            Some((missing, from)) if missing <= self.missing(beyond, beyond + size) => from,
            _ => beyond,
        }
    }

    /// Takes a block back.
    pub fn give(&mut self, from: usize, size: usize) {
        let (mut from, mut to) = (from, from + size.next_multiple_of(UNIT));
        let before = self.free.range(..from).next_back().map(|(from, length)| (*from, *length));
        if let Some((begin, length)) = before.filter(|(begin, length)| begin + length == from) {
            self.remove(begin, length);
            from = begin;
        }
        if let Some(length) = self.free.get(&to).copied() {
            self.remove(to, length);
            to += length;
        }
        self.insert(from, to - from);
    }

    fn insert(&mut self, from: usize, length: usize) {
        self.free.insert(from, length);
        self.by_length.insert((length, from));
    }

    fn remove(&mut self, from: usize, length: usize) {
        self.free.remove(&from);
        self.by_length.remove(&(length, from));
    }

    /// Makes a block smaller, or larger where there is room behind it; whether it was done.
    pub fn resize(
        &mut self,
        from: usize,
        (size, new): (usize, usize),
        pages: &mut impl Pages,
    ) -> bool {
        let Some(wanted) = new.checked_next_multiple_of(UNIT) else { return false };
        let (end, wanted) = (from + size.next_multiple_of(UNIT), from + wanted);
        if wanted <= end {
            if wanted < end {
                self.give(wanted, end - wanted);
            }
            return true;
        }
        let room = self.free.get(&end).copied().unwrap_or(0);
        let fits = end + room >= wanted || end + room == self.top;
        fits && self.occupy(end, wanted, pages).is_some()
    }

    /// Granules about a range that have no memory.
    fn missing(&self, from: usize, to: usize) -> usize {
        let all = granules(from, to);
        all.len() - self.resident.range(all).count()
    }

    /// Makes a free range, or one beyond the last block, that of a block; whether it is all zeros.
    fn occupy(&mut self, from: usize, to: usize, pages: &mut impl Pages) -> Option<bool> {
        if to > self.committed {
            let end = to.checked_next_multiple_of(GRANULE)?;
            if !pages.commit(self.committed, end) {
                return None;
            }
            self.committed = end;
        }
        let within = self.free.range(..=from).next_back().map(|(from, length)| (*from, *length));
        if let Some((begin, length)) = within.filter(|(begin, length)| begin + length > from) {
            self.remove(begin, length);
            if begin < from {
                self.insert(begin, from - begin);
            }
            if to < begin + length {
                self.insert(to, begin + length - to);
            }
        }
        self.top = self.top.max(to);
        let missing = self.missing(from, to);
        self.release(missing, pages);
        self.resident.extend(granules(from, to));
        Some(missing == granules(from, to).len())
    }

    /// Gives so many granules back, the last ones first. Nothing is collected on the way: a list
    /// might become a large block itself, which would wait for this one for ever.
    fn release(&mut self, count: usize, pages: &mut impl Pages) {
        let mut left = count;
        for (&from, &size) in self.free.iter().rev() {
            let to = from + size;
            let end = if to == self.top { to.div_ceil(GRANULE) } else { to / GRANULE };
            let mut whole = from.div_ceil(GRANULE)..end;
            while left > 0 && !whole.is_empty() {
                let last = self.resident.range(whole.clone()).next_back().copied();
                let Some(granule) = last else { break };
                if !pages.release(granule * GRANULE, (granule + 1) * GRANULE) {
                    return;
                }
                self.resident.remove(&granule);
                whole.end = granule;
                left -= 1;
            }
            if left == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what is resident.
    #[derive(Default)]
    struct Counted {
        committed: usize,
        released: Vec<(usize, usize)>,
        limit: Option<usize>,
    }

    impl Pages for Counted {
        fn commit(&mut self, from: usize, to: usize) -> bool {
            assert_eq!(from, self.committed, "without a gap");
            if self.limit.is_some_and(|limit| to > limit) {
                return false;
            }
            self.committed = to;
            true
        }

        fn release(&mut self, from: usize, to: usize) -> bool {
            self.released.push((from, to));
            true
        }
    }

    const MIB: usize = 1 << 20;

    #[test]
    fn freed_blocks_are_taken_again_and_grow_together() {
        let (mut blocks, mut pages) = (Blocks::default(), Counted::default());
        let mut take = |blocks: &mut Blocks, size| blocks.take(size, &mut pages).unwrap();
        let first = take(&mut blocks, 4 * MIB);
        assert_eq!(first, Taken { offset: 0, is_zero: true });
        let others =
            [take(&mut blocks, 2 * MIB), take(&mut blocks, 2 * MIB), take(&mut blocks, MIB)];
        assert_eq!(others.map(|block| block.offset), [4 * MIB, 6 * MIB, 8 * MIB]);
        blocks.give(0, 4 * MIB);
        blocks.give(6 * MIB, 2 * MIB);
        // The smallest of the ranges that are large enough.
        assert_eq!(take(&mut blocks, 2 * MIB), Taken { offset: 6 * MIB, is_zero: false });
        blocks.give(4 * MIB, 2 * MIB);
        assert_eq!(take(&mut blocks, 6 * MIB - 5), Taken { offset: 0, is_zero: false });
        assert_eq!(pages.committed, 10 * MIB);
        assert!(pages.released.is_empty());
    }

    #[test]
    fn memory_goes_back_before_more_is_taken() {
        let (mut blocks, mut pages) = (Blocks::default(), Counted::default());
        for _ in 0..4 {
            blocks.take(4 * MIB, &mut pages).unwrap();
        }
        blocks.give(0, 4 * MIB);
        blocks.give(8 * MIB, 4 * MIB);
        // Neither of the two has room.
        let more = blocks.take(6 * MIB, &mut pages).unwrap();
        assert_eq!(more, Taken { offset: 16 * MIB, is_zero: true });
        assert_eq!(blocks.resident.len() * GRANULE, 4 * 4 * MIB, "as much as before");
        assert_eq!(pages.released.len(), 3);
        // What was given back is zeros, what was not is not.
        assert_eq!(blocks.take(4 * MIB, &mut pages).unwrap().offset, 0);
        assert!(blocks.take(4 * MIB, &mut pages).unwrap().is_zero);
    }

    #[test]
    fn blocks_change_their_size_where_there_is_room() {
        let (mut blocks, mut pages) = (Blocks::default(), Counted::default());
        blocks.take(4 * MIB, &mut pages).unwrap();
        assert!(blocks.resize(0, (4 * MIB, 9 * MIB), &mut pages), "it is the last one");
        blocks.take(MIB, &mut pages).unwrap();
        assert!(!blocks.resize(0, (9 * MIB, 10 * MIB), &mut pages));
        assert!(blocks.resize(0, (9 * MIB, 3 * MIB), &mut pages));
        assert!(blocks.resize(0, (3 * MIB, 8 * MIB), &mut pages));
        assert_eq!(blocks.take(MIB, &mut pages).unwrap().offset, 8 * MIB);
    }

    #[test]
    fn where_nothing_is_left_there_is_no_block() {
        let (mut blocks, mut pages) = (Blocks::default(), Counted::default());
        pages.limit = Some(4 * MIB);
        assert!(blocks.take(3 * MIB, &mut pages).is_some());
        assert!(blocks.take(3 * MIB, &mut pages).is_none());
        assert!(blocks.take(MIB, &mut pages).is_some(), "the rest can still be had");
        assert!(blocks.take(usize::MAX, &mut pages).is_none());
    }

    #[test]
    fn blocks_never_overlap_and_no_more_has_memory_than_was_used_at_once() {
        let (mut blocks, mut pages) = (Blocks::default(), Counted::default());
        let mut held: Vec<(usize, usize)> = Vec::new();
        let (mut most, mut state) = (0, 1_u64);
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        for number in 0..4000 {
            if number % 500 == 0 {
                held.drain(..).for_each(|(from, size)| blocks.give(from, size));
            }
            if held.is_empty() || draw(100) < 55 {
                let size = MIB / 2 + draw(30 * MIB);
                held.push((blocks.take(size, &mut pages).unwrap().offset, size));
            } else {
                let (from, size) = held.swap_remove(draw(held.len()));
                blocks.give(from, size);
            }
            let mut ends: Vec<_> = held.iter().map(|(from, size)| (*from, from + size)).collect();
            ends.sort_unstable();
            assert!(ends.windows(2).all(|two| two[0].1 <= two[1].0), "no two overlap");
            let used: BTreeSet<_> = ends.iter().flat_map(|(a, b)| granules(*a, *b)).collect();
            most = most.max(used.len());
            assert!(used.is_subset(&blocks.resident) && blocks.resident.len() <= most);
        }
        assert!(!pages.released.is_empty());
    }
}
