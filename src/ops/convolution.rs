//! A short causal convolution of each feature by itself, inside documents only.

use burn::tensor::Tensor;

use super::Documents;

/// `y[t] = Σ_d w[width − 1 − d] ⊙ x[t − d]` over the distances `d` that stay in the document of
/// `t`, for `x: [tokens, channels]` and `weight: [channels, width]`, whose last column is that of
/// the token itself, as PyTorch has it.
pub fn causal_convolution(x: Tensor<2>, weight: &Tensor<2>, documents: &Documents) -> Tensor<2> {
    let ([tokens, channels], width) = (x.dims(), weight.dims()[1]);
    let mut y = x.clone() * tap(weight, 0);
    for distance in 1..width.min(tokens) {
        let zeros = Tensor::zeros([distance, channels], &x.device());
        let earlier = Tensor::cat(vec![zeros, x.clone().narrow(0, 0, tokens - distance)], 0);
        let mask = documents.sequences().before(distance, &x.device().inner());
        y = y + earlier * mask * tap(weight, distance);
    }
    y
}

/// The same for the last of `width` tokens of each of several texts, `[texts, width, channels]`,
/// where zeros stand for tokens before the beginning.
pub fn convolution_step(window: Tensor<3>, weight: &Tensor<2>) -> Tensor<2> {
    let [texts, width, channels] = window.dims();
    let taps = weight.clone().transpose().reshape([1, width, channels]);
    (window * taps).sum_dim(1).reshape([texts, channels])
}

/// What tokens at a distance are multiplied with, `[1, channels]`.
fn tap(weight: &Tensor<2>, distance: usize) -> Tensor<2> {
    let [channels, width] = weight.dims();
    weight.clone().narrow(1, width - 1 - distance, 1).reshape([1, channels])
}
