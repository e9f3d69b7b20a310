//! The order of records as arithmetic: a bijection that nothing has to be remembered for.
//!
//! # `fbs1`
//!
//! Version 1, fixed for ever; another order gets another name.
//!
//! `permuted(key, length, position)` is a Feistel network with cycle walking on the numbers below
//! `length`:
//!
//! * `h` is the smallest number from 1 on for which `2^(2h) >= length`; numbers have `2h` bits, a
//!   left half of `h` high bits and a right half of `h` low bits; `mask = 2^h - 1`.
//! * A pass does for round = 0, 1, … 7: `(left, right) = (right, left ^ (F & mask))` with
//!   `F = mix(key.bits(round) ^ right)`. `mix` and `key.bits` are those of [`crate::random`].
//! * Passes are repeated until the number is below `length`. A `length` of 1 gives 0.
//!
//! Test vectors, for `key = Stream::new(42).site("data.records").number(epoch).number(window)`:
//!
//! | epoch | window | length | positions 0, 1, 2, … |
//! |---|---|---|---|
//! | 0 | 0 | 10 | 6, 9, 8, 0, 3, 4, 2, 7, 1, 5 |
//! | 1 | 0 | 10 | 2, 3, 7, 8, 0, 1, 5, 9, 6, 4 |
//! | 0 | 3 | 1000003 | 865868, 388820, 55760, 594877, 791346 … |

use crate::random::{Stream, mix};

const ROUNDS: u64 = 8;

/// The number that stands at `position` in the order that `key` gives to the numbers below
/// `length`.
///
/// # Panics
/// If `position` is not below `length`.
pub fn permuted(key: Stream, length: u64, position: u64) -> u64 {
    assert!(position < length, "position {position} of {length}");
    if length == 1 {
        return 0;
    }
    let bits = u64::BITS - (length - 1).leading_zeros();
    let half = bits.div_ceil(2);
    let mask = (1_u64 << half) - 1;
    let mut number = position;
    loop {
        let (mut left, mut right) = (number >> half, number & mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ (mix(key.bits(round) ^ right) & mask));
        }
        number = left << half | right;
        if number < length {
            return number;
        }
    }
}

/// A list in the order that `key` gives to it.
///
/// # Panics
/// Never: positions are below the length.
pub fn shuffled<T: Default>(mut items: Vec<T>, key: Stream) -> Vec<T> {
    let length = items.len() as u64;
    let number = |position| {
        usize::try_from(permuted(key, length, position)).expect("below the length of the list")
    };
    (0..length).map(|position| std::mem::take(&mut items[number(position)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(epoch: u64, window: u64) -> Stream {
        Stream::new(42).site("data.records").number(epoch).number(window)
    }

    fn order(key: Stream, length: u64) -> Vec<u64> {
        (0..length).map(|position| permuted(key, length, position)).collect()
    }

    #[test]
    fn every_number_comes_once() {
        for length in (1..300).chain([1023, 1024, 1025, 5000]) {
            let mut all = order(key(0, length), length);
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..length), "{length}");
        }
        // The largest domain that there is.
        assert!(permuted(key(0, 0), u64::MAX, 7) < u64::MAX);
    }

    #[test]
    fn the_documented_vectors_hold() {
        assert_eq!(order(key(0, 0), 10), [6, 9, 8, 0, 3, 4, 2, 7, 1, 5]);
        assert_eq!(order(key(1, 0), 10), [2, 3, 7, 8, 0, 1, 5, 9, 6, 4]);
        let found: Vec<u64> =
            (0..5).map(|position| permuted(key(0, 3), 1_000_003, position)).collect();
        assert_eq!(found, [865868, 388820, 55760, 594877, 791346]);
    }

    #[test]
    fn each_number_stands_at_each_place_equally_often() {
        for length in [2_usize, 3, 5, 6, 17] {
            let mut counts = vec![0_u32; length * length];
            let orders = 300 * length;
            for window in 0..orders {
                for (position, number) in
                    order(key(1, window as u64), length as u64).iter().enumerate()
                {
                    counts[position * length + *number as usize] += 1;
                }
            }
            let expected = orders as f64 / length as f64;
            let chi: f64 =
                counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
            let freedom = ((length - 1) * (length - 1)) as f64;
            // Five standard deviations of the chi-squared distribution.
            assert!(chi < freedom + 5.0 * (2.0 * freedom).sqrt() + 10.0, "{length}: {chi}");
        }
    }
}
