//! Qwen3 with mixtures of experts. Reference: transformers
//! `models/qwen3_moe/modeling_qwen3_moe.py`.

use serde_json::Value;

use super::Family;
use super::dense::{Defaults, Dense, QueryKeyNorms};
use super::experts::{Counts, refuse_router_loss};
use super::options::window;
use crate::error::Result;
use crate::model::description::{
    BlockDescription, ExpertStorage, ExpertsDescription, LinearDescription, RouterDescription,
    RouterWeights,
};
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Qwen3Moe;

const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(4), head_dim: None, positions_max: 32_768, padding: None };
/// Where `config.json` is silent.
const WINDOW: usize = 4096;
const EXPERTS: usize = 128;
const TOP_K: usize = 8;
const WIDTH: usize = 768;

impl Family for Qwen3Moe {
    fn model_types(&self) -> &'static [&'static str] {
        &["qwen3_moe"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = Dense::read(config, DEFAULTS)?;
        dense.qk_norms = QueryKeyNorms::Heads;
        if !config.flag("use_qk_norm", true)? {
            return Err(config.wrong("use_qk_norm", "must be true: this family has these norms"));
        }
        dense.qkv_bias = config.flag("attention_bias", false)?;
        dense.output_bias = dense.qkv_bias;
        // A window of every layer, or of none; which layers have them in Qwen3 means nothing here.
        config.get("max_window_layers");
        let used = config.flag("use_sliding_window", false)?;
        let window = window(config, WINDOW)?.filter(|_| used);
        dense.windows.fill(window);
        refuse_router_loss(config)?;
        let experts = BlockDescription::Experts(experts(config, &dense)?);
        let layers = dense.windows.len();
        dense.mixtures =
            sparse(config, layers)?.into_iter().map(|is| is.then(|| experts.clone())).collect();
        dense.describe(config)
    }
}

fn experts(config: &ModelJson, dense: &Dense) -> Result<ExpertsDescription> {
    let Counts { all, top_k } = Counts::read(config, EXPERTS, TOP_K)?;
    let width = config.optional_size("moe_intermediate_size", 1 << 20)?.unwrap_or(WIDTH);
    let weights = match config.flag("norm_topk_prob", false)? {
        true => RouterWeights::OfChosen,
        false => RouterWeights::OfAll,
    };
    let scores = LinearDescription::new("mlp.gate", [all, dense.hidden], false);
    Ok(ExpertsDescription {
        router: RouterDescription::new(scores, weights),
        top_k,
        before: None,
        module: "mlp.experts",
        count: all,
        hidden: dense.hidden,
        width,
        bias: false,
        activation: dense.activation,
        storage: ExpertStorage::USUAL,
        served_as: "mlp.experts",
        takes_mlp_names: true,
    })
}

/// Which layers have experts: every one whose number, counted from one, is a multiple of
/// `decoder_sparse_step`, but for those that `mlp_only_layers` lists.
fn sparse(config: &ModelJson, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "mlp_only_layers";
    let step = config.optional_size("decoder_sparse_step", 1 << 20)?.unwrap_or(1);
    let mut sparse: Vec<bool> = (1..=layers).map(|number| number % step == 0).collect();
    let list = match config.get(KEY) {
        None => &Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(config.wrong(KEY, "must be a list of numbers of layers")),
    };
    for value in list {
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        match number.and_then(|number| sparse.get_mut(number)) {
            Some(layer) => *layer = false,
            None => {
                return Err(config.wrong(KEY, &format!("has {value}, and there is no such layer")));
            }
        }
    }
    Ok(sparse)
}
