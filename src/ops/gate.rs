//! The gate of an MLP (Shazeer 2020): what lets through is an activation of it.

use burn::tensor::{
    Tensor,
    activation::{sigmoid, silu},
};

use crate::device::Arithmetic;
use crate::ops::Activation;
#[cfg(feature = "gpu")]
use crate::ops::gpu;
use crate::ops::options::GELU;

/// `activation(gate) ⊙ up`, `[tokens, features]`.
pub fn gate(activation: Activation, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    gate_factor(activation, gate, up, Arithmetic::F32)
}

/// The same as a factor of products, which a GPU rounds as it writes it.
pub fn gate_factor(
    activation: Activation,
    gate: Tensor<2>,
    up: Tensor<2>,
    arithmetic: Arithmetic,
) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if gpu::holds(&gate) {
        return gpu::gated(activation, gate, up, arithmetic.factors());
    }
    #[cfg(not(feature = "gpu"))]
    let _ = arithmetic;
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

/// The same of gate and up beside each other, `[tokens, gate · up]`, on a GPU; none elsewhere.
pub fn gate_beside(
    activation: Activation,
    gate_up: &Tensor<2>,
    arithmetic: Arithmetic,
) -> Option<Tensor<2>> {
    #[cfg(feature = "gpu")]
    if gpu::holds(gate_up) {
        return Some(gpu::gated_beside(activation, gate_up.clone(), arithmetic.factors()));
    }
    let _ = (activation, gate_up, arithmetic);
    None
}
