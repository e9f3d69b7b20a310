//! Sets of numbers below a limit, a bit for each.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A set of numbers below a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitSet {
    words: Vec<u64>,
    limit: usize,
}

impl BitSet {
    /// An empty set of numbers below a limit.
    pub fn new(limit: usize) -> Self {
        Self { words: vec![0; limit.div_ceil(64)], limit }
    }

    /// Puts a number in.
    pub fn insert(&mut self, number: usize) {
        debug_assert!(number < self.limit, "numbers are below the limit");
        self.words[number / 64] |= 1 << (number % 64);
    }

    /// Whether a number is in.
    pub fn contains(&self, number: usize) -> bool {
        self.words.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Takes all numbers out.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Puts all numbers of another set of the same limit in.
    pub fn add(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(own, more)| *own |= more);
    }

    /// Takes all numbers of another set of the same limit out.
    pub fn remove(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(own, less)| *own &= !less);
    }

    /// How many numbers are in.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many numbers of a range are in.
    pub fn count_in(&self, range: Range<usize>) -> u64 {
        range.filter(|number| self.contains(*number)).count() as u64
    }

    /// How many numbers are in both.
    pub fn count_common(&self, other: &Self) -> u64 {
        let both = self.words.iter().zip(&other.words);
        both.map(|(a, b)| u64::from((a & b).count_ones())).sum()
    }

    /// The numbers, in order.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.words.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(at, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }

    /// The numbers of a range as a set of their own, counted from the beginning of the range.
    pub fn part(&self, range: Range<usize>) -> Self {
        let mut part = Self::new(range.len());
        for (number, own) in range.enumerate() {
            if self.contains(own) {
                part.insert(number);
            }
        }
        part
    }

    /// The bytes of the set in base64: number `n` is bit `n mod 8`, counted from the lowest, of
    /// byte `n / 8`.
    pub fn to_base64(&self) -> String {
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
        let bytes: Vec<u8> = bytes.take(self.limit.div_ceil(8)).collect();
        STANDARD.encode(bytes)
    }

    /// The set that [`Self::to_base64`] wrote; none where it is another text.
    pub fn from_base64(text: &str, limit: usize) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok().filter(|it| it.len() == limit.div_ceil(8))?;
        let mut set = Self::new(limit);
        for (word, bytes) in set.words.iter_mut().zip(bytes.chunks(8)) {
            let mut all = [0; 8];
            all[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(all);
        }
        let beyond = set.words.last().is_some_and(|last| {
            let used = limit - (limit - 1) / 64 * 64;
            used < 64 && last >> used != 0
        });
        (!beyond).then_some(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_added_counted_and_written() {
        let mut set = BitSet::new(70);
        [0, 9, 63, 64, 69].into_iter().for_each(|number| set.insert(number));
        assert_eq!(set.numbers().collect::<Vec<_>>(), [0, 9, 63, 64, 69]);
        assert_eq!((set.count(), set.count_in(1..64), set.count_in(64..70)), (5, 2, 2));
        let text = set.to_base64();
        assert_eq!(text, STANDARD.encode([1, 2, 0, 0, 0, 0, 0, 128, 33]));
        assert_eq!(BitSet::from_base64(&text, 70), Some(set.clone()));
        assert_eq!(BitSet::from_base64(&text, 60), None, "another length");
        assert_eq!(BitSet::from_base64(&text, 69), None, "a number beyond the limit");
        assert_eq!(BitSet::from_base64("?", 1), None);
        let mut other = BitSet::new(70);
        other.insert(9);
        other.insert(10);
        assert_eq!(set.count_common(&other), 1);
        set.add(&other);
        assert_eq!(set.count(), 6);
        set.remove(&other);
        assert_eq!(set.numbers().collect::<Vec<_>>(), [0, 63, 64, 69]);
        assert_eq!(set.part(60..70).numbers().collect::<Vec<_>>(), [3, 4, 9]);
        assert_eq!(BitSet::from_base64("", 0), Some(BitSet::new(0)));
    }
}
