//! The gate of an MLP (Shazeer 2020): what lets through is an activation of it.

use burn::tensor::{
    Tensor,
    activation::{sigmoid, silu},
};

use crate::ops::Activation;

/// √(2/π), and the factor of x³ beside x.
pub(super) const GELU: (f32, f32) = (0.797_884_56, 0.044_715);

/// `activation(gate) ⊙ up`, `[tokens, features]`.
pub fn gate(activation: Activation, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let open = match activation {
        Activation::Silu => silu(gate),
        Activation::GeluTanh => {
            let cube = gate.clone().powi_scalar(3).mul_scalar(GELU.1);
            let inner = (gate.clone() + cube).mul_scalar(2.0 * GELU.0);
            gate * sigmoid(inner)
        }
        Activation::Clamped { alpha, limit } => {
            let gate = gate.clamp_max(limit);
            let open = gate.clone() * sigmoid(gate.mul_scalar(alpha));
            return open * up.clamp(-limit, limit).add_scalar(1.0);
        }
    };
    open * up
}
