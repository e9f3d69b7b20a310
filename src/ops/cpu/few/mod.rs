//! Products of a few rows: a model that writes token by token reads all its weights for each, and
//! to pack them first would take most of the time.

mod ahead;
mod bf16;
mod sums;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

pub(super) use self::sums::{AT_ONCE, dots};
use super::element::{Bf16, Number};
use super::host_tensor::StoredNumbers;
use super::packed::{Left, View};
use crate::device::multiplies_bfloat16;

/// More rows than this are a matter for products with packed panels.
pub const FEW_ROWS: usize = 16;
/// Outputs of one task, and numbers of weights that are worth one.
const OUTPUTS: usize = 32;
const NUMBERS: usize = 1 << 14;
/// Tasks of a thread at most, where there are many outputs.
const TASKS: usize = 16;

/// `x · wᵀ` for a few rows `x: [rows, in]` and weights `w: [out, in]`, `[rows, out]`, of each of
/// several pairs: all of them at once, since threads that wait for each other after every matrix
/// would wait for as long as they work. Factors are rounded to bfloat16 first where that is asked
/// for. Each sum has a fixed order, whatever the number of threads and of rows.
pub fn few_rows(pairs: &[(View<f32>, StoredNumbers)], rounds: bool) -> Vec<Vec<f32>> {
    if rounds && multiplies_bfloat16() {
        let factors: Vec<_> = pairs.iter().map(|(x, _)| Left::<Bf16>::of(*x)).collect();
        return divided(pairs, |pair, first, target| {
            bf16::outputs(factors[pair].view(), pairs[pair].1, first, target);
        });
    }
    let factors = |(x, _): &(View<f32>, _)| {
        let rounded = |x: &f32| if rounds { x.rounded().wide() } else { *x };
        (0..x.rows).flat_map(|row| x.row(row)).map(rounded).collect::<Vec<f32>>()
    };
    let factors: Vec<_> = pairs.iter().map(factors).collect();
    divided(pairs, |pair, first, target| {
        let (x, w) = pairs[pair];
        let x = View::new(&factors[pair], x.rows, x.columns);
        Arch::new().dispatch(Outputs { x, w, rounds, first, target });
    })
}

/// All outputs of all pairs, divided among threads: `of` writes those of a pair from a first one
/// on, of each row.
fn divided(
    pairs: &[(View<f32>, StoredNumbers)],
    of: impl Fn(usize, usize, &mut [&mut [f32]]) + Sync,
) -> Vec<Vec<f32>> {
    let mut results: Vec<Vec<f32>> =
        pairs.iter().map(|(x, w)| vec![0.0; w.rows() * x.rows]).collect();
    let mut tasks = Vec::new();
    for (pair, result) in results.iter_mut().enumerate() {
        let (x, w) = &pairs[pair];
        let most = w.rows().div_ceil(TASKS * rayon::current_num_threads());
        let outputs = OUTPUTS.max(NUMBERS / x.columns.max(1)).max(most);
        let mut rows: Vec<&mut [f32]> = result.chunks_exact_mut(w.rows().max(1)).collect();
        for first in (0..w.rows()).step_by(outputs) {
            let count = outputs.min(w.rows() - first);
            let target: Vec<&mut [f32]> = rows
                .iter_mut()
                .map(|row| row.split_off_mut(..count).expect("a row has all outputs"))
                .collect();
            tasks.push((pair, first, target));
        }
    }
    match tasks.len() {
        1 => tasks.into_iter().for_each(|(pair, first, mut target)| of(pair, first, &mut target)),
        _ => tasks.into_par_iter().for_each(|(pair, first, mut target)| {
            of(pair, first, &mut target);
        }),
    }
    results
}

/// Some outputs of all rows.
struct Outputs<'a, 't, 'r> {
    x: View<'a, f32>,
    w: StoredNumbers<'a>,
    /// Whether weights that are not kept in bfloat16 are rounded to it.
    rounds: bool,
    first: usize,
    target: &'t mut [&'r mut [f32]],
}

// Loops in what follows, and no closures: one that is not inlined is compiled for any processor.
impl WithSimd for Outputs<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, w, rounds, first, target } = self;
        let count = target.first().map_or(0, |row| row.len());
        match w {
            StoredNumbers::F32(w) if !rounds => all(simd, x, w, first, target),
            StoredNumbers::Bf16(w) => all(simd, x, w, first, target),
            w => {
                let mut wide = vec![0.0_f32; AT_ONCE * x.columns];
                for at in (0..count).step_by(AT_ONCE) {
                    let count = AT_ONCE.min(count - at);
                    for (o, wide) in wide.chunks_exact_mut(x.columns.max(1)).take(count).enumerate()
                    {
                        w.read(first + at + o, wide);
                        if rounds {
                            for number in wide {
                                *number = number.rounded().wide();
                            }
                        }
                    }
                    let w = std::array::from_fn(|o| &wide[o * x.columns..][..x.columns]);
                    write(simd, x, w, at, target);
                }
            }
        }
    }
}

/// All outputs, of weights that are read as they are kept.
#[inline(always)]
fn all<S: Simd, N: Number>(
    simd: S,
    x: View<f32>,
    w: View<N>,
    first: usize,
    target: &mut [&mut [f32]],
) {
    let count = target.first().map_or(0, |row| row.len());
    for at in (0..count).step_by(AT_ONCE) {
        // Outputs beyond the last are the last again, and go nowhere.
        let w = std::array::from_fn(|o| w.row(first + (at + o).min(count - 1)));
        write(simd, x, w, at, target);
    }
}

/// Writes a few outputs of all rows, from one on; what goes beyond the last is left out.
#[inline(always)]
fn write<S: Simd, N: Number>(
    simd: S,
    x: View<f32>,
    w: [&[N]; AT_ONCE],
    at: usize,
    target: &mut [&mut [f32]],
) {
    let mut row = 0;
    while row < x.rows {
        if row + AT_ONCE <= x.rows {
            let rows = [x.row(row), x.row(row + 1), x.row(row + 2), x.row(row + 3)];
            let sums = match row {
                0 => dots::<S, N, AT_ONCE, true>(simd, rows, w),
                _ => dots::<S, N, AT_ONCE, false>(simd, rows, w),
            };
            for (target, sums) in target[row..].iter_mut().zip(&sums) {
                put(sums, &mut target[at..]);
            }
            row += AT_ONCE;
        } else {
            let [sums] = match row {
                0 => dots::<S, N, 1, true>(simd, [x.row(row)], w),
                _ => dots::<S, N, 1, false>(simd, [x.row(row)], w),
            };
            put(&sums, &mut target[row][at..]);
            row += 1;
        }
    }
}

/// As many as there is room for.
#[inline(always)]
fn put(sums: &[f32; AT_ONCE], target: &mut [f32]) {
    for (target, sum) in target.iter_mut().zip(sums) {
        *target = *sum;
    }
}
