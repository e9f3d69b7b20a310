//! Moving numbers between the host and a device.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use half::bf16;

use crate::device;

/// Whether a device of its own has tensors.
fn is_gpu(device: &Device) -> bool {
    device.clone().inner() != Device::flex()
}

/// Says that a kernel of the backend is launched for each number of a tensor: how many bytes of it
/// are read and written, and what is computed.
pub fn counts<const D: usize>(kernel: &str, of: &Tensor<D>, (bytes, flops): (usize, usize)) {
    if device::keeps_ledger() && is_gpu(&of.device()) {
        let count = of.shape().num_elements();
        device::launching(kernel, count * bytes, count * flops);
    }
}

fn uploaded(bytes: usize, device: &Device) {
    if device::keeps_ledger() && is_gpu(device) {
        device::uploading(bytes);
    }
}

/// `x + y`.
pub fn added(x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
    counts("KernelBinop", &x, (12, 1));
    x + y
}

/// Rows of a matrix.
pub fn rows_of(x: Tensor<2>, rows: &Tensor<1, Int>) -> Tensor<2> {
    let found = x.select(0, rows.clone());
    if device::keeps_ledger() && is_gpu(&found.device()) {
        let moved = 2 * found.shape().num_elements() * found.dtype().size();
        device::launching("SelectKernel", moved + 4 * rows.dims()[0], 0);
    }
    found
}

/// Uploads host values.
pub fn from_vec<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    uploaded(4 * values.len(), device);
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Uploads host values that stay as they are.
pub fn from_bf16<const D: usize>(
    values: Vec<bf16>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    uploaded(2 * values.len(), device);
    Tensor::from_data(TensorData::new(values, shape), (device, DType::BF16))
}

/// In 32 bits, whatever it is kept in.
pub fn wide<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F32 => x,
        format => {
            counts("CastElement", &x, (4 + format.size(), 0));
            x.cast(FloatDType::F32)
        }
    }
}

/// Uploads a list of indices.
pub fn indices(values: impl Iterator<Item = u32>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> =
        values.map(|index| i32::try_from(index).expect("indices stay below 2^31")).collect();
    let length = values.len();
    uploaded(4 * length, device);
    Tensor::from_data(TensorData::new(values, [length]), device)
}

/// Reads values back, row-major.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    read_back(&tensor);
    tensor.into_data().convert::<f32>().try_into_vec().expect("converted to f32 just before")
}

/// Hands out values, row-major, some at a time: of a large tensor of a device no more is copied at
/// once.
pub fn host_in_parts(tensor: &Tensor<1>, mut take: impl FnMut(&[f32])) {
    const AT_ONCE: usize = 1 << 22;
    let count = tensor.dims()[0];
    if count <= AT_ONCE {
        return take(&host(tensor.clone()));
    }
    for first in (0..count).step_by(AT_ONCE) {
        take(&host(tensor.clone().narrow(0, first, AT_ONCE.min(count - first))));
    }
}

/// Says that a tensor comes from a device.
pub fn read_back<const D: usize>(tensor: &Tensor<D>) {
    if device::keeps_ledger() && is_gpu(&tensor.device()) {
        device::reading_back(tensor.shape().num_elements() * tensor.dtype().size());
    }
}

/// Whether a device was able to begin what a tensor comes of, as far as is known without waiting
/// for it: kernels that could not be made and memory that was not there are.
///
/// # Errors
/// In the words of the device, when it was not: the tensor has no values.
pub fn begun<const D: usize>(tensor: &Tensor<D>) -> Result<(), String> {
    #[cfg(feature = "gpu")]
    if let Ok(found) = tensor.clone().try_into_primitive::<burn_cubecl::CubeBackend>() {
        return found.client.check([&found.handle]).map_err(|error| error.to_string());
    }
    #[cfg(not(feature = "gpu"))]
    let _ = tensor;
    Ok(())
}

/// The same values in one dimension.
pub fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.reshape([count])
}
