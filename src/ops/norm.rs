//! Root mean square normalisation (Zhang, Sennrich 2019), as transformers computes it.

use burn::tensor::Tensor;

use crate::device::Arithmetic;
#[cfg(feature = "gpu")]
use crate::ops::gpu;

/// `gain · x / sqrt(mean(x²) + epsilon)` over the features of `x: [tokens, features]`.
pub fn rms_norm(x: Tensor<2>, gain: Tensor<1>, epsilon: f64) -> Tensor<2> {
    rms_norm_factor(x, gain, epsilon, Arithmetic::F32)
}

/// The same as a factor of products: a GPU rounds it as it writes it, once for all of them.
pub fn rms_norm_factor(
    x: Tensor<2>,
    gain: Tensor<1>,
    epsilon: f64,
    arithmetic: Arithmetic,
) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if gpu::holds(&x) {
        #[expect(clippy::cast_possible_truncation)] // it is added to numbers of 32 bits
        return gpu::rms_norm(x, gain, epsilon as f32, arithmetic.factors());
    }
    #[cfg(not(feature = "gpu"))]
    let _ = arithmetic;
    let mean_square = x.clone().square().mean_dim(1); // [tokens, 1]
    let scale = mean_square.add_scalar(epsilon).sqrt().recip();
    x * scale * gain.unsqueeze::<2>()
}
