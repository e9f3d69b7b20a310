//! How fast products are on this machine, and what its multiplication units can do at most.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use serde::Serialize;

use super::element::{Bf16, F32, F32RoundedToBf16, Number};
use super::packed::{Left, PackedRhs, View};
use super::product::{Multiply, Term, product, step_depth};
use super::run::Products;
use crate::device::multiplies_bfloat16;

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
/// Sums under way in a core: enough to hide the latency of one on every processor.
const SUMS: usize = 24;

/// How fast products are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProductSpeed {
    /// Threads that work on one.
    pub threads: usize,
    /// Inner numbers that are gone through at once, as the caches of the processor ask for.
    pub step_depth: usize,
    /// 10⁹ operations in a second of products in 32 bits; an addition and a multiplication are two.
    pub f32_gflops: f64,
    /// The same of products of bfloat16, where the processor has instructions for them.
    pub bf16_gflops: Option<f64>,
    /// What the units do in 32 bits if they wait for no memory.
    pub peak_gflops: f64,
}

/// Measures, which takes about a second.
pub fn product_speed() -> ProductSpeed {
    ProductSpeed {
        threads: rayon::current_num_threads(),
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
        Products::F32 => measured::<F32>(BRIEF, BRIEF_TRIES),
        Products::Bf16 => measured::<Bf16>(BRIEF, BRIEF_TRIES),
        Products::F32RoundedToBf16 => measured::<F32RoundedToBf16>(BRIEF, BRIEF_TRIES),
    }
}

/// 10⁹ operations in a second of a product of rows, inner numbers and outputs. Packing the right
/// factor is not a part of it.
pub fn gflops_of<F: Multiply>(shape: [usize; 3]) -> f64 {
    measured::<F>(shape, TRIES)
}

fn measured<F: Multiply>([rows, inner, outputs]: [usize; 3], tries: usize) -> f64 {
    let numbers = |count: usize| (0..count).map(|at| (at % 31) as f32 - 15.0).collect::<Vec<_>>();
    let left = Left::<F>::of(View::new(&numbers(rows * inner), rows, inner));
    let right = PackedRhs::<F>::pack_cols(View::new(&numbers(inner * outputs), inner, outputs));
    let term = [Term { left: left.view(), right: &right }];
    let operations = 2.0 * (rows * inner * outputs) as f64;
    // Small products are timed several at once.
    let repeats = (4e8 / operations).ceil().max(1.0);
    let seconds = fastest(tries, || {
        (0..repeats as usize).for_each(|_| drop(black_box(product(&term))));
    });
    operations * repeats / seconds / 1e9
}

/// What all units do at once, with numbers that stay in registers.
pub fn peak_gflops() -> f64 {
    let threads = rayon::current_num_threads();
    let lanes = Arch::new().dispatch(Lanes);
    let seconds = fastest(TRIES, || {
        (0..threads).into_par_iter().for_each(|_| {
            black_box(Arch::new().dispatch(Units));
        });
    });
    2.0 * (lanes * SUMS * ROUNDS * threads) as f64 / seconds / 1e9
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

/// Numbers of a vector.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Sums in registers.
struct Units;

impl WithSimd for Units {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (factor, more) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(1.0)));
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, factor, more);
            }
        }
        sums.into_iter().map(|sum| simd.reduce_sum_f32s(sum).wide()).sum()
    }
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
