//! Granite: embeddings, what is added, scores of attention and scores over the vocabulary have
//! multipliers. Reference: transformers `models/granite/modeling_granite.py` and
//! `models/granite_swa/modeling_granite_swa.py`.

use serde_json::Value;

use super::Family;
use super::dense::{Defaults, Dense};
use super::rope;
use crate::error::Result;
use crate::model::description::Rope;
use crate::model::{Description, ModelJson};
use crate::ops::LogitConfig;

/// The family without mixtures of experts and state spaces.
pub(super) struct Granite;
/// The same with windows in most layers, sinks, and a base of the rotation for each layer.
pub(super) struct GraniteSwa;

const DEFAULTS: Defaults =
    Defaults { kv_heads: None, head_dim: None, positions_max: 2048, padding: None };
const SWA_DEFAULTS: Defaults =
    Defaults { kv_heads: Some(4), head_dim: None, positions_max: 8192, padding: None };
/// Where `config.json` does not say how wide windows are, and which layers have none.
const SWA_WINDOW: usize = 128;
const SWA_PATTERN: usize = 4;

impl Family for Granite {
    fn model_types(&self) -> &'static [&'static str] {
        &["granite"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        read(config, DEFAULTS)?.describe(config)
    }
}

impl Family for GraniteSwa {
    fn model_types(&self) -> &'static [&'static str] {
        &["granite_swa"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = read(config, SWA_DEFAULTS)?;
        dense.epsilon = config.positive("rms_norm_eps", 1e-5)?;
        dense.tied = config.tied(true)?;
        dense.sinks = true;
        let silent = !config.json.contains_key("sliding_window");
        let window = config.optional_size("sliding_window", 1 << 30)?;
        let sliding = dense.sliding_layers(config, |index| index % SWA_PATTERN != 0)?;
        dense.set_windows(config, &sliding, window.or(silent.then_some(SWA_WINDOW)))?;
        dense.ropes = ropes(config, &dense)?;
        dense.describe(config)
    }
}

fn read(config: &ModelJson, defaults: Defaults) -> Result<Dense> {
    let mut dense = read_multiplied(config, defaults)?;
    dense.mlp_bias = config.flag("mlp_bias", false)?;
    Ok(dense)
}

/// What those of all types have: sizes, multipliers and biases of attention.
pub(super) fn read_multiplied(config: &ModelJson, defaults: Defaults) -> Result<Dense> {
    #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
    let multiplier = |key| config.positive(key, 1.0).map(|value| value as f32);
    let mut dense = Dense::read(config, defaults)?;
    dense.qkv_bias = config.flag("attention_bias", false)?;
    dense.output_bias = dense.qkv_bias;
    dense.embedding_scale = multiplier("embedding_multiplier")?;
    dense.residual_multiplier = multiplier("residual_multiplier")?;
    dense.score_scale = Some(multiplier("attention_multiplier")?);
    dense.logits =
        LogitConfig { scale: 1.0 / multiplier("logits_scaling")?, ..LogitConfig::default() };
    Ok(dense)
}

/// The rotation of each layer; positions turn nothing where its base is zero.
fn ropes(config: &ModelJson, dense: &Dense) -> Result<Vec<Option<Rope>>> {
    const KEY: &str = "layer_rope_theta";
    let layers = dense.windows.len();
    let of_theta = |theta| {
        // What yarn stretches depends on the base, too.
        rope::read_with(config, dense.rope_context(), Some(theta))
    };
    let of_layer = |value: &Value| match value.as_f64() {
        Some(0.0) => Ok(None),
        Some(theta) if theta > 0.0 && theta.is_finite() => of_theta(theta).map(Some),
        _ => Err(config.wrong(KEY, &format!("has {value} where it has a base for each layer"))),
    };
    match config.get(KEY) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() == layers => list.iter().map(of_layer).collect(),
        Some(_) => Err(config.wrong(KEY, &format!("must be a list of {layers} numbers"))),
    }
}
