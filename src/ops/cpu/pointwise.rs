//! What is done to each number or each row by itself: norm, rotation, gate, with their gradients.
//! Rows are independent of each other, so that threads may take any of them.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::element::{Format, Number, Single};
use super::packed::Left;

/// Sums that are under way at once.
const LANES: usize = 16;
/// Rows of a task at least.
const TASK_ROWS: usize = 16;

/// `Σ f(a, b)` in a fixed order: of every sixteenth, then of those.
#[inline(always)]
fn sum<N: Number>(a: &[N], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_parts, b_parts) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_parts.remainder().iter().zip(b_parts.remainder());
    let rest: f32 = rest.map(|(a, b)| f(a.wide(), *b)).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for lane in 0..LANES {
            sums[lane] += f(a[lane].wide(), b[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// `Σ a · b`.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| a * b)
}

/// The exponential function for x ≤ 88, zero below −87; within 2 units in the last place. As in
/// Cephes: 2ⁿ times a polynomial in what is left of x.
#[inline(always)]
pub fn exponential(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.693_359_375;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let below = x < -87.0;
    let x = x.clamp(-87.0, 88.0);
    // Adding 1.5 · 2²³ rounds to a whole number, whose bits are the last ones of the sum.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH;
    let r = r - n * LN_2_LOW;
    let mut p = 1.987_569_2e-4;
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + factor;
    }
    let p = p * (r * r) + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if below { 0.0 } else { p * power }
}

/// One over the root of the mean square of a row.
#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
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
    pub fn forward<F: Format>(self, x: &[f32]) -> Left<F> {
        let width = self.gain.len();
        Left::with(x.len() / width, width, |row, target| {
            let x = &x[row * width..(row + 1) * width];
            Arch::new().dispatch(NormRow::<F> { norm: self, x, target });
        })
    }

    /// The same in 32 bits.
    pub fn rows(self, x: &[f32]) -> Vec<f32> {
        self.forward::<Single>(x).into_numbers()
    }

    /// Adds the gradient of the input to `dx`, from that of the output. Returns the gradient of the
    /// gain, if it is wanted.
    pub fn backward(self, x: &[f32], d: &[f32], dx: &mut [f32], learns: bool) -> Vec<f32> {
        const ROWS: usize = 64; // fixed, so that sums are the same for any number of threads
        let part = self.gain.len() * ROWS;
        let parts = x.par_chunks(part).zip(d.par_chunks(part)).zip(dx.par_chunks_mut(part));
        let gains: Vec<Vec<f32>> = parts
            .map(|((x, d), dx)| {
                let mut gain = vec![0.0; if learns { self.gain.len() } else { 0 }];
                let rows = NormBackward { norm: self, x, d, dx, gain: &mut gain };
                Arch::new().dispatch(rows);
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

struct NormRow<'a, F: Format> {
    norm: Norm<'a>,
    x: &'a [f32],
    target: &'a mut [F::Kept],
}

impl<F: Format> NullaryFnOnce for NormRow<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { norm, x, target } = self;
        let scale = inverse_rms(x, norm.epsilon);
        for ((target, x), gain) in target.iter_mut().zip(x).zip(norm.gain) {
            *target = F::of(x * scale * gain);
        }
    }
}

struct NormBackward<'a> {
    norm: Norm<'a>,
    x: &'a [f32],
    d: &'a [f32],
    dx: &'a mut [f32],
    gain: &'a mut [f32],
}

impl NullaryFnOnce for NormBackward<'_> {
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
                *g = d * gain;
            }
            #[expect(clippy::cast_precision_loss)] // widths are small
            let mean = dot(&g, x) / width as f32;
            let along = scale * scale * scale * mean;
            for ((dx, g), x) in dx.iter_mut().zip(&g).zip(x) {
                *dx += scale * g - along * x;
            }
            for ((d_gain, d), x) in d_gain.iter_mut().zip(d).zip(x) {
                *d_gain += d * x * scale;
            }
        }
    }
}

/// Rotates heads of `width` in place: the two halves of each are the coordinates of its planes.
/// `cosines` and `sines` are `[tokens, width]`; `backward` turns the other way.
pub fn rotate(
    x: &mut [f32],
    width: usize,
    (cosines, sines): (&[f32], &[f32]),
    tokens: usize,
    backward: bool,
) {
    let features = x.len() / tokens;
    let sign = if backward { -1.0 } else { 1.0 };
    let each = x.par_chunks_exact_mut(features).enumerate().with_min_len(TASK_ROWS);
    each.for_each(|(token, x)| {
        let at = token * width..(token + 1) * width;
        let (cosines, sines) = (&cosines[at.clone()], &sines[at]);
        Arch::new().dispatch(Rotate { x, cosines, sines, sign });
    });
}

struct Rotate<'a> {
    x: &'a mut [f32],
    cosines: &'a [f32],
    sines: &'a [f32],
    sign: f32,
}

impl NullaryFnOnce for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { x, cosines, sines, sign } = self;
        let width = cosines.len();
        for head in x.chunks_exact_mut(width) {
            let (left, right) = head.split_at_mut(width / 2);
            let angles = cosines.iter().zip(sines);
            for ((left, right), (cosine, sine)) in left.iter_mut().zip(right).zip(angles) {
                let (a, b, sine) = (*left, *right, sine * sign);
                *left = a * cosine - b * sine;
                *right = b * cosine + a * sine;
            }
        }
    }
}

/// `silu(gate) ⊙ up`, `[tokens, features]`, as the factor of a product.
pub fn gated<F: Format>(gate: &[f32], up: &[f32], features: usize) -> Left<F> {
    Left::with(gate.len() / features, features, |row, target| {
        let at = row * features..(row + 1) * features;
        let (gate, up) = (&gate[at.clone()], &up[at]);
        Arch::new().dispatch(Gated::<F> { gate, up, target });
    })
}

struct Gated<'a, F: Format> {
    gate: &'a [f32],
    up: &'a [f32],
    target: &'a mut [F::Kept],
}

impl<F: Format> NullaryFnOnce for Gated<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { gate, up, target } = self;
        for ((target, gate), up) in target.iter_mut().zip(gate).zip(up) {
            *target = F::of(gate / (1.0 + exponential(-gate)) * up);
        }
    }
}

/// Puts the gradients of gate and up in their places, for the gradient `d` of [`gated`].
pub fn gated_backward(gate: &mut [f32], up: &mut [f32], d: &[f32]) {
    const PART: usize = 1 << 14;
    let parts = gate.par_chunks_mut(PART).zip(up.par_chunks_mut(PART)).zip(d.par_chunks(PART));
    parts.for_each(|((gate, up), d)| Arch::new().dispatch(GatedBackward { gate, up, d }));
}

struct GatedBackward<'a> {
    gate: &'a mut [f32],
    up: &'a mut [f32],
    d: &'a [f32],
}

impl NullaryFnOnce for GatedBackward<'_> {
    type Output = ();

    /// With s the sigmoid: silu = g·s, and its derivative s · (1 + g · (1 − s)).
    #[inline(always)]
    fn call(self) {
        let Self { gate, up, d } = self;
        for ((gate, up), d) in gate.iter_mut().zip(up).zip(d) {
            let g = *gate;
            let s = 1.0 / (1.0 + exponential(-g));
            let d_gate = d * *up * s * (1.0 + g * (1.0 - s));
            *up = d * g * s;
            *gate = d_gate;
        }
    }
}

/// Softmax of the first `seen` scores of a row times `scale`, in place; the others become zero.
#[inline(always)]
pub fn softmax_row(row: &mut [f32], seen: usize, scale: f32) {
    let (visible, hidden) = row.split_at_mut(seen);
    let max = largest(visible);
    let mut sums = [0.0; LANES];
    let mut parts = visible.chunks_exact_mut(LANES);
    for part in &mut parts {
        for lane in 0..LANES {
            part[lane] = exponential((part[lane] - max) * scale);
            sums[lane] += part[lane];
        }
    }
    let mut total = 0.0;
    for score in parts.into_remainder() {
        *score = exponential((*score - max) * scale);
        total += *score;
    }
    let total = sums.iter().sum::<f32>() + total;
    let inverse = 1.0 / total;
    for score in visible.iter_mut() {
        *score *= inverse;
    }
    hidden.fill(0.0);
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

    #[test]
    fn softmax_hides_what_is_not_seen() {
        let mut row: Vec<f32> = (0..40_i16).map(|i| f32::from(i % 7)).collect();
        softmax_row(&mut row, 21, 0.5);
        assert!(row[21..].iter().all(|weight| *weight == 0.0));
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let ratio = f64::from(row[6] / row[0]);
        assert!((ratio - 3.0_f64.exp()).abs() < 1e-4, "{ratio}");
    }
}
