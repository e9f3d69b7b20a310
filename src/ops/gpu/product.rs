//! Products of matrices whose factors are rounded to 16 bits as they are loaded: no copies of
//! factors are made, sums and results keep 32 bits.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::ir::ElemType;
use cubek::matmul::definition::MatmulElems;
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy as Levels;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;

use super::launch::elem;

/// Kernels in the order in which they are tried: those with the units that multiply matrices, then
/// those that need none.
fn strategies() -> [Strategy; 2] {
    [
        Strategy::MultiLevel(Levels::SimpleCyclicCmma(Default::default())),
        Strategy::MultiLevel(Levels::SimpleUnit(Default::default())),
    ]
}

/// Formats in memory, while tiles are multiplied, and of sums.
fn formats(a: ElemType, b: ElemType, factors: ElemType) -> MatmulElems {
    let sums = elem(DType::F32);
    MatmulElems {
        lhs_global: a,
        rhs_global: b,
        acc_global: sums,
        lhs_stage: factors,
        rhs_stage: factors,
        acc_stage: sums,
        lhs_register: factors,
        rhs_register: factors,
        acc_register: sums,
    }
}

/// `a · b` for `a: [.., m, k]` and `b: [.., k, n]` of the same batches, in f32.
pub(in crate::ops) fn product(a: CubeTensor, b: CubeTensor, factors: DType) -> CubeTensor {
    if let Some(out) = rounded_as_loaded(&a, &b, factors) {
        return out;
    }
    let half = match factors {
        DType::BF16 => FloatDType::BF16,
        _ => FloatDType::F16,
    };
    let rounded = |x: CubeTensor| match x.dtype == factors {
        true => x,
        false => CubeBackend::float_cast(x, half),
    };
    let (a, b) = (rounded(a), rounded(b));
    let strategy = MatmulStrategy::default();
    match matmul(a.clone(), b.clone(), None, strategy, DType::F32) {
        Ok(product) => product,
        // No kernel for these sizes: slower, and as exact.
        Err(_) => {
            let wide = |x| CubeBackend::float_cast(x, FloatDType::F32);
            CubeBackend::float_matmul(wide(a), wide(b))
        }
    }
}

/// None where no kernel takes them so.
fn rounded_as_loaded(a: &CubeTensor, b: &CubeTensor, factors: DType) -> Option<CubeTensor> {
    let (mut dims, rank) = (a.meta.shape().to_vec(), a.meta.shape().num_dims());
    if dims[..rank - 2] != b.meta.shape()[..rank - 2] {
        return None;
    }
    dims[rank - 1] = b.meta.shape()[rank - 1];
    let client = &a.client;
    let shape = Shape::from(dims);
    let out = empty_device_dtype(client.clone(), a.device.clone(), shape, DType::F32);
    let binding = |x: &CubeTensor| InputBinding::new(x.clone().binding(), elem(x.dtype));
    let taken = strategies().into_iter().any(|strategy| {
        let mut formats = formats(elem(a.dtype), elem(b.dtype), elem(factors));
        let out = out.clone().binding();
        launch_ref(&strategy, client, binding(a), binding(b), out, &mut formats).is_ok()
    });
    taken.then_some(out)
}
