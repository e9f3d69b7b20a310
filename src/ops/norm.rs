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

/// `past` and the gradient of `x` for that of the output, `d`.
pub fn rms_norm_backward(
    x: Tensor<2>,
    gain: Tensor<1>,
    epsilon: f64,
    [d, past]: [Tensor<2>; 2],
) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if gpu::holds(&x) {
        #[expect(clippy::cast_possible_truncation)] // it is added to numbers of 32 bits
        return gpu::rms_norm_backward(x, gain, epsilon as f32, [d, past]);
    }
    // With r = 1/√(mean(x²) + ε): r·(gain·d) − x·r³·mean(gain·d·x).
    let scale = x.clone().square().mean_dim(1).add_scalar(epsilon).sqrt().recip();
    let d = d * gain.unsqueeze::<2>();
    let along = (d.clone() * x.clone()).mean_dim(1) * scale.clone().powi_scalar(3);
    past + d * scale - x * along
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::ops::{from_vec, host};

    /// Against the tape of the operations that it is the gradient of.
    #[test]
    fn the_gradient_is_that_of_a_tape_and_what_goes_past_is_added() {
        let device = Device::flex();
        let random = |from: f32| -> Tensor<2> {
            from_vec((0..15).map(|i| (from * i as f32).sin()).collect(), [3, 5], &device)
        };
        let gain = from_vec(vec![1.0, -0.5, 2.0, 0.0, 3.0], [5], &device);
        let [x, d, past] = [random(1.3), random(0.7), random(2.9)];
        let leaf = x.clone().autodiff().require_grad();
        let y = rms_norm(leaf.clone(), gain.clone(), 1e-5);
        let mut tape = (y * d.clone()).backward();
        let reference = host(leaf.grad_remove(&mut tape).unwrap() + past.clone());
        let ours = host(rms_norm_backward(x, gain, 1e-5, [d, past]));
        let near = ours.iter().zip(&reference).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near, "{ours:?} {reference:?}");
    }
}
