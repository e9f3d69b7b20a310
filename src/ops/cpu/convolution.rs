//! A short causal convolution of each channel by itself, inside documents, with its gradient. A
//! token's row is computed from those before it, so that threads may take any of them.

use std::borrow::Cow;

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::element::Number;
use super::exponential::exponential;
use super::memory::filled;
use super::packed::View;
use super::pointwise::added;
use crate::device::arch;

/// Rows of a task, fixed, so that sums are the same for any number of threads.
const ROWS: usize = 64;

/// A convolution of `[tokens, channels]`.
#[derive(Debug, Clone, Copy)]
pub struct Convolution<'a> {
    /// `[channels, width]`, the last for the token itself.
    pub weight: &'a [f32],
    /// Numbers of a token.
    pub channels: usize,
    /// `[channels]`.
    pub bias: Option<&'a [f32]>,
    /// Whether `x · σ(x)` is taken of the sums.
    pub silu: bool,
    /// First token and length of each document.
    pub documents: &'a [(usize, usize)],
}

/// Gradients of a [`Convolution`].
pub struct ConvolutionGradients {
    /// Of what it was given, `[tokens, channels]`.
    pub x: Vec<f32>,
    /// `[channels, width]`; empty if it is not wanted.
    pub weight: Vec<f32>,
    /// `[channels]`; empty if it is not wanted.
    pub bias: Vec<f32>,
}

/// Tokens of its document before a token and after it.
type Place = (usize, usize);

impl Convolution<'_> {
    fn width(&self) -> usize {
        self.weight.len() / self.channels
    }

    /// What tokens at each distance are multiplied with, `[width, channels]`.
    fn taps(&self) -> Vec<f32> {
        let width = self.width();
        let tap = |distance: usize| {
            self.weight.chunks_exact(width).map(move |row| row[width - 1 - distance])
        };
        (0..width).flat_map(tap).collect()
    }

    fn places(&self, tokens: usize) -> Vec<Place> {
        let mut places = vec![(0, 0); tokens];
        for (first, count) in self.documents {
            for (place, at) in places[*first..first + count].iter_mut().enumerate() {
                *at = (place, count - 1 - place);
            }
        }
        places
    }

    /// `[tokens, channels]`.
    pub fn forward<N: Number>(&self, x: View<N>) -> Vec<f32> {
        let (taps, places) = (self.taps(), self.places(x.rows));
        let mut y = self.sums(x, &taps, &places);
        if self.silu {
            y.par_chunks_mut(ROWS * self.channels).for_each(|part| {
                arch().dispatch(Silu(part));
            });
        }
        y
    }

    /// Before the activation.
    fn sums<N: Number>(&self, x: View<N>, taps: &[f32], places: &[Place]) -> Vec<f32> {
        let channels = self.channels;
        filled(x.rows * channels, ROWS * channels, |part, target| {
            for (row, target) in target.chunks_exact_mut(channels).enumerate() {
                let token = part * ROWS + row;
                if let Some(bias) = self.bias {
                    target.copy_from_slice(bias);
                }
                let reach = places[token].0.min(self.width() - 1);
                for (distance, tap) in taps.chunks_exact(channels).enumerate().take(reach + 1) {
                    let x = &x.row(token - distance)[..channels];
                    arch().dispatch(AddProduct { target, a: tap, b: x });
                }
            }
        })
    }

    /// Gradients for that of what [`Self::forward`] gave; those of weight and bias if they are
    /// wanted.
    pub fn backward<N: Number>(
        &self,
        x: View<N>,
        d: &[f32],
        trainable: (bool, bool),
    ) -> ConvolutionGradients {
        let (taps, places, channels) = (self.taps(), self.places(x.rows), self.channels);
        let mut d_sums = Cow::Borrowed(d);
        if self.silu {
            let mut sums = self.sums(x, &taps, &places);
            let parts = sums.par_chunks_mut(ROWS * channels).zip(d.par_chunks(ROWS * channels));
            parts.for_each(|(sums, d)| arch().dispatch(SiluBackward { sums, d }));
            d_sums = Cow::Owned(sums);
        }
        let row = |token: usize| &d_sums[token * channels..][..channels];
        let dx = filled(x.rows * channels, ROWS * channels, |part, target| {
            for (place, target) in target.chunks_exact_mut(channels).enumerate() {
                let token = part * ROWS + place;
                let reach = places[token].1.min(self.width() - 1);
                for (distance, tap) in taps.chunks_exact(channels).enumerate().take(reach + 1) {
                    let later = row(token + distance);
                    arch().dispatch(AddProduct { target, a: tap, b: later });
                }
            }
        });
        let weight = if trainable.0 { self.weight_gradient(x, &d_sums, &places) } else { vec![] };
        let bias = if trainable.1 { self.bias_gradient(&d_sums) } else { Vec::new() };
        ConvolutionGradients { x: dx, weight, bias }
    }

    fn weight_gradient<N: Number>(&self, x: View<N>, d: &[f32], places: &[Place]) -> Vec<f32> {
        let (channels, width) = (self.channels, self.width());
        let of_part = |(part, d): (usize, &[f32])| {
            let mut sums = vec![0.0; width * channels];
            for (place, d) in d.chunks_exact(channels).enumerate() {
                let token = part * ROWS + place;
                let reach = places[token].0.min(width - 1);
                let targets = sums.chunks_exact_mut(channels).enumerate().take(reach + 1);
                for (distance, target) in targets {
                    let x = &x.row(token - distance)[..channels];
                    arch().dispatch(AddProduct { target, a: d, b: x });
                }
            }
            sums
        };
        let parts: Vec<_> = d.par_chunks(ROWS * channels).enumerate().map(of_part).collect();
        let sums = parts.into_iter().reduce(|sum, part| added(sum, &part)).unwrap_or_default();
        let one = |index: usize| {
            let (channel, place) = (index / width, index % width);
            sums.get((width - 1 - place) * channels + channel).copied().unwrap_or(0.0)
        };
        (0..channels * width).map(one).collect()
    }

    fn bias_gradient(&self, d: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0; self.channels];
        for d in d.chunks_exact(self.channels) {
            sums.iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
        }
        sums
    }
}

/// `target += a ⊙ b`.
struct AddProduct<'a, N> {
    target: &'a mut [f32],
    a: &'a [f32],
    b: &'a [N],
}

impl<N: Number> NullaryFnOnce for AddProduct<'_, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((target, a), b) in self.target.iter_mut().zip(self.a).zip(self.b) {
            *target += a * b.wide();
        }
    }
}

/// `x · σ(x)` in its place.
struct Silu<'a>(&'a mut [f32]);

impl NullaryFnOnce for Silu<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for x in self.0 {
            *x /= 1.0 + exponential(-*x);
        }
    }
}

/// The gradient of sums in their place, for that of their activation.
struct SiluBackward<'a> {
    sums: &'a mut [f32],
    d: &'a [f32],
}

impl NullaryFnOnce for SiluBackward<'_> {
    type Output = ();

    /// With s the sigmoid of x: s · (1 + x · (1 − s)).
    #[inline(always)]
    fn call(self) {
        for (x, d) in self.sums.iter_mut().zip(self.d) {
            let s = 1.0 / (1.0 + exponential(-*x));
            *x = d * s * (1.0 + *x * (1.0 - s));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, activation::silu};

    use super::*;
    use crate::ops::{Documents, causal_convolution, from_vec, host};
    use crate::random::Stream;

    fn random(count: usize, name: &str) -> Vec<f32> {
        let stream = Stream::new(9).site(name);
        #[expect(clippy::cast_possible_truncation)]
        (0..count as u64).map(|index| stream.normal(index) as f32).collect()
    }

    fn near(what: &str, ours: &[f32], reference: &[f32]) {
        assert_eq!(ours.len(), reference.len(), "{what}");
        for (a, b) in ours.iter().zip(reference) {
            assert!((a - b).abs() < 2e-5, "{what}: {a} for {b}");
        }
    }

    /// Documents shorter and longer than what is seen, and rows of a part and more.
    #[test]
    fn values_and_gradients_are_those_of_tensor_operations_for_any_number_of_threads() {
        let lengths = [(1, 1), (2, 2), (0, 3), (3, 70), (4, 3), (5, 61)];
        let numbers = lengths.into_iter().flat_map(|(number, count)| vec![number; count]);
        let documents = Documents::new(&numbers.collect::<Vec<u32>>(), 1, 140);
        let (channels, device) = (10, Device::flex());
        for (width, with_silu) in [(4, true), (3, false), (1, false)] {
            let [x, d] = ["x", "d"].map(|name| random(140 * channels, name));
            let weight = random(channels * width, "weight");
            let leaf = |numbers: &[f32], shape| {
                from_vec(numbers.to_vec(), shape, &device).autodiff().require_grad()
            };
            let (x_leaf, w_leaf) = (leaf(&x, [140, channels]), leaf(&weight, [channels, width]));
            let y = causal_convolution(x_leaf.clone(), &w_leaf, &documents);
            let y = if with_silu { silu(y) } else { y };
            let dy = from_vec(d.clone(), [140, channels], &device);
            let mut tape = (y.clone() * dy).sum().backward();

            let documents = documents.spans();
            let (weight, bias) = (weight.as_slice(), None);
            let ours = Convolution { weight, channels, bias, silu: with_silu, documents };
            let all = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let view = View::new(&x, 140, channels);
                    let back = ours.backward(view, &d, (true, true));
                    [ours.forward(view), back.x, back.weight, back.bias]
                })
            };
            let found = all(1);
            assert_eq!(found, all(5));
            near("output", &found[0], &host(y.inner()));
            near("input", &found[1], &host(x_leaf.grad_remove(&mut tape).unwrap()));
            near("weight", &found[2], &host(w_leaf.grad_remove(&mut tape).unwrap()));
            assert_eq!(found[3].len(), channels);
        }
    }
}
