//! The gate of an MLP: `activation(gate) ⊙ up`, and both gradients in one pass.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::launch::{UNITS, elem, empty, grid_of_elements};
use crate::ops::options::{Activation, GELU};

/// Which activation a kernel is made for.
const SILU: u32 = 0;
const GELU_TANH: u32 = 1;
const CLAMPED: u32 = 2;

#[cube]
fn sigmoid(x: f32) -> f32 {
    f32::new(1.0) / (f32::new(1.0) + (-x).exp())
}

/// What the activation is the sigmoid of, for its argument.
#[cube]
fn inner(gate: f32, alpha: f32, #[comptime] kind: u32) -> f32 {
    if comptime!(kind == GELU_TANH) {
        let cube = gate * gate * gate;
        (gate + cube * f32::new(comptime!(GELU.1))) * f32::new(comptime!(2.0 * GELU.0))
    } else if comptime!(kind == CLAMPED) {
        gate * alpha
    } else {
        gate
    }
}

/// The derivative of [`inner()`].
#[cube]
fn inner_slope(gate: f32, alpha: f32, #[comptime] kind: u32) -> f32 {
    if comptime!(kind == GELU_TANH) {
        let square = gate * gate * f32::new(comptime!(3.0 * GELU.1));
        (f32::new(1.0) + square) * f32::new(comptime!(2.0 * GELU.0))
    } else if comptime!(kind == CLAMPED) {
        alpha
    } else {
        f32::new(1.0)
    }
}

#[cube(launch)]
fn gate_forward<O: Float>(
    gate: &[f32],
    up: &[f32],
    y: &mut [O],
    alpha: f32,
    limit: f32,
    #[comptime] kind: u32,
    #[define(O)] _to: ElemType,
) {
    if ABSOLUTE_POS >= y.len() {
        terminate!();
    }
    let mut open = gate[ABSOLUTE_POS];
    let mut through = up[ABSOLUTE_POS];
    if comptime!(kind == CLAMPED) {
        open = min(open, limit);
        through = clamp(through, -limit, limit) + f32::new(1.0);
    }
    let open = open * sigmoid(inner(open, alpha, kind));
    y[ABSOLUTE_POS] = O::cast_from(open * through);
}

#[cube(launch)]
fn gate_backward(
    gate: &[f32],
    up: &[f32],
    d: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
    alpha: f32,
    limit: f32,
    #[comptime] kind: u32,
) {
    if ABSOLUTE_POS >= d_gate.len() {
        terminate!();
    }
    let d = d[ABSOLUTE_POS];
    let mut open = gate[ABSOLUTE_POS];
    let mut through = up[ABSOLUTE_POS];
    let mut gate_moves = f32::new(1.0);
    let mut up_moves = f32::new(1.0);
    if comptime!(kind == CLAMPED) {
        if open > limit {
            gate_moves = f32::new(0.0);
        }
        if through > limit || through < -limit {
            up_moves = f32::new(0.0);
        }
        open = min(open, limit);
        through = clamp(through, -limit, limit) + f32::new(1.0);
    }
    let s = sigmoid(inner(open, alpha, kind));
    let slope = s + open * s * (f32::new(1.0) - s) * inner_slope(open, alpha, kind);
    d_gate[ABSOLUTE_POS] = d * through * slope * gate_moves;
    d_up[ABSOLUTE_POS] = d * open * s * up_moves;
}

fn numbers(activation: Activation) -> (u32, f32, f32) {
    match activation {
        Activation::Silu => (SILU, 1.0, 0.0),
        Activation::GeluTanh => (GELU_TANH, 1.0, 0.0),
        Activation::Clamped { alpha, limit } => (CLAMPED, alpha, limit),
    }
}

fn dims(x: &CubeTensor) -> [usize; 2] {
    [x.meta.shape()[0], x.meta.shape()[1]]
}

/// `[tokens, features]` in f32 to the same in a format.
pub(super) fn forward(
    activation: Activation,
    gate: CubeTensor,
    up: CubeTensor,
    to: DType,
) -> CubeTensor {
    let (gate, up) = (into_contiguous(gate), into_contiguous(up));
    let (y, (kind, alpha, limit)) = (empty(&gate, dims(&gate), to), numbers(activation));
    let client = gate.client.clone();
    gate_forward::launch(
        &client,
        grid_of_elements(dims(&gate).iter().product()),
        CubeDim::new_1d(UNITS),
        gate.into_buffer_arg(),
        up.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        alpha,
        limit,
        kind,
        elem(to),
    );
    y
}

/// The gradients of gate and up.
pub(super) fn backward(
    activation: Activation,
    gate: CubeTensor,
    up: CubeTensor,
    d: CubeTensor,
) -> [CubeTensor; 2] {
    let (gate, up, d) = (into_contiguous(gate), into_contiguous(up), into_contiguous(d));
    let both = [(); 2].map(|()| empty(&gate, dims(&gate), DType::F32));
    let (kind, alpha, limit) = numbers(activation);
    let client = gate.client.clone();
    gate_backward::launch(
        &client,
        grid_of_elements(dims(&gate).iter().product()),
        CubeDim::new_1d(UNITS),
        gate.into_buffer_arg(),
        up.into_buffer_arg(),
        d.into_buffer_arg(),
        both[0].clone().into_buffer_arg(),
        both[1].clone().into_buffer_arg(),
        alpha,
        limit,
        kind,
    );
    both
}
