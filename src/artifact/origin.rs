//! What a finished model is made into something else from: the model itself or an adapter and its
//! base, and what its lineage tells of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::adapter_directory::AdapterDirectory;
use super::open::base_of;
use super::past::{Past, other_weights};
use super::stack::{self, Stack};
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
    /// The whole model: the adapter's base, with the adapters below it, or the model itself.
    pub base: ModelDirectory,
    /// What the base is made of, if adapters are merged into it.
    pub stack: Option<Stack>,
    /// What the lineage tells.
    pub past: Past,
}

impl Origin {
    /// Finds a model by name, and its base if it is an adapter; `base` takes the place of the one
    /// that the adapter names.
    pub fn find(name: &str, base: Option<&str>, supply: &Supply) -> Result<Self> {
        let origin = Self::beside_base(name, base, supply)?;
        if origin.adapter.is_none() {
            return Ok(origin);
        }
        match stack::of_adapter(&origin.model, &origin.past, &origin.base, supply)? {
            Some(stack) => Ok(Self { base: stack.merged(supply)?, stack: Some(stack), ..origin }),
            None => Ok(origin),
        }
    }

    /// The same beside the base alone, whatever the adapter stands on besides.
    pub fn beside_base(name: &str, base: Option<&str>, supply: &Supply) -> Result<Self> {
        let model = supply.named(name)?;
        let past = Past::read(&model.path)?;
        if !model.adapter {
            return Ok(Self { base: model.clone(), model, adapter: None, stack: None, past });
        }
        let (found, settings) = AdapterDirectory::read_hashed(&model.path)?;
        let base = base_of(&model, &found, base, supply)?;
        Ok(Self { model, adapter: Some((found.adapter, settings)), base, stack: None, past })
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

    /// What is said of the base, if that is the one which people name: without adapters below.
    pub fn if_plain<T>(&self, of_base: Option<T>) -> Option<T> {
        of_base.filter(|_| self.stack.is_none())
    }

    /// Digests that the base's files must have, by the adapter's lineage. Those of a base with
    /// adapters below were compared when it was made of them.
    pub fn expected(&self) -> BTreeMap<String, Digest> {
        if self.adapter.is_some() && self.stack.is_none() {
            self.past.base_files.clone()
        } else {
            BTreeMap::new()
        }
    }
}
