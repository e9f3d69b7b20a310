//! An addition of low rank beside a linear layer (LoRA, Hu et al. 2021), and a magnitude of each
//! output (DoRA, Liu et al. 2024).

use std::sync::Arc;

use rayon::prelude::*;

use super::element::{Format, Number};
use super::host_tensor::{AsLhs, Factor, HostTensor};
use super::packed::{Left, PackedRhs, View};
use super::product::{PASS, Term, product};
use crate::random::Stream;

/// `scale · (x ⊙ mask) · aᵀ · bᵀ`.
#[derive(Clone)]
pub struct LowRank {
    /// Names of the two matrices within the linear layer.
    pub names: [&'static str; 2],
    /// `[rank, in]`.
    pub a: HostTensor,
    /// `[out, rank]`.
    pub b: HostTensor,
    /// The factor.
    pub scale: f32,
    /// `[tokens, in]`: which inputs are dropped.
    pub mask: Option<Vec<f32>>,
    /// What makes a mask of some of the tokens, where there is none of all yet.
    pub masks: Option<InputMask>,
    /// What multiplies each output of weight and addition together, if anything does.
    pub magnitude: Option<Magnitude>,
}

/// Which inputs of an adapter are dropped: a pure function of run, step, micro-batch and layer, so
/// that a recomputed forward drops the same ones, whatever tokens it is of.
#[derive(Debug, Clone)]
pub struct InputMask {
    /// Names run, step, micro-batch and layer.
    pub stream: Stream,
    /// The number of each token in its micro-batch, none of padding that was added; its place
    /// where there is no list.
    pub numbers: Option<Arc<[Option<usize>]>>,
    /// The share of inputs that is dropped.
    pub rate: f64,
    /// Inputs of a token.
    pub columns: usize,
}

impl InputMask {
    /// Of some tokens, `[tokens, in]`: zero for dropped inputs, 1 / (1 − p) for the others.
    pub fn of_tokens(&self, first: usize, count: usize) -> Vec<f32> {
        #[expect(clippy::cast_possible_truncation)] // activations are f32
        let keep = (1.0 / (1.0 - self.rate)) as f32;
        let mut mask = vec![0.0; count * self.columns];
        mask.par_chunks_mut(self.columns.max(1)).enumerate().for_each(|(token, row)| {
            let number = match &self.numbers {
                Some(numbers) => numbers[first + token],
                None => Some(first + token),
            };
            let Some(number) = number else { return };
            for (kept, index) in row.iter_mut().zip((number * self.columns) as u64..) {
                *kept = if self.stream.uniform(index) < self.rate { 0.0 } else { keep };
            }
        });
        mask
    }
}

/// A trainable magnitude of each output, over a norm that is taken for a constant (DoRA, Liu et al.
/// 2024, section 4.3): outputs are multiplied by `factor = magnitude / norm`. Where inputs of the
/// addition are dropped, those inputs of the weight are dropped as well for what is multiplied, and
/// what the weight gives for the rest of the inputs is added as it is.
#[derive(Clone)]
pub struct Magnitude {
    /// Name of the parameter within the linear layer.
    pub name: &'static str,
    /// `[out]`.
    pub factor: Vec<f32>,
    /// `[out]`.
    pub norm: Vec<f32>,
}

/// What the backward pass of an addition needs.
pub struct LowRankTape<F: Format> {
    /// `scale · (x ⊙ mask) · aᵀ`.
    pub(super) hidden: Left<F>,
    /// What a magnitude multiplied, `[tokens, out]`.
    pub(super) unscaled: Option<Left<F>>,
}

impl LowRank {
    pub(super) fn rank(&self) -> usize {
        self.a.rows()
    }

    /// Of inputs that are masked already.
    pub(super) fn hidden<F: AsLhs>(&self, masked: View<F::Stored>) -> Left<F> {
        let right = self.a.numbers().pack_rows::<F>();
        self.times_scale(product(&[Term { left: masked, right: &right }]))
    }

    pub(super) fn times_scale<F: AsLhs>(&self, mut hidden: Vec<f32>) -> Left<F> {
        hidden.iter_mut().for_each(|x| *x *= self.scale);
        Left::of(View::new(&hidden, hidden.len() / self.rank(), self.rank()))
    }

    pub(super) fn masked<'a, F: AsLhs>(&self, x: View<'a, F::Stored>) -> Factor<'a, F> {
        match &self.mask {
            Some(mask) => Factor::Owned(self.weighted(x, mask, |mask| mask)),
            None => Factor::Borrowed(x),
        }
    }

    /// What masking takes away.
    pub(super) fn unmasked<F: AsLhs>(&self, x: View<F::Stored>) -> Left<F> {
        let mask = self.mask.as_ref().expect("something is dropped");
        self.weighted(x, mask, |mask| 1.0 - mask)
    }

    pub(super) fn weighted<F: AsLhs>(
        &self,
        x: View<F::Stored>,
        mask: &[f32],
        weight: impl Fn(f32) -> f32 + Sync,
    ) -> Left<F> {
        let columns = self.a.columns();
        Left::with(x.rows, columns, |row, target| {
            let mask = &mask[row * columns..(row + 1) * columns];
            for ((target, x), mask) in target.iter_mut().zip(x.row(row)).zip(mask) {
                *target = F::of(x.wide() * weight(*mask));
            }
        })
    }
}

impl Magnitude {
    /// `weight(factor) ⊙ d` for `d: [tokens, out]`.
    pub(super) fn times<F: AsLhs>(
        &self,
        d: View<F::Stored>,
        weight: impl Fn(f32) -> f32 + Sync,
    ) -> Left<F> {
        Left::with(d.rows, self.factor.len(), |row, target| {
            for ((target, d), factor) in target.iter_mut().zip(d.row(row)).zip(&self.factor) {
                *target = F::of(d.wide() * weight(*factor));
            }
        })
    }

    /// The gradient of the magnitude: `Σ d ⊙ unscaled / norm`.
    pub(super) fn gradient<F: AsLhs>(&self, d: View<F::Stored>, unscaled: &Left<F>) -> Vec<f32> {
        sum_of_rows(d.rows, self.norm.len(), |rows, sum| {
            for row in rows {
                let pairs = d.row(row).iter().zip(unscaled.view().row(row));
                for (sum, (d, y)) in sum.iter_mut().zip(pairs) {
                    *sum += d.wide() * y.wide();
                }
            }
            sum.iter_mut().zip(&self.norm).for_each(|(sum, norm)| *sum /= norm);
        })
    }
}

/// A sum over rows as products make it: first of those of a pass, then of these, so that tiles of
/// whole passes add up to the same. `add` gets the rows of a pass and zeros.
pub(super) fn sum_of_rows(
    rows: usize,
    width: usize,
    add: impl Fn(std::ops::Range<usize>, &mut [f32]),
) -> Vec<f32> {
    let mut all: Option<Vec<f32>> = None;
    for first in (0..rows.max(1)).step_by(PASS) {
        let mut sum = vec![0.0; width];
        add(first..rows.min(first + PASS), &mut sum);
        match &mut all {
            Some(all) => all.iter_mut().zip(sum).for_each(|(all, sum)| *all += sum),
            None => all = Some(sum),
        }
    }
    all.unwrap_or_default()
}

/// `leftᵀ · right` for `left: [tokens, rows]`.
pub(super) fn transposed_product<F: AsLhs>(
    left: View<F::Stored>,
    rows: usize,
    right: &PackedRhs<F>,
) -> Vec<f32> {
    let left = Left::<F>::transposed(left.part((0, left.rows), (0, rows)));
    product(&[Term { left: left.view(), right }])
}

impl LowRank {
    /// The gradient of what [`Self::hidden`] gave, with its factor.
    pub(super) fn back<F: AsLhs>(&self, d: View<F::Stored>) -> Left<F> {
        let right = self.b.numbers().pack_cols::<F>();
        self.times_scale(product(&[Term { left: d, right: &right }]))
    }

    /// That of `b`, `[out, rank]`.
    pub(super) fn b_gradient<F: AsLhs>(&self, d: View<F::Stored>, hidden: &Left<F>) -> Vec<f32> {
        // The few rows on the left: bᵀ, turned at the end.
        let outputs = self.b.rows();
        let d = PackedRhs::<F>::pack_cols(d.part((0, d.rows), (0, outputs)));
        let transposed = transposed_product(hidden.view(), self.rank(), &d);
        let mut gradient = vec![0.0; transposed.len()];
        for (rank, row) in transposed.chunks_exact(outputs).enumerate() {
            for (output, number) in row.iter().enumerate() {
                gradient[output * self.rank() + rank] = *number;
            }
        }
        gradient
    }
}
