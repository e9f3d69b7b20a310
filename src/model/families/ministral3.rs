//! Ministral 3: queries are scaled by their positions. Reference: transformers
//! `models/ministral3/modeling_ministral3.py`.

use super::Family;
use super::dense::{Defaults, Dense};
use super::rope::{self, RopeContext};
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Ministral3;

const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(8), head_dim: Some(128), positions_max: 262_144, padding: Some(11) };

impl Family for Ministral3 {
    fn model_types(&self) -> &'static [&'static str] {
        &["ministral3"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        read(config)?.describe(config)
    }
}

/// Reads what stands inside other checkpoints, too.
pub(super) fn read(config: &ModelJson) -> Result<Dense> {
    let mut dense = Dense::read(config, DEFAULTS)?;
    dense.epsilon = config.positive("rms_norm_eps", 1e-5)?;
    dense.windows.fill(config.optional_size("sliding_window", 1 << 30)?);
    let own = RopeContext { scales_queries: true, ..dense.rope_context() };
    let rope = rope::read(config, own)?;
    dense.ropes = vec![Some(rope); dense.windows.len()];
    Ok(dense)
}
