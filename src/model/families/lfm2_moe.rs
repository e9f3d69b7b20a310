//! LFM2 with mixtures of experts in all layers but the first ones: experts are chosen by sigmoids
//! of their scores and a number of each that nothing trains. Reference: transformers
//! `models/lfm2_moe/modeling_lfm2_moe.py`.

use serde_json::{Value, json};

use super::Family;
use super::dense::Dense;
use super::experts::{Counts, refuse_router_loss};
use super::lfm2;
use crate::error::Result;
use crate::model::description::{
    BlockDescription, Description, ExpertStorage, ExpertsDescription, LinearDescription,
    RouterDescription, RouterWeights,
};
use crate::model::{ModelJson, TIED};

/// The family.
pub(super) struct Lfm2Moe;

/// Where `config.json` is silent.
const EXPERTS: usize = 32;
const TOP_K: usize = 4;
const WIDTH: usize = 1792;
const DENSE_WIDTH: usize = 7168;
const DENSE_LAYERS: usize = 2;
const SIZE_MAX: usize = 1 << 20;

impl Family for Lfm2Moe {
    fn model_types(&self) -> &'static [&'static str] {
        &["lfm2_moe"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let config = &renamed(config)?;
        let mut dense = lfm2::read(config)?;
        let experts = BlockDescription::Experts(experts(config, &dense)?);
        let dense_layers = dense_layers(config)?;
        let mixture = |layer| (layer >= dense_layers).then(|| experts.clone());
        dense.mixtures = (0..dense.windows.len()).map(mixture).collect();
        Ok(dense.describe(config)?.renamed(&lfm2::NAMES))
    }
}

/// With settings under the names that they have in other families.
fn renamed(config: &ModelJson) -> Result<ModelJson> {
    if config.get("layer_types").is_none() {
        return Err(config.wrong("layer_types", "is missing"));
    }
    for key in lfm2::SAID_AGAIN {
        config.get(key);
    }
    let mut own = config.clone();
    let mut put = |key: &str, value: Value| own.json.insert(key.to_owned(), value);
    put(TIED, json!(lfm2::tied(config)?));
    put("hidden_act", json!("silu")); // whatever the file says, as in LFM2
    put("rms_norm_eps", json!(config.positive("norm_eps", 1e-5)?));
    let width = config.optional_size("intermediate_size", SIZE_MAX)?.unwrap_or(DENSE_WIDTH);
    put("intermediate_size", json!(width));
    Ok(own)
}

/// The first layers, which have an MLP.
fn dense_layers(config: &ModelJson) -> Result<usize> {
    const KEY: &str = "num_dense_layers";
    match config.get(KEY) {
        None => Ok(DENSE_LAYERS),
        Some(value) => value
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| config.wrong(KEY, "must be a number of layers")),
    }
}

fn experts(config: &ModelJson, dense: &Dense) -> Result<ExpertsDescription> {
    refuse_router_loss(config)?;
    let Counts { all, top_k } = Counts::read(config, EXPERTS, TOP_K)?;
    #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
    let factor = config.positive("routed_scaling_factor", 1.0)? as f32;
    let normalised = config.flag("norm_topk_prob", true)?;
    let bias = config.flag("use_expert_bias", true)?;
    let scores = LinearDescription::new("feed_forward.gate", [all, dense.hidden], false);
    Ok(ExpertsDescription {
        router: RouterDescription {
            choice_bias: bias.then_some("feed_forward.expert_bias"),
            ..RouterDescription::new(scores, RouterWeights::Sigmoid { normalised, factor })
        },
        top_k,
        before: None,
        module: "feed_forward.experts",
        count: all,
        hidden: dense.hidden,
        width: config.optional_size("moe_intermediate_size", SIZE_MAX)?.unwrap_or(WIDTH),
        bias: false,
        activation: dense.activation,
        storage: ExpertStorage::Separate(["w1", "w3", "w2"]),
        served_as: "feed_forward.experts",
        takes_mlp_names: false,
    })
}
