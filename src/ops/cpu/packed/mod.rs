//! Factors of products in the order in which products read them.

mod convert;
mod panels;

use std::mem::MaybeUninit;

pub use self::convert::convert;
use self::convert::{PaddedRow, Transpose};
use self::panels::{OfInner, OfOutputs};
use super::element::{Format, Number};
use super::memory::{filled, written};
use super::transpose::SIDE;
use crate::device::arch;

/// Outputs of a panel at most: four vectors of AVX-512.
pub const PANEL: usize = 64;
/// Panels are padded to a multiple of this.
pub const LANES: usize = SIDE;
/// Numbers of a left factor that a task converts.
const PART: usize = 1 << 14;

/// A matrix in someone else's memory.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, N> {
    /// Row after row.
    pub data: &'a [N],
    /// Rows.
    pub rows: usize,
    /// Numbers of a row.
    pub columns: usize,
    /// From row to row.
    pub stride: usize,
}

impl<'a, N: Number> View<'a, N> {
    /// Rows that follow each other without a gap.
    pub fn new(data: &'a [N], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix of {rows} rows and {columns} columns");
        Self { data, rows, columns, stride: columns }
    }

    /// Some of the columns, and some of the rows.
    pub fn part(self, rows: (usize, usize), columns: (usize, usize)) -> Self {
        let at = (rows.0 * self.stride + columns.0).min(self.data.len());
        let data = &self.data[at..];
        Self { data, rows: rows.1, columns: columns.1, stride: self.stride }
    }

    /// One row.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &'a [N] {
        &self.data[row * self.stride..][..self.columns]
    }
}

/// The left factor: rows of converted numbers, padded with zeros to whole groups.
#[derive(Debug, Clone)]
pub struct Left<F: Format> {
    data: Vec<F::Stored>,
    rows: usize,
    stride: usize,
}

impl<F: Format> Left<F> {
    /// Converted numbers.
    pub fn of<N: Number>(source: View<N>) -> Self {
        let stride = source.columns.next_multiple_of(F::GROUP);
        let part_rows = (PART / stride.max(1)).max(1);
        let write = |part: usize, target: &mut [MaybeUninit<F::Stored>]| {
            for (row, target) in target.chunks_exact_mut(stride).enumerate() {
                let source = source.row(part * part_rows + row);
                arch().dispatch(PaddedRow::<F, N> { source, target });
            }
        };
        // SAFETY: parts are whole rows, and `PaddedRow` writes all of each.
        #[expect(unsafe_code)]
        let data = unsafe { written(source.rows * stride, part_rows * stride, write) };
        Self { data, rows: source.rows, stride }
    }

    /// Rows in the memory of a vector that is no longer needed, with whatever is in it: each number
    /// and what rows are padded with is to be written.
    pub fn reused(mut memory: Vec<F::Stored>, rows: usize, columns: usize) -> Self {
        memory.resize(rows * columns.next_multiple_of(F::GROUP), F::Stored::default());
        Self::from_numbers(memory, rows)
    }

    /// The transpose of a matrix.
    pub fn transposed<N: Number>(source: View<N>) -> Self {
        let stride = source.rows.next_multiple_of(F::GROUP);
        let write = |number: usize, target: &mut [MaybeUninit<F::Stored>]| {
            let (first, count) = (number * LANES, target.len() / stride);
            let source = source.part((0, source.rows), (first, count));
            arch().dispatch(Transpose::<F, N> { source, stride, target });
        };
        // SAFETY: parts are whole columns, and `Transpose` writes all of each.
        #[expect(unsafe_code)]
        let data = unsafe { written(source.columns * stride, stride * LANES, write) };
        Self { data, rows: source.columns, stride }
    }

    /// `write` gets every row, its number first.
    pub fn with(
        rows: usize,
        columns: usize,
        write: impl Fn(usize, &mut [F::Stored]) + Sync,
    ) -> Self {
        let stride = columns.next_multiple_of(F::GROUP);
        let part_rows = (PART / stride.max(1)).max(1);
        let data = filled(rows * stride, part_rows * stride, |part, target| {
            for (row, target) in target.chunks_exact_mut(stride).enumerate() {
                write(part * part_rows + row, &mut target[..columns]);
            }
        });
        Self { data, rows, stride }
    }

    /// Rows that are as long as the format asks for.
    pub fn from_numbers(data: Vec<F::Stored>, rows: usize) -> Self {
        let stride = data.len() / rows.max(1);
        assert!(data.len() == rows * stride && stride.is_multiple_of(F::GROUP), "whole groups");
        Self { data, rows, stride }
    }

    /// Rows that follow each other.
    pub fn part(&self, first: usize, count: usize) -> Self {
        let data = self.data[first * self.stride..(first + count) * self.stride].to_vec();
        Self { data, rows: count, stride: self.stride }
    }

    /// Some of the rows.
    pub fn picked(&self, rows: &[u32]) -> Self {
        let data = picked(&self.data, self.stride, rows);
        Self { data, rows: rows.len(), stride: self.stride }
    }

    /// As some of so many rows, of which the others are zero.
    pub fn spread(&self, rows: &[u32], all: usize) -> Self {
        let data = spread(&self.data, self.stride, rows, all);
        Self { data, rows: all, stride: self.stride }
    }

    /// Row after row, with what they are padded with.
    pub fn numbers(&self) -> &[F::Stored] {
        &self.data
    }

    /// The same, to be changed.
    pub fn numbers_mut(&mut self) -> &mut [F::Stored] {
        &mut self.data
    }

    /// The same, taken.
    pub fn into_numbers(self) -> Vec<F::Stored> {
        self.data
    }

    /// What a product reads.
    pub fn view(&self) -> View<'_, F::Stored> {
        View { data: &self.data, rows: self.rows, columns: self.stride, stride: self.stride }
    }
}

/// The right factor `[inner, outputs]`: panels of [`PANEL`] outputs, in each the groups of inner
/// numbers one after the other, and beside each other those of every output.
#[derive(Debug, Clone)]
pub struct PackedRhs<F: Format> {
    data: Vec<F::Group>,
    inner: usize,
    outputs: usize,
}

impl<F: Format> PackedRhs<F> {
    /// Of a matrix `[outputs, inner]`, as weights are kept: for `x · wᵀ`.
    pub fn pack_rows<N: Number>(source: View<N>) -> Self {
        Self::with(source.columns, source.rows, |first, width, panel| {
            let rows = source.part((first, width.min(source.rows - first)), (0, source.columns));
            arch().dispatch(OfOutputs::<F, N> { rows, width, panel });
        })
    }

    /// The same of a matrix of this shape whose rows are made when they are packed: `numbers` gets
    /// the first and how many.
    pub fn of_outputs_with(
        [outputs, inner]: [usize; 2],
        numbers: impl Fn(usize, usize) -> Vec<f32> + Sync,
    ) -> Self {
        Self::with(inner, outputs, |first, width, panel| {
            let count = width.min(outputs - first);
            let numbers = numbers(first, count);
            let rows = View::new(&numbers, count, inner);
            arch().dispatch(OfOutputs::<F, f32> { rows, width, panel });
        })
    }

    /// [`Self::pack_cols`] of a matrix of this shape whose columns are made when they are packed:
    /// `numbers` gets the first and how many.
    pub fn of_inner_with(
        [inner, outputs]: [usize; 2],
        numbers: impl Fn(usize, usize) -> Vec<f32> + Sync,
    ) -> Self {
        Self::with(inner, outputs, |first, width, panel| {
            let count = width.min(outputs - first);
            let numbers = numbers(first, count);
            let rows = View::new(&numbers, inner, count);
            arch().dispatch(OfInner::<F, f32> { rows, width, panel });
        })
    }

    /// Of a matrix `[inner, outputs]`: for `d · w`.
    pub fn pack_cols<N: Number>(source: View<N>) -> Self {
        Self::with(source.rows, source.columns, |first, width, panel| {
            let columns = (first, width.min(source.columns - first));
            let rows = source.part((0, source.rows), columns);
            arch().dispatch(OfInner::<F, N> { rows, width, panel });
        })
    }

    /// `write` gets the first output, the width and the groups of each panel, all of which it
    /// writes: [`OfOutputs`] and [`OfInner`] do.
    fn with(
        inner: usize,
        outputs: usize,
        write: impl Fn(usize, usize, &mut [MaybeUninit<F::Group>]) + Sync,
    ) -> Self {
        let groups = inner.div_ceil(F::GROUP);
        let length = groups * outputs.next_multiple_of(LANES);
        let write = |number: usize, panel: &mut [MaybeUninit<F::Group>]| {
            write(number * PANEL, width(outputs, number), panel);
        };
        // SAFETY: every caller, all in this file, runs `OfOutputs` or `OfInner` on the whole panel,
        // and both write all of it.
        #[expect(unsafe_code)]
        let data = unsafe { written(length, groups * PANEL, write) };
        Self { data, inner: groups * F::GROUP, outputs }
    }

    /// Length of what is summed, padded to whole groups.
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// Columns of the product.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The groups of some inner numbers, of one panel.
    #[inline(always)]
    pub fn panel(&self, number: usize, inner: (usize, usize)) -> &[F::Group] {
        let width = width(self.outputs, number);
        let at = number * PANEL * (self.inner / F::GROUP);
        &self.data[at + inner.0 / F::GROUP * width..at + inner.1 / F::GROUP * width]
    }
}

/// Numbers of a packed matrix `[outputs, inner]`, with what it is padded with.
pub fn packed_numbers([outputs, inner]: [usize; 2]) -> u64 {
    // Groups have two numbers at most.
    (inner.next_multiple_of(2) * outputs.next_multiple_of(LANES)) as u64
}

/// Outputs of a panel, padded.
#[inline(always)]
pub fn width(outputs: usize, panel: usize) -> usize {
    (outputs - panel * PANEL).min(PANEL).next_multiple_of(LANES)
}

/// Some rows of a matrix.
pub fn picked<N: Copy>(numbers: &[N], width: usize, rows: &[u32]) -> Vec<N> {
    let rows = rows.iter().map(|row| &numbers[*row as usize * width..][..width]);
    rows.flatten().copied().collect()
}

/// What [`picked`] gave in its places, in so many rows of which the others are zero.
pub fn spread<N: Number>(numbers: &[N], width: usize, rows: &[u32], all: usize) -> Vec<N> {
    let mut spread = vec![N::default(); all * width];
    for (row, numbers) in rows.iter().zip(numbers.chunks_exact(width)) {
        spread[*row as usize * width..][..width].copy_from_slice(numbers);
    }
    spread
}
