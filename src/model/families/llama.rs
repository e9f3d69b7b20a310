//! Llama. Reference: transformers `models/llama/modeling_llama.py`.

use super::Family;
use super::dense::{Defaults, Dense};
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Llama;

const DEFAULTS: Defaults =
    Defaults { kv_heads: None, head_dim: None, positions_max: 2048, padding: None };

impl Family for Llama {
    fn model_types(&self) -> &'static [&'static str] {
        &["llama"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = Dense::read(config, DEFAULTS)?;
        // Falcon 3 says what all of these are beside `hidden_act`.
        if config.get("activation").is_some_and(|name| name != "swiglu") {
            return Err(config.wrong("activation", "must be `swiglu`"));
        }
        dense.qkv_bias = config.flag("attention_bias", false)?;
        dense.output_bias = dense.qkv_bias;
        dense.mlp_bias = config.flag("mlp_bias", false)?;
        dense.describe(config)
    }
}
