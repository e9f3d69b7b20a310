//! The clamped gate of gpt-oss, forward and backward: see [`crate::ops::Activation`].

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::element::{Format, Number};
use super::exponential::exponential;
use super::packed::Left;
use crate::device::arch;

/// Numbers of a task.
const PART: usize = 1 << 14;

/// The gate's options.
#[derive(Debug, Clone, Copy)]
pub struct Clamped {
    /// What the sigmoid's argument is multiplied with.
    pub alpha: f32,
    /// Where gate and up end.
    pub limit: f32,
}

impl Clamped {
    /// `(up + 1) · gate · σ(α · gate)` of factors, as another.
    pub fn forward<F: Format>(self, gate: &Left<F>, up: &Left<F>) -> Left<F> {
        let (gate, up) = (gate.view(), up.view());
        Left::with(gate.rows, gate.columns, |row, target| {
            let (gate, up) = (gate.row(row), up.row(row));
            arch().dispatch(Forward::<F> { of: self, gate, up, target });
        })
    }

    /// Puts the gradients of gate and up in their places, for the gradient `d`.
    pub fn backward<F: Format>(self, gate: &mut Left<F>, up: &mut Left<F>, d: &Left<F>) {
        let (gate, up, d) = (gate.numbers_mut(), up.numbers_mut(), d.numbers());
        let parts = gate.par_chunks_mut(PART).zip(up.par_chunks_mut(PART)).zip(d.par_chunks(PART));
        parts.for_each(|((gate, up), d)| {
            arch().dispatch(Backward::<F> { of: self, gate, up, d });
        });
    }
}

struct Forward<'a, F: Format> {
    of: Clamped,
    gate: &'a [F::Stored],
    up: &'a [F::Stored],
    target: &'a mut [F::Stored],
}

impl<F: Format> NullaryFnOnce for Forward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { of: Clamped { alpha, limit }, gate, up, target } = self;
        for ((target, gate), up) in target.iter_mut().zip(gate).zip(up) {
            let (g, u) = (gate.wide().min(limit), up.wide().clamp(-limit, limit));
            *target = F::of((u + 1.0) * (g / (1.0 + exponential(-alpha * g))));
        }
    }
}

struct Backward<'a, F: Format> {
    of: Clamped,
    gate: &'a mut [F::Stored],
    up: &'a mut [F::Stored],
    d: &'a [F::Stored],
}

impl<F: Format> NullaryFnOnce for Backward<'_, F> {
    type Output = ();

    /// Nothing goes back to what was beyond the limit.
    #[inline(always)]
    fn call(self) {
        let Self { of: Clamped { alpha, limit }, gate, up, d } = self;
        for ((gate, up), d) in gate.iter_mut().zip(up).zip(d) {
            let (raw_gate, raw_up, d) = (gate.wide(), up.wide(), d.wide());
            let (g, u) = (raw_gate.min(limit), raw_up.clamp(-limit, limit));
            let s = 1.0 / (1.0 + exponential(-alpha * g));
            let d_gate = d * (u + 1.0) * s * (1.0 + alpha * g * (1.0 - s));
            let d_up = d * g * s;
            *gate = F::of(if raw_gate > limit { 0.0 } else { d_gate });
            *up = F::of(if raw_up.abs() > limit { 0.0 } else { d_up });
        }
    }
}
