//! What the generations of Gemma have in common: norms before and after attention and MLP, a GELU
//! gate, and scaled embeddings that are the output projection as well; in Gemma 2 and 3 also a gain
//! of one more than the weight, and a scale of scores.

use super::dense::{Defaults, Dense, LayerNorms};
use super::options::activation;
use crate::error::Result;
use crate::model::ModelJson;
use crate::model::description::NormGain;
use crate::ops::{Activation, LogitConfig};

/// What transformers takes where `config.json` is silent.
const SCALAR: f64 = 256.0;

/// Reads what Gemma 2 and 3 have.
pub(super) fn read(config: &ModelJson, positions_max: usize) -> Result<Dense> {
    let mut dense = read_common(config, positions_max)?;
    dense.gain = NormGain::OnePlusWeight;
    #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
    let scale = config.positive("query_pre_attn_scalar", SCALAR)?.sqrt().recip() as f32;
    dense.score_scale = Some(scale);
    Ok(dense)
}

/// Reads what all of them have.
pub(super) fn read_common(config: &ModelJson, positions_max: usize) -> Result<Dense> {
    let defaults =
        Defaults { kv_heads: Some(4), head_dim: Some(256), positions_max, padding: Some(0) };
    let mut dense = Dense::read(config, defaults)?;
    let of_family = activation(config, "hidden_activation")?.unwrap_or(Activation::GeluTanh);
    if config.get("hidden_act").is_some() && dense.activation != of_family {
        return Err(config.wrong("hidden_act", "is another than `hidden_activation`"));
    }
    dense.activation = of_family;
    dense.tied = config.tied(true)?;
    dense.layer_norms = LayerNorms::Both;
    dense.qkv_bias = config.flag("attention_bias", false)?;
    dense.output_bias = dense.qkv_bias;
    dense.embedding_scale = embedding_scale(config, dense.hidden);
    Ok(dense)
}

/// The root of the hidden width, rounded to the format of the weights: with it such models were
/// trained, and transformers multiplies with it.
pub(super) fn embedding_scale(config: &ModelJson, hidden: usize) -> f32 {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // widths are small
    let scale = (hidden as f64).sqrt() as f32;
    let element = config.element();
    crate::weights::to_f32(element, &element.encode(&[scale]))[0]
}

/// A cap of scores, or none where it is null; the default where it is not there.
pub(super) fn soft_cap(config: &ModelJson, key: &str, default: Option<f64>) -> Result<Option<f32>> {
    let silent = !config.json.contains_key(key);
    match (config.get(key), default.filter(|_| silent)) {
        (None, None) => Ok(None),
        #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
        (_, default) => config.positive(key, default.unwrap_or(0.0)).map(|cap| Some(cap as f32)),
    }
}

/// What is done to scores over the vocabulary.
pub(super) fn logits(config: &ModelJson, default: Option<f64>) -> Result<LogitConfig> {
    let soft_cap = soft_cap(config, "final_logit_softcapping", default)?;
    Ok(LogitConfig { soft_cap, ..LogitConfig::default() })
}
