//! What a finished model is made into something else from: the model itself or an adapter and its
//! base, and what its lineage tells of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::open::{AdapterDirectory, base_of};
use super::past::{Past, other_weights};
use crate::adapters::Adapter;
use crate::error::Result;
use crate::files::{Digest, FileEntry};
use crate::hub::{ModelDirectory, Supply};
use crate::weights::formats::WeightFormat;

/// A model to be turned into something else.
pub struct Origin {
    /// What the user named: an adapter or a whole model.
    pub model: ModelDirectory,
    /// The adapter, if it is one, and the file with its settings as read.
    pub adapter: Option<(Arc<dyn Adapter>, FileEntry)>,
    /// The whole model: the adapter's base, or the model itself.
    pub base: ModelDirectory,
    /// What the lineage tells.
    pub past: Past,
}

impl Origin {
    /// Finds a model by name, and its base if it is an adapter; `base` takes the place of the one
    /// that the adapter names.
    pub fn find(name: &str, base: Option<&str>, supply: &Supply) -> Result<Self> {
        let model = supply.named(name)?;
        let past = Past::read(&model.path)?;
        if !model.adapter {
            return Ok(Self { base: model.clone(), model, adapter: None, past });
        }
        let (found, settings) = AdapterDirectory::read_hashed(&model.path)?;
        let base = base_of(&model, &found, base, supply)?;
        Ok(Self { model, adapter: Some((found.adapter, settings)), base, past })
    }

    /// What to say of an adapter that was trained beside weights of the base in another format than
    /// that of its files, or than the one that is used.
    pub fn other_weights(&self, used: Option<&dyn WeightFormat>) -> Option<String> {
        self.adapter.as_ref()?;
        other_weights(self.past.weight_format(), used)
    }

    /// What the run of an adapter says that the hub calls its base.
    pub fn named_base(&self) -> Option<&str> {
        self.adapter.as_ref()?;
        self.past.resolved.get("model.base_id").map(String::as_str)
    }

    /// Digests that the base's files must have, by the adapter's lineage.
    pub fn expected(&self) -> BTreeMap<String, Digest> {
        if self.adapter.is_some() { self.past.base_files.clone() } else { BTreeMap::new() }
    }
}
