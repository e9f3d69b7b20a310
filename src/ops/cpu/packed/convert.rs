//! How rows of left factors are written: every number of each.

use std::mem::MaybeUninit;

use pulp::NullaryFnOnce;

use super::{LANES, View};
use crate::device::arch;
use crate::ops::cpu::element::{Format, Group, Number};
use crate::ops::cpu::transpose::Transpose16x16;

/// Converts numbers.
pub fn convert<F: Format, N: Number>(source: &[N], target: &mut [F::Stored]) {
    arch().dispatch(Convert::<F, N> { source, target });
}

struct Convert<'a, F: Format, N> {
    source: &'a [N],
    target: &'a mut [F::Stored],
}

impl<F: Format, N: Number> NullaryFnOnce for Convert<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (target, number) in self.target.iter_mut().zip(self.source) {
            *target = F::of(*number);
        }
    }
}

/// The numbers of a row, converted, and zeros behind them.
pub struct PaddedRow<'a, F: Format, N> {
    pub source: &'a [N],
    pub target: &'a mut [MaybeUninit<F::Stored>],
}

impl<F: Format, N: Number> NullaryFnOnce for PaddedRow<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (target, beyond) = self.target.split_at_mut(self.source.len());
        beyond.fill(MaybeUninit::new(F::Stored::default()));
        for (target, number) in target.iter_mut().zip(self.source) {
            target.write(F::of(*number));
        }
    }
}

/// Some columns of a matrix as rows.
pub struct Transpose<'a, F: Format, N> {
    pub source: View<'a, N>,
    pub stride: usize,
    pub target: &'a mut [MaybeUninit<F::Stored>],
}

impl<F: Format, N: Number> NullaryFnOnce for Transpose<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { source, stride, target } = self;
        let turn = Transpose16x16::new();
        // Rows of a square: as many groups as it has numbers in a row.
        let rows = LANES * F::GROUP;
        let whole = if source.columns == LANES { source.rows / rows * rows } else { 0 };
        for first in (0..whole).step_by(rows) {
            let mut square = [[0; LANES]; LANES];
            for (group, bits) in square.iter_mut().enumerate() {
                let row = |number: usize| &source.row(first + group * F::GROUP + number)[..LANES];
                let pairs = row(0).iter().zip(row(F::GROUP - 1));
                for (bits, (a, b)) in bits.iter_mut().zip(pairs) {
                    *bits = F::group([*a, *b]).bits();
                }
            }
            for (column, groups) in turn.square(square).iter().enumerate() {
                let target = &mut target[column * stride + first..][..rows];
                for (numbers, bits) in target.chunks_exact_mut(F::GROUP).zip(groups) {
                    let group = F::Group::of_bits(*bits);
                    numbers.write_copy_of_slice(&group.numbers()[..F::GROUP]);
                }
            }
        }
        for row in whole..stride {
            for column in 0..source.columns {
                let beyond = row >= source.rows;
                let number = if beyond { N::default() } else { source.row(row)[column] };
                target[column * stride + row].write(F::of(number));
            }
        }
    }
}
