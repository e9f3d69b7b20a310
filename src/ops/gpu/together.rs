//! Linear layers of one input as one product, and what takes its outputs as they lie there, beside
//! each other: operations that stand on a tape, with gradients by hand.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Slice, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::codes::Constant;
use super::gate::{self, GateInput};
use super::parts::{blocks_apart, joined_factors};
use super::rotary;
use super::taped::{SavedAdapted, adapted};
use crate::ops::options::{Activation, Heads};

/// The operations; tensors are those of a GPU.
#[backend_extension(Cube, Autodiff)]
#[expect(clippy::too_many_arguments)] // the macro knows no lists of tensors
pub trait TogetherOps: Backend {
    /// What two or three layers with additions of low rank give, beside each other: `weight` has
    /// their weights below each other. Of two, the third factors are anything and not looked at.
    fn adapted_together(
        x: FloatTensor<Self>,
        weight: Constant,
        a1: FloatTensor<Self>,
        a2: FloatTensor<Self>,
        a3: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        b3: FloatTensor<Self>,
        of: Together,
    ) -> FloatTensor<Self>;

    /// Queries and keys rotated; values stay.
    fn rotate_beside(
        x: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
        key_cosines: FloatTensor<Self>,
        key_sines: FloatTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self>;

    /// `activation(gate) ⊙ up` in a format, of both beside each other.
    fn gate_beside(x: FloatTensor<Self>, activation: Activation, to: DType) -> FloatTensor<Self>;
}

/// How layers are computed together.
#[derive(Debug, Clone, Copy)]
pub struct Together {
    /// Two or three.
    pub count: usize,
    /// What the addition is multiplied with.
    pub scale: f32,
    /// The format of factors of products.
    pub factors: DType,
}

/// All as one: the output, and what its gradient needs, with how many outputs are whose.
fn together(
    x: CubeTensor,
    weight: Constant,
    a: [CubeTensor; 3],
    b: [CubeTensor; 3],
    of: Together,
) -> (CubeTensor, (SavedAdapted, Vec<usize>)) {
    let Together { count, scale, factors } = of;
    let first = |all: [CubeTensor; 3]| all.into_iter().take(count).collect::<Vec<_>>();
    let outputs: Vec<usize> = b.iter().take(count).map(|b| b.meta.shape()[0]).collect();
    let [a, b] = joined_factors(first(a), first(b));
    let pair = [a.clone(), b.clone()];
    let (y, hidden) = adapted(x.clone(), &weight, pair, (&outputs, scale), factors);
    (y, (SavedAdapted { x, weight, a, b, hidden, scale, factors }, outputs))
}

fn of_heads(heads: Heads) -> [usize; 3] {
    [heads.queries, heads.kv_heads, heads.width]
}

impl TogetherOps for CubeBackend {
    fn adapted_together(
        x: FloatTensor<Self>,
        weight: Constant,
        a1: FloatTensor<Self>,
        a2: FloatTensor<Self>,
        a3: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        b3: FloatTensor<Self>,
        of: Together,
    ) -> FloatTensor<Self> {
        together(x, weight, [a1, a2, a3], [b1, b2, b3], of).0
    }

    fn rotate_beside(
        x: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
        key_cosines: FloatTensor<Self>,
        key_sines: FloatTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self> {
        let tables = [cosines, sines, key_cosines, key_sines];
        rotary::rotate_all(x, tables, of_heads(heads), 1.0)
    }

    fn gate_beside(x: FloatTensor<Self>, activation: Activation, to: DType) -> FloatTensor<Self> {
        gate::forward(activation, GateInput::Beside(x), to)
    }
}

#[derive(Debug)]
struct AdaptedTogether;

impl Backward<CubeBackend, 7> for AdaptedTogether {
    /// With the outputs of each layer.
    type State = (SavedAdapted, Vec<usize>);

    fn backward(self, ops: Ops<Self::State, 7>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, a1, a2, a3, b1, b2, b3] = ops.parents;
        let (saved, outputs) = ops.state;
        let d = grads.consume::<CubeBackend>(&ops.node);
        let ([of_a, of_b], count) = ([[a1, a2, a3], [b1, b2, b3]], outputs.len());
        let wanted = [&of_a, &of_b].map(|nodes| nodes.iter().any(Option::is_some));
        let (dx, [d_a, d_b]) = saved.gradients(d, wanted);
        let d_a = d_a.map(|d| rows_apart(&d, count));
        let d_b = d_b.map(|d| blocks_apart(d, &outputs));
        for (nodes, all) in [(of_b, d_b), (of_a, d_a)] {
            for (node, d) in nodes.into_iter().zip(all.into_iter().flatten()) {
                if let Some(node) = node {
                    grads.register::<CubeBackend>(node.id, d);
                }
            }
        }
        if let Some(node) = of_x {
            grads.register::<CubeBackend>(node.id, dx);
        }
    }
}

/// Parts of as many rows, which stay where they are if the device takes their places.
fn rows_apart(x: &CubeTensor, count: usize) -> Vec<CubeTensor> {
    let (height, width) = (x.meta.shape()[0] / count, x.meta.shape()[1]);
    let part = |number: usize| {
        let rows = Slice::from(number * height..(number + 1) * height);
        CubeBackend::float_slice(x.clone(), &[rows, Slice::from(0..width)])
    };
    (0..count).map(part).collect()
}

#[derive(Debug)]
struct RotateBeside;

impl Backward<CubeBackend, 1> for RotateBeside {
    type State = (rotary::Tables, [usize; 3]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([of_x], (tables, heads)) = (ops.parents, ops.state);
        let d = grads.consume::<CubeBackend>(&ops.node);
        if let Some(node) = of_x {
            grads.register::<CubeBackend>(node.id, rotary::rotate_all(d, tables, heads, -1.0));
        }
    }
}

#[derive(Debug)]
struct GateBeside;

impl Backward<CubeBackend, 1> for GateBeside {
    type State = (CubeTensor, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([of_x], (x, activation)) = (ops.parents, ops.state);
        let d = grads.consume::<CubeBackend>(&ops.node);
        if let (Some(node), GateInput::Beside(d)) =
            (of_x, gate::backward(activation, GateInput::Beside(x), d))
        {
            grads.register::<CubeBackend>(node.id, d);
        }
    }
}

impl<C: CheckpointStrategy> TogetherOps for Autodiff<CubeBackend, C> {
    fn adapted_together(
        x: FloatTensor<Self>,
        weight: Constant,
        a1: FloatTensor<Self>,
        a2: FloatTensor<Self>,
        a3: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        b3: FloatTensor<Self>,
        of: Together,
    ) -> FloatTensor<Self> {
        let nodes = [&x, &a1, &a2, &a3, &b1, &b2, &b3].map(|tensor| tensor.node());
        let [a, b] = [[a1, a2, a3], [b1, b2, b3]].map(|all| all.map(|x| x.into_primitive()));
        let (y, saved) = together(x.into_primitive(), weight, a, b, of);
        match AdaptedTogether.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(saved, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn rotate_beside(
        x: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
        key_cosines: FloatTensor<Self>,
        key_sines: FloatTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self> {
        let (guards, heads) = ([x.node()], of_heads(heads));
        let tables = [cosines, sines, key_cosines, key_sines].map(|table| table.into_primitive());
        let y = rotary::rotate_all(x.into_primitive(), tables.clone(), heads, 1.0);
        match RotateBeside.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((tables, heads), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn gate_beside(x: FloatTensor<Self>, activation: Activation, to: DType) -> FloatTensor<Self> {
        let guards = [x.node()];
        let x = x.into_primitive();
        let y = gate::forward(activation, GateInput::Beside(x.clone()), to);
        match GateBeside.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, activation), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// Two or three layers with additions of low rank, `A` and `B` of each, all of one rank; `weight`
/// has their weights below each other.
pub fn low_rank_together(
    x: Tensor<2>,
    weight: Constant,
    factors: &[[Tensor<2>; 2]],
    of: Together,
) -> Tensor<2> {
    let x = x.into_dispatch();
    // Where there are two, the weight stands for the third: a constant that is not looked at.
    let part = |number: usize, which: usize| match factors.get(number) {
        Some(both) => both[which].clone().into_dispatch(),
        None => weight.stand_in(),
    };
    let [a1, a2, a3] = [0, 1, 2].map(|number| part(number, 0));
    let [b1, b2, b3] = [0, 1, 2].map(|number| part(number, 1));
    let y = Dispatch::adapted_together(x, weight, a1, a2, a3, b1, b2, b3, of);
    Tensor::from_dispatch(y)
}

/// Rotates queries and keys of `x: [tokens, queries · keys · values]`, by angles `[tokens, 1, ..]`.
pub fn rotate_beside(
    x: Tensor<2>,
    (cosines, sines): (Tensor<3>, Tensor<3>),
    (key_cosines, key_sines): (Tensor<3>, Tensor<3>),
    heads: Heads,
) -> Tensor<2> {
    let tables = [cosines, sines, key_cosines, key_sines].map(Tensor::into_dispatch);
    let [cosines, sines, key_cosines, key_sines] = tables;
    let x = x.into_dispatch();
    let y = Dispatch::rotate_beside(x, cosines, sines, key_cosines, key_sines, heads);
    Tensor::from_dispatch(y)
}

/// `activation(gate) ⊙ up` in a format, of `[tokens, gate · up]`.
pub fn gated_beside(activation: Activation, x: Tensor<2>, to: DType) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::gate_beside(x.into_dispatch(), activation, to))
}
