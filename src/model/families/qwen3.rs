//! Qwen3: norms of queries and keys in each head. Reference: transformers
//! `models/qwen3/modeling_qwen3.py`.

use super::Family;
use super::dense::{Defaults, Dense, QueryKeyNorms};
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Qwen3;

const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(32), head_dim: Some(128), positions_max: 32_768, padding: None };

impl Family for Qwen3 {
    fn model_types(&self) -> &'static [&'static str] {
        &["qwen3"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = Dense::read(config, DEFAULTS)?;
        dense.qk_norms = QueryKeyNorms::Heads;
        dense.qkv_bias = config.flag("attention_bias", false)?;
        dense.output_bias = dense.qkv_bias;
        dense.read_windows(config)?;
        dense.describe(config)
    }
}
