//! Root mean square normalisation (Zhang, Sennrich 2019), as transformers computes it.

use burn::tensor::Tensor;

/// `gain · x / sqrt(mean(x²) + epsilon)` over the features of `x: [tokens, features]`.
pub fn rms_norm(x: Tensor<2>, gain: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let mean_square = x.clone().square().mean_dim(1); // [tokens, 1]
    let scale = mean_square.add_scalar(epsilon).sqrt().recip();
    x * scale * gain.unsqueeze::<2>()
}
