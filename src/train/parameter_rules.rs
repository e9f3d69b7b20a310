//! Which parameters have a learning rate or a weight decay of their own: those of groups, and those
//! to which an adapter gives a rate.

use std::collections::BTreeMap;

use crate::adapters::{self, Adapter};
use crate::config::RunConfig;
use crate::engine::{ParameterGroups, ParameterRules};
use crate::error::Result;
use crate::model::{Description, Model};

/// Each group in a line: what it has, and how many parameters are of it.
///
/// # Errors
/// When the adapter asks for layers that the model does not have.
pub(super) fn described(
    (config, adapter): (&RunConfig, Option<&dyn Adapter>),
    description: &Description,
) -> Result<Vec<(String, u64)>> {
    let groups = ParameterGroups::read(&config.owned);
    Ok(groups.describe(&adapters::trainable_tensors(adapter, description)?))
}

/// What parameters of the model have for themselves.
///
/// # Errors
/// When the adapter asks for layers that the model does not have.
pub(super) fn of(
    (config, adapter): (&RunConfig, Option<&dyn Adapter>),
    description: &Description,
    model: &mut Model,
) -> Result<ParameterRules> {
    let ratios = match adapter {
        Some(adapter) => adapters::rate_ratios(adapter, description)?,
        None => BTreeMap::new(),
    };
    let groups = ParameterGroups::read(&config.owned);
    Ok(groups.rules(model, config.train.learning_rate, ratios))
}
