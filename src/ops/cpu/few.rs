//! Products of a few rows: a model that writes token by token reads all its weights for each, and
//! to pack or widen them first would take most of the time.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::element::Number;
use super::host_tensor::StoredNumbers;
use super::packed::View;
use super::pointwise::{LANES, dot, dot_of_rest};

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

// Loops in what follows, and no closures: one that is not inlined is compiled for any processor.
impl WithSimd for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, w, rounds, first, target } = self;
        match w {
            StoredNumbers::F32(w) if !rounds => {
                for (output, sums) in target.chunks_exact_mut(x.rows).enumerate() {
                    sum_rows(simd, x, w.row(first + output), sums);
                }
            }
            // One or two rows are read for as long as the weights take: they are not widened first.
            StoredNumbers::Bf16(w) if x.rows < TOGETHER => {
                for (output, sums) in target.chunks_exact_mut(x.rows).enumerate() {
                    for (row, sum) in sums.iter_mut().enumerate() {
                        *sum = dot(x.row(row), w.row(first + output));
                    }
                }
            }
            w => {
                let mut wide = vec![0.0_f32; x.columns];
                let rounds = rounds && !matches!(w, StoredNumbers::Bf16(_));
                for (output, sums) in target.chunks_exact_mut(x.rows).enumerate() {
                    w.read(first + output, &mut wide);
                    if rounds {
                        for number in &mut wide {
                            *number = number.rounded().wide();
                        }
                    }
                    sum_rows(simd, x, &wide, sums);
                }
            }
        }
    }
}

/// Rows that are summed at once, where there are so many.
const TOGETHER: usize = 4;

/// Vectors that lanes are kept in, at most: of four numbers each.
const PARTS: usize = 4;

/// The sum of one output for each row.
#[inline(always)]
fn sum_rows<S: Simd>(simd: S, x: View<f32>, w: &[f32], sums: &mut [f32]) {
    let mut row = 0;
    // Processors without vectors sum a row at a time.
    while S::F32_LANES >= LANES / PARTS && row + TOGETHER <= sums.len() {
        let x = [x.row(row), x.row(row + 1), x.row(row + 2), x.row(row + 3)];
        sums[row..][..TOGETHER].copy_from_slice(&dots(simd, x, w));
        row += TOGETHER;
    }
    while row < sums.len() {
        sums[row] = dot(x.row(row), w);
        row += 1;
    }
}

/// What `dot` gives for each of some rows, in the same order of each sum. Each by itself would wait
/// for its last addition before the next.
#[inline(always)]
fn dots<S: Simd>(simd: S, x: [&[f32]; TOGETHER], w: &[f32]) -> [f32; TOGETHER] {
    let (whole, parts) = (w.len() / LANES * LANES, LANES / S::F32_LANES);
    let (lanes, _) = S::as_simd_f32s(&w[..whole]);
    let x_lanes = x.map(|x| S::as_simd_f32s(&x[..whole]).0);
    let mut sums = [[simd.splat_f32s(0.0); PARTS]; TOGETHER];
    let mut at = 0;
    while at + parts <= lanes.len() {
        for part in 0..parts {
            let w = lanes[at + part];
            for row in 0..TOGETHER {
                let product = simd.mul_f32s(x_lanes[row][at + part], w);
                sums[row][part] = simd.add_f32s(sums[row][part], product);
            }
        }
        at += parts;
    }
    let mut all = [0.0; TOGETHER];
    for row in 0..TOGETHER {
        let mut of_lanes = [0.0_f32; LANES];
        let (target, _) = S::as_mut_simd_f32s(&mut of_lanes);
        target.copy_from_slice(&sums[row][..parts]);
        all[row] = of_lanes.iter().sum::<f32>() + dot_of_rest(&x[row][whole..], &w[whole..]);
    }
    all
}
