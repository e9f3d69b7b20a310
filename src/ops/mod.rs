//! Operations on tensors that the model is made of. Activations are `[tokens, features]`, where
//! tokens are the positions of all rows of a micro-batch one after the other.

mod attention;
mod branch;
mod coded;
mod convolution;
pub mod cpu;
mod delta_rule;
mod frozen;
mod gate;
mod given;
#[cfg(feature = "gpu")]
pub mod gpu;
mod norm;
mod options;
pub mod parity;
mod product;
mod reading;
mod rotary;
mod sequences;
mod soft_cap;
mod tensors;

pub use attention::{
    AttentionGradients, AttentionInputs, Documents, attend, attend_backward, attend_beside,
    attend_beside_backward, attend_cached, attend_composed, keeps_no_scores,
};
pub use branch::Branch;
pub use coded::{CODED_NUMBERS_AT_ONCE, CodedFactor, CodedProduct, coded_strips};
pub use convolution::{causal_convolution, convolution_step};
pub use delta_rule::{
    DeltaInputs, NORM_EPSILON, delta_step, gated_delta_rule, gated_delta_rule_with_state, log_decay,
};
pub use frozen::{DeviceCodes, FrozenMatrix, lying_together};
pub use gate::{gate, gate_beside, gate_factor};
pub use given::{GivenGradients, TapedOutput};
pub use norm::{rms_norm, rms_norm_backward, rms_norm_factor};
pub use options::{
    ATTENTION_TILE, Activation, AttentionConfig, DeltaHeads, Heads, LogitConfig, QueryScale,
    RopeScaling,
};
pub use product::{
    HalfProduct, LowRankFactors, low_rank, low_rank_together, product, project, project_frozen,
};
pub use reading::{Reading, begin_reading};
pub use rotary::{Angles, Frequencies, Rotary, rotate, rotate_beside};
pub use sequences::CHUNK;
pub use soft_cap::{soft_cap, soft_cap_slope};
pub use tensors::{
    added, begun, counts, flat, from_bf16, from_vec, host, host_in_parts, indices, read_back,
    rows_of, wide,
};
