//! Scores that come near a cap slowly and never pass it (Bello et al. 2017, section 3.2; Gemma 2).

use burn::tensor::Tensor;

/// `cap · tanh(x / cap)`.
pub fn soft_cap(x: Tensor<2>, cap: f32) -> Tensor<2> {
    x.div_scalar(cap).tanh().mul_scalar(cap)
}

/// The derivative of [`soft_cap`] where it gave `y`: `1 − (y / cap)²`.
pub fn soft_cap_slope(y: Tensor<2>, cap: f32) -> Tensor<2> {
    y.div_scalar(cap).square().neg().add_scalar(1.0)
}
