//! Sizes that come again: where kernels are compiled for each size of a tensor, micro-batches are
//! filled up, so that few occur.

use std::borrow::Cow;

use crate::data::{Batch, Target};
use crate::device::Computing;
use crate::engine::Division;

/// What is worked on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Rows.
    pub rows: usize,
    /// Tokens of each.
    pub length: usize,
}

impl Size {
    /// The size of the parts that a micro-batch is worked on in; whole ones have `whole` rows.
    pub fn of(batch: &Batch, whole: usize, division: Division, computing: Computing) -> Self {
        let most = division.rows.unwrap_or(usize::MAX);
        match computing.grain {
            0 | 1 => Self { rows: batch.rows.min(most), length: batch.length },
            grain => Self {
                rows: batch.rows.max(whole).min(most),
                length: batch.length.next_multiple_of(grain),
            },
        }
    }

    /// A batch of this size in which every token but the first of a row is learnt: for kernels to
    /// be compiled on, not to learn from.
    pub fn batch(self) -> Batch {
        let Self { rows, length } = self;
        let count =
            |number: usize| u32::try_from(number).expect("a batch has less than 2^32 tokens");
        let places = (0..rows * length).filter(|place| place % length + 1 < length);
        Batch {
            rows,
            length,
            tokens: vec![0; rows * length],
            positions: (0..rows).flat_map(|_| 0..count(length)).collect(),
            documents: vec![1; rows * length],
            targets: places.map(|place| Target { index: count(place), token: 0 }).collect(),
            sources: Vec::new(),
        }
    }
}

/// A part of a micro-batch.
pub struct Piece<'a> {
    /// Tokens of the micro-batch before it.
    pub tokens_before: usize,
    /// The length of its rows before and after they were filled up, if they were.
    pub lengths: Option<(usize, usize)>,
    /// Itself, filled up.
    pub batch: Cow<'a, Batch>,
}

/// The parts of a micro-batch, of `size` each; the last one is filled up only where sizes are to
/// come again.
pub fn pieces(batch: &Batch, size: Size, computing: Computing) -> Vec<Piece<'_>> {
    let lengths = (size.length > batch.length).then_some((batch.length, size.length));
    if batch.rows <= size.rows {
        let batch = batch.padded(size.rows, size.length);
        return vec![Piece { tokens_before: 0, lengths, batch }];
    }
    let padded = |(tokens_before, part): (usize, Batch)| {
        let rows = if computing.grain > 1 { size.rows } else { part.rows };
        let batch = match part.padded(rows, size.length) {
            Cow::Borrowed(_) => part,
            Cow::Owned(padded) => padded,
        };
        Piece { tokens_before, lengths, batch: Cow::Owned(batch) }
    };
    batch.split(size.rows).into_iter().map(padded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(rows: usize, length: usize) -> Batch {
        let size = Size { rows, length };
        size.batch()
    }

    #[test]
    fn few_sizes_occur_where_they_are_filled_up() {
        let grained = Computing { grain: 64, ..Computing::default() };
        let size = |batch: &Batch, rows, computing| {
            let division = Division { rows, ..Division::default() };
            let size = Size::of(batch, 8, division, computing);
            (size.rows, size.length)
        };
        for (rows, length) in [(8, 65), (8, 128), (3, 100)] {
            assert_eq!(size(&batch(rows, length), None, grained), (8, 128));
            assert_eq!(size(&batch(rows, length), Some(2), grained), (2, 128));
            assert_eq!(size(&batch(rows, length), None, Computing::default()), (rows, length));
        }
        assert_eq!(size(&batch(3, 100), Some(2), Computing::default()), (2, 100));
    }

    #[test]
    fn pieces_hold_everything_at_its_place() {
        let whole = batch(5, 3);
        for (rows, length) in [(2, 3), (2, 4), (5, 4), (7, 4)] {
            let grain = if length > 3 { 4 } else { 1 };
            let computing = Computing { grain, ..Computing::default() };
            let all = pieces(&whole, Size { rows, length }, computing);
            assert_eq!(all.len(), 5_usize.div_ceil(rows));
            let mut targets = Vec::new();
            for (number, piece) in all.iter().enumerate() {
                assert_eq!(piece.tokens_before, number * rows * 3);
                assert_eq!(piece.lengths, (length > 3).then_some((3, length)));
                if length > 3 {
                    assert_eq!((piece.batch.rows, piece.batch.length), (rows, length));
                }
                targets.extend(piece.batch.targets.iter().map(|target| {
                    let place = target.index as usize;
                    piece.tokens_before + place / length * 3 + place % length
                }));
            }
            let rows: usize = all.iter().map(|piece| piece.batch.rows).sum();
            assert!(length > 3 || rows == 5, "the CPU's last part has the rows that there are");
            let wanted: Vec<_> = whole.targets.iter().map(|target| target.index as usize).collect();
            assert_eq!(targets, wanted);
        }
    }
}
