//! Products of matrices whose factors are rounded to 16 bits as they are loaded: no copies of
//! factors are made, sums and results keep 32 bits.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::ir::features::TypeUsage;
use cubecl::ir::{ElemType, FloatKind};
use cubek::matmul::definition::MatmulElems;
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy as Levels;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;

/// What kernels call a format.
pub fn elem(format: DType) -> ElemType {
    ElemType::Float(match format {
        DType::F16 => FloatKind::F16,
        DType::BF16 => FloatKind::BF16,
        _ => FloatKind::F32,
    })
}

/// Says what a product `[.., m, k] · [.., k, n]` with results of 32 bits moves and computes.
pub fn multiplies(a: &CubeTensor, b: &CubeTensor) {
    let bytes = |x: &CubeTensor| x.meta.num_elements() * x.dtype.size();
    let (last, inner) = (a.meta.shape().num_dims() - 1, a.meta.shape());
    let inner = inner[last].max(1);
    let results = a.meta.num_elements() / inner * b.meta.shape()[last];
    let moved = bytes(a) + bytes(b) + DType::F32.size() * results;
    super::launching("MatmulEntry", moved, 2 * results * inner);
}

/// Kernels in the order in which they are tried: those with the units that multiply matrices, then
/// those that need none, and that take no factors that are only converted.
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
pub fn product(a: CubeTensor, b: CubeTensor, factors: DType) -> CubeTensor {
    let multiplied = |a: &CubeTensor, b: &CubeTensor, factors| {
        rounded_as_loaded(a, b, factors).inspect(|_| multiplies(a, b))
    };
    if let Some(out) = multiplied(&a, &b, factors) {
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
    let alike = batches(&a) == batches(&b);
    // Vulkan converts bfloat16, and computes with it in units for matrices alone.
    let usage = a.client.properties().type_usage(elem(factors));
    let computes = usage.contains(TypeUsage::Arithmetic);
    if computes && let Some(out) = multiplied(&a, &b, factors) {
        return out;
    }
    // CubeCL's own choice ends the process where its first kernel fails otherwise than by being
    // unavailable. It is left to batches of which one stands for several.
    if computes && !alike {
        let strategy = MatmulStrategy::default();
        if let Ok(product) = matmul(a.clone(), b.clone(), None, strategy, DType::F32) {
            multiplies(&a, &b);
            return product;
        }
    }
    // No kernel for these sizes: slower, and as exact.
    let [a, b] = [a, b].map(|x| CubeBackend::float_cast(x, FloatDType::F32));
    multiplied(&a, &b, DType::F32).unwrap_or_else(|| {
        multiplies(&a, &b);
        CubeBackend::float_matmul(a, b)
    })
}

/// The axes before those of a matrix.
fn batches(x: &CubeTensor) -> &[usize] {
    let shape = x.meta.shape();
    &shape[..shape.num_dims() - 2]
}

/// None where no kernel takes them so.
pub fn rounded_as_loaded(a: &CubeTensor, b: &CubeTensor, factors: DType) -> Option<CubeTensor> {
    let (mut dims, rank) = (a.meta.shape().to_vec(), a.meta.shape().num_dims());
    if batches(a) != batches(b) {
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
