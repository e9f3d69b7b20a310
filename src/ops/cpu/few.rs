//! Products of a few rows: a model that writes token by token reads all its weights for each, and
//! to pack or widen them first would take most of the time.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::element::Number;
use super::host_tensor::StoredNumbers;
use super::packed::View;
use super::pointwise::dot;

/// More rows than this are a matter for products with packed panels.
pub const FEW_ROWS: usize = 16;
/// Outputs of one task, and numbers of weights that are worth one.
const OUTPUTS: usize = 32;
const NUMBERS: usize = 1 << 14;

/// `x · wᵀ` for a few rows `x: [rows, in]` and each `w: [out, in]` of several, `[rows, out]`: all
/// of them at once, since threads that wait for each other after every matrix would wait for as
/// long as they work. Factors are rounded to bfloat16 first where that is asked for. Each sum has a
/// fixed order, whatever the number of threads and of rows.
pub fn few_rows<const N: usize>(
    x: View<f32>,
    weights: [StoredNumbers; N],
    rounds: bool,
) -> [Vec<f32>; N] {
    let factors: Vec<f32> = match rounds {
        true => rows(x).map(|x| x.rounded().wide()).collect(),
        false => rows(x).copied().collect(),
    };
    let (x, rows) = (View::new(&factors, x.rows, x.columns), x.rows);
    let mut by_output = weights.map(|w| vec![0.0; w.rows() * rows]);
    let outputs = OUTPUTS.max(NUMBERS / x.columns.max(1));
    let tasks = weights.iter().zip(&mut by_output).flat_map(|(w, sums)| {
        let parts = sums.chunks_mut(outputs * rows.max(1)).enumerate();
        parts.map(|(task, target)| Outputs { x, w: *w, rounds, first: task * outputs, target })
    });
    let tasks: Vec<Outputs> = tasks.collect();
    tasks.into_par_iter().for_each(|task| Arch::new().dispatch(task));
    if rows == 1 { by_output } else { by_output.map(|sums| by_row(&sums, rows)) }
}

fn rows<'a>(x: View<'a, f32>) -> impl Iterator<Item = &'a f32> {
    (0..x.rows).flat_map(move |row| x.row(row))
}

/// `[rows, out]` of `[out, rows]`.
fn by_row(sums: &[f32], rows: usize) -> Vec<f32> {
    let outputs = sums.len() / rows.max(1);
    let mut y = vec![0.0; sums.len()];
    for (output, sums) in sums.chunks_exact(rows.max(1)).enumerate() {
        sums.iter().enumerate().for_each(|(row, sum)| y[row * outputs + output] = *sum);
    }
    y
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
