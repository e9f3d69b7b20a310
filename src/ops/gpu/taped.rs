//! Operations that stand on a tape, with gradients by hand.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::codes::Constant;
use super::gate::GateInput;
use super::low_rank::Factor;
use super::{gate, low_rank as addition, norm, rotary};
use crate::device::multiplies;
use crate::ops::options::Activation;

/// The operations; tensors are those of a GPU.
#[backend_extension(Cube, Autodiff)]
pub trait TapedOps: Backend {
    /// `[rows, width]`, in a format.
    fn norm_rows(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        epsilon: f32,
        to: DType,
    ) -> FloatTensor<Self>;

    /// `[tokens, heads, width]`.
    fn rotate_heads(
        x: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `activation(gate) ⊙ up`, in a format.
    fn gate_up(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
        to: DType,
    ) -> FloatTensor<Self>;

    /// `x·Wᵀ` with factors in a format.
    fn constant_product(
        x: FloatTensor<Self>,
        weight: Constant,
        factors: DType,
    ) -> FloatTensor<Self>;

    /// `x·Wᵀ + s·(x·Aᵀ)·Bᵀ` with factors of products in a format.
    fn adapted(
        x: FloatTensor<Self>,
        weight: Constant,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
        factors: DType,
    ) -> FloatTensor<Self>;
}

impl TapedOps for CubeBackend {
    fn norm_rows(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        epsilon: f32,
        to: DType,
    ) -> FloatTensor<Self> {
        norm::forward(x, gain, epsilon, to)
    }

    fn rotate_heads(
        x: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        rotary::rotate(x, cosines, sines, 1.0)
    }

    fn gate_up(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
        to: DType,
    ) -> FloatTensor<Self> {
        gate::forward(activation, GateInput::Apart([gate, up]), to)
    }

    fn constant_product(
        x: FloatTensor<Self>,
        weight: Constant,
        factors: DType,
    ) -> FloatTensor<Self> {
        times_constant(x, &weight, factors)
    }

    fn adapted(
        x: FloatTensor<Self>,
        weight: Constant,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
        factors: DType,
    ) -> FloatTensor<Self> {
        let outputs = weight.outputs();
        adapted(x, &weight, [a, b], (&[outputs], scale), factors).0
    }
}

/// A product of factors in a format, by whatever kernel there is.
fn multiplied(a: CubeTensor, b: CubeTensor, factors: DType) -> CubeTensor {
    if factors == DType::F32 {
        let wide = |x| CubeBackend::float_cast(x, burn::tensor::FloatDType::F32);
        let (a, b) = (wide(a), wide(b));
        multiplies(&a, &b);
        return CubeBackend::float_matmul(a, b);
    }
    super::product(a, b, factors)
}

/// `x·Wᵀ`.
fn times_constant(x: CubeTensor, weight: &Constant, factors: DType) -> CubeTensor {
    multiplied(x, CubeBackend::float_transpose(weight.numbers(factors)), factors)
}

/// The output, and `s · x · Aᵀ` as a factor; `B` is one of blocks of so many rows.
pub(super) fn adapted(
    x: CubeTensor,
    weight: &Constant,
    [a, b]: [CubeTensor; 2],
    (blocks, scale): (&[usize], f32),
    factors: DType,
) -> (CubeTensor, CubeTensor) {
    let y = times_constant(x.clone(), weight, factors);
    let hidden = multiplied(x, CubeBackend::float_transpose(a), factors);
    addition::add(y, hidden, b, (scale, Factor::Blocks(blocks)), factors)
}

#[derive(Debug)]
struct NormRows;

impl Backward<CubeBackend, 2> for NormRows {
    type State = (CubeTensor, CubeTensor, f32);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([of_x, of_gain], (x, gain, epsilon)) = (ops.parents, ops.state);
        let d = grads.consume::<CubeBackend>(&ops.node);
        if let Some(node) = of_gain {
            let rows = norm::gain_rows(x.clone(), d.clone(), epsilon);
            let sum = CubeBackend::float_sum_dim(rows, 0);
            let shape = gain.meta.shape().clone();
            grads.register::<CubeBackend>(node.id, CubeBackend::float_reshape(sum, shape));
        }
        if let Some(node) = of_x {
            grads.register::<CubeBackend>(node.id, norm::backward(x, gain, d, None, epsilon));
        }
    }
}

#[derive(Debug)]
struct RotateHeads;

impl Backward<CubeBackend, 1> for RotateHeads {
    type State = (CubeTensor, CubeTensor);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([of_x], (cosines, sines)) = (ops.parents, ops.state);
        let d = grads.consume::<CubeBackend>(&ops.node);
        if let Some(node) = of_x {
            grads.register::<CubeBackend>(node.id, rotary::rotate(d, cosines, sines, -1.0));
        }
    }
}

#[derive(Debug)]
struct GateUp;

impl Backward<CubeBackend, 2> for GateUp {
    type State = ([CubeTensor; 2], Activation);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (parents, (both, activation)) = (ops.parents, ops.state);
        let d = grads.consume::<CubeBackend>(&ops.node);
        let GateInput::Apart(both) = gate::backward(activation, GateInput::Apart(both), d) else {
            unreachable!("gradients are as what they are of")
        };
        for (node, d) in parents.into_iter().zip(both) {
            if let Some(node) = node {
                grads.register::<CubeBackend>(node.id, d);
            }
        }
    }
}

/// What the gradient of a layer with an addition of low rank needs.
#[derive(Debug, Clone)]
pub(super) struct SavedAdapted {
    pub x: CubeTensor,
    pub weight: Constant,
    pub a: CubeTensor,
    pub b: CubeTensor,
    /// `s · x · Aᵀ`.
    pub hidden: CubeTensor,
    pub scale: f32,
    pub factors: DType,
}

impl SavedAdapted {
    /// The gradients of x, A and B, of which the last two may not be wanted. With `h = s·d·B`:
    /// dx = d·W + h·A; dA = hᵀ·x; dB = dᵀ·(s·x·Aᵀ).
    pub fn gradients(
        self,
        d: CubeTensor,
        [of_a, of_b]: [bool; 2],
    ) -> (CubeTensor, [Option<CubeTensor>; 2]) {
        let Self { x, weight, a, b, hidden, scale, factors } = self;
        let across = |x: &CubeTensor| CubeBackend::float_transpose(x.clone());
        let d_b = of_b.then(|| multiplied(across(&d), hidden, factors));
        let back = multiplied(d.clone(), b, factors);
        let dx = multiplied(d, weight.numbers(factors), factors);
        let (dx, back) = addition::add(dx, back, a, (scale, Factor::Across), factors);
        let d_a = of_a.then(|| multiplied(across(&back), x, factors));
        (dx, [d_a, d_b])
    }
}

#[derive(Debug)]
struct ConstantProduct;

impl Backward<CubeBackend, 1> for ConstantProduct {
    type State = (Constant, DType);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([of_x], (weight, factors)) = (ops.parents, ops.state);
        let d = grads.consume::<CubeBackend>(&ops.node);
        if let Some(node) = of_x {
            let dx = multiplied(d, weight.numbers(factors), factors);
            grads.register::<CubeBackend>(node.id, dx);
        }
    }
}

#[derive(Debug)]
struct Adapted;

impl Backward<CubeBackend, 3> for Adapted {
    type State = SavedAdapted;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_a, of_b] = ops.parents;
        let d = grads.consume::<CubeBackend>(&ops.node);
        let (dx, [d_a, d_b]) = ops.state.gradients(d, [of_a.is_some(), of_b.is_some()]);
        for (node, d) in [(of_b, d_b), (of_a, d_a), (of_x, Some(dx))] {
            if let (Some(node), Some(d)) = (node, d) {
                grads.register::<CubeBackend>(node.id, d);
            }
        }
    }
}

impl<C: CheckpointStrategy> TapedOps for Autodiff<CubeBackend, C> {
    fn norm_rows(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        epsilon: f32,
        to: DType,
    ) -> FloatTensor<Self> {
        let guards = [x.node(), gain.node()];
        let (x, gain) = (x.into_primitive(), gain.into_primitive());
        let y = norm::forward(x.clone(), gain.clone(), epsilon, to);
        match NormRows.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, gain, epsilon), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn rotate_heads(
        x: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let guards = [x.node()];
        let (cosines, sines) = (cosines.into_primitive(), sines.into_primitive());
        let y = rotary::rotate(x.into_primitive(), cosines.clone(), sines.clone(), 1.0);
        match RotateHeads.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((cosines, sines), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn gate_up(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        activation: Activation,
        to: DType,
    ) -> FloatTensor<Self> {
        let guards = [gate.node(), up.node()];
        let both = [gate, up].map(|x| x.into_primitive());
        let y = gate::forward(activation, GateInput::Apart(both.clone()), to);
        match GateUp.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((both, activation), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn constant_product(
        x: FloatTensor<Self>,
        weight: Constant,
        factors: DType,
    ) -> FloatTensor<Self> {
        let guards = [x.node()];
        let y = times_constant(x.into_primitive(), &weight, factors);
        match ConstantProduct.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((weight, factors), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn adapted(
        x: FloatTensor<Self>,
        weight: Constant,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
        factors: DType,
    ) -> FloatTensor<Self> {
        let guards = [x.node(), a.node(), b.node()];
        let [x, a, b] = [x, a, b].map(|tensor| tensor.into_primitive());
        let (pair, outputs) = ([a.clone(), b.clone()], weight.outputs());
        let (y, hidden) = adapted(x.clone(), &weight, pair, (&[outputs], scale), factors);
        match Adapted.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(SavedAdapted { x, weight, a, b, hidden, scale, factors }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// `[rows, width]`, in a format.
pub fn rms_norm(x: Tensor<2>, gain: Tensor<1>, epsilon: f32, to: DType) -> Tensor<2> {
    let y = Dispatch::norm_rows(x.into_dispatch(), gain.into_dispatch(), epsilon, to);
    Tensor::from_dispatch(y)
}

/// `x: [tokens, heads, width]` by angles `[tokens, 1, ..]`.
pub fn rotate(x: Tensor<3>, cosines: Tensor<3>, sines: Tensor<3>) -> Tensor<3> {
    let [x, cosines, sines] = [x, cosines, sines].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::rotate_heads(x, cosines, sines))
}

/// `activation(gate) ⊙ up`, in a format.
pub fn gated(activation: Activation, gate: Tensor<2>, up: Tensor<2>, to: DType) -> Tensor<2> {
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(Dispatch::gate_up(gate, up, activation, to))
}

/// `x·Wᵀ + s·(x·Aᵀ)·Bᵀ`, in f32, with factors of products in a format.
pub fn low_rank(
    x: Tensor<2>,
    weight: Constant,
    [a, b]: [Tensor<2>; 2],
    scale: f32,
    factors: DType,
) -> Tensor<2> {
    let [x, a, b] = [x, a, b].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::adapted(x, weight, a, b, scale, factors))
}

/// `x·Wᵀ`, in f32, with factors in a format.
pub fn constant_product(x: Tensor<2>, weight: Constant, factors: DType) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::constant_product(x.into_dispatch(), weight, factors))
}
