//! How panels of right factors are written: every group of each.

use std::mem::MaybeUninit;

use pulp::NullaryFnOnce;

use super::{LANES, View};
use crate::ops::cpu::element::{Format, Group, Number};
use crate::ops::cpu::transpose::Transpose16x16;

/// A panel of a matrix whose rows are outputs.
pub struct OfOutputs<'a, F: Format, N> {
    pub rows: View<'a, N>,
    pub width: usize,
    pub panel: &'a mut [MaybeUninit<F::Group>],
}

impl<F: Format, N: Number> NullaryFnOnce for OfOutputs<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rows, width, panel } = self;
        let turn = Transpose16x16::new();
        let whole = rows.columns / (LANES * F::GROUP) * LANES; // groups in whole squares
        let single = |row: usize, column: usize| {
            let numbers =
                [rows.row(row)[column], rows.row(row)[(column + 1).min(rows.columns - 1)]];
            let beyond = F::GROUP == 2 && column + 1 == rows.columns;
            F::group(if beyond { [numbers[0], N::default()] } else { numbers })
        };
        for output in (0..rows.rows).step_by(LANES) {
            let count = LANES.min(rows.rows - output);
            let mut first = 0;
            while first < whole && count == LANES {
                let numbers =
                    |lane: usize| &rows.row(output + lane)[first * F::GROUP..][..LANES * F::GROUP];
                // Groups of 16 outputs, turned in registers.
                let mut square = [[0; LANES]; LANES];
                for (lane, bits) in square.iter_mut().enumerate() {
                    let groups = numbers(lane).chunks_exact(F::GROUP);
                    for (bits, numbers) in bits.iter_mut().zip(groups) {
                        *bits = F::group([numbers[0], numbers[F::GROUP - 1]]).bits();
                    }
                }
                for (group, lanes) in turn.square(square).iter().enumerate() {
                    let at = (first + group) * width + output;
                    for (group, bits) in panel[at..at + LANES].iter_mut().zip(lanes) {
                        group.write(F::Group::of_bits(*bits));
                    }
                }
                first += LANES;
            }
            for group in first..panel.len() / width {
                for lane in 0..LANES {
                    let beyond = lane >= count;
                    let number = match beyond {
                        true => F::Group::default(),
                        false => single(output + lane, group * F::GROUP),
                    };
                    panel[group * width + output + lane].write(number);
                }
            }
        }
    }
}

/// A panel of a matrix whose rows are inner numbers.
pub struct OfInner<'a, F: Format, N> {
    pub rows: View<'a, N>,
    pub width: usize,
    pub panel: &'a mut [MaybeUninit<F::Group>],
}

impl<F: Format, N: Number> NullaryFnOnce for OfInner<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rows, width, panel } = self;
        for (group, targets) in panel.chunks_exact_mut(width).enumerate() {
            let first = group * F::GROUP;
            let last = first + F::GROUP - 1;
            let (targets, beyond) = targets.split_at_mut(rows.columns);
            beyond.fill(MaybeUninit::new(F::Group::default()));
            if last < rows.rows {
                let pairs = rows.row(first).iter().zip(rows.row(last));
                for (target, (a, b)) in targets.iter_mut().zip(pairs) {
                    target.write(F::group([*a, *b]));
                }
            } else {
                for (target, number) in targets.iter_mut().zip(rows.row(first)) {
                    target.write(F::group([*number, N::default()]));
                }
            }
        }
    }
}
