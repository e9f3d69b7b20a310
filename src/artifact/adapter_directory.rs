//! A directory with an adapter as PEFT saves it: its settings, and weights that fit them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::peft;
use crate::adapters::{self, Adapter, LoraSettings};
use crate::error::{Error, Result};
use crate::files::{FileEntry, read_json_hashed};
use crate::model::Description;
use crate::model::description::stack_shapes;
use crate::weights::{Shard, ShardStream, TensorPlace};

/// How the names of matrices end that have a row for each token.
const TABLES: [&str; 2] = [".embed_tokens.weight", ".lm_head.weight"];
/// Largest `adapter_config.json` that is read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The settings of an adapter directory.
#[derive(Debug, Clone)]
pub struct AdapterDirectory {
    /// Where the base model is, as the adapter names it.
    pub base: String,
    /// Its commit, if it is on a hub.
    pub revision: Option<String>,
    /// The adapter, without its weights.
    pub adapter: Arc<dyn Adapter>,
}

impl AdapterDirectory {
    /// Reads `adapter_config.json`, and the digest of the bytes that were read.
    ///
    /// # Errors
    /// When it is broken, or an adapter of a kind that is not supported.
    pub fn read_hashed(directory: &Path) -> Result<(Self, FileEntry)> {
        let path = directory.join(peft::CONFIG_FILE);
        let (json, entry) = read_json_hashed(&path, peft::CONFIG_FILE, CONFIG_BYTES_MAX)?;
        let mut found = Self::parse(&json).map_err(|error| error.at(&path))?;
        if let Some(rows) = saved_rows(directory, found.adapter.as_ref()) {
            let settings = found.adapter.settings();
            let vocabulary = settings.vocabulary.max(Some(rows));
            let settings = LoraSettings { vocabulary, ..settings.clone() };
            found.adapter = found.adapter.with_settings(settings);
        }
        Ok((found, entry))
    }

    fn parse(json: &Value) -> Result<Self> {
        let mut settings = json.as_object().cloned().unwrap_or_default();
        let saved = settings.get_mut("modules_to_save").and_then(Value::as_array_mut);
        if let (Some(saved), true) = (saved, json["task_type"] == peft::CLASSIFIES) {
            // The head, which every model has that scores labels.
            saved.retain(|name| !peft::CLASSIFIER_MODULES.iter().any(|own| name == own));
        }
        let adapter = adapters::of_peft(&settings)?;
        let base = json["base_model_name_or_path"].as_str();
        Ok(Self {
            revision: json["revision"].as_str().map(str::to_owned),
            base: base
                .ok_or_else(|| Error::adapter("`base_model_name_or_path` is missing"))?
                .to_owned(),
            adapter,
        })
    }
}

/// Rows of the matrices that an adapter is saved with whole, by the header of its file; what is
/// wrong with that is told when it is read.
fn saved_rows(directory: &Path, adapter: &dyn Adapter) -> Option<usize> {
    if adapter.modules_to_save().is_empty() {
        return None;
    }
    let shard = ShardStream::open(directory, peft::WEIGHTS_FILE).ok()?;
    let is_table = |place: &&TensorPlace| TABLES.iter().any(|end| place.name.ends_with(end));
    shard.places().iter().filter(is_table).filter_map(|place| place.shape.first().copied()).max()
}

/// Reads the weights of an adapter, which must be those that its settings and its base make.
///
/// # Errors
/// When they are others, or not finite.
pub fn read_weights(
    directory: &Path,
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<Shard> {
    let fits = |places: &[TensorPlace]| fits(description, adapter, places);
    let shard = Shard::read_if(directory, peft::WEIGHTS_FILE, fits)?;
    shard.refuse_not_finite().map_err(|error| error.at(directory))?;
    if let Some([copy, of]) = adapters::tied_copy(adapter, description) {
        let tensors = shard.tensors()?;
        let bytes = |name: &str| tensors.iter().find(|it| it.name == name).map(|it| it.bytes);
        if bytes(&copy) != bytes(&of) {
            return Err(adapters::not_tied().at(directory));
        }
    }
    Ok(shard)
}

/// Whether the tensors of an adapter's file are those that its settings and its base make. Nothing
/// is made of the settings' rank before this was asked.
fn fits(description: &Description, adapter: &dyn Adapter, places: &[TensorPlace]) -> Result<()> {
    let mut expected: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (path, dims) in adapter.layers(description)? {
        let of_layer = adapter.tensors(&path, dims).into_iter();
        expected.extend(of_layer.map(|(name, shape)| (adapters::file_name(&path, name), shape)));
    }
    stack_shapes(&adapter.stacked(description), &mut expected);
    expected.extend(adapters::saved_in_files(adapter, description)?);
    if let Some([copy, _]) = adapters::tied_copy(adapter, description) {
        if !places.iter().any(|place| place.name == copy) {
            return Err(adapters::not_tied());
        }
        expected.insert(copy, vec![description.vocabulary, description.hidden]);
    }
    let is_copy = |place: &&TensorPlace| adapters::is_copy_of_table(&place.name, description);
    for place in places.iter().filter(|place| !is_copy(place)) {
        let (name, found) = (&place.name, &place.shape);
        let Some(wanted) = expected.remove(name) else {
            return Err(Error::weights(format!("the model has no place for the tensor `{name}`")));
        };
        if *found != wanted {
            let what = format!("tensor `{name}` has shape {found:?}");
            let settings = adapter.describe();
            return Err(Error::adapter(format!("{what}, but {wanted:?} is expected"))
                .because(format!("the base and the adapter's settings ({settings}) make it so")));
        }
    }
    match expected.keys().next() {
        None => Ok(()),
        Some(name) => Err(Error::weights(format!("tensor `{name}` is missing"))),
    }
}
