//! Which parameters have a learning rate or a weight decay of their own: those of groups, and those
//! to which an adapter gives a rate.

use std::collections::BTreeMap;

use super::prepare::Prepared;
use crate::adapters;
use crate::engine::{ParameterGroups, ParameterRules};
use crate::error::Result;
use crate::model::Model;

/// Each group in a line: what it has, and how many parameters are of it.
///
/// # Errors
/// When the adapter asks for layers that the model does not have.
pub(super) fn described(prepared: &Prepared) -> Result<Vec<(String, u64)>> {
    let groups = ParameterGroups::read(&prepared.config.owned);
    let adapter = prepared.adapter.as_deref();
    Ok(groups.describe(&adapters::trainable_tensors(adapter, &prepared.description)?))
}

/// What parameters of the model have for themselves.
///
/// # Errors
/// When the adapter asks for layers that the model does not have.
pub(super) fn of(prepared: &Prepared, model: &mut Model) -> Result<ParameterRules> {
    let ratios = match &prepared.adapter {
        Some(adapter) => adapters::rate_ratios(adapter.as_ref(), &prepared.description)?,
        None => BTreeMap::new(),
    };
    let groups = ParameterGroups::read(&prepared.config.owned);
    Ok(groups.rules(model, prepared.config.train.learning_rate, ratios))
}
