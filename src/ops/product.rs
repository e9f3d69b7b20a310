//! Products of matrices. In mixed arithmetic the factors are rounded to 16 bits, while sums and
//! results keep 32: an operation of our own, since Burn's product has results as its factors are.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use crate::device::{Arithmetic, ComputeConfig};
use crate::ops::{DeviceCodes, FrozenMatrix, cpu, wide};

/// Products with factors in 16 bits and results in 32.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub trait HalfProduct: Backend {
    /// `a · b` for `a: [.., m, k]` and `b: [.., k, n]`, rounded to bfloat16 or else to f16.
    fn half_product(a: FloatTensor<Self>, b: FloatTensor<Self>, bfloat: bool) -> FloatTensor<Self>;
}

fn half(bfloat: bool) -> (FloatDType, DType) {
    if bfloat { (FloatDType::BF16, DType::BF16) } else { (FloatDType::F16, DType::F16) }
}

/// A factor in 16 bits, if it is not so already.
fn rounded<B: Backend>(x: FloatTensor<B>, bfloat: bool) -> FloatTensor<B> {
    let (format, dtype) = half(bfloat);
    if x.dtype() == dtype { x } else { B::float_cast(x, format) }
}

/// The CPU has no faster way to multiply 16-bit numbers, so that rounding is all there is to it.
impl HalfProduct for Flex {
    fn half_product(a: FloatTensor<Self>, b: FloatTensor<Self>, bfloat: bool) -> FloatTensor<Self> {
        let wide = |x| Self::float_cast(rounded::<Self>(x, bfloat), FloatDType::F32);
        Self::float_matmul(wide(a), wide(b))
    }
}

#[cfg(feature = "gpu")]
impl HalfProduct for burn_cubecl::CubeBackend {
    fn half_product(a: FloatTensor<Self>, b: FloatTensor<Self>, bfloat: bool) -> FloatTensor<Self> {
        crate::ops::gpu::product(a, b, half(bfloat).1)
    }
}

#[derive(Debug)]
struct Product;

/// d(a·b) = da·b + a·db; the tape keeps the factors whose partner has a gradient.
impl<B: Backend + HalfProduct> Backward<B, 2> for Product {
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>, bool);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node_a, node_b] = ops.parents;
        let (a, b, bfloat) = ops.state;
        let d = grads.consume::<B>(&ops.node);
        if let (Some(node), Some(b)) = (node_a, b) {
            let d_a = B::half_product(d.clone(), B::float_transpose(b), bfloat);
            grads.register::<B>(node.id, d_a);
        }
        if let (Some(node), Some(a)) = (node_b, a) {
            let d_b = B::half_product(B::float_transpose(a), d, bfloat);
            grads.register::<B>(node.id, d_b);
        }
    }
}

impl<B: Backend + HalfProduct, C: CheckpointStrategy> HalfProduct for Autodiff<B, C> {
    fn half_product(a: FloatTensor<Self>, b: FloatTensor<Self>, bfloat: bool) -> FloatTensor<Self> {
        let (a_moves, b_moves) = (a.is_tracked(), b.is_tracked());
        let guards = [a.node(), b.node()];
        let (a, b) = (a.into_primitive(), b.into_primitive());
        match Product.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = (b_moves.then(|| a.clone()), a_moves.then(|| b.clone()), bfloat);
                prep.finish(kept, B::half_product(a, b, bfloat))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::half_product(a, b, bfloat)),
        }
    }
}

/// `a · b` for `a: [.., m, k]` and `b: [.., k, n]`, 32 bits out.
pub fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>, arithmetic: Arithmetic) -> Tensor<D> {
    let bfloat = match arithmetic {
        // Weights of the CPU may be kept in 16 bits and stand for the same numbers in 32.
        Arithmetic::F32 => {
            let (a, b) = (wide(a), wide(b));
            #[cfg(feature = "gpu")]
            crate::ops::gpu::multiplies_wide(&a, &b);
            return a.matmul(b);
        }
        Arithmetic::MixedF16 => false,
        Arithmetic::MixedBf16 => true,
    };
    let product = Dispatch::half_product(a.into_dispatch(), b.into_dispatch(), bfloat);
    Tensor::from_dispatch(product)
}

/// `x · wᵀ` for `x: [tokens, in]` and `w: [out, in]`, no more at once than the device takes.
pub fn project(x: Tensor<2>, weight: Tensor<2>, computing: ComputeConfig) -> Tensor<2> {
    if let Some(y) = cpu::project(&x, &weight, computing) {
        return y;
    }
    let rows = computing.limits.rows_of_product(x.dims()[1], weight.dims()[0]);
    let weight = weight.transpose();
    in_parts(x, rows, |x| product(x, weight.clone(), computing.arithmetic))
}

/// What is made of `x`, of no more than so many rows at once.
fn in_parts(x: Tensor<2>, rows: usize, make: impl Fn(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
    let tokens = x.dims()[0];
    if tokens <= rows {
        return make(x);
    }
    let parts = (0..tokens).step_by(rows);
    let parts = parts.map(|first| make(x.clone().narrow(0, first, rows.min(tokens - first))));
    Tensor::cat(parts.collect(), 0)
}

/// `x·Wᵀ + s·(x·Aᵀ)·Bᵀ` on a GPU, the weight a constant, in fewer kernels than its parts; none on
/// other devices, or where it is more than the device takes at once.
pub fn low_rank(
    x: &Tensor<2>,
    weight: &FrozenMatrix,
    (a, b, scale): (&Tensor<2>, &Tensor<2>, f64),
    computing: ComputeConfig,
) -> Option<Tensor<2>> {
    #[cfg(feature = "gpu")]
    if crate::ops::gpu::holds(x) {
        let ([tokens, inner], [outputs, _]) = (x.dims(), weight.dims());
        if tokens > computing.limits.rows_of_product(inner, outputs) {
            return None;
        }
        let factors = [a, b].map(Clone::clone);
        #[expect(clippy::cast_possible_truncation)] // activations are f32
        let scale = scale as f32;
        let format = computing.arithmetic.factors();
        let y = crate::ops::gpu::low_rank(x.clone(), weight.into(), factors, scale, format);
        return Some(y);
    }
    let _ = (x, weight, a, b, scale, computing);
    None
}

/// Factors `A: [rank, in]` and `B: [out, rank]` of an addition of low rank, and what it is
/// multiplied with.
pub struct LowRankFactors {
    /// `A` and `B`.
    pub factors: [Tensor<2>; 2],
    /// The factor `s`.
    pub scale: f64,
}

/// What several layers of one input give, beside each other: `weight` has their weights below each
/// other. None where they are too large for one product, or not alike enough for it.
pub fn low_rank_together(
    x: &Tensor<2>,
    weight: &FrozenMatrix,
    all: &[LowRankFactors],
    computing: ComputeConfig,
) -> Option<Tensor<2>> {
    #[cfg(feature = "gpu")]
    {
        use crate::ops::gpu;
        let ([tokens, inner], [outputs, _], first) = (x.dims(), weight.dims(), all.first()?);
        #[expect(clippy::float_cmp)] // one factor stands for all
        let alike = |other: &LowRankFactors| {
            let rank = |of: &LowRankFactors| of.factors[0].dims()[0];
            other.scale == first.scale && rank(other) == rank(first)
        };
        let small = tokens <= computing.limits.rows_of_product(inner, outputs);
        let weight = gpu::Constant::from(weight);
        let takes = (2..=3).contains(&all.len()) && weight.takes_parts(all.len());
        if !(small && takes && all.iter().all(alike)) {
            return None;
        }
        let factors: Vec<_> = all.iter().map(|of| of.factors.clone()).collect();
        #[expect(clippy::cast_possible_truncation)] // activations are f32
        let scale = first.scale as f32;
        let of = gpu::Together { count: all.len(), scale, factors: computing.arithmetic.factors() };
        Some(gpu::low_rank_together(x.clone(), weight, &factors, of))
    }
    #[cfg(not(feature = "gpu"))]
    {
        let _ = (x, weight, all, computing);
        None
    }
}

/// `x · wᵀ` for `x: [tokens, in]` and `w: [out, in]`, no more at once than the device takes.
pub fn project_frozen(x: Tensor<2>, weight: &FrozenMatrix, computing: ComputeConfig) -> Tensor<2> {
    match weight {
        FrozenMatrix::Numbers(numbers) => project(x, numbers.clone(), computing),
        FrozenMatrix::Codes(codes) => project_codes(x, codes, computing),
    }
}

/// The same of codes.
#[cfg(feature = "gpu")]
fn project_codes(x: Tensor<2>, codes: &DeviceCodes, computing: ComputeConfig) -> Tensor<2> {
    use crate::ops::gpu::{Constant, constant_product};
    let rows = computing.limits.rows_of_product(x.dims()[1], codes.dims()[0]);
    in_parts(x, rows, |x| {
        constant_product(x, Constant::Codes(codes.clone()), computing.arithmetic.factors())
    })
}

#[cfg(not(feature = "gpu"))]
fn project_codes(_: Tensor<2>, codes: &DeviceCodes, _: ComputeConfig) -> Tensor<2> {
    codes.values()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use half::f16;

    use super::*;
    use crate::device::DeviceLimits;
    use crate::ops::{from_vec, host};
    use crate::random::Stream;

    fn random(shape: [usize; 2], name: &str, size: f64) -> Tensor<2> {
        let stream = Stream::new(5).site(name);
        let count = (shape[0] * shape[1]) as u64;
        let values = (0..count).map(|i| (size * stream.normal(i)) as f32).collect();
        from_vec(values, shape, &Device::flex())
    }

    fn rounded_to_f16(x: &Tensor<2>) -> Tensor<2> {
        let values = host(x.clone()).into_iter().map(|x| f16::from_f32(x).to_f32()).collect();
        from_vec(values, x.dims(), &Device::flex())
    }

    #[test]
    fn factors_are_rounded_and_results_are_not() {
        let (a, b) = (random([5, 33], "a", 1.0), random([33, 7], "b", 1.0));
        let ours = host(product(a.clone(), b.clone(), Arithmetic::MixedF16));
        let reference = host(rounded_to_f16(&a).matmul(rounded_to_f16(&b)));
        assert_eq!(ours, reference);
        assert_ne!(ours, host(a.clone().matmul(b)));
        // A sum beyond the largest f16, 65504, stays what it is.
        let large = random([1, 64], "c", 0.0).add_scalar(100.0);
        let sum = host(product(large.clone(), large.transpose(), Arithmetic::MixedF16));
        assert_eq!(sum, [640_000.0]);
    }

    #[test]
    fn gradients_are_products_of_the_rounded_factors() {
        let (a, b) = (random([4, 9], "a", 1.0), random([9, 3], "b", 1.0));
        let d = random([4, 3], "d", 1.0);
        let leaf = |x: &Tensor<2>| x.clone().autodiff().require_grad();
        let (ta, tb) = (leaf(&a), leaf(&b));
        let out = product(ta.clone(), tb.clone(), Arithmetic::MixedF16);
        let mut tape = (out * d.clone()).backward();
        let round = rounded_to_f16;
        let near = |ours: Tensor<2>, reference: Tensor<2>| {
            let pairs = host(ours).into_iter().zip(host(reference));
            pairs.into_iter().all(|(a, b)| (a - b).abs() <= 2e-6 * b.abs().max(1.0))
        };
        let d_a = ta.grad_remove(&mut tape).unwrap();
        assert!(near(d_a, round(&d).matmul(round(&b).transpose())));
        let d_b = tb.grad_remove(&mut tape).unwrap();
        assert!(near(d_b, round(&a).transpose().matmul(round(&d))));
        // A plain factor is a constant: frozen weights get no gradient.
        let only = leaf(&a);
        let mut tape = product(only.clone(), b, Arithmetic::MixedF16).sum().backward();
        assert!(only.grad_remove(&mut tape).is_some());
    }

    #[test]
    fn a_projection_in_parts_is_the_projection() {
        let (x, w) = (random([37, 16], "x", 1.0), random([11, 16], "w", 1.0));
        for arithmetic in [Arithmetic::F32, Arithmetic::MixedF16] {
            let whole = ComputeConfig { arithmetic, ..ComputeConfig::default() };
            let reference = host(project(x.clone(), w.clone(), whole));
            for rows in [1_u64, 5, 36, 37] {
                let flops =
                    DeviceLimits { dispatch_flops: rows * 2 * 16 * 11, ..DeviceLimits::NONE };
                let bytes = DeviceLimits { tensor_bytes: rows * 4 * 16, ..DeviceLimits::NONE };
                for limits in [flops, bytes] {
                    let parts = host(project(
                        x.clone(),
                        w.clone(),
                        ComputeConfig { limits, arithmetic, ..ComputeConfig::default() },
                    ));
                    let near = parts.iter().zip(&reference).all(|(a, b)| (a - b).abs() < 1e-5);
                    assert!(near && parts.len() == reference.len(), "{rows} rows");
                }
            }
        }
    }
}
