//! What is done to each number or each row by itself: norm, gate, with their gradients.
//! Rows are independent of each other, so that threads may take any of them.

use std::marker::PhantomData;

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::clamped::Clamped;
use super::element::{F32, Format, Number};
use super::exponential::exponential;
use super::packed::Left;
use crate::device::arch;
use crate::ops::Activation;
use crate::ops::options::GELU;

/// Sums that are under way at once.
pub const LANES: usize = 16;

/// `Σ a · b` in a fixed order: of every sixteenth, then of those.
#[inline(always)]
pub fn dot(a: &[impl Number], b: &[impl Number]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_parts, b_parts) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_parts.remainder().iter().zip(b_parts.remainder());
    let rest: f32 = rest.map(|(a, b)| a.wide() * b.wide()).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for lane in 0..LANES {
            sums[lane] += a[lane].wide() * b[lane].wide();
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The hyperbolic tangent, within 4 units in the last place: near zero its series, since the
/// exponential function would lose digits there.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let z = x * x;
    let mut series = -1382.0 / 155_925.0;
    for factor in [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0] {
        series = series * z + factor;
    }
    let far = 1.0 - 2.0 / (exponential(2.0 * x.abs()) + 1.0);
    if z < 0.09 { series * x } else { far.copysign(x) }
}

/// One over the root of the mean square of a row.
#[inline(always)]
fn inverse_rms(x: &[impl Number], epsilon: f32) -> f32 {
    #[expect(clippy::cast_precision_loss)] // widths are small
    let mean = dot(x, x) / x.len() as f32;
    1.0 / (mean + epsilon).sqrt()
}

/// Root mean square norm with a gain, of rows as wide as it.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// `[features]`.
    pub gain: &'a [f32],
    /// Added to the mean square.
    pub epsilon: f32,
}

impl Norm<'_> {
    /// `gain · x / rms(x)`, as the factor of a product.
    pub fn forward<F: Format>(self, x: &[impl Number]) -> Left<F> {
        let width = self.gain.len();
        Left::with(x.len() / width, width, |row, target| {
            let x = &x[row * width..(row + 1) * width];
            arch().dispatch(NormRow::<F, _> { norm: self, x, target });
        })
    }

    /// The same in 32 bits.
    pub fn rows(self, x: &[f32]) -> Vec<f32> {
        self.forward::<F32>(x).into_numbers()
    }

    /// Adds the gradient of the input to `dx`, from that of the output. Returns the gradient of the
    /// gain, if it is wanted.
    pub fn backward<N: Number, D: Number>(
        self,
        x: &[N],
        d: &[D],
        dx: &mut [f32],
        trainable: bool,
    ) -> Vec<f32> {
        const ROWS: usize = 64; // fixed, so that sums are the same for any number of threads
        let part = self.gain.len() * ROWS;
        let parts = x.par_chunks(part).zip(d.par_chunks(part)).zip(dx.par_chunks_mut(part));
        let gains: Vec<Vec<f32>> = parts
            .map(|((x, d), dx)| {
                let mut gain = vec![0.0; if trainable { self.gain.len() } else { 0 }];
                let rows = NormBackward { norm: self, x, d, dx, gain: &mut gain };
                arch().dispatch(rows);
                gain
            })
            .collect();
        gains.into_iter().reduce(|sum, part| added(sum, &part)).unwrap_or_default()
    }
}

/// The sum of two vectors.
pub fn added(mut sum: Vec<f32>, more: &[f32]) -> Vec<f32> {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    sum
}

struct NormRow<'a, F: Format, N> {
    norm: Norm<'a>,
    x: &'a [N],
    target: &'a mut [F::Stored],
}

impl<F: Format, N: Number> NullaryFnOnce for NormRow<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { norm, x, target } = self;
        let scale = inverse_rms(x, norm.epsilon);
        for ((target, x), gain) in target.iter_mut().zip(x).zip(norm.gain) {
            *target = F::of(x.wide() * scale * gain);
        }
    }
}

struct NormBackward<'a, N, D> {
    norm: Norm<'a>,
    x: &'a [N],
    d: &'a [D],
    dx: &'a mut [f32],
    gain: &'a mut [f32],
}

impl<N: Number, D: Number> NullaryFnOnce for NormBackward<'_, N, D> {
    type Output = ();

    /// With r = 1 / rms(x) and g = gain ⊙ d: dx = r·g − x · r³ · mean(g ⊙ x).
    #[inline(always)]
    fn call(self) {
        let Self { norm, x, d, dx, gain: d_gain } = self;
        let width = norm.gain.len();
        let mut g = vec![0.0; width];
        let rows = x.chunks_exact(width).zip(d.chunks_exact(width));
        for ((x, d), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            let scale = inverse_rms(x, norm.epsilon);
            for ((g, d), gain) in g.iter_mut().zip(d).zip(norm.gain) {
                *g = d.wide() * gain;
            }
            #[expect(clippy::cast_precision_loss)] // widths are small
            let mean = dot(&g, x) / width as f32;
            let along = scale * scale * scale * mean;
            for ((dx, g), x) in dx.iter_mut().zip(&g).zip(x) {
                *dx += scale * g - along * x.wide();
            }
            for ((d_gain, d), x) in d_gain.iter_mut().zip(d).zip(x) {
                *d_gain += d.wide() * x.wide() * scale;
            }
        }
    }
}

/// `x · σ(inner(x))`: what activations have in common.
trait Curve {
    /// What the sigmoid is taken of.
    fn inner(x: f32) -> f32;
    /// Its derivative.
    fn slope(x: f32) -> f32;
}

struct Silu;

impl Curve for Silu {
    #[inline(always)]
    fn inner(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn slope(_: f32) -> f32 {
        1.0
    }
}

struct GeluTanh;

impl Curve for GeluTanh {
    #[inline(always)]
    fn inner(x: f32) -> f32 {
        2.0 * GELU.0 * (x + GELU.1 * (x * x * x))
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        2.0 * GELU.0 * (1.0 + 3.0 * GELU.1 * (x * x))
    }
}

/// `activation(gate) ⊙ up` of factors, as another.
pub fn gated<F: Format>(activation: Activation, gate: &Left<F>, up: &Left<F>) -> Left<F> {
    match activation {
        Activation::Silu => gated_by::<F, Silu>(gate, up),
        Activation::GeluTanh => gated_by::<F, GeluTanh>(gate, up),
        Activation::Clamped { alpha, limit } => Clamped { alpha, limit }.forward(gate, up),
    }
}

fn gated_by<F: Format, C: Curve>(gate: &Left<F>, up: &Left<F>) -> Left<F> {
    let features = gate.view().columns;
    let (gate, up) = (gate.view(), up.view());
    Left::with(gate.rows, features, |row, target| {
        let (gate, up) = (gate.row(row), up.row(row));
        arch().dispatch(Gated::<F, C> { gate, up, target, curve: PhantomData });
    })
}

struct Gated<'a, F: Format, C> {
    gate: &'a [F::Stored],
    up: &'a [F::Stored],
    target: &'a mut [F::Stored],
    curve: PhantomData<C>,
}

impl<F: Format, C: Curve> NullaryFnOnce for Gated<'_, F, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { gate, up, target, .. } = self;
        for ((target, gate), up) in target.iter_mut().zip(gate).zip(up) {
            let gate = gate.wide();
            *target = F::of(gate / (1.0 + exponential(-C::inner(gate))) * up.wide());
        }
    }
}

/// Puts the gradients of gate and up in their places, for the gradient `d` of [`gated`].
pub fn gated_backward<F: Format>(
    activation: Activation,
    gate: &mut Left<F>,
    up: &mut Left<F>,
    d: &Left<F>,
) {
    match activation {
        Activation::Silu => gated_backward_by::<F, Silu>(gate, up, d),
        Activation::GeluTanh => gated_backward_by::<F, GeluTanh>(gate, up, d),
        Activation::Clamped { alpha, limit } => Clamped { alpha, limit }.backward(gate, up, d),
    }
}

fn gated_backward_by<F: Format, C: Curve>(gate: &mut Left<F>, up: &mut Left<F>, d: &Left<F>) {
    const PART: usize = 1 << 14;
    let (gate, up, d) = (gate.numbers_mut(), up.numbers_mut(), d.numbers());
    let parts = gate.par_chunks_mut(PART).zip(up.par_chunks_mut(PART)).zip(d.par_chunks(PART));
    parts.for_each(|((gate, up), d)| {
        arch().dispatch(GatedBackward::<F, C> { gate, up, d, curve: PhantomData });
    });
}

struct GatedBackward<'a, F: Format, C> {
    gate: &'a mut [F::Stored],
    up: &'a mut [F::Stored],
    d: &'a [F::Stored],
    curve: PhantomData<C>,
}

impl<F: Format, C: Curve> NullaryFnOnce for GatedBackward<'_, F, C> {
    type Output = ();

    /// With s the sigmoid: the activation is g·s, and its derivative s · (1 + g · (1 − s) · slope).
    #[inline(always)]
    fn call(self) {
        let Self { gate, up, d, .. } = self;
        for ((gate, up), d) in gate.iter_mut().zip(up).zip(d) {
            let (g, d) = (gate.wide(), d.wide());
            let s = 1.0 / (1.0 + exponential(-C::inner(g)));
            let d_gate = d * up.wide() * s * (1.0 + g * (1.0 - s) * C::slope(g));
            *up = F::of(d * g * s);
            *gate = F::of(d_gate);
        }
    }
}

/// The largest number.
#[inline(always)]
pub fn largest(row: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let parts = row.chunks_exact(LANES);
    let rest = parts.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for part in parts {
        for lane in 0..LANES {
            most[lane] = if part[lane] > most[lane] { part[lane] } else { most[lane] };
        }
    }
    most.into_iter().fold(rest, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_near_that_of_double_precision() {
        for step in -88_000..=88_000 {
            #[expect(clippy::cast_precision_loss)]
            let x = step as f32 / 1000.0;
            let (ours, exact) = (f64::from(exponential(x)), f64::from(x).exp());
            let limit = if x < -87.0 { 2e-38 } else { 2.5e-7 * exact };
            assert!((ours - exact).abs() <= limit, "{x}: {ours} for {exact}");
        }
        assert_eq!(exponential(0.0), 1.0);
        assert_eq!(exponential(f32::NEG_INFINITY), 0.0);
        assert!(exponential(f32::NAN).is_nan());
    }

    #[test]
    fn the_hyperbolic_tangent_is_near_that_of_double_precision() {
        for step in -100_000..=100_000 {
            #[expect(clippy::cast_precision_loss)]
            let x = step as f32 / 10_000.0;
            let (ours, exact) = (f64::from(tanh(x)), f64::from(x).tanh());
            assert!((ours - exact).abs() <= 4e-7 * exact.abs(), "{x}: {ours} for {exact}");
        }
        assert_eq!([tanh(1e9), tanh(-1e9)], [1.0, -1.0]);
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_maxima_take_every_number() {
        for length in [0, 1, 15, 16, 17, 33] {
            #[expect(clippy::cast_precision_loss)]
            let row: Vec<f32> = (0..length).map(|i| i as f32 - 40.0).collect();
            let ones = vec![1.0; length];
            assert_eq!(dot(&row, &ones), row.iter().sum::<f32>());
            let most = row.last().copied().unwrap_or(f32::NEG_INFINITY);
            assert_eq!(largest(&row), most);
        }
    }
}
