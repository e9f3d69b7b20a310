//! Sizes of what is computed at once: where kernels are compiled for each size of a tensor,
//! micro-batches are filled up, so that few occur; where they are not, padding is left out.

use std::borrow::Cow;
use std::sync::Arc;

use crate::data::{Batch, Target};
use crate::device::ComputeConfig;
use crate::engine::MicroBatchSplit;
use crate::ops::cpu::Products;

/// What is computed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Rows.
    pub rows: usize,
    /// Tokens of each.
    pub length: usize,
}

impl Size {
    /// The size of the parts that a micro-batch is worked on in; whole ones have `whole` rows.
    pub fn of(
        batch: &Batch,
        whole: usize,
        micro_batch_split: MicroBatchSplit,
        computing: ComputeConfig,
    ) -> Self {
        let most = micro_batch_split.rows.unwrap_or(usize::MAX);
        match computing.pad_multiple {
            0 | 1 => Self { rows: batch.rows.min(most), length: batch.length },
            pad_multiple => Self {
                rows: batch.rows.max(whole).min(most),
                length: batch.length.next_multiple_of(pad_multiple),
            },
        }
    }

    /// A batch of this size in which every token but the first of a row is trained on: for kernels
    /// to be compiled on, not to learn from.
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
            ..Batch::default()
        }
    }
}

/// A part of a micro-batch.
pub struct MicroBatchPart<'a> {
    /// Rows of the micro-batch that are in it.
    pub rows: usize,
    /// The number of each token in the micro-batch where that is not its place here, and nothing
    /// for padding that was added.
    pub numbers: Option<Arc<[Option<usize>]>>,
    /// Itself, filled up where sizes are to come again.
    pub batch: Cow<'a, Batch>,
}

/// The parts of a micro-batch, of `size` each.
pub fn pieces(batch: &Batch, size: Size, computing: ComputeConfig) -> Vec<MicroBatchPart<'_>> {
    if batch.rows <= size.rows {
        return vec![piece(0, Cow::Borrowed(batch), size, computing)];
    }
    let parts = batch.split(size.rows).into_iter();
    parts.map(|(before, part)| piece(before, Cow::Owned(part), size, computing)).collect()
}

/// A part that some tokens of the micro-batch come before.
fn piece<'a>(
    before: usize,
    part: Cow<'a, Batch>,
    size: Size,
    computing: ComputeConfig,
) -> MicroBatchPart<'a> {
    let rows = part.rows;
    // Kernels of the CPU see documents, whatever row they are in, and are as fast in any size.
    let grained = computing.pad_multiple > 1;
    if !grained
        && Products::of(computing).is_some()
        && let Some((batch, places)) = part.without_padding()
    {
        let numbers = places.into_iter().map(|place| Some(before + place)).collect();
        return MicroBatchPart { rows, numbers: Some(numbers), batch: Cow::Owned(batch) };
    }
    let (length, wider) = (part.length, size.length);
    let taller = if grained { size.rows } else { rows };
    let number = |token: usize| {
        let (row, place) = (token / wider, token % wider);
        (place < length).then_some(before + row * length + place)
    };
    let moved = before > 0 || wider > length;
    let numbers = moved.then(|| (0..taller * wider).map(number).collect());
    let batch = match part.padded(taller, wider) {
        Cow::Borrowed(_) => part,
        Cow::Owned(padded) => Cow::Owned(padded),
    };
    MicroBatchPart { rows, numbers, batch }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kernels;

    fn batch(rows: usize, length: usize) -> Batch {
        let size = Size { rows, length };
        size.batch()
    }

    #[test]
    fn few_sizes_occur_where_they_are_filled_up() {
        let grained = ComputeConfig { pad_multiple: 64, ..ComputeConfig::default() };
        let size = |batch: &Batch, rows, computing| {
            let micro_batch_split = MicroBatchSplit { rows, ..MicroBatchSplit::default() };
            let size = Size::of(batch, 8, micro_batch_split, computing);
            (size.rows, size.length)
        };
        for (rows, length) in [(8, 65), (8, 128), (3, 100)] {
            assert_eq!(size(&batch(rows, length), None, grained), (8, 128));
            assert_eq!(size(&batch(rows, length), Some(2), grained), (2, 128));
            assert_eq!(size(&batch(rows, length), None, ComputeConfig::default()), (rows, length));
        }
        assert_eq!(size(&batch(3, 100), Some(2), ComputeConfig::default()), (2, 100));
    }

    #[test]
    fn pieces_hold_everything_at_its_place() {
        let whole = batch(5, 3);
        for (rows, length) in [(2, 3), (2, 4), (5, 4), (7, 4)] {
            let pad_multiple = if length > 3 { 4 } else { 1 };
            let computing = ComputeConfig { pad_multiple, ..ComputeConfig::default() };
            let all = pieces(&whole, Size { rows, length }, computing);
            assert_eq!(all.len(), 5_usize.div_ceil(rows));
            let mut targets = Vec::new();
            for (number, piece) in all.iter().enumerate() {
                if length > 3 {
                    assert_eq!((piece.batch.rows, piece.batch.length), (rows, length));
                }
                assert_eq!(piece.numbers.is_some(), number > 0 || length > 3);
                targets.extend(piece.batch.targets.iter().map(|target| {
                    let place = target.index as usize;
                    piece.numbers.as_ref().map_or(Some(place), |numbers| numbers[place]).unwrap()
                }));
                if let Some(numbers) = &piece.numbers {
                    let padding = (0..rows * length).filter(|place| place % length >= 3);
                    assert!(padding.into_iter().all(|place| numbers[place].is_none()));
                }
            }
            let rows: usize = all.iter().map(|piece| piece.batch.rows).sum();
            assert!(length > 3 || rows == 5, "the CPU's last part has the rows that there are");
            let wanted: Vec<_> = whole.targets.iter().map(|target| target.index as usize).collect();
            assert_eq!(targets, wanted);
        }
    }

    #[test]
    fn kernels_of_the_cpu_get_no_padding() {
        let mut whole = batch(3, 4);
        for place in [2, 3, 7] {
            (whole.documents[place], whole.positions[place]) = (0, 0);
        }
        whole.targets.retain(|target| whole.documents[target.index as usize + 1] > 0);
        let of = |rows, computing| -> Vec<(usize, usize, usize)> {
            let all = pieces(&whole, Size { rows, length: 4 }, computing);
            all.iter().map(|piece| (piece.rows, piece.batch.rows, piece.batch.length)).collect()
        };
        let computing = ComputeConfig::default();
        assert_eq!(of(3, computing), [(3, 1, 9)]);
        assert_eq!(of(2, computing), [(2, 1, 5), (1, 1, 4)]);
        let portable = ComputeConfig { kernels: Kernels::Portable, ..computing };
        assert_eq!(of(3, portable), [(3, 3, 4)]);
        assert_eq!(of(3, ComputeConfig { pad_multiple: 2, ..computing }), [(3, 3, 4)]);
        let parts = pieces(&whole, Size { rows: 2, length: 4 }, computing);
        let numbers: Vec<_> =
            parts.iter().flat_map(|part| part.numbers.clone().unwrap()[..].to_vec()).collect();
        let real = (0..12).filter(|place| whole.documents[*place] > 0).map(Some);
        assert!(numbers.into_iter().eq(real));
    }
}
