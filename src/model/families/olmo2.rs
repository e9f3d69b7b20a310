//! OLMo 2: norms of what attention and MLP give and none of what they take, and norms of all heads
//! of queries and of keys at once. Reference: transformers `models/olmo2/modeling_olmo2.py`.

use super::Family;
use super::dense::{Defaults, Dense, LayerNorms, QueryKeyNorms};
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Olmo2;

const DEFAULTS: Defaults =
    Defaults { kv_heads: None, head_dim: None, positions_max: 2048, padding: Some(1) };

impl Family for Olmo2 {
    fn model_types(&self) -> &'static [&'static str] {
        &["olmo2"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        read(config)?.describe(config)
    }
}

/// Reads what OLMo 3 has, too.
pub(super) fn read(config: &ModelJson) -> Result<Dense> {
    let mut dense = Dense::read(config, DEFAULTS)?;
    dense.epsilon = config.positive("rms_norm_eps", 1e-5)?;
    dense.layer_norms = LayerNorms::After;
    dense.qk_norms = QueryKeyNorms::Whole;
    dense.qkv_bias = config.flag("attention_bias", false)?;
    dense.output_bias = dense.qkv_bias;
    Ok(dense)
}
