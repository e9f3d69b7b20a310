//! Gemma 4 as it reads text: heads of another width in layers that see everything, layers that see
//! keys and values of earlier ones, inputs that each layer has of its own, and in one of them
//! experts beside the MLPs. Checkpoints hold it
//! beside what reads images and sound. References: transformers `models/gemma4/modeling_gemma4.py`
//! and, of the 12B model, `models/gemma4_unified/modeling_gemma4_unified.py`.

use serde_json::{Value, json};

use super::Family;
use super::dense::{Dense, QueryKeyNorms, counted};
use super::gemma;
use super::gemma4_experts;
use super::gemma4_layers::Layers;
use super::options::window;
use crate::error::Result;
use crate::model::description::{
    BlockDescription, LayerInputDescription, LayerInputsDescription, LinearDescription,
    NormDescription, ResidualDescription,
};
use crate::model::{CheckpointNames, Description, ModelJson, TIED};
use crate::ops::Activation;

/// The family.
pub(super) struct Gemma4;

/// What its two kinds of checkpoints differ in.
struct Kind {
    /// `model_type` of a text model.
    text: &'static str,
    /// Of one that reads more.
    nested: &'static str,
    positions_max: usize,
    window: usize,
    /// Numbers of a layer's own input, where `config.json` is silent; the kind has none without.
    inputs: Option<usize>,
    /// Whether some have mixtures of experts.
    mixtures: bool,
    /// In a checkpoint that holds more.
    names: CheckpointNames,
}

const BESIDE: CheckpointNames = CheckpointNames {
    embedding: "model.language_model.embed_tokens.weight",
    layers: "model.language_model.layers",
    norm: "model.language_model.norm",
    in_files: &[],
    others: &["vision_tower", "audio_tower", "embed_vision", "embed_audio"],
    keys_end: None,
    as_head: false,
};

const KINDS: [Kind; 2] = [
    Kind {
        text: "gemma4_text",
        nested: "gemma4",
        positions_max: 131_072,
        window: 512,
        inputs: Some(256),
        mixtures: true,
        names: BESIDE,
    },
    Kind {
        text: "gemma4_unified_text",
        nested: "gemma4_unified",
        positions_max: 262_144,
        window: 1024,
        inputs: None,
        mixtures: false,
        names: CheckpointNames {
            // Files have the first name, transformers the second.
            others: &["vision_embedder", "embed_vision", "embed_audio"],
            ..BESIDE
        },
    },
];

/// What concerns images and sound alone.
const OF_OTHERS: [&str; 11] = [
    "audio_config",
    "audio_token_id",
    "boa_token_id",
    "boi_token_id",
    "eoa_token_id",
    "eoa_token_index",
    "eoi_token_id",
    "image_token_id",
    "video_token_id",
    "vision_config",
    "vision_soft_tokens_per_image",
];

/// Every so many layers one sees everything.
const PATTERN: usize = 6;
const SIZE_MAX: usize = 1 << 20;
const INPUT_WIDTH: &str = "hidden_size_per_layer_input";

impl Family for Gemma4 {
    fn model_types(&self) -> &'static [&'static str] {
        &["gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let name = config.model_type()?;
        match KINDS.iter().find(|kind| kind.nested == name) {
            Some(kind) => nested(config, kind),
            None => {
                let kind = usize::from(KINDS[1].text == name);
                read(config, &KINDS[kind], CheckpointNames::USUAL)
            }
        }
    }
}

/// The text model inside a checkpoint that reads more.
fn nested(config: &ModelJson, kind: &Kind) -> Result<Description> {
    for key in OF_OTHERS {
        config.get(key); // what it asks of the rest, the rest has
    }
    let mut text = config.nested("text_config", &json!({"model_type": kind.text}))?;
    for key in ["dtype", "torch_dtype"] {
        if let Some(value) = config.get(key) {
            text.json.insert(key.to_owned(), value.clone());
        }
    }
    // The reference asks the whole checkpoint, and not its text model.
    text.json.insert(TIED.to_owned(), Value::Bool(config.tied(true)?));
    if text.model_type()? != kind.text {
        return Err(text.wrong("model_type", &format!("must be `{}`", kind.text)));
    }
    let description = read(&text, kind, kind.names)?;
    text.refuse_unknown()?;
    Ok(Description { model_type: kind.nested.to_owned(), ..description })
}

fn read(config: &ModelJson, kind: &Kind, names: CheckpointNames) -> Result<Description> {
    refuse(config)?;
    let mut dense = gemma::read_common(config, kind.positions_max)?;
    dense.score_scale = Some(1.0);
    dense.qk_norms = QueryKeyNorms::Heads;
    dense.logits = gemma::logits(config, None)?;
    dense.names = names;
    let mut sliding = dense.sliding_layers(config, |index| !(index + 1).is_multiple_of(PATTERN))?;
    if let Some(last) = sliding.last_mut() {
        *last = false; // whatever `layer_types` says, as the reference has it
    }
    dense.set_windows(config, &sliding, window(config, kind.window)?)?;
    let layers = Layers::read(config, &dense, sliding)?;
    dense.ropes = layers.ropes(config, &dense)?;
    let inputs = layer_inputs(config, kind, &dense)?;
    let (epsilon, bias, activation) = (dense.epsilon, dense.qkv_bias, dense.activation);
    let mut description = dense.describe(config)?;
    if layers.own < layers.heads.len() {
        description.names.keys_end = Some(layers.own);
    }
    let hidden = description.hidden;
    for (index, layer) in description.layers.iter_mut().enumerate() {
        layer.scalar = Some("layer_scalar");
        layers.arrange(index, layer, (hidden, epsilon, bias));
        if let Some(inputs) = &inputs {
            layer.residuals.push(layer_input(index, hidden, inputs, activation));
        }
    }
    description.layer_inputs = inputs;
    if kind.mixtures {
        gemma4_experts::add(config, &mut description)?;
    } else if config.flag("enable_moe_block", false)? {
        return Err(config.wrong("enable_moe_block", "must be false"));
    }
    counted(description, config)
}

/// What of the family is not there.
fn refuse(config: &ModelJson) -> Result<()> {
    match config.get("use_bidirectional_attention").map(Value::as_str) {
        None | Some(Some("vision")) => Ok(()), // between tokens of images
        Some(_) => Err(config.wrong("use_bidirectional_attention", "must be null or `vision`")),
    }
}

/// The inputs that layers have of their own.
fn layer_inputs(
    config: &ModelJson,
    kind: &Kind,
    dense: &Dense,
) -> Result<Option<LayerInputsDescription>> {
    // Checkpoints without such inputs say it, too.
    let vocabulary = config.optional_size("vocab_size_per_layer_input", 1 << 24)?;
    let Some(default) = kind.inputs else { return Ok(None) };
    let width = match config.json.get(INPUT_WIDTH) {
        None => default,
        Some(value) if value.is_null() || value.as_u64() == Some(0) => return Ok(None),
        Some(_) => config.size(INPUT_WIDTH, SIZE_MAX)?,
    };
    let hidden = dense.hidden;
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // widths are small
    let projection_scale = (hidden as f64).powf(-0.5) as f32;
    let [table, projection, norm] = match dense.names.others {
        [] => [
            "model.embed_tokens_per_layer.weight",
            "model.per_layer_model_projection",
            "model.per_layer_projection_norm",
        ],
        _ => [
            "model.language_model.embed_tokens_per_layer.weight",
            "model.language_model.per_layer_model_projection",
            "model.language_model.per_layer_projection_norm",
        ],
    };
    let all = dense.windows.len() * width;
    Ok(Some(LayerInputsDescription {
        width,
        table,
        vocabulary: vocabulary.unwrap_or(262_144),
        table_scale: gemma::embedding_scale(config, width),
        padding: dense.padding,
        projection: LinearDescription::new(projection, [all, hidden], false),
        projection_scale,
        norm: dense.norm(norm, width),
        scale: std::f32::consts::FRAC_1_SQRT_2,
    }))
}

/// The part of a layer that adds what it makes of its own input.
fn layer_input(
    layer: usize,
    hidden: usize,
    inputs: &LayerInputsDescription,
    activation: Activation,
) -> ResidualDescription {
    let width = inputs.width;
    let gate = LinearDescription::new("per_layer_input_gate", [width, hidden], false);
    let output = LinearDescription::new("per_layer_projection", [hidden, width], false);
    let after = NormDescription { name: "post_per_layer_input_norm", width: hidden, ..inputs.norm };
    let block =
        BlockDescription::LayerInput(LayerInputDescription { layer, gate, output, activation });
    ResidualDescription { before: None, block, after: Some(after), multiplier: 1.0 }
}
