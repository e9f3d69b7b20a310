//! Products of a few rows: a model that writes token by token reads all its weights for each, and
//! to pack or widen them first would take most of the time.

use burn::tensor::Tensor;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::element::Number;
use super::host_tensor::{HostTensor, StoredNumbers};
use super::packed::View;
use super::pointwise::dot;
use crate::ops::from_vec;

/// More rows than this are a matter for products with packed panels.
pub const FEW_ROWS: usize = 16;
/// Outputs of one task.
const OUTPUTS: usize = 32;

/// `x · wᵀ` for a few rows `x: [rows, in]` and `w: [out, in]`. Each sum has a fixed order, whatever
/// the number of threads and of rows.
pub fn few_rows(x: &Tensor<2>, w: &HostTensor, rounds: bool) -> Option<Tensor<2>> {
    let rows = x.dims()[0];
    let (left, right) = (HostTensor::of(x)?, w.numbers());
    let StoredNumbers::F32(left) = left.numbers() else { return None };
    let factor = |x: &f32| if rounds { x.rounded().wide() } else { *x };
    let factors: Vec<f32> = left.data.iter().map(factor).collect();
    let (outputs, columns) = (w.rows(), w.columns());
    let mut by_output = vec![0.0; outputs * rows];
    by_output.par_chunks_mut(OUTPUTS * rows).enumerate().for_each(|(task, target)| {
        let x = View::new(&factors, rows, columns);
        Arch::new().dispatch(Outputs { x, w: right, rounds, first: task * OUTPUTS, target });
    });
    let mut y = vec![0.0; rows * outputs];
    for (output, sums) in by_output.chunks_exact(rows).enumerate() {
        sums.iter().enumerate().for_each(|(row, sum)| y[row * outputs + output] = *sum);
    }
    Some(from_vec(y, [rows, outputs], &x.device()))
}

/// Some outputs, all rows of one after those of the other.
struct Outputs<'a> {
    x: View<'a, f32>,
    w: StoredNumbers<'a>,
    /// Whether numbers that are not kept in bfloat16 are rounded to it.
    rounds: bool,
    first: usize,
    target: &'a mut [f32],
}

impl NullaryFnOnce for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { x, w, rounds, first, target } = self;
        match w {
            StoredNumbers::F32(w) if !rounds => sum_outputs(x, w, first, target),
            StoredNumbers::Bf16(w) => sum_outputs(x, w, first, target),
            w => {
                let mut wide = vec![0.0_f32; x.columns];
                for (output, sums) in target.chunks_exact_mut(x.rows).enumerate() {
                    w.read(first + output, &mut wide);
                    if rounds {
                        wide.iter_mut().for_each(|x| *x = x.rounded().wide());
                    }
                    sum_rows(x, &wide, sums);
                }
            }
        }
    }
}

/// The sums of some outputs, of weights that are read as they are kept.
#[inline(always)]
fn sum_outputs<N: Number>(x: View<f32>, w: View<N>, first: usize, target: &mut [f32]) {
    for (output, sums) in target.chunks_exact_mut(x.rows).enumerate() {
        sum_rows(x, w.row(first + output), sums);
    }
}

/// The sum of one output for each row.
#[inline(always)]
fn sum_rows<N: Number>(x: View<f32>, w: &[N], sums: &mut [f32]) {
    sums.iter_mut().enumerate().for_each(|(row, sum)| *sum = dot(x.row(row), w));
}
