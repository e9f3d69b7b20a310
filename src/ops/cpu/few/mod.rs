//! Products of a few rows: a model that writes token by token reads all its weights for each, and
//! to pack them first would take most of the time.

mod ahead;
mod bf16;
mod narrow;
mod sums;

use pulp::{Simd, WithSimd};

pub(super) use self::ahead::call_for_line;
pub(super) use self::narrow::add_narrow;
use self::sums::{AT_ONCE, Vectors};
use super::element::{Bf16, Number};
use super::host_tensor::StoredNumbers;
use super::packed::{Left, View};
use super::team;
use crate::device::{arch, multiplies_bfloat16};

/// More rows than this are a matter for products with packed panels.
pub const FEW_ROWS: usize = 16;
/// Outputs of one task, and numbers of weights that are worth one.
const OUTPUTS: usize = 32;
const NUMBERS: usize = 1 << 14;
/// Tasks of a thread at most, where there are many outputs.
const TASKS: usize = 16;

/// Work that one thread does before another has woken up: weights, and products with them.
const FEWEST_NUMBERS: usize = 1 << 15;
const FEWEST_PRODUCTS: usize = 1 << 19;

/// `x · wᵀ` for a few rows `x: [rows, in]` and each of several weights `w: [out, in]`,
/// `[rows, out]`: all of them at once, since threads that wait for each other after every matrix
/// would wait for as long as they work. Factors are rounded to bfloat16 first where that is asked
/// for. Each sum has a fixed order, whatever the number of threads and of rows.
pub fn few_rows(x: View<f32>, weights: &[StoredNumbers], rounds: bool) -> Vec<Vec<f32>> {
    few_rows_then(x, weights, rounds, |_, _, _| {})
}

/// The same; `then` changes outputs while they are at hand: those of a weight from a first one on,
/// of each row.
pub fn few_rows_then(
    x: View<f32>,
    weights: &[StoredNumbers],
    rounds: bool,
    then: impl Fn(usize, usize, &mut [&mut [f32]]) + Sync,
) -> Vec<Vec<f32>> {
    if rounds && multiplies_bfloat16() {
        let factor = Left::<Bf16>::of(x);
        return divided(x, weights, |number, first, target| {
            bf16::outputs(factor.view(), weights[number], first, target);
            then(number, first, target);
        });
    }
    let rounded: Vec<f32> = match rounds {
        true => (0..x.rows).flat_map(|row| x.row(row)).map(|x| x.rounded().wide()).collect(),
        false => Vec::new(),
    };
    let x = if rounds { View::new(&rounded, x.rows, x.columns) } else { x };
    divided(x, weights, |number, first, target| {
        arch().dispatch(Outputs { x, w: weights[number], rounds, first, target });
        then(number, first, target);
    })
}

/// All outputs of all weights, divided among threads: `of` writes those of a weight from a first
/// one on, of each row.
fn divided(
    x: View<f32>,
    weights: &[StoredNumbers],
    of: impl Fn(usize, usize, &mut [&mut [f32]]) + Sync,
) -> Vec<Vec<f32>> {
    let mut results: Vec<Vec<f32>> = weights.iter().map(|w| vec![0.0; w.rows() * x.rows]).collect();
    let mut tasks = Vec::new();
    for (number, (w, result)) in weights.iter().zip(&mut results).enumerate() {
        let most = w.rows().div_ceil(TASKS * rayon::current_num_threads());
        let outputs = OUTPUTS.max(NUMBERS / x.columns.max(1)).max(most);
        let mut rows: Vec<&mut [f32]> = result.chunks_exact_mut(w.rows().max(1)).collect();
        for first in (0..w.rows()).step_by(outputs) {
            let count = outputs.min(w.rows() - first);
            let target: Vec<&mut [f32]> = rows
                .iter_mut()
                .map(|row| row.split_off_mut(..count).expect("a row has all outputs"))
                .collect();
            tasks.push((number, first, target));
        }
    }
    let numbers: usize = weights.iter().map(|w| w.rows() * x.columns).sum();
    let alone = numbers <= FEWEST_NUMBERS && numbers * x.rows <= FEWEST_PRODUCTS;
    let work = |(number, first, mut target): (usize, usize, Vec<&mut [f32]>)| {
        of(number, first, &mut target);
    };
    match alone || tasks.len() == 1 {
        true => tasks.into_iter().for_each(work),
        false => team::each(tasks, work),
    }
    results
}

/// Sums of products of rows with four outputs at once.
trait Sums: Copy {
    /// What rows are made of.
    type Row: Number;
    /// What weights are made of.
    type Weight: Number;
    /// Writes the sums of some rows into their outputs from one on, as many as there is room for:
    /// each in the same order whatever stands beside it. Where it fetches, weights that come later
    /// in memory are called for.
    fn write<const ROWS: usize, const FETCHES: bool>(
        self,
        x: [&[Self::Row]; ROWS],
        w: [&[Self::Weight]; AT_ONCE],
        target: &mut [&mut [f32]],
        at: usize,
    );
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

// Loops in what follows, and no closures that are handed to iterators: one that is not inlined is
// compiled for any processor.
impl WithSimd for Outputs<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, w, rounds, first, target } = self;
        match w {
            StoredNumbers::Bf16(w) => {
                as_kept(Vectors::<S, half::bf16, false>::new(simd), x, w, first, target);
            }
            // Rounded for each four rows again, which costs less than a copy if there are no more.
            StoredNumbers::F32(w) if rounds && x.rows <= AT_ONCE => {
                as_kept(Vectors::<S, f32, true>::new(simd), x, w, first, target);
            }
            StoredNumbers::F32(w) if !rounds => {
                as_kept(Vectors::<S, f32, false>::new(simd), x, w, first, target);
            }
            w => as_read(Vectors::<S, f32, false>::new(simd), x, w, rounds, first, target),
        }
    }
}

/// All outputs, of weights that are read as they are kept.
#[inline(always)]
fn as_kept<T: Sums>(
    sums: T,
    x: View<T::Row>,
    w: View<T::Weight>,
    first: usize,
    target: &mut [&mut [f32]],
) {
    let count = target.first().map_or(0, |row| row.len());
    for at in (0..count).step_by(AT_ONCE) {
        // Outputs beyond the last are the last again, and go nowhere.
        let w = std::array::from_fn(|o| w.row(first + (at + o).min(count - 1)));
        write::<T, true>(sums, x, w, at, target);
    }
}

/// All outputs, of weights that are read as numbers of 32 bits a few rows at a time, and rounded to
/// bfloat16 if that is asked for.
#[inline(always)]
fn as_read<T: Sums<Weight = f32>>(
    sums: T,
    x: View<T::Row>,
    w: StoredNumbers,
    rounds: bool,
    first: usize,
    target: &mut [&mut [f32]],
) {
    let count = target.first().map_or(0, |row| row.len());
    let columns = w.columns();
    let mut numbers = vec![0.0_f32; AT_ONCE * columns];
    for at in (0..count).step_by(AT_ONCE) {
        for o in 0..AT_ONCE.min(count - at) {
            let numbers = &mut numbers[o * columns..][..columns];
            w.read(first + at + o, numbers);
            if rounds {
                for number in numbers {
                    *number = number.rounded().wide();
                }
            }
        }
        write::<T, false>(
            sums,
            x,
            std::array::from_fn(|o| &numbers[o * columns..][..columns]),
            at,
            target,
        );
    }
}

/// A few outputs of all rows, from one on; what goes beyond the last is left out. Weights that come
/// later in memory are called for if these are where they are kept.
#[inline(always)]
fn write<T: Sums, const KEPT: bool>(
    sums: T,
    x: View<T::Row>,
    w: [&[T::Weight]; AT_ONCE],
    at: usize,
    target: &mut [&mut [f32]],
) {
    let mut row = 0;
    while row < x.rows {
        if row + AT_ONCE <= x.rows {
            let rows = [x.row(row), x.row(row + 1), x.row(row + 2), x.row(row + 3)];
            let target = &mut target[row..row + AT_ONCE];
            match row {
                0 if KEPT => sums.write::<AT_ONCE, true>(rows, w, target, at),
                _ => sums.write::<AT_ONCE, false>(rows, w, target, at),
            }
            row += AT_ONCE;
        } else {
            let target = &mut target[row..=row];
            match row {
                0 if KEPT => sums.write::<1, true>([x.row(row)], w, target, at),
                _ => sums.write::<1, false>([x.row(row)], w, target, at),
            }
            row += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::host_tensor::HostTensor;
    use super::*;
    use crate::random::Stream;
    use crate::weights::formats::{CodedMatrix, Storage, WEIGHT_FORMATS, dequantised};
    use crate::weights::{Blocks, ggml};

    /// Outputs that are not fours, and rows that are not whole vectors where a format has such.
    fn matrices() -> Vec<(&'static str, Arc<dyn CodedMatrix>)> {
        let mut all = Vec::new();
        let stream = Stream::new(12);
        for format in WEIGHT_FORMATS {
            if let Storage::Coded(code) = format.storage() {
                let numbers: Vec<f32> = (0..10 * 203).map(|at| stream.normal(at) as f32).collect();
                all.push((format.name(), code(&numbers, [10, 203])));
            }
        }
        for kind in ggml::TYPES.iter().filter(|kind| kind.is_quantised()) {
            // Scales that are small numbers.
            let bytes = (0..10 * 2 * kind.bytes).map(|at| (at * 37 % 59) as u8).collect::<Vec<_>>();
            all.push((kind.name, Blocks::new(bytes, kind, 2 * kind.block).matrix(0, 10)));
        }
        all
    }

    #[test]
    fn products_with_codes_are_those_with_their_numbers_bit_for_bit() {
        let stream = Stream::new(13);
        for (name, codes) in matrices() {
            let [outputs, columns] = codes.shape();
            let numbers = dequantised(codes.as_ref());
            let numbers = StoredNumbers::F32(View::new(&numbers, outputs, columns));
            let codes = HostTensor::coded(codes);
            for rows in [1, 3, 4, 5, 16] {
                let count = (rows * columns) as u64;
                let x: Vec<f32> = (0..count).map(|at| stream.normal(at) as f32).collect();
                let x = View::new(&x, rows, columns);
                for rounds in [false, true] {
                    let of = |w: StoredNumbers| -> Vec<u32> {
                        few_rows(x, &[w], rounds)[0].iter().map(|y| y.to_bits()).collect()
                    };
                    let found = of(codes.numbers());
                    assert_eq!(found.len(), rows * outputs);
                    assert!(found.iter().any(|bits| *bits != 0));
                    assert_eq!(found, of(numbers), "{name}, {rows} rows, rounds: {rounds}");
                }
            }
        }
    }
}
