//! The gate of an MLP: `activation(gate) ⊙ up`, and both gradients in one pass. Both are matrices
//! of their own, or lie beside each other as one product gives them.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::launch::{UNITS, elem, empty, grid_of_elements, moves};
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

/// Where gate and up of a number are: `beside` is the width of each where a row has one after the
/// other, and nothing where they are apart.
#[cube]
fn places(#[comptime] beside: usize) -> (usize, usize) {
    if comptime!(beside == 0) {
        (ABSOLUTE_POS, ABSOLUTE_POS)
    } else {
        let gate = ABSOLUTE_POS + ABSOLUTE_POS / beside * beside;
        (gate, gate + beside)
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
    #[comptime] beside: usize,
    #[define(O)] _to: ElemType,
) {
    if ABSOLUTE_POS >= y.len() {
        terminate!();
    }
    let (of_gate, of_up) = places(beside);
    let mut open = gate[of_gate];
    let mut through = up[of_up];
    if comptime!(kind == CLAMPED) {
        open = min(open, limit);
        through = clamp(through, -limit, limit) + f32::new(1.0);
    }
    let open = open * sigmoid(inner(open, alpha, kind));
    y[ABSOLUTE_POS] = O::cast_from(open * through);
}

/// Where they lie beside each other, `d_gate` has both gradients, and `d_up` is nothing.
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
    #[comptime] beside: usize,
) {
    if ABSOLUTE_POS >= d.len() {
        terminate!();
    }
    let (of_gate, of_up) = places(beside);
    let d = d[ABSOLUTE_POS];
    let mut open = gate[of_gate];
    let mut through = up[of_up];
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
    d_gate[of_gate] = d * through * slope * gate_moves;
    let d_through = d * open * s * up_moves;
    if comptime!(beside == 0) {
        d_up[of_up] = d_through;
    } else {
        d_gate[of_up] = d_through;
    }
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

/// Gate and up, `[tokens, features]` each, or one matrix that has both beside each other.
#[derive(Debug, Clone)]
pub(super) enum GateInput {
    Apart([CubeTensor; 2]),
    Beside(CubeTensor),
}

impl GateInput {
    fn in_order(self) -> Self {
        match self {
            Self::Apart(both) => Self::Apart(both.map(into_contiguous)),
            Self::Beside(both) => Self::Beside(into_contiguous(both)),
        }
    }

    /// Gate and up as a kernel sees them, and how wide each is where they lie beside each other.
    fn arguments(self) -> ([CubeTensor; 2], usize) {
        match self {
            Self::Apart(both) => (both, 0),
            Self::Beside(both) => {
                let beside = dims(&both)[1] / 2;
                ([both.clone(), both], beside)
            }
        }
    }
}

/// In f32, to `[tokens, features]` in a format.
pub(super) fn forward(activation: Activation, input: GateInput, to: DType) -> CubeTensor {
    let ([gate, up], beside) = input.in_order().arguments();
    let [rows, wide] = dims(&gate);
    let width = if beside == 0 { wide } else { beside };
    let (y, (kind, alpha, limit)) = (empty(&gate, [rows, width], to), numbers(activation));
    let client = gate.client.clone();
    moves("GateForward", &[&gate, &up], &[&y], 6 * rows * width);
    gate_forward::launch(
        &client,
        grid_of_elements(rows * width),
        CubeDim::new_1d(UNITS),
        gate.into_buffer_arg(),
        up.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        alpha,
        limit,
        kind,
        beside,
        elem(to),
    );
    y
}

/// The gradients of gate and up, as they were given.
pub(super) fn backward(activation: Activation, input: GateInput, d: CubeTensor) -> GateInput {
    let d = into_contiguous(d);
    let ([gate, up], beside) = input.in_order().arguments();
    let (d_gate, d_up) = (
        empty(&gate, dims(&gate), DType::F32),
        empty(&gate, if beside == 0 { dims(&gate) } else { [1, 1] }, DType::F32),
    );
    let (client, (kind, alpha, limit)) = (gate.client.clone(), numbers(activation));
    let written = [&d_gate, &d_up];
    let written = &written[..if beside == 0 { 2 } else { 1 }];
    let flops = 12 * d.meta.num_elements();
    moves("GateBackward", &[&gate, &up, &d], written, flops);
    gate_backward::launch(
        &client,
        grid_of_elements(dims(&d).iter().product()),
        CubeDim::new_1d(UNITS),
        gate.into_buffer_arg(),
        up.into_buffer_arg(),
        d.into_buffer_arg(),
        d_gate.clone().into_buffer_arg(),
        d_up.clone().into_buffer_arg(),
        alpha,
        limit,
        kind,
        beside,
    );
    match beside {
        0 => GateInput::Apart([d_gate, d_up]),
        _ => GateInput::Beside(d_gate),
    }
}
