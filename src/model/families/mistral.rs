//! Mistral: a window in every layer, or in none. Reference: transformers
//! `models/mistral/modeling_mistral.py`.

use super::Family;
use super::dense::{Defaults, Dense};
use super::options::window;
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Mistral;

const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(8), head_dim: None, positions_max: 131_072, padding: None };
/// Where `config.json` does not say that there is none.
const WINDOW: usize = 4096;

impl Family for Mistral {
    fn model_types(&self) -> &'static [&'static str] {
        &["mistral"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        read(config)?.describe(config)
    }
}

/// Reads what stands inside other checkpoints, too.
pub(super) fn read(config: &ModelJson) -> Result<Dense> {
    let mut dense = Dense::read(config, DEFAULTS)?;
    dense.windows.fill(window(config, WINDOW)?);
    Ok(dense)
}
