//! Phi-3, Phi-4 and Phi-4-mini: one linear layer to queries, keys and values, and one to gate and
//! up; a share of each head is rotated. Reference: transformers `models/phi3/modeling_phi3.py`.

use super::Family;
use super::dense::{Defaults, Dense};
use super::rope::{self, RopeContext};
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Phi3;

const DEFAULTS: Defaults =
    Defaults { kv_heads: None, head_dim: None, positions_max: 4096, padding: Some(32_000) };
/// Context length of the original training where `config.json` does not say it.
const ORIGINAL: usize = 4096;
/// What the first checkpoints call `longrope`.
const OLDER_NAMES: &[&str] = &["su", "yarn"];

impl Family for Phi3 {
    fn model_types(&self) -> &'static [&'static str] {
        &["phi3"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = Dense::read(config, DEFAULTS)?;
        dense.epsilon = config.positive("rms_norm_eps", 1e-5)?;
        dense.fused = true;
        // Of the program that Phi-4-mini was trained by; others than 1 are in no checkpoint.
        for key in ["full_attn_mod", "interpolate_factor"] {
            if config.get(key).is_some_and(|value| value.as_u64() != Some(1)) {
                return Err(config.wrong(key, "must be 1"));
            }
        }
        dense.windows.fill(config.optional_size("sliding_window", 1 << 30)?);
        let own = RopeContext {
            partial: true,
            original: Some(ORIGINAL),
            longrope: OLDER_NAMES,
            ..dense.rope_context()
        };
        let rope = rope::read(config, own)?;
        dense.ropes = vec![Some(rope); dense.windows.len()];
        dense.describe(config)
    }
}
