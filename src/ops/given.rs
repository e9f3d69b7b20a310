//! Gradients that are known, on their way to a tape: what is differentiated then is nothing but the
//! way to the outputs, and no product of outputs and gradients is summed for its derivative.

use std::sync::{Mutex, PoisonError};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Device, Gradients as Tape, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use crate::ops::counts;

/// Hands a known gradient to a tape.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait GivenGradient: Backend {
    /// `root`, one number, of which `x` has the gradient `d` from now on.
    fn given(
        root: FloatTensor<Self>,
        x: FloatTensor<Self>,
        d: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `root`, one number, in the place of `x`: what is given to it goes to `x`, whose numbers are
    /// not kept for that.
    fn in_place_of(root: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl GivenGradient for Flex {
    fn given(
        root: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        root
    }

    fn in_place_of(root: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        root
    }
}

#[cfg(feature = "gpu")]
impl GivenGradient for burn_cubecl::CubeBackend {
    fn given(
        root: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        root
    }

    fn in_place_of(root: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        root
    }
}

#[derive(Debug)]
struct Given;

impl<B: Backend> Backward<B, 2> for Given {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_root, of_x] = ops.parents;
        let root = grads.consume::<B>(&ops.node);
        if let Some(node) = of_x {
            grads.register::<B>(node.id, ops.state);
        }
        if let Some(node) = of_root {
            grads.register::<B>(node.id, root);
        }
    }
}

#[derive(Debug)]
struct InPlaceOf;

impl<B: Backend> Backward<B, 1> for InPlaceOf {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x] = ops.parents;
        let d = grads.consume::<B>(&ops.node);
        if let Some(node) = of_x {
            grads.register::<B>(node.id, d);
        }
    }
}

impl<B: Backend, C: CheckpointStrategy> GivenGradient for Autodiff<B, C> {
    fn given(
        root: FloatTensor<Self>,
        x: FloatTensor<Self>,
        d: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let guards = [root.node(), x.node()];
        let root = root.into_primitive();
        match Given.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(d.into_primitive(), root),
            OpsKind::UnTracked(prep) => prep.finish(root),
        }
    }

    fn in_place_of(root: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let guards = [x.node()];
        let root = root.into_primitive();
        match InPlaceOf.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((), root),
            OpsKind::UnTracked(prep) => prep.finish(root),
        }
    }
}

/// Where a tape ends; its value is nothing's, and is made once for a device.
fn root(device: &Device) -> Tensor<1> {
    static MADE: Mutex<Vec<(Device, Tensor<1>)>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, root)) = made.iter().find(|(of, _)| of == device) {
        return root.clone();
    }
    let root = Tensor::zeros([1], device);
    made.push((device.clone(), root.clone()));
    root
}

/// Where an output stands on its tape, to be given its gradient: a product is not needed for its
/// own derivative, so that its numbers are gone as soon as nothing else has them.
pub struct TapedOutput(Tensor<1>);

impl TapedOutput {
    /// Of an output on a tape.
    pub fn of<const D: usize>(x: Tensor<D>) -> Self {
        let root = root(&x.clone().inner().device());
        let (root, x) = (root.into_dispatch(), x.into_dispatch());
        Self(Tensor::from_dispatch(Dispatch::in_place_of(root, x)))
    }

    /// With its gradient.
    pub fn with<const D: usize>(self, d: Tensor<D>) -> GivenGradients {
        let Self(place) = self;
        let root = root(&d.device());
        let (root, place, d) = (root.into_dispatch(), place.into_dispatch(), d.into_dispatch());
        GivenGradients(Tensor::from_dispatch(Dispatch::given(root, place, d)))
    }
}

/// Outputs on one tape, with their gradients.
pub struct GivenGradients(Tensor<1>);

impl GivenGradients {
    /// An output on a tape and its gradient.
    pub fn of<const D: usize>(x: Tensor<D>, d: Tensor<D>) -> Self {
        Self(root(&d.device())).and(x, d)
    }

    /// One more output of the same tape.
    #[must_use]
    pub fn and<const D: usize>(self, x: Tensor<D>, d: Tensor<D>) -> Self {
        let (root, x, d) = (self.0.into_dispatch(), x.into_dispatch(), d.into_dispatch());
        Self(Tensor::from_dispatch(Dispatch::given(root, x, d)))
    }

    /// Gradients of the leaves.
    pub fn backward(self) -> Tape {
        counts("FullKernel", &self.0, (4, 0)); // a one
        self.0.backward()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::ops::{from_vec, host};

    /// Against the derivative of the sum of products, which is the same vector-Jacobian product.
    #[test]
    fn leaves_get_what_the_sum_of_products_gives_them() {
        let device = Device::flex();
        let numbers = |from: f32| -> Vec<f32> { (0..6).map(|i| from + i as f32).collect() };
        let leaf = || from_vec(numbers(0.5), [2, 3], &device).autodiff().require_grad();
        let d = [
            from_vec::<2>(numbers(-2.0), [2, 3], &device),
            from_vec(vec![3.0; 6], [2, 3], &device),
        ];
        let e = from_vec::<1>(vec![0.25, -4.0], [2], &device);
        let outputs = |x: &Tensor<2>| {
            let (y, z) = (x.clone().square(), x.clone().exp());
            (y, z.clone(), z.sum_dim(1).reshape([2]))
        };
        let (ours, reference) = (leaf(), leaf());
        let (y, z, sums) = outputs(&ours);
        let given = GivenGradients::of(y, d[0].clone()).and(z, d[1].clone()).and(sums, e.clone());
        let found = ours.grad_remove(&mut given.backward()).unwrap();
        let (y, z, sums) = outputs(&reference);
        let total = (y * d[0].clone()).sum() + (z * d[1].clone()).sum() + (sums * e).sum();
        let wanted = reference.grad_remove(&mut total.backward()).unwrap();
        assert_eq!(host(found), host(wanted));
    }

    #[test]
    fn an_output_without_its_numbers_has_the_gradients_of_one_with_them() {
        let device = Device::flex();
        let numbers: Vec<f32> = (0..6).map(|i| 0.5 + i as f32).collect();
        let leaf = || from_vec::<2>(numbers.clone(), [2, 3], &device).autodiff().require_grad();
        let d = from_vec::<2>(vec![-1.0, 2.0, 0.5, 4.0, 0.0, 3.0], [2, 3], &device);
        let (ours, reference) = (leaf(), leaf());
        let place = TapedOutput::of(ours.clone().exp().square());
        let found = ours.grad_remove(&mut place.with(d.clone()).backward()).unwrap();
        let output = reference.clone().exp().square();
        let mut tape = GivenGradients::of(output, d).backward();
        let wanted = reference.grad_remove(&mut tape).unwrap();
        assert_eq!(host(found), host(wanted));
    }
}
