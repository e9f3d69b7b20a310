//! Qwen2 and Qwen2.5: queries, keys and values with biases. Reference: transformers
//! `models/qwen2/modeling_qwen2.py`.

use super::Family;
use super::dense::{Defaults, Dense};
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Qwen2;

const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(32), head_dim: None, positions_max: 32_768, padding: None };

impl Family for Qwen2 {
    fn model_types(&self) -> &'static [&'static str] {
        &["qwen2"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = Dense::read(config, DEFAULTS)?;
        dense.qkv_bias = true;
        dense.read_windows(config)?;
        dense.describe(config)
    }
}
