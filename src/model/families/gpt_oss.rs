//! gpt-oss: sinks, a window in every second layer, biases everywhere, experts with clamped gates.
//! Reference: transformers `models/gpt_oss/modeling_gpt_oss.py`.

use serde_json::{Map, Value, json};

use super::Family;
use super::dense::{Defaults, Dense};
use super::experts::{Counts, refuse_router_loss};
use super::options::window;
use super::rope::{self, RopeContext};
use crate::error::Result;
use crate::model::description::{
    BlockDescription, ExpertStorage, ExpertsDescription, LinearDescription, RouterDescription,
    RouterWeights,
};
use crate::model::{Description, ModelJson};
use crate::ops::Activation;
use crate::weights::mxfp4::BLOCK;

/// The family.
pub(super) struct GptOss;

const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(8), head_dim: Some(64), positions_max: 131_072, padding: None };
/// Where `config.json` is silent.
const WINDOW: usize = 128;
const EXPERTS: usize = 128;
const TOP_K: usize = 4;
const THETA: f64 = 150_000.0;

impl Family for GptOss {
    fn model_types(&self) -> &'static [&'static str] {
        &["gpt_oss"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = Dense::read(config, DEFAULTS)?;
        dense.epsilon = config.positive("rms_norm_eps", 1e-5)?;
        dense.qkv_bias = config.flag("attention_bias", true)?;
        dense.output_bias = dense.qkv_bias;
        dense.sinks = true;
        let sliding = dense.sliding_layers(config, |index| index % 2 == 0)?;
        dense.set_windows(config, &sliding, window(config, WINDOW)?)?;
        let context = RopeContext { theta: THETA, ..dense.rope_context() };
        let rope = rope::read(&with_rope(config), context)?;
        dense.ropes = vec![Some(rope); dense.windows.len()];
        // Of the program that the model was published with; rotations say it themselves.
        config.get("initial_context_length");
        refuse_router_loss(config)?;
        let experts = BlockDescription::Experts(experts(config, &dense)?);
        dense.mixtures = vec![Some(experts); dense.windows.len()];
        dense.describe(config)
    }
}

/// The configuration, with the rotation that transformers takes where it is silent.
fn with_rope(config: &ModelJson) -> ModelJson {
    let mut config = config.clone();
    let scaling = config.get("rope_scaling").and_then(Value::as_object);
    if config.get("rope_parameters").is_none() && scaling.is_none_or(Map::is_empty) {
        let default = json!({
            "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
            "truncate": false, "original_max_position_embeddings": 4096,
        });
        config.json.insert("rope_scaling".to_owned(), default);
    }
    config
}

/// What `quantization_config` says of the experts' matrices: other methods are refused before.
fn storage(config: &ModelJson, dense: &Dense) -> Result<ExpertStorage> {
    if config.get("quantization_config").is_none() {
        return Ok(ExpertStorage::Alternating);
    }
    for (key, size) in [("hidden_size", dense.hidden), ("intermediate_size", dense.intermediate)] {
        if size % BLOCK != 0 {
            let what = format!("is {size}, and MXFP4 has blocks of {BLOCK} numbers");
            return Err(config.wrong(key, &what));
        }
    }
    Ok(ExpertStorage::Mxfp4)
}

fn experts(config: &ModelJson, dense: &Dense) -> Result<ExpertsDescription> {
    const OLDER: &str = "experts_per_token";
    let Counts { all, top_k } = Counts::read(config, EXPERTS, TOP_K)?;
    if config.optional_size(OLDER, 1 << 20)?.is_some_and(|older| older != top_k) {
        return Err(config.wrong(OLDER, "is another number than `num_experts_per_tok`"));
    }
    #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
    let number = |key, default| config.positive(key, default).map(|value| value as f32);
    let scores = LinearDescription::new("mlp.router", [all, dense.hidden], true);
    Ok(ExpertsDescription {
        router: RouterDescription::new(scores, RouterWeights::OfChosen),
        top_k,
        before: None,
        module: "mlp.experts",
        count: all,
        hidden: dense.hidden,
        width: dense.intermediate,
        bias: true,
        activation: Activation::Clamped {
            alpha: number("swiglu_alpha", 1.702)?,
            limit: number("swiglu_limit", 7.0)?,
        },
        storage: storage(config, dense)?,
        served_as: "mlp.experts",
        takes_mlp_names: false,
    })
}
