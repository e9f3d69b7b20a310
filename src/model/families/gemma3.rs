//! Gemma 3 as it reads text: norms of queries and keys in each head, and a window in five of six
//! layers, whose positions turn faster. Checkpoints that read images, too, hold it beside the rest.
//! Reference: transformers `models/gemma3/modeling_gemma3.py`.

use serde_json::{Value, json};

use super::Family;
use super::dense::{Dense, QueryKeyNorms};
use super::gemma;
use super::options::window;
use super::rope;
use crate::error::Result;
use crate::model::{CheckpointNames, Description, ModelJson, TIED};

/// The family.
pub(super) struct Gemma3;

/// A text model.
const TEXT: &str = "gemma3_text";
/// One that reads images, too.
const NESTED: &str = "gemma3";
const OF_IMAGES: [&str; 5] = [
    "vision_config",
    "mm_tokens_per_image",
    "boi_token_index",
    "eoi_token_index",
    "image_token_index",
];
const POSITIONS_MAX: usize = 131_072;
/// Where `config.json` does not say how wide windows are.
const WINDOW: usize = 4096;
/// Every so many layers one sees everything.
const PATTERN: usize = 6;
/// Bases of the rotation in layers that see everything, and in those with a window.
const THETAS: [f64; 2] = [1e6, 1e4];

impl Family for Gemma3 {
    fn model_types(&self) -> &'static [&'static str] {
        &[TEXT, NESTED]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        match config.model_type()? {
            NESTED => nested(config),
            _ => read(config)?.describe(config),
        }
    }
}

/// The text model inside a checkpoint that reads images, too.
fn nested(config: &ModelJson) -> Result<Description> {
    for key in OF_IMAGES {
        config.get(key); // what it asks of the rest, the rest has
    }
    let mut text = config.nested("text_config", &defaults())?;
    text.json.remove(TIED); // the whole model says it, or nothing does
    for key in ["dtype", "torch_dtype", TIED] {
        if let Some(value) = config.get(key) {
            text.json.insert(key.to_owned(), value.clone());
        }
    }
    if text.model_type()? != TEXT {
        return Err(text.wrong("model_type", &format!("must be `{TEXT}`")));
    }
    let mut dense = read(&text)?;
    if dense.logits.soft_cap.is_some() {
        // transformers has it in text models alone.
        return Err(text.wrong("final_logit_softcapping", "is not used beside images"));
    }
    dense.names = CheckpointNames::BESIDE_IMAGES;
    let description = dense.describe(&text)?;
    text.refuse_unknown()?;
    Ok(Description { model_type: NESTED.to_owned(), ..description })
}

/// What transformers takes where `text_config` is silent, which those on the hub are.
fn defaults() -> Value {
    json!({
        "model_type": TEXT, "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8,
    })
}

fn read(config: &ModelJson) -> Result<Dense> {
    let mut dense = gemma::read(config, POSITIONS_MAX)?;
    dense.qk_norms = QueryKeyNorms::Heads;
    dense.logits = gemma::logits(config, None)?;
    let pattern = config.optional_size("sliding_window_pattern", 1 << 20)?.unwrap_or(PATTERN);
    let sliding = dense.sliding_layers(config, |index| (index + 1) % pattern != 0)?;
    dense.set_windows(config, &sliding, window(config, WINDOW)?)?;
    let theta = config.positive("rope_theta", THETAS[0])?;
    let near_theta = config.positive("rope_local_base_freq", THETAS[1])?;
    let thetas = [theta, near_theta];
    dense.ropes = rope::read_of_kinds(config, dense.rope_context(), thetas)?.of_layers(&sliding);
    Ok(dense)
}
