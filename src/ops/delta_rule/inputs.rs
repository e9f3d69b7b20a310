//! What the gated delta rule is given, in both of its forms.

use burn::tensor::Tensor;

/// Added to the sums of squares of queries and of keys, as in the reference.
pub const NORM_EPSILON: f32 = 1e-6;

/// What the rule is given.
#[derive(Clone)]
pub struct DeltaInputs {
    /// Queries, keys and values beside each other, `[tokens, wide]`; lengths are made 1 here.
    pub qkv: Tensor<2>,
    /// g, at most zero, `[tokens, value heads]`.
    pub log_decay: Tensor<2>,
    /// β, `[tokens, value heads]`.
    pub beta: Tensor<2>,
}
