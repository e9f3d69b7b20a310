//! How fast products are on this machine, and what its multiplication units can do at most.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use serde::Serialize;

use super::element::{Bf16, F32, F32RoundedToBf16};
use super::packed::{Left, PackedRhs, View};
use super::product::{Multiply, Term, chosen_tile, product, product_by, step_depth};
use super::run::Products;
use crate::device::{InstructionSet, Tile, multiplies_bfloat16};

/// Rows, inner numbers and outputs of the product that is timed: as large as those of a model of
/// some billion weights, with operands beyond the caches of a core.
const LARGE: [usize; 3] = [512, 2048, 2048];
/// Of so many measurements the fastest counts: others had less of the processor.
const TRIES: usize = 5;
/// The product that is timed where tens of milliseconds are all there is, and how often: of a size
/// that training steps have.
const BRIEF: [usize; 3] = [512, 1024, 1024];
const BRIEF_TRIES: usize = 3;
/// Multiplications with addition of one measurement of the units, for each of them.
const ROUNDS: usize = 1 << 21;
/// Sums under way in a core: enough to hide the latency of one on every processor, and no more
/// than registers hold, of which AVX2 has sixteen.
const SUMS: usize = 24;
const SUMS_OF_AVX2: usize = 12;

/// How fast products are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProductSpeed {
    /// Threads that work on one.
    pub threads: usize,
    /// Instructions, and rows and vectors that are summed at once, of large products in 32 bits.
    pub tile: &'static str,
    /// The same of products of bfloat16, where the processor has instructions for them.
    pub bf16_tile: Option<&'static str>,
    /// Inner numbers that are gone through at once, as the caches of the processor ask for.
    pub step_depth: usize,
    /// 10⁹ operations in a second of products in 32 bits; an addition and a multiplication are two.
    pub f32_gflops: f64,
    /// The same of products of bfloat16, where the processor has instructions for them.
    pub bf16_gflops: Option<f64>,
    /// What the units do in 32 bits if they wait for no memory, by the best instructions of the
    /// processor, whatever tiles are made of.
    pub peak_gflops: f64,
}

/// Measures, which takes about a second.
pub fn product_speed() -> ProductSpeed {
    ProductSpeed {
        threads: rayon::current_num_threads(),
        tile: chosen_tile::<F32>().name(),
        bf16_tile: multiplies_bfloat16().then(|| chosen_tile::<Bf16>().name()),
        step_depth: step_depth(),
        f32_gflops: gflops_of::<F32>(LARGE),
        bf16_gflops: multiplies_bfloat16().then(|| gflops_of::<Bf16>(LARGE)),
        peak_gflops: peak_gflops(),
    }
}

/// 10⁹ operations in a second of products of a training step in a format, measured within tens of
/// milliseconds.
pub fn brief_gflops(products: Products) -> f64 {
    match products {
        Products::F32 => measured::<F32>(BRIEF, BRIEF_TRIES, product),
        Products::Bf16 => measured::<Bf16>(BRIEF, BRIEF_TRIES, product),
        Products::F32RoundedToBf16 => measured::<F32RoundedToBf16>(BRIEF, BRIEF_TRIES, product),
    }
}

/// 10⁹ operations in a second of a product of rows, inner numbers and outputs. Packing the right
/// factor is not a part of it.
pub fn gflops_of<F: Multiply>(shape: [usize; 3]) -> f64 {
    measured::<F>(shape, TRIES, product)
}

/// The same by a tile that the processor has.
pub fn gflops_by<F: Multiply>(tile: Tile, shape: [usize; 3]) -> f64 {
    measured::<F>(shape, TRIES, |terms: &[Term<F>]| product_by(tile, terms))
}

/// The same where the right factor, `[inner, outputs]` in 32 bits, is packed for every product, as
/// libraries do it.
pub fn gflops_packing<F: Multiply>([rows, inner, outputs]: [usize; 3]) -> f64 {
    let (left, right) = factors(rows, inner, outputs);
    let left = Left::<F>::of(View::new(&left, rows, inner));
    gflops_counted([rows, inner, outputs], TRIES, || {
        let right = PackedRhs::<F>::pack_cols(View::new(&right, inner, outputs));
        drop(black_box(product(&[Term { left: left.view(), right: &right }])));
    })
}

fn measured<F: Multiply>(
    [rows, inner, outputs]: [usize; 3],
    tries: usize,
    multiply: impl Fn(&[Term<F>]) -> Vec<f32>,
) -> f64 {
    let (left, right) = factors(rows, inner, outputs);
    let left = Left::<F>::of(View::new(&left, rows, inner));
    let right = PackedRhs::<F>::pack_cols(View::new(&right, inner, outputs));
    let term = [Term { left: left.view(), right: &right }];
    gflops_counted([rows, inner, outputs], tries, || drop(black_box(multiply(&term))))
}

/// Factors that are measured, `[rows, inner]` and `[inner, outputs]`.
fn factors(rows: usize, inner: usize, outputs: usize) -> (Vec<f32>, Vec<f32>) {
    let numbers = |count: usize| (0..count).map(|at| (at % 31) as f32 - 15.0).collect();
    (numbers(rows * inner), numbers(inner * outputs))
}

/// 10⁹ operations in a second of something that multiplies a product of this shape: of the fastest
/// of some tries, in each of which small products are made several times.
pub fn gflops_counted(
    [rows, inner, outputs]: [usize; 3],
    tries: usize,
    mut multiply: impl FnMut(),
) -> f64 {
    let operations = 2.0 * (rows * inner * outputs) as f64;
    let repeats = (4e8 / operations).ceil().max(1.0);
    let seconds = fastest(tries, || (0..repeats as usize).for_each(|_| multiply()));
    operations * repeats / seconds / 1e9
}

/// What all units do at once, with numbers that stay in registers.
pub fn peak_gflops() -> f64 {
    let threads = rayon::current_num_threads();
    let best = InstructionSet::supported().into_iter().max().expect("some need nothing").arch();
    let sums = best.dispatch(NumbersAtOnce);
    let seconds = fastest(TRIES, || {
        (0..threads).into_par_iter().for_each(|_| {
            black_box(best.dispatch(Units));
        });
    });
    2.0 * (sums * ROUNDS * threads) as f64 / seconds / 1e9
}

/// Seconds of the fastest of some tries.
fn fastest(tries: usize, mut work: impl FnMut()) -> f64 {
    let once = |_| {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64()
    };
    (0..tries).map(once).fold(f64::INFINITY, f64::min)
}

/// How many numbers [`Units`] has under way.
struct NumbersAtOnce;

impl WithSimd for NumbersAtOnce {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES * if S::F32_LANES == 8 { SUMS_OF_AVX2 } else { SUMS }
    }
}

/// Sums in registers.
struct Units;

impl WithSimd for Units {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        match S::F32_LANES {
            8 => in_registers::<S, SUMS_OF_AVX2>(simd),
            _ => in_registers::<S, SUMS>(simd),
        }
    }
}

#[inline(always)]
fn in_registers<S: Simd, const COUNT: usize>(simd: S) -> f32 {
    let (factor, more) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(1.0)));
    let mut sums = [simd.splat_f32s(0.0); COUNT];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = simd.mul_add_f32s(*sum, factor, more);
        }
    }
    let mut all = 0.0;
    for sum in sums {
        all += simd.reduce_sum_f32s(sum);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_told() {
        let speed = product_speed();
        assert!(speed.f32_gflops > 0.0 && speed.peak_gflops > 0.0, "{speed:?}");
        assert_eq!(speed.bf16_gflops.is_some(), multiplies_bfloat16());
        let text = serde_json::to_value(&speed).unwrap();
        assert_eq!(text["step_depth"], speed.step_depth);
        let names: Vec<&str> = Tile::supported().into_iter().map(Tile::name).collect();
        assert!(names.contains(&text["tile"].as_str().unwrap()), "{text}");
    }

    #[test]
    fn a_tile_is_measured_and_packing_as_well() {
        let shape = [28, 64, 128];
        let tile = *Tile::supported().last().unwrap();
        assert!(gflops_by::<F32>(tile, shape) > 0.0, "{}", tile.name());
        assert!(gflops_packing::<F32>(shape) > 0.0);
    }

    #[test]
    fn every_format_is_measured() {
        let all = [Products::F32, Products::F32RoundedToBf16].map(brief_gflops);
        assert!(all.iter().all(|speed| speed.is_finite() && *speed > 0.0), "{all:?}");
        if multiplies_bfloat16() {
            assert!(brief_gflops(Products::Bf16) > 0.0);
        }
    }
}
