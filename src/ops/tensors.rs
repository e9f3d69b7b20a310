//! Moving numbers between the host and a device.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use half::bf16;

/// Uploads host values.
pub fn from_vec<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Uploads host values that stay as they are.
pub fn from_bf16<const D: usize>(
    values: Vec<bf16>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::BF16))
}

/// In 32 bits, whatever it is kept in.
pub fn wide<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F32 => x,
        _ => x.cast(FloatDType::F32),
    }
}

/// Uploads a list of indices.
pub fn indices(values: impl Iterator<Item = u32>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> =
        values.map(|index| i32::try_from(index).expect("indices stay below 2^31")).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

/// Reads values back, row-major.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("converted to f32 just before")
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
