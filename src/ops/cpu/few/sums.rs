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

/// Sums in vectors of 32 bits, of weights of numbers `N`, rounded to bfloat16 first or not.
pub struct Vectors<S, N, const ROUNDS: bool>(S, PhantomData<N>);

impl<S: Copy, N, const ROUNDS: bool> Clone for Vectors<S, N, ROUNDS> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Copy, N, const ROUNDS: bool> Copy for Vectors<S, N, ROUNDS> {}

impl<S, N, const ROUNDS: bool> Vectors<S, N, ROUNDS> {
    /// Those of a processor.
    #[inline(always)]
    pub fn new(simd: S) -> Self {
        Self(simd, PhantomData)
    }
}

impl<S: Simd, N: Number, const ROUNDS: bool> Sums for Vectors<S, N, ROUNDS> {
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
        let found = dots::<S, N, ROUNDS, ROWS, FETCHES>(self.0, x, w);
        for (target, found) in target.iter_mut().zip(&found) {
            for (target, sum) in target[at..].iter_mut().zip(found) {
                *target = *sum;
            }
        }
    }
}

/// A weight as a factor.
#[inline(always)]
fn factor<const ROUNDS: bool>(number: impl Number) -> f32 {
    if ROUNDS { number.rounded().wide() } else { number.wide() }
}

/// One sum, where there are no vectors.
#[inline(always)]
fn fused_dot<const ROUNDS: bool>(x: &[f32], w: &[impl Number]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (x_parts, w_parts) = (x.chunks_exact(LANES), w.chunks_exact(LANES));
    let rest = rest::<ROUNDS>(x_parts.remainder(), w_parts.remainder());
    for (x, w) in x_parts.zip(w_parts) {
        for lane in 0..LANES {
            lanes[lane] = x[lane].mul_add(factor::<ROUNDS>(w[lane]), lanes[lane]);
        }
    }
    folded(lanes) + rest
}

/// The sums of some rows and outputs, `[rows, outputs]`. Where it fetches, weights that come later
/// in memory are called for.
#[inline(always)]
fn dots<S: Simd, N: Number, const ROUNDS: bool, const ROWS: usize, const FETCHES: bool>(
    simd: S,
    x: [&[f32]; ROWS],
    w: [&[N]; AT_ONCE],
) -> [[f32; AT_ONCE]; ROWS] {
    match S::F32_LANES {
        // Memory comes by itself for one row, which reads all weights in their order.
        16 if ROWS == 1 && FETCHES => by_output::<S, N, ROUNDS, 1, ROWS, false>(simd, x, w),
        16 => tile::<S, N, ROUNDS, 1, ROWS, AT_ONCE, FETCHES>(simd, x, w),
        8 if ROWS == 1 => tile::<S, N, ROUNDS, 2, ROWS, AT_ONCE, FETCHES>(simd, x, w),
        8 => by_output::<S, N, ROUNDS, 2, ROWS, FETCHES>(simd, x, w),
        4 => by_output::<S, N, ROUNDS, 4, ROWS, FETCHES>(simd, x, w),
        _ => {
            let mut sums = [[0.0; AT_ONCE]; ROWS];
            for (x, sums) in x.iter().zip(&mut sums) {
                for (w, sum) in w.iter().zip(sums) {
                    *sum = fused_dot::<ROUNDS>(x, w);
                }
            }
            sums
        }
    }
}

/// An output after the other, where registers do not hold more. No closure gets the output: one
/// that is not inlined is compiled for any processor, and its instructions become calls.
#[inline(always)]
fn by_output<
    S: Simd,
    N: Number,
    const ROUNDS: bool,
    const PARTS: usize,
    const ROWS: usize,
    const FETCHES: bool,
>(
    simd: S,
    x: [&[f32]; ROWS],
    w: [&[N]; AT_ONCE],
) -> [[f32; AT_ONCE]; ROWS] {
    let mut sums = [[0.0; AT_ONCE]; ROWS];
    for output in 0..AT_ONCE {
        let of_output = tile::<S, N, ROUNDS, PARTS, ROWS, 1, FETCHES>(simd, x, [w[output]]);
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
    const ROUNDS: bool,
    const PARTS: usize,
    const ROWS: usize,
    const OUTPUTS: usize,
    const FETCHES: bool,
>(
    simd: S,
    x: [&[f32]; ROWS],
    w: [&[N]; OUTPUTS],
) -> [[f32; OUTPUTS]; ROWS] {
    let count = w[0].len() / LANES;
    let mut x_parts: [&[[f32; LANES]]; ROWS] = [&[]; ROWS];
    for row in 0..ROWS {
        x_parts[row] = &x[row].as_chunks().0[..count];
    }
    let mut w_parts: [&[[N; LANES]]; OUTPUTS] = [&[]; OUTPUTS];
    for output in 0..OUTPUTS {
        w_parts[output] = &w[output].as_chunks().0[..count];
    }
    let mut sums = [[[simd.splat_f32s(0.0); OUTPUTS]; ROWS]; PARTS];
    for at in 0..count {
        if FETCHES {
            // As many as these are themselves.
            let bytes = OUTPUTS * LANES * size_of::<N>();
            call_for(w[0], at * bytes, bytes.div_ceil(64));
        }
        let mut wide = [[0.0_f32; LANES]; OUTPUTS];
        for output in 0..OUTPUTS {
            for lane in 0..LANES {
                wide[output][lane] = factor::<ROUNDS>(w_parts[output][at][lane]);
            }
        }
        for row in 0..ROWS {
            let x = S::as_simd_f32s(&x_parts[row][at]).0;
            for output in 0..OUTPUTS {
                let w = S::as_simd_f32s(&wide[output]).0;
                for part in 0..PARTS {
                    let sum = &mut sums[part][row][output];
                    *sum = simd.mul_add_f32s(x[part], w[part], *sum);
                }
            }
        }
    }
    let whole = count * LANES;
    let mut all = [[0.0; OUTPUTS]; ROWS];
    for row in 0..ROWS {
        for output in 0..OUTPUTS {
            let mut lanes = [0.0_f32; LANES];
            let target = S::as_mut_simd_f32s(&mut lanes).0;
            for (target, sums) in target.iter_mut().zip(&sums) {
                *target = sums[row][output];
            }
            all[row][output] =
                folded(lanes) + rest::<ROUNDS>(&x[row][whole..], &w[output][whole..]);
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
fn rest<const ROUNDS: bool>(x: &[f32], w: &[impl Number]) -> f32 {
    let mut sum = 0.0;
    for (x, w) in x.iter().zip(w) {
        sum += x * factor::<ROUNDS>(*w);
    }
    sum
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;
    use crate::device::arch;
    use crate::random::Stream;

    type Found = [[f32; AT_ONCE]; AT_ONCE];

    /// Beside each other, and a row after the other.
    struct All<'a, N, const ROUNDS: bool>([&'a [f32]; AT_ONCE], [&'a [N]; AT_ONCE]);

    impl<N: Number, const ROUNDS: bool> WithSimd for All<'_, N, ROUNDS> {
        type Output = [Found; 3];

        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let Self(x, w) = self;
            let beside = dots::<S, N, ROUNDS, AT_ONCE, true>(simd, x, w);
            let alone = x.map(|x| dots::<S, N, ROUNDS, 1, true>(simd, [x], w)[0]);
            [beside, alone, x.map(|x| dots::<S, N, ROUNDS, 1, false>(simd, [x], w)[0])]
        }
    }

    fn sums_are_those_of_each_alone<N: Number, const ROUNDS: bool>(
        x: [&[f32]; AT_ONCE],
        w: [&[N]; AT_ONCE],
    ) {
        for found in arch().dispatch(All::<N, ROUNDS>(x, w)) {
            for (x, sums) in x.iter().zip(found) {
                for (w, sum) in w.iter().zip(sums) {
                    assert_eq!(sum.to_bits(), fused_dot::<ROUNDS>(x, w).to_bits());
                    let w = w.iter().map(|w| if ROUNDS { w.rounded().wide() } else { w.wide() });
                    let exact: f64 =
                        x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(w)).sum();
                    assert!((f64::from(sum) - exact).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn sums_beside_others_are_those_of_each_alone_on_every_processor() {
        let stream = Stream::new(5);
        #[expect(clippy::cast_possible_truncation)]
        let numbers: Vec<f32> = (0..800).map(|index| stream.normal(index) as f32).collect();
        let halves: Vec<_> = numbers.iter().map(|x| x.rounded()).collect();
        for length in [0, 3, 16, 37, 100] {
            let of = |row: usize| &numbers[row * 100..][..length];
            let (x, w) = (std::array::from_fn(of), std::array::from_fn(|o| of(4 + o)));
            let w_halves = std::array::from_fn(|o| &halves[(4 + o) * 100..][..length]);
            sums_are_those_of_each_alone::<f32, false>(x, w);
            sums_are_those_of_each_alone::<f32, true>(x, w);
            sums_are_those_of_each_alone::<half::bf16, false>(x, w_halves);
        }
    }
}
