//! Gates by a sigmoid and by a factor, of what was mixed.

use pulp::NullaryFnOnce;

use super::element::{Format, Number};
use super::exponential::exponential;
use super::packed::{Left, View};
use crate::device::arch;

/// `a ⊙ b`, as a factor.
pub fn multiplied<F: Format, A: Number, B: Number>(a: View<A>, b: View<B>) -> Left<F> {
    Left::with(a.rows, a.columns, |row, target| {
        for ((target, a), b) in target.iter_mut().zip(a.row(row)).zip(b.row(row)) {
            *target = F::of(a.wide() * b.wide());
        }
    })
}

/// `mixed ⊙ σ(gate)` of factors, as another.
pub fn sigmoid_gated<F: Format>(mixed: &Left<F>, gate: &Left<F>) -> Left<F> {
    let (mixed, gate) = (mixed.view(), gate.view());
    Left::with(mixed.rows, mixed.columns, |row, target| {
        let (mixed, gate) = (mixed.row(row), gate.row(row));
        arch().dispatch(SigmoidGated::<F> { mixed, gate, target });
    })
}

/// The gradients of both, for that of [`sigmoid_gated`].
pub fn sigmoid_gated_backward<F: Format>(
    mixed: &Left<F>,
    gate: &Left<F>,
    d: &Left<F>,
) -> [Left<F>; 2] {
    let d_mixed = sigmoid_gated(d, gate);
    let (mixed, gate, d) = (mixed.view(), gate.view(), d.view());
    let d_gate = Left::with(mixed.rows, mixed.columns, |row, target| {
        let (mixed, gate, d) = (mixed.row(row), gate.row(row), d.row(row));
        arch().dispatch(GateBackward::<F> { mixed, gate, d, target });
    });
    [d_mixed, d_gate]
}

struct SigmoidGated<'a, F: Format> {
    mixed: &'a [F::Stored],
    gate: &'a [F::Stored],
    target: &'a mut [F::Stored],
}

impl<F: Format> NullaryFnOnce for SigmoidGated<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { mixed, gate, target } = self;
        for ((target, mixed), gate) in target.iter_mut().zip(mixed).zip(gate) {
            *target = F::of(mixed.wide() / (1.0 + exponential(-gate.wide())));
        }
    }
}

struct GateBackward<'a, F: Format> {
    mixed: &'a [F::Stored],
    gate: &'a [F::Stored],
    d: &'a [F::Stored],
    target: &'a mut [F::Stored],
}

impl<F: Format> NullaryFnOnce for GateBackward<'_, F> {
    type Output = ();

    /// The derivative of the sigmoid s is s · (1 − s).
    #[inline(always)]
    fn call(self) {
        let Self { mixed, gate, d, target } = self;
        let rows = target.iter_mut().zip(mixed).zip(gate.iter().zip(d));
        for ((target, mixed), (gate, d)) in rows {
            let s = 1.0 / (1.0 + exponential(-gate.wide()));
            *target = F::of(d.wide() * mixed.wide() * s * (1.0 - s));
        }
    }
}
