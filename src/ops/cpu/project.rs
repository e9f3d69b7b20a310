//! Products with weights outside of training: prompts that are read, and text that is written token
//! by token.

use burn::tensor::Tensor;

use super::element::{Bf16, F32, F32RoundedToBf16};
use super::few::{FEW_ROWS, few_rows};
use super::host_tensor::{AsLhs, HostTensor, StoredNumbers};
use super::product::{Term, product};
use super::run::Products;
use crate::device::ComputeConfig;
use crate::ops::from_vec;

/// `x · wᵀ` for `x: [rows, in]` and `w: [out, in]`; none if a factor is on a tape or not on the
/// CPU, or other kernels are asked for. Each sum has a fixed order, whatever the number of threads.
pub fn project(x: &Tensor<2>, w: &Tensor<2>, computing: ComputeConfig) -> Option<Tensor<2>> {
    project_with(x, &HostTensor::of(w)?, computing)
}

/// The same with a matrix that is perhaps kept as codes.
pub fn project_with(x: &Tensor<2>, w: &HostTensor, computing: ComputeConfig) -> Option<Tensor<2>> {
    let products = Products::of(computing)?;
    if x.dims()[0] <= FEW_ROWS {
        let left = HostTensor::of(x)?;
        let StoredNumbers::F32(rows) = left.numbers() else { return None };
        let [y] = few_rows(rows, &[w.numbers()], products.rounds()).try_into().ok()?;
        return Some(from_vec(y, [rows.rows, w.rows()], &x.device()));
    }
    match products {
        Products::F32 => many_rows::<F32>(x, w),
        Products::Bf16 => many_rows::<Bf16>(x, w),
        Products::F32RoundedToBf16 => many_rows::<F32RoundedToBf16>(x, w),
    }
}

/// Outputs whose weights are packed at once: those of an output projection together would take as
/// much memory as the table itself, or twice.
pub const PACKED_OUTPUTS: usize = 8192;

/// As a pass forward in training does it.
fn many_rows<F: AsLhs>(x: &Tensor<2>, w: &HostTensor) -> Option<Tensor<2>> {
    let left = HostTensor::of(x)?;
    let left = F::factor(left.numbers());
    let (rows, outputs) = (x.dims()[0], w.rows());
    let strip = |first: usize, count: usize| {
        let right = w.numbers().part(first, count).pack_rows::<F>();
        product(&[Term { left: left.view(), right: &right }])
    };
    if outputs <= PACKED_OUTPUTS {
        return Some(from_vec(strip(0, outputs), [rows, outputs], &x.device()));
    }
    let mut y = vec![0.0; rows * outputs];
    for first in (0..outputs).step_by(PACKED_OUTPUTS) {
        let count = PACKED_OUTPUTS.min(outputs - first);
        let part = strip(first, count);
        for (row, part) in y.chunks_exact_mut(outputs).zip(part.chunks_exact(count)) {
            row[first..first + count].copy_from_slice(part);
        }
    }
    Some(from_vec(y, [rows, outputs], &x.device()))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, FloatDType};

    use super::*;
    use crate::config::Kernels;
    use crate::device::Arithmetic;
    use crate::ops::host;
    use crate::random::Stream;

    fn computed(arithmetic: Arithmetic) -> ComputeConfig {
        ComputeConfig { arithmetic, ..ComputeConfig::default() }
    }

    fn random(shape: [usize; 2], name: &str) -> Tensor<2> {
        let stream = Stream::new(9).site(name);
        let count = (shape[0] * shape[1]) as u64;
        let values = (0..count).map(|index| stream.normal(index) as f32).collect();
        from_vec(values, shape, &Device::flex())
    }

    #[test]
    fn each_product_is_that_of_the_numbers_and_each_of_few_rows_alone_the_same() {
        let shapes = [(1, 77, 50), (5, 77, 50), (16, 3, 33), (40, 130, 33), (17, 16_500, 6)];
        for (rows, outputs, inner) in shapes {
            let (x, wide) = (random([rows, inner], "x"), random([outputs, inner], "w"));
            let half = wide.clone().cast(FloatDType::BF16);
            for w in [wide, half] {
                let whole = host(project(&x, &w, computed(Arithmetic::F32)).unwrap());
                let same = w.clone().cast(FloatDType::F32).transpose();
                let reference = host(x.clone().matmul(same));
                let near = whole.iter().zip(&reference).all(|(a, b)| (a - b).abs() < 1e-4);
                assert!(near && whole.len() == rows * outputs);
                for row in 0..if rows > FEW_ROWS { 0 } else { rows } {
                    let alone = x.clone().narrow(0, row, 1);
                    let alone = project(&alone, &w, computed(Arithmetic::F32)).unwrap();
                    assert_eq!(host(alone), whole[row * outputs..(row + 1) * outputs]);
                }
            }
        }
    }

    #[test]
    fn mixed_arithmetic_rounds_both_factors() {
        for rows in [3, 30] {
            let (x, w) = (random([rows, 24], "x"), random([7, 24], "w"));
            let rounded = |x: &Tensor<2>| x.clone().cast(FloatDType::BF16).cast(FloatDType::F32);
            let exact = host(rounded(&x).matmul(rounded(&w).transpose()));
            for w in [w.clone(), w.cast(FloatDType::BF16)] {
                let mixed = host(project(&x, &w, computed(Arithmetic::MixedBf16)).unwrap());
                let near = mixed.iter().zip(&exact).all(|(a, b)| (a - b).abs() < 1e-4);
                assert!(near && mixed.len() == exact.len());
            }
        }
    }

    #[test]
    fn other_cases_are_left_to_tensor_operations() {
        let (x, w) = (random([17, 8], "x"), random([3, 8], "w"));
        let portable = ComputeConfig { kernels: Kernels::Portable, ..computed(Arithmetic::F32) };
        assert!(project(&x, &w, portable).is_none());
        assert!(project(&x, &w, computed(Arithmetic::MixedF16)).is_none());
        assert!(project(&x.clone().autodiff(), &w, computed(Arithmetic::F32)).is_none());
        assert!(project(&x, &w.clone().autodiff(), computed(Arithmetic::F32)).is_none());
        assert!(project(&x, &w, computed(Arithmetic::F32)).is_some());
    }
}
