//! Mistral Small 3.1 and Ministral 3 as they read text: a model of another family inside a
//! checkpoint that reads images, too. Reference: transformers
//! `models/mistral3/modeling_mistral3.py`.

use serde_json::{Value, json};

use super::Family;
use super::{ministral3, mistral};
use crate::error::Result;
use crate::model::{CheckpointNames, Description, ModelJson, TIED};

/// The family.
pub(super) struct Mistral3;

const NAME: &str = "mistral3";
/// What concerns images alone.
const OF_IMAGES: [&str; 6] = [
    "image_token_index",
    "multimodal_projector_bias",
    "projector_hidden_act",
    "spatial_merge_size",
    "vision_config",
    "vision_feature_layer",
];

impl Family for Mistral3 {
    fn model_types(&self) -> &'static [&'static str] {
        &[NAME]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        for key in OF_IMAGES {
            config.get(key); // what it asks of the rest, the rest has
        }
        let mut text = config.nested("text_config", &json!({"model_type": "mistral"}))?;
        for key in ["dtype", "torch_dtype"] {
            if let Some(value) = config.get(key) {
                text.json.insert(key.to_owned(), value.clone());
            }
        }
        // The reference asks the whole checkpoint, and not its text model.
        text.json.insert(TIED.to_owned(), Value::Bool(config.tied(true)?));
        let mut dense = match text.model_type()? {
            "mistral" => mistral::read(&text)?,
            "ministral3" => ministral3::read(&text)?,
            _ => return Err(text.wrong("model_type", "must be `mistral` or `ministral3`")),
        };
        dense.names = CheckpointNames::BESIDE_IMAGES;
        let description = dense.describe(&text)?;
        text.refuse_unknown()?;
        Ok(Description { model_type: NAME.to_owned(), ..description })
    }
}
