//! Products with a matrix that is kept as codes, by tensor operations: some of its rows are numbers
//! at a time, once more on the way back, so that no whole matrix is, however large it is.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Device, FloatDType, Slice, Tensor, TensorData};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use rayon::prelude::*;

use super::product::HalfProduct;
use crate::device::Arithmetic;
use crate::ops::from_vec;
use crate::weights::formats::CodedMatrix;

/// Numbers of a matrix that are there at once.
pub const CODED_NUMBERS_AT_ONCE: usize = 1 << 20;

/// A matrix that is a factor of products.
#[derive(Debug, Clone)]
pub struct CodedFactor {
    /// `W: [out, in]`.
    pub codes: Arc<dyn CodedMatrix>,
    /// Rows that are numbers at once.
    pub rows_at_once: usize,
}

/// Products with codes.
#[backend_extension(Flex, Autodiff)]
pub trait CodedProduct: Backend {
    /// `x · Wᵀ`, or `x · W` of a matrix that is turned, for `x` with two dimensions; 32 bits out.
    fn coded_product(
        x: FloatTensor<Self>,
        factor: CodedFactor,
        arithmetic: Arithmetic,
        turned: bool,
    ) -> FloatTensor<Self>;
}

impl CodedProduct for Flex {
    fn coded_product(
        x: FloatTensor<Self>,
        factor: CodedFactor,
        arithmetic: Arithmetic,
        turned: bool,
    ) -> FloatTensor<Self> {
        let codes = factor.codes.as_ref();
        let columns = codes.shape()[1];
        let device = Device::flex();
        let mut parts = Vec::new();
        for rows in strips(codes, factor.rows_at_once) {
            let numbers = TensorData::new(numbers(codes, &rows), [rows.len(), columns]);
            let numbers = Tensor::<2>::from_data(numbers, &device).try_into_primitive::<Self>();
            let Ok(numbers) = numbers else { unreachable!("it was put there") };
            let numbers = Self::float_transpose(numbers);
            if !turned {
                parts.push(multiplied(x.clone(), numbers, arithmetic));
                continue;
            }
            let x = match rows.len() == codes.shape()[0] {
                true => x.clone(),
                false => Self::float_slice(x.clone(), &[Slice::full(), rows.into()]),
            };
            let part = multiplied(x, Self::float_transpose(numbers), arithmetic);
            parts = vec![match parts.pop() {
                Some(sum) => Self::float_add(sum, part),
                None => part,
            }];
        }
        match parts.len() {
            1 => parts.remove(0),
            _ => Self::float_cat(parts, 1),
        }
    }
}

fn multiplied(a: FloatTensor<Flex>, b: FloatTensor<Flex>, by: Arithmetic) -> FloatTensor<Flex> {
    let wide = |x: FloatTensor<Flex>| match x.dtype() {
        burn::tensor::DType::F32 => x,
        _ => Flex::float_cast(x, FloatDType::F32),
    };
    match by {
        Arithmetic::F32 => Flex::float_matmul(wide(a), wide(b)),
        Arithmetic::MixedF16 => Flex::half_product(a, b, false),
        Arithmetic::MixedBf16 => Flex::half_product(a, b, true),
    }
}

#[derive(Debug)]
struct ProductWithCodes;

impl<B: Backend + CodedProduct> Backward<B, 1> for ProductWithCodes {
    type State = (CodedFactor, Arithmetic, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x] = ops.parents;
        let (factor, arithmetic, turned) = ops.state;
        let d = grads.consume::<B>(&ops.node);
        if let Some(node) = of_x {
            grads.register::<B>(node.id, B::coded_product(d, factor, arithmetic, !turned));
        }
    }
}

impl<B: Backend + CodedProduct, C: CheckpointStrategy> CodedProduct for Autodiff<B, C> {
    fn coded_product(
        x: FloatTensor<Self>,
        factor: CodedFactor,
        arithmetic: Arithmetic,
        turned: bool,
    ) -> FloatTensor<Self> {
        let guards = [x.node()];
        let x = x.into_primitive();
        let y = B::coded_product(x, factor.clone(), arithmetic, turned);
        match ProductWithCodes.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((factor, arithmetic, turned), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

impl CodedFactor {
    /// With as many rows at once as have few numbers.
    pub fn new(codes: &Arc<dyn CodedMatrix>) -> Self {
        Self { codes: codes.clone(), rows_at_once: few_rows(codes.as_ref()) }
    }

    /// `x · Wᵀ` for `x: [rows, in]` on the CPU.
    pub fn project(self, x: Tensor<2>, arithmetic: Arithmetic) -> Tensor<2> {
        let x = x.into_dispatch();
        Tensor::from_dispatch(Dispatch::coded_product(x, self, arithmetic, false))
    }

    /// `d · W` for `d: [rows, out]` on the CPU.
    pub fn back(self, d: Tensor<2>, arithmetic: Arithmetic) -> Tensor<2> {
        let d = d.into_dispatch();
        Tensor::from_dispatch(Dispatch::coded_product(d, self, arithmetic, true))
    }
}

fn few_rows(codes: &dyn CodedMatrix) -> usize {
    CODED_NUMBERS_AT_ONCE / codes.shape()[1].max(1)
}

fn strips(codes: &dyn CodedMatrix, rows_at_once: usize) -> impl Iterator<Item = Range<usize>> {
    let (rows, most) = (codes.shape()[0], rows_at_once.max(1));
    (0..rows.max(1)).step_by(most).map(move |first| first..(first + most).min(rows))
}

/// The numbers of some rows; codes on disk are read once.
fn numbers(codes: &dyn CodedMatrix, rows: &Range<usize>) -> Vec<f32> {
    let columns = codes.shape()[1].max(1);
    let in_memory = codes.in_memory(rows.start, rows.len());
    let (codes, first) = match &in_memory {
        Some(read) => (read.as_ref(), 0),
        None => (codes, rows.start),
    };
    let mut numbers = vec![0.0; rows.len() * columns];
    let each = numbers.par_chunks_exact_mut(columns).enumerate();
    each.for_each(|(row, target)| codes.read(first + row, 0, target));
    numbers
}

/// A matrix in 32 bits, some rows at a time.
pub fn coded_strips(codes: &dyn CodedMatrix) -> impl Iterator<Item = Tensor<2>> {
    let columns = codes.shape()[1];
    strips(codes, few_rows(codes))
        .map(move |rows| from_vec(numbers(codes, &rows), [rows.len(), columns], &Device::flex()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{host, product};
    use crate::random::Stream;
    use crate::weights::formats::{Storage, WEIGHT_FORMATS, dequantised};

    fn random(shape: [usize; 2], name: &str) -> Vec<f32> {
        let stream = Stream::new(9).site(name);
        (0..(shape[0] * shape[1]) as u64).map(|index| stream.normal(index) as f32).collect()
    }

    fn matrices(shape: [usize; 2]) -> impl Iterator<Item = Arc<dyn CodedMatrix>> {
        let coded = WEIGHT_FORMATS.iter().filter_map(|format| match format.storage() {
            Storage::Coded(code) => Some(code),
            Storage::Tensor(_) | Storage::Numbers => None,
        });
        coded.map(move |code| code(&random(shape, "w"), shape))
    }

    /// The second matrix is in three strips, of which the last is shorter.
    #[test]
    fn products_and_gradients_are_those_of_the_numbers() {
        for codes in matrices([7, 64]).chain(matrices([200, 12_800])) {
            let shape = codes.shape();
            let w = from_vec(dequantised(codes.as_ref()), shape, &Device::flex());
            let factor = CodedFactor::new(&codes);
            let x = from_vec(random([3, shape[1]], "x"), [3, shape[1]], &Device::flex());
            let d = from_vec(random([3, shape[0]], "d"), [3, shape[0]], &Device::flex());
            let near = |ours: Tensor<2>, wanted: Tensor<2>| {
                let (ours, wanted) = (host(ours), host(wanted));
                let most = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                assert_eq!(ours.len(), wanted.len());
                let pairs = ours.iter().zip(&wanted);
                assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= 1e-5 * most), "{shape:?}");
            };
            for arithmetic in [Arithmetic::F32, Arithmetic::MixedBf16, Arithmetic::MixedF16] {
                let by = |a: &Tensor<2>, b: Tensor<2>| product(a.clone(), b, arithmetic);
                near(factor.clone().project(x.clone(), arithmetic), by(&x, w.clone().transpose()));
                near(factor.clone().back(d.clone(), arithmetic), by(&d, w.clone()));
                let leaf = x.clone().autodiff().require_grad();
                let y = factor.clone().project(leaf.clone(), arithmetic);
                let mut tape = (y * d.clone()).sum().backward();
                near(leaf.grad_remove(&mut tape).unwrap(), by(&d, w.clone()));
            }
            let all: Vec<f32> = coded_strips(codes.as_ref()).flat_map(host).collect();
            assert_eq!(all, host(w));
        }
    }

    #[test]
    fn strips_hold_as_many_rows_as_they_may_and_one_at_least() {
        let codes = matrices([5, 64]).next().expect("there is a format of codes");
        let all = |rows| strips(codes.as_ref(), rows).collect::<Vec<_>>();
        assert_eq!(all(few_rows(codes.as_ref())), std::slice::from_ref(&(0..5)));
        assert_eq!(all(2), [0..2, 2..4, 4..5]);
        assert_eq!(all(0).len(), 5);
    }
}
