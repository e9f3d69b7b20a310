//! The table of model families.

mod dense;
mod experts;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma4;
mod gemma4_experts;
mod gemma4_layers;
mod gpt_oss;
mod granite;
mod granite_hybrid;
mod lfm2;
mod lfm2_moe;
mod llama;
mod ministral3;
mod mistral;
mod mistral3;
mod olmo2;
mod olmo3;
mod options;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_5;
mod qwen3_5_moe;
mod qwen3_moe;
mod rope;
mod smollm3;

use crate::error::{Error, Result};
use crate::model::{Description, ModelJson};

/// A family of models: what `config.json` says that they are made of. It holds no arithmetic.
pub trait Family: Sync {
    /// The `model_type` values it reads.
    fn model_types(&self) -> &'static [&'static str];
    /// Blocks with their options, and the names and shapes of weights.
    fn describe(&self, config: &ModelJson) -> Result<Description>;
}

/// All families.
pub static FAMILIES: &[&dyn Family] = &[
    &gemma2::Gemma2,
    &gemma3::Gemma3,
    &gpt_oss::GptOss,
    &gemma4::Gemma4,
    &granite::Granite,
    &granite::GraniteSwa,
    &granite_hybrid::GraniteHybrid,
    &lfm2::Lfm2,
    &lfm2_moe::Lfm2Moe,
    &llama::Llama,
    &ministral3::Ministral3,
    &mistral::Mistral,
    &mistral3::Mistral3,
    &olmo2::Olmo2,
    &olmo3::Olmo3,
    &phi3::Phi3,
    &qwen2::Qwen2,
    &qwen3::Qwen3,
    &qwen3_moe::Qwen3Moe,
    &qwen3_5::Qwen35,
    &qwen3_5_moe::Qwen35Moe,
    &smollm3::SmolLm3,
];

/// What a model is made of.
///
/// # Errors
/// Names the key that is missing, wrong, or asks for something that is not understood.
pub fn describe(config: &ModelJson) -> Result<Description> {
    let description = find(config)?.describe(config)?;
    config.refuse_unknown()?;
    let Some(labels) = config.labels()? else { return Ok(description) };
    if description.names.is_whole() {
        return Ok(description.scoring(labels));
    }
    Err(Error::model("a model that holds more than a text model cannot score labels")
        .because(format!("it is of the family `{}`", description.model_type))
        .hint("take a base that is a text model alone"))
}

/// The `model_type` of every model that can be described.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.model_types()).copied()
}

fn find(config: &ModelJson) -> Result<&'static dyn Family> {
    let wanted = config.model_type()?;
    let found = FAMILIES.iter().find(|family| family.model_types().contains(&wanted));
    found.copied().ok_or_else(|| {
        let known = model_types().collect::<Vec<_>>().join("`, `");
        let error =
            config.wrong("model_type", &format!("is `{wanted}`, a family that is not supported"));
        let error = match config.own_code() {
            Some(_) => error
                .because("the model brings a program of its own (`auto_map`), which is never run"),
            None => error,
        };
        error.hint(format!("supported: `{known}`"))
    })
}
