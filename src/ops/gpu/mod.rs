//! Kernels of our own for GPUs, in CubeCL: each is one pass where tensor operations are many, and
//! computes what the portable form does. They use no atomics, so that results repeat themselves.
//!
//! `launch` has what they share; `norm`, `rotary`, `gate` and `low_rank` stand on tapes with
//! gradients by hand (`taped`; `together` where matrices lie beside each other, as `parts` puts
//! them), `codes` writes the numbers of matrices that are kept as codes; `attention`, `fused`,
//! `loss` and `update` are given plain tensors.

mod attention;
mod codes;
pub mod fused;
mod gate;
mod launch;
mod loss;
mod low_rank;
mod norm;
mod parts;
mod rotary;
mod taped;
mod together;
mod update;

use burn::tensor::{Device, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use crate::device;
pub(super) use crate::device::half_product as product;
pub(super) use attention::{ScoreRows, weights, weights_backward};
pub use codes::{Constant, DeviceCodes};
pub use loss::{losses, placed};
pub(super) use norm::rms_norm_backward;
pub use parts::{columns_apart, joined_columns, lying_together};
pub(super) use taped::{constant_product, gated, low_rank, rms_norm, rotate};
pub use together::{Together, gated_beside, low_rank_together, rotate_beside};
pub use update::{MomentNumbers, measured, move_all};

/// Whether a tensor is on a GPU, on a tape or not.
pub fn holds<const D: usize>(x: &Tensor<D>) -> bool {
    x.device().inner() != Device::flex()
}

/// How many buffers a kernel sees at most on a device, and those that are none.
pub fn bindings(device: &Device) -> usize {
    let client = cube(Tensor::<1>::empty([1], device)).client;
    client.properties().hardware.max_bindings as usize
}

/// Says what a product `[.., m, k] · [.., k, n]` moves, all in 32 bits.
pub fn multiplies_wide<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) {
    if device::keeps_ledger() && holds(a) {
        let (inner, columns) = (a.dims()[D - 1].max(1), b.dims()[D - 1]);
        let [left, right] = [a, b].map(|x| x.shape().num_elements());
        let results = left / inner * columns;
        device::launching("MatmulEntry", 4 * (left + right + results), 2 * results * inner);
    }
}

/// The same tensor, row after row in memory.
pub fn in_order<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    plain(into_contiguous(cube(x)))
}

/// The tensor of the backend.
fn cube<const D: usize>(x: Tensor<D>) -> CubeTensor {
    x.try_into_primitive::<CubeBackend>().expect("a plain tensor of a GPU")
}

/// And back.
fn plain<const D: usize>(x: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<CubeBackend>(x)
}
