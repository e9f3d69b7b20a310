//! SmolLM3: positions turn nothing in some layers. Reference: transformers
//! `models/smollm3/modeling_smollm3.py`.

use serde_json::Value;

use super::Family;
use super::dense::{Defaults, Dense};
use super::rope::{self, RopeContext};
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct SmolLm3;

const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(4), head_dim: None, positions_max: 32_768, padding: Some(128_004) };
const THETA: f64 = 2e6;
/// Every so many layers positions turn nothing.
const INTERVAL: usize = 4;

impl Family for SmolLm3 {
    fn model_types(&self) -> &'static [&'static str] {
        &["smollm3"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = Dense::read(config, DEFAULTS)?;
        dense.tied = config.tied(true)?;
        dense.qkv_bias = config.flag("attention_bias", false)?;
        dense.output_bias = dense.qkv_bias;
        dense.mlp_bias = config.flag("mlp_bias", false)?;
        let turning = turning_layers(config, dense.windows.len())?;
        let used = config.flag("use_sliding_window", false)?;
        config.get("max_window_layers"); // the reference writes it, and asks nothing of it
        let window = config.optional_size("sliding_window", 1 << 30)?.filter(|_| used);
        let default = |index: usize| window.is_some() && !turning[index];
        let sliding = dense.sliding_layers(config, default)?;
        dense.set_windows(config, &sliding, window)?;
        let rope = rope::read(config, RopeContext { theta: THETA, ..dense.rope_context() })?;
        dense.ropes = turning.iter().map(|turns| turns.then(|| rope.clone())).collect();
        dense.describe(config)
    }
}

/// In which layers positions turn queries and keys.
fn turning_layers(config: &ModelJson, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "no_rope_layers";
    let interval = config.optional_size("no_rope_layer_interval", 1 << 20)?.unwrap_or(INTERVAL);
    let flag = |value: &Value| match value.as_u64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(config.wrong(KEY, &format!("has {value} where it has 0 or 1 for each layer"))),
    };
    match config.get(KEY) {
        None => Ok((1..=layers).map(|number| number % interval != 0).collect()),
        Some(Value::Array(list)) if list.len() >= layers => {
            list.iter().take(layers).map(flag).collect()
        }
        Some(_) => Err(config.wrong(KEY, &format!("must be a list of {layers} numbers or more"))),
    }
}
