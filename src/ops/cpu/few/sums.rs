//! Sums of products in 32 bits, each in the same order on every processor and beside any
//! others: sixteen lanes, which are added to each other in halves, and what is left behind them.

use std::marker::PhantomData;

use pulp::Simd;

use super::Sums;
use super::ahead::call_for;
use crate::ops::cpu::element::Number;
use crate::ops::cpu::pointwise::LANES;

/// Rows, and outputs, that are summed at once where there are so many. Each sum by itself would
/// wait for its last addition before the next.
pub const AT_ONCE: usize = 4;

/// Sums in vectors of 32 bits, of weights of numbers `N`.
pub struct Vectors<S, N>(S, PhantomData<N>);

impl<S: Copy, N> Clone for Vectors<S, N> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Copy, N> Copy for Vectors<S, N> {}

impl<S, N> Vectors<S, N> {
    /// Those of a processor.
    #[inline(always)]
    pub fn new(simd: S) -> Self {
        Self(simd, PhantomData)
    }
}

impl<S: Simd, N: Number> Sums for Vectors<S, N> {
    type Row = f32;
    type Weight = N;

    #[inline(always)]
    fn write<const ROWS: usize, const FETCHES: bool>(
        self,
        x: [&[f32]; ROWS],
        w: [&[N]; AT_ONCE],
        target: &mut [&mut [f32]],
        at: usize,
    ) {
        let found = dots::<S, N, ROWS, FETCHES>(self.0, x, w);
        for (target, found) in target.iter_mut().zip(&found) {
            for (target, sum) in target[at..].iter_mut().zip(found) {
                *target = *sum;
            }
        }
    }
}

/// One sum, where there are no vectors.
#[inline(always)]
fn fused_dot(x: &[f32], w: &[impl Number]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (x_parts, w_parts) = (x.chunks_exact(LANES), w.chunks_exact(LANES));
    let rest = rest(x_parts.remainder(), w_parts.remainder());
    for (x, w) in x_parts.zip(w_parts) {
        for lane in 0..LANES {
            lanes[lane] = x[lane].mul_add(w[lane].wide(), lanes[lane]);
        }
    }
    folded(lanes) + rest
}

/// The sums of some rows and outputs, `[rows, outputs]`. Where it fetches, weights that come later
/// in memory are called for.
#[inline(always)]
fn dots<S: Simd, N: Number, const ROWS: usize, const FETCHES: bool>(
    simd: S,
    x: [&[f32]; ROWS],
    w: [&[N]; AT_ONCE],
) -> [[f32; AT_ONCE]; ROWS] {
    match S::F32_LANES {
        // Memory comes by itself for one row, which reads all weights in their order.
        16 if ROWS == 1 => by_output::<S, N, 1, ROWS, false>(simd, x, w),
        16 => tile::<S, N, 1, ROWS, AT_ONCE, FETCHES>(simd, x, w),
        8 => by_output::<S, N, 2, ROWS, FETCHES>(simd, x, w),
        4 => by_output::<S, N, 4, ROWS, FETCHES>(simd, x, w),
        _ => {
            let mut sums = [[0.0; AT_ONCE]; ROWS];
            for (x, sums) in x.iter().zip(&mut sums) {
                for (w, sum) in w.iter().zip(sums) {
                    *sum = fused_dot(x, w);
                }
            }
            sums
        }
    }
}

/// An output after the other, where registers do not hold more. No closure gets the output: one
/// that is not inlined is compiled for any processor, and its instructions become calls.
#[inline(always)]
fn by_output<S: Simd, N: Number, const PARTS: usize, const ROWS: usize, const FETCHES: bool>(
    simd: S,
    x: [&[f32]; ROWS],
    w: [&[N]; AT_ONCE],
) -> [[f32; AT_ONCE]; ROWS] {
    let mut sums = [[0.0; AT_ONCE]; ROWS];
    for output in 0..AT_ONCE {
        let of_output = tile::<S, N, PARTS, ROWS, 1, FETCHES>(simd, x, [w[output]]);
        for row in 0..ROWS {
            sums[row][output] = of_output[row][0];
        }
    }
    sums
}

/// With lanes in so many vectors.
#[inline(always)]
fn tile<
    S: Simd,
    N: Number,
    const PARTS: usize,
    const ROWS: usize,
    const OUTPUTS: usize,
    const FETCHES: bool,
>(
    simd: S,
    x: [&[f32]; ROWS],
    w: [&[N]; OUTPUTS],
) -> [[f32; OUTPUTS]; ROWS] {
    let whole = w[0].len() / LANES * LANES;
    let x_whole = x.map(|x| &x[..whole]);
    let w_whole = w.map(|w| &w[..whole]);
    let mut sums = [[[simd.splat_f32s(0.0); OUTPUTS]; ROWS]; PARTS];
    for at in (0..whole).step_by(LANES) {
        if FETCHES {
            // As many as these are themselves.
            let bytes = OUTPUTS * size_of::<N>();
            call_for(w[0], at * bytes, (LANES * bytes).div_ceil(64));
        }
        let mut wide = [[0.0_f32; LANES]; OUTPUTS];
        for (wide, w) in wide.iter_mut().zip(w_whole) {
            let w = &w[at..at + LANES];
            for lane in 0..LANES {
                wide[lane] = w[lane].wide();
            }
        }
        for (row, x) in x_whole.iter().enumerate() {
            let x = S::as_simd_f32s(&x[at..at + LANES]).0;
            for (output, wide) in wide.iter().enumerate() {
                let w = S::as_simd_f32s(wide).0;
                for (part, sums) in sums.iter_mut().enumerate() {
                    let sum = &mut sums[row][output];
                    *sum = simd.mul_add_f32s(x[part], w[part], *sum);
                }
            }
        }
    }
    let mut all = [[0.0; OUTPUTS]; ROWS];
    for row in 0..ROWS {
        for output in 0..OUTPUTS {
            let mut lanes = [0.0_f32; LANES];
            let target = S::as_mut_simd_f32s(&mut lanes).0;
            for (target, sums) in target.iter_mut().zip(&sums) {
                *target = sums[row][output];
            }
            all[row][output] = folded(lanes) + rest(&x[row][whole..], &w[output][whole..]);
        }
    }
    all
}

/// The sum of lanes.
#[inline(always)]
fn folded(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum of what is left behind whole lanes.
#[inline(always)]
fn rest(x: &[f32], w: &[impl Number]) -> f32 {
    let mut sum = 0.0;
    for (x, w) in x.iter().zip(w) {
        sum += x * w.wide();
    }
    sum
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;
    use crate::device::arch;
    use crate::random::Stream;

    struct All<'a>([&'a [f32]; AT_ONCE], [&'a [f32]; AT_ONCE]);

    impl WithSimd for All<'_> {
        type Output = [[f32; AT_ONCE]; AT_ONCE];

        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            dots::<S, f32, AT_ONCE, true>(simd, self.0, self.1)
        }
    }

    #[test]
    fn sums_beside_others_are_those_of_each_alone_on_every_processor() {
        let stream = Stream::new(5);
        #[expect(clippy::cast_possible_truncation)]
        let numbers: Vec<f32> = (0..800).map(|index| stream.normal(index) as f32).collect();
        for length in [0, 3, 16, 37, 100] {
            let of = |row: usize| &numbers[row * 100..][..length];
            let (x, w) = (std::array::from_fn(of), std::array::from_fn(|o| of(4 + o)));
            let found = arch().dispatch(All(x, w));
            for (row, sums) in x.iter().zip(found) {
                for (w, sum) in w.iter().zip(sums) {
                    assert_eq!(sum.to_bits(), fused_dot(row, w).to_bits());
                    let exact: f64 =
                        row.iter().zip(*w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                    assert!((f64::from(sum) - exact).abs() < 1e-4);
                }
            }
        }
    }
}
