//! LFM2 and LFM2.5: short convolutions between gates in most layers, and attention with norms of
//! queries and keys in the others. Reference: transformers `models/lfm2/modeling_lfm2.py`.

use serde_json::{Value, json};

use super::Family;
use super::dense::{Defaults, Dense, QueryKeyNorms};
use super::rope::{self, RopeContext};
use crate::error::Result;
use crate::model::description::{
    BlockDescription, ConvolutionDescription, Description, JointDescription, LinearDescription,
    ShortConvDescription,
};
use crate::model::{CheckpointNames, ModelJson, TIED};

/// The family.
pub(super) struct Lfm2;

const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(8), head_dim: None, positions_max: 128_000, padding: Some(0) };
const THETA: f64 = 1e6;
const WIDTH_MAX: usize = 64;
const SIZE_MAX: usize = 1 << 20;
/// Module names of other families, and what they are here.
pub(super) const NAMES: [(&str, &str); 8] = [
    ("input_layernorm", "operator_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_norm", "self_attn.q_layernorm"),
    ("self_attn.k_norm", "self_attn.k_layernorm"),
    ("self_attn.o_proj", "self_attn.out_proj"),
    ("mlp.gate_proj", "feed_forward.w1"),
    ("mlp.up_proj", "feed_forward.w3"),
    ("mlp.down_proj", "feed_forward.w2"),
];
/// Settings of checkpoints that say again what others say, or how weights were drawn.
pub(super) const SAID_AGAIN: [&str; 9] = [
    "hidden_act",
    "block_mlp_init_scale",
    "block_norm_eps",
    "block_out_init_scale",
    "block_use_xavier_init",
    "conv_use_xavier_init",
    "num_heads",
    "theta",
    "full_attn_idxs",
];

impl Family for Lfm2 {
    fn model_types(&self) -> &'static [&'static str] {
        &["lfm2"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let config = &renamed(config)?;
        let dense = read(config)?;
        Ok(dense.describe(config)?.renamed(&NAMES))
    }
}

/// What all models of the kind have, of settings that have the names of other families.
pub(super) fn read(config: &ModelJson) -> Result<Dense> {
    let mut dense = Dense::read(config, DEFAULTS)?;
    dense.names = CheckpointNames { norm: "model.embedding_norm", ..CheckpointNames::USUAL };
    dense.qk_norms = QueryKeyNorms::Heads;
    let rope = rope::read(config, RopeContext { theta: THETA, ..dense.rope_context() })?;
    dense.ropes = vec![Some(rope); dense.windows.len()];
    let conv = BlockDescription::ShortConv(short_conv(config, dense.hidden)?);
    let convolved = convolved_layers(config, dense.windows.len())?;
    dense.mixers = convolved.iter().map(|is| is.then(|| conv.clone())).collect();
    Ok(dense)
}

/// With settings under the names that they have in other families.
fn renamed(config: &ModelJson) -> Result<ModelJson> {
    let mut own = config.clone();
    for key in SAID_AGAIN {
        config.get(key);
    }
    let mut put = |key: &str, value: Value| own.json.insert(key.to_owned(), value);
    put(TIED, json!(tied(config)?));
    // Whatever the file says: `Lfm2MLP` has no other.
    put("hidden_act", json!("silu"));
    put("rms_norm_eps", json!(config.positive("norm_eps", 1e-5)?));
    put("intermediate_size", json!(intermediate_size(config)?));
    for key in ["block_use_swiglu", "use_pos_enc"] {
        if !config.flag(key, true)? {
            return Err(config.wrong(key, "must be true"));
        }
    }
    let hidden = config.size("hidden_size", SIZE_MAX)?;
    for key in ["block_dim", "conv_dim", "conv_dim_out"] {
        if config.optional_size(key, SIZE_MAX)?.is_some_and(|size| size != hidden) {
            return Err(config.wrong(key, "must be `hidden_size`"));
        }
    }
    Ok(own)
}

/// Whether the output projection is the embedding: the older name wins, as in the reference.
pub(super) fn tied(config: &ModelJson) -> Result<bool> {
    match config.get("tie_embedding") {
        Some(_) => config.flag("tie_embedding", true),
        None => config.tied(true),
    }
}

/// The width of the MLP.
fn intermediate_size(config: &ModelJson) -> Result<usize> {
    let older = config.optional_size("block_ff_dim", SIZE_MAX)?;
    let written = config.optional_size("intermediate_size", SIZE_MAX)?;
    let size = older.or(written).unwrap_or(12_288);
    let multiplier = config.get("block_ffn_dim_multiplier").is_some();
    let factor = config.positive("block_ffn_dim_multiplier", 1.0)?;
    let multiple = config.optional_size("block_multiple_of", SIZE_MAX)?.unwrap_or(256);
    if !config.flag("block_auto_adjust_ff_dim", true)? {
        return Ok(size);
    }
    let silent = !config.json.contains_key("block_ffn_dim_multiplier");
    let size = 2 * size / 3;
    if !(multiplier || silent) {
        return Ok(size); // null turns the rest off
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // widths are small
    #[expect(clippy::cast_sign_loss)]
    let size = (factor * size as f64) as usize;
    Ok(size.next_multiple_of(multiple))
}

/// Which layers have a convolution.
fn convolved_layers(config: &ModelJson, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    let kind = |kind: &Value| match kind.as_str() {
        Some("conv") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(config.wrong(KEY, &format!("asks for `{kind}`"))),
    };
    match (config.get(KEY), config.get("full_attn_idxs")) {
        (Some(Value::Array(kinds)), _) if kinds.len() == layers => kinds.iter().map(kind).collect(),
        (Some(_), _) => {
            Err(config
                .wrong(KEY, &format!("must be a list with a kind for each of {layers} layers")))
        }
        (None, None) => Ok(vec![false; layers]),
        (None, Some(Value::Array(list))) => {
            let attends = |index: usize| list.iter().any(|one| one.as_u64() == Some(index as u64));
            Ok((0..layers).map(|index| !attends(index)).collect())
        }
        (None, Some(_)) => Err(config.wrong("full_attn_idxs", "must be a list of layers")),
    }
}

fn short_conv(config: &ModelJson, hidden: usize) -> Result<ShortConvDescription> {
    let bias = config.flag("conv_bias", false)?;
    let width = config.optional_size("conv_L_cache", WIDTH_MAX)?.unwrap_or(3);
    let inputs = LinearDescription::new("conv.in_proj", [3 * hidden, hidden], bias);
    Ok(ShortConvDescription {
        inputs: JointDescription::Fused(inputs, [hidden; 3]),
        output: LinearDescription::new("conv.out_proj", [hidden; 2], bias),
        convolution: ConvolutionDescription { name: "conv.conv", channels: hidden, width, bias },
    })
}
