//! The gated delta rule (Yang et al. 2024, arXiv:2412.06464), inside documents only: a matrix of
//! state for each head, which decays, and of which what it already says of a key is taken before a
//! value is written. With keys `k` and queries `q` of length 1, for each token
//!
//! `S ← exp(g) S`, `S ← S + k ⊗ β (v − Sᵀk)`, `o = Sᵀq / √width`.
//!
//! Two implementations: tensor operations over chunks of all documents, for any device, which a
//! tape can follow; and the kernels of the CPU (`cpu/delta_rule`).

mod inputs;
mod portable;

use burn::tensor::{Tensor, activation::softplus};

pub use inputs::{DeltaInputs, NORM_EPSILON};

use crate::device::ComputeConfig;
use crate::ops::{DeltaHeads, Documents, cpu};

/// g = −exp(a_log) · softplus(a + bias), of `a: [tokens, value heads]`.
pub fn log_decay(a: Tensor<2>, a_log: &Tensor<1>, bias: &Tensor<1>) -> Tensor<2> {
    let rate = a_log.clone().exp().neg().unsqueeze::<2>();
    softplus(a + bias.clone().unsqueeze::<2>(), 1.0) * rate
}

/// What leaves the rule, `[tokens, values]`, zero outside of documents.
pub fn gated_delta_rule(
    inputs: DeltaInputs,
    heads: DeltaHeads,
    documents: &Documents,
    computing: ComputeConfig,
) -> Tensor<2> {
    if let Some(output) = cpu::gated_delta_rule(&inputs, heads, documents.spans(), computing) {
        return output;
    }
    portable::packed(inputs, heads, documents).0
}

/// The same of one document, with the state after its last token, `[1, value heads, key width,
/// value width]`.
pub fn gated_delta_rule_with_state(
    inputs: DeltaInputs,
    heads: DeltaHeads,
    documents: &Documents,
) -> (Tensor<2>, Tensor<4>) {
    portable::packed(inputs, heads, documents)
}

/// What leaves the rule for one more token of each of several texts, and their states after it;
/// `state: [texts, value heads, key width, value width]`.
pub fn delta_step(
    inputs: DeltaInputs,
    heads: DeltaHeads,
    state: Tensor<4>,
) -> (Tensor<2>, Tensor<4>) {
    portable::step(inputs, heads, state)
}
