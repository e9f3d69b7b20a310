//! The table of model families.

mod llama;
mod rope;

use crate::error::{Error, Result};
use crate::model::{Model, ModelJson, WeightSource};

/// A family of models: how `config.json` and weights become a [`Model`].
pub trait Family: Sync {
    /// The `model_type` values it reads.
    fn model_types(&self) -> &'static [&'static str];
    /// What it is, with the names and shapes of its linear layers, from `config.json` alone.
    fn facts(&self, config: &ModelJson) -> Result<crate::model::Facts>;
    /// Every tensor that its weights hold, with its dimensions.
    fn tensors(&self, config: &ModelJson) -> Result<Vec<(String, Vec<usize>)>>;
    /// Builds the model, taking each weight by its name.
    fn build(&self, config: &ModelJson, weights: &mut WeightSource) -> Result<Model>;
}

/// All families.
pub static FAMILIES: &[&dyn Family] = &[&llama::Llama];

/// The family of a model.
pub fn find(config: &ModelJson) -> Result<&'static dyn Family> {
    let wanted = config.model_type()?;
    let found = FAMILIES.iter().find(|family| family.model_types().contains(&wanted));
    found.copied().ok_or_else(|| {
        let known: Vec<_> =
            FAMILIES.iter().flat_map(|family| family.model_types()).copied().collect();
        let known = known.join("`, `");
        config
            .wrong("model_type", &format!("is `{wanted}`, a family that is not supported"))
            .hint(Error::new(format!("supported: `{known}`")).what)
    })
}
