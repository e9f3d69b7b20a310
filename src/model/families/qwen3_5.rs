//! Qwen3.5 and its successors of the same type as they read text: three of four layers keep a state
//! by the gated delta rule, and attention in the others has a gate. Checkpoints hold what reads
//! images beside it, and layers that guess further tokens. Reference: transformers
//! `models/qwen3_5/modeling_qwen3_5.py`.

use serde_json::{Value, json};

use super::Family;
use super::dense::{Defaults, Dense, QueryKeyNorms};
use super::rope::{self, RopeContext};
use crate::error::Result;
use crate::model::description::{
    BlockDescription, ConvolutionDescription, DeltaNetDescription, JointDescription,
    LinearDescription, NormDescription, NormGain,
};
use crate::model::{CheckpointNames, Description, ModelJson, TIED};
use crate::ops::{Activation, DeltaHeads};

/// The family.
pub(super) struct Qwen35;

/// What dense models and mixtures of experts differ in.
pub(super) struct Kind {
    /// `model_type` of a text model.
    pub text: &'static str,
    /// Of one that reads images, too.
    pub nested: &'static str,
    /// What transformers takes where `text_config` is silent.
    pub defaults: fn() -> Value,
    /// What stands in the place of the MLPs, if they are not there.
    pub mixture: fn(&ModelJson, &Dense) -> Result<Option<BlockDescription>>,
}

const DENSE: Kind =
    Kind { text: "qwen3_5_text", nested: "qwen3_5", defaults, mixture: |_, _| Ok(None) };
/// What concerns images alone.
const OF_IMAGES: [&str; 5] = [
    "vision_config",
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
];
const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(4), head_dim: Some(256), positions_max: 32_768, padding: None };
/// The share of a head that is rotated, and its key.
const PARTIAL: (&str, f64) = ("partial_rotary_factor", 0.25);
/// Every so many layers there is attention.
const INTERVAL: usize = 4;
const HEADS_MAX: usize = 1 << 14;
const WIDTH_MAX: usize = 64;

impl Family for Qwen35 {
    fn model_types(&self) -> &'static [&'static str] {
        &[DENSE.text, DENSE.nested]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        DENSE.describe(config)
    }
}

impl Kind {
    /// The description of a model of the kind.
    pub fn describe(&self, config: &ModelJson) -> Result<Description> {
        if config.model_type()? == self.nested {
            return nested(config, self);
        }
        let mut dense = read(config, self)?;
        dense.names = CheckpointNames::USUAL.beside(&["visual", "mtp"]);
        dense.describe(config)
    }
}

/// The text model inside a checkpoint that reads images, too.
fn nested(config: &ModelJson, kind: &Kind) -> Result<Description> {
    for key in OF_IMAGES {
        config.get(key); // what it asks of the rest, the rest has
    }
    let mut text = config.nested("text_config", &(kind.defaults)())?;
    for key in ["dtype", "torch_dtype"] {
        if let Some(value) = config.get(key) {
            text.json.insert(key.to_owned(), value.clone());
        }
    }
    // The reference asks the whole checkpoint, and not its text model.
    text.json.insert(TIED.to_owned(), Value::Bool(config.tied(false)?));
    if text.model_type()? != kind.text {
        return Err(text.wrong("model_type", &format!("must be `{}`", kind.text)));
    }
    let mut dense = read(&text, kind)?;
    dense.names = CheckpointNames::INSIDE.beside(&["visual", "mtp"]);
    let description = dense.describe(&text)?;
    text.refuse_unknown()?;
    Ok(Description { model_type: kind.nested.to_owned(), ..description })
}

/// What transformers takes where `text_config` is silent.
fn defaults() -> Value {
    json!({
        "model_type": DENSE.text, "vocab_size": 248_320, "hidden_size": 4096,
        "intermediate_size": 12_288, "num_hidden_layers": 32, "num_attention_heads": 16,
    })
}

fn read(config: &ModelJson, kind: &Kind) -> Result<Dense> {
    let mut dense = Dense::read(config, DEFAULTS)?;
    if dense.activation != Activation::Silu {
        return Err(config.wrong("hidden_act", "must be `silu`"));
    }
    for (key, only) in [("attn_output_gate", json!(true)), ("output_gate_type", json!("swish"))] {
        if config.get(key).is_some_and(|value| *value != only) {
            return Err(config.wrong(key, &format!("must be {only}")));
        }
    }
    // States are kept in 32 bits, whatever they are in elsewhere; guesses are not made here.
    for key in ["mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings"] {
        config.get(key);
    }
    dense.gain = NormGain::OnePlusWeight;
    dense.qk_norms = QueryKeyNorms::Heads;
    dense.gated = true;
    dense.qkv_bias = config.flag("attention_bias", false)?;
    dense.output_bias = dense.qkv_bias;
    let rope = rope::read(&of_text(config), RopeContext { partial: true, ..dense.rope_context() })?;
    for key in [PARTIAL.0, "rope_theta", "rope_parameters", "rope_scaling"] {
        config.get(key); // they were read
    }
    dense.ropes = vec![Some(rope); dense.windows.len()];
    let recurrent = recurrent_layers(config, dense.windows.len())?;
    if recurrent.contains(&true) {
        let net = BlockDescription::DeltaNet(delta_net(config, &dense)?);
        dense.mixers = recurrent.iter().map(|is| is.then(|| net.clone())).collect();
    }
    if let Some(mixture) = (kind.mixture)(config, &dense)? {
        dense.mixtures = vec![Some(mixture); dense.windows.len()];
    }
    Ok(dense)
}

/// The same with the share of a head that is rotated where nothing is said.
fn of_text(config: &ModelJson) -> ModelJson {
    let mut text = config.clone();
    let share = || Value::from(PARTIAL.1);
    text.json.entry(PARTIAL.0).or_insert_with(share);
    text
}

/// Which layers keep a state.
fn recurrent_layers(config: &ModelJson, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    let interval = config.optional_size("full_attention_interval", 1 << 20)?.unwrap_or(INTERVAL);
    let kind = |kind: &Value| match kind.as_str() {
        Some("linear_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(config.wrong(KEY, &format!("asks for `{kind}`"))),
    };
    match config.get(KEY) {
        None => Ok((1..=layers).map(|number| number % interval != 0).collect()),
        Some(Value::Array(kinds)) if kinds.len() == layers => kinds.iter().map(kind).collect(),
        Some(_) => {
            Err(config
                .wrong(KEY, &format!("must be a list with a kind for each of {layers} layers")))
        }
    }
}

fn delta_net(config: &ModelJson, dense: &Dense) -> Result<DeltaNetDescription> {
    let size = |key: &str, default: usize, max: usize| -> Result<usize> {
        Ok(config.optional_size(key, max)?.unwrap_or(default))
    };
    let heads = DeltaHeads {
        keys: size("linear_num_key_heads", 16, HEADS_MAX)?,
        key_width: size("linear_key_head_dim", 128, HEADS_MAX)?,
        values: size("linear_num_value_heads", 32, HEADS_MAX)?,
        value_width: size("linear_value_head_dim", 128, HEADS_MAX)?,
    };
    if !heads.values.is_multiple_of(heads.keys) {
        let what =
            format!("({}) must divide `linear_num_value_heads` ({})", heads.keys, heads.values);
        return Err(config.wrong("linear_num_key_heads", &what));
    }
    if !heads.value_width.is_multiple_of(2) {
        return Err(config.wrong("linear_value_head_dim", "must be even"));
    }
    let to = |name, out| LinearDescription::new(name, [out, dense.hidden], false);
    Ok(DeltaNetDescription {
        inputs: JointDescription::Separate([
            to("linear_attn.in_proj_qkv", heads.wide()),
            to("linear_attn.in_proj_z", heads.values_wide()),
            to("linear_attn.in_proj_b", heads.values),
            to("linear_attn.in_proj_a", heads.values),
        ]),
        output: LinearDescription::new(
            "linear_attn.out_proj",
            [dense.hidden, heads.values_wide()],
            false,
        ),
        convolution: ConvolutionDescription {
            name: "linear_attn.conv1d",
            channels: heads.wide(),
            width: size("linear_conv_kernel_dim", 4, WIDTH_MAX)?,
            bias: false,
        },
        a_log: "linear_attn.A_log",
        decay_bias: "linear_attn.dt_bias",
        norm: NormDescription {
            name: "linear_attn.norm",
            width: heads.value_width,
            epsilon: dense.epsilon,
            gain: NormGain::Weight,
        },
        heads,
    })
}
