//! Products of a few rows with matrices kept in bfloat16 or as codes: a model that writes token by
//! token reads all its weights for each, and to widen them first would take most of the time.

use burn::tensor::Tensor;
use half::bf16;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::element::Number;
use super::host_tensor::{HostTensor, StoredNumbers};
use super::packed::View;
use super::pointwise::dot;
use crate::device::Arithmetic;
use crate::ops::from_vec;

/// More rows than this are a matter for products with packed panels.
pub const FEW_ROWS: usize = 16;
/// Outputs of one task.
const OUTPUTS: usize = 32;

/// `x · wᵀ` for `x: [rows, in]` and `w: [out, in]`; none if there are many rows, the weight is not
/// kept in bfloat16, or the device is not the CPU. Each sum has a fixed order, whatever the number
/// of threads and of rows.
pub fn few_rows(x: &Tensor<2>, w: &Tensor<2>, arithmetic: Arithmetic) -> Option<Tensor<2>> {
    if x.dims()[0] > FEW_ROWS {
        return None;
    }
    few_rows_of(x, &HostTensor::of(w)?, arithmetic)
}

/// The same with a matrix that is perhaps kept as codes.
pub fn few_rows_of(x: &Tensor<2>, w: &HostTensor, arithmetic: Arithmetic) -> Option<Tensor<2>> {
    let rows = x.dims()[0];
    if rows > FEW_ROWS || arithmetic == Arithmetic::MixedF16 {
        return None;
    }
    let (left, right) = (HostTensor::of(x)?, w.numbers());
    let StoredNumbers::F32(left) = left.numbers() else { return None };
    if matches!(right, StoredNumbers::F32(_)) {
        return None;
    }
    let factors: Vec<f32> = match arithmetic {
        Arithmetic::MixedBf16 => left.data.iter().map(|x| bf16::from_f32(*x).to_f32()).collect(),
        _ => left.data.to_vec(),
    };
    let (outputs, columns) = (w.rows(), w.columns());
    let rounds = arithmetic == Arithmetic::MixedBf16;
    let mut by_output = vec![0.0; outputs * rows];
    by_output.par_chunks_mut(OUTPUTS * rows).enumerate().for_each(|(task, target)| {
        let x = View::new(&factors, rows, columns);
        Arch::new().dispatch(Outputs { x, w: right, rounds, first: task * OUTPUTS, target });
    });
    let mut y = vec![0.0; rows * outputs];
    for (output, sums) in by_output.chunks_exact(rows).enumerate() {
        sums.iter().enumerate().for_each(|(row, sum)| y[row * outputs + output] = *sum);
    }
    Some(from_vec(y, [rows, outputs], &x.device()))
}

/// Some outputs, all rows of one after those of the other.
struct Outputs<'a> {
    x: View<'a, f32>,
    w: StoredNumbers<'a>,
    /// Whether numbers that are not kept in bfloat16 are rounded to it.
    rounds: bool,
    first: usize,
    target: &'a mut [f32],
}

impl NullaryFnOnce for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { x, w, rounds, first, target } = self;
        let mut wide = vec![0.0_f32; x.columns];
        for (output, sums) in target.chunks_exact_mut(x.rows).enumerate() {
            if let StoredNumbers::Bf16(w) = w {
                for (wide, number) in wide.iter_mut().zip(w.row(first + output)) {
                    *wide = number.wide();
                }
            } else {
                w.read(first + output, &mut wide);
                if rounds {
                    wide.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
                }
            }
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum = dot(x.row(row), &wide);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, FloatDType};

    use super::*;
    use crate::ops::host;
    use crate::random::Stream;

    fn random(shape: [usize; 2], name: &str) -> Tensor<2> {
        let stream = Stream::new(9).site(name);
        let count = (shape[0] * shape[1]) as u64;
        let values = (0..count).map(|index| stream.normal(index) as f32).collect();
        from_vec(values, shape, &Device::flex())
    }

    #[test]
    fn few_rows_give_the_product_and_each_row_alone_the_same() {
        let w = random([77, 50], "w").cast(FloatDType::BF16);
        let x = random([5, 50], "x");
        let whole = host(few_rows(&x, &w, Arithmetic::F32).unwrap());
        let reference = host(x.clone().matmul(w.clone().cast(FloatDType::F32).transpose()));
        let near = whole.iter().zip(&reference).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(near && whole.len() == 5 * 77);
        for row in 0..5 {
            let alone = few_rows(&x.clone().narrow(0, row, 1), &w, Arithmetic::F32).unwrap();
            assert_eq!(host(alone), whole[row * 77..(row + 1) * 77]);
        }
    }

    #[test]
    fn other_cases_are_left_to_other_products() {
        let (x, w) = (random([17, 8], "x"), random([3, 8], "w"));
        let half = w.clone().cast(FloatDType::BF16);
        assert!(few_rows(&x, &half, Arithmetic::F32).is_none());
        let x = x.narrow(0, 0, 16);
        assert!(few_rows(&x, &w, Arithmetic::F32).is_none());
        assert!(few_rows(&x, &half, Arithmetic::MixedF16).is_none());
        assert!(few_rows(&x.clone().autodiff(), &half, Arithmetic::F32).is_none());
        // In mixed arithmetic both factors are rounded.
        let rounded = x.clone().cast(FloatDType::BF16).cast(FloatDType::F32);
        let mixed = host(few_rows(&x, &half, Arithmetic::MixedBf16).unwrap());
        assert_eq!(mixed, host(few_rows(&rounded, &half, Arithmetic::F32).unwrap()));
    }
}
