//! Trainable parameters: adapters beside frozen weights, or, without one, every weight.
//!
//! A kind of adapter is one file here and one line in [`ADAPTERS`]. Checkpoints, estimates, merges,
//! exports, lineage and model cards ask the entry; none of them knows a kind.

mod attach;
mod dora;
mod lora;
mod file_names;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Device;
use serde_json::{Map, Value};

pub use attach::{attach, publish, put_back, unfreeze_all};
pub use dora::Dora;
pub use file_names::{adapter_file_name, file_name, file_name_of, is_adapter, layer_of};
pub use lora::expression as module_pattern;
pub use lora::{
    EMBEDDING_FACTORS, FactoredTable, LoraBias, Replaced, ReplacedRows, changed_tables,
    embedding_change, factored_tables, in_order_of, is_copy_of_table, names_in_files, not_tied,
    peft_token_indices, resized, saved_names, tied_copy, whole_weights,
};
pub use lora::{InitLoraWeights, LayerSettings, Lora, LoraSettings, ModulePatterns, TargetModules};

use crate::config::RunConfig;
use crate::data::BaseTokenizer;
use crate::document::key::OwnedKeys;
use crate::error::{Error, Result};
use crate::model::description::{StackedTensor, TrainedLinear};
use crate::model::{AdapterBranch, Description, Linear, TableKind};
use crate::random::Stream;

/// Every kind of adapter. Later ones are asked first whether a run or a file is theirs, so that a
/// special case of an earlier one stands below it.
pub static ADAPTERS: &[&dyn AdapterKind] = &[&lora::Entry, &dora::Entry];

/// What model cards say of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// As papers call it.
    pub title: &'static str,
    /// Tags of a model card.
    pub tags: &'static [&'static str],
}

/// A kind of adapter: one entry of [`ADAPTERS`].
pub trait AdapterKind: Debug + Sync {
    /// As lineage calls the method.
    fn name(&self) -> &'static str;
    /// For people.
    fn label(&self) -> Label;
    /// What in a configuration asks for it, to be read after "add".
    fn asked_by(&self) -> &'static str;
    /// The settings that it brings.
    fn keys(&self) -> Vec<OwnedKeys>;
    /// Names of its parameters within a linear layer, as PEFT has them in files. Paths in a model
    /// end with them.
    fn parameters(&self) -> &'static [&'static str];
    /// The adapter that a run asks for; none if it asks for another kind, or for none.
    fn of_run(&self, config: &RunConfig) -> Option<Arc<dyn Adapter>>;
    /// The adapter of an `adapter_config.json`; none if that is another kind's.
    ///
    /// # Errors
    /// When it is one of this kind, with settings that are wrong or not supported.
    fn of_peft(&self, json: &Map<String, Value>) -> Result<Option<Arc<dyn Adapter>>>;
    /// A small one on every linear layer, to compare devices with.
    fn sample(&self) -> Arc<dyn Adapter>;
}

/// An adapter with its settings.
pub trait Adapter: Debug + Send + Sync {
    /// Its entry.
    fn kind(&self) -> &'static dyn AdapterKind;
    /// Its settings in a few words, for people.
    fn describe(&self) -> String;
    /// The linear layers that it is put beside, with their `[out, in]`.
    ///
    /// # Errors
    /// When the settings name layers that the model does not have.
    fn layers(&self, description: &Description) -> Result<Vec<(String, [usize; 2])>>;
    /// Tensors that files have in place of those of several layers.
    fn stacked(&self, _description: &Description) -> Vec<StackedTensor> {
        Vec::new()
    }
    /// Its parameters beside the layer `[out, in]` at `path`: those of
    /// [`AdapterKind::parameters`], with their shapes.
    fn tensors(&self, path: &str, dims: [usize; 2]) -> Vec<(&'static str, Vec<usize>)>;
    /// Whether it changes the weights beside which it stands: they must be tensors then.
    fn changes_base(&self) -> bool {
        false
    }
    /// What other programs put beside the base as it is in files, where that is not this adapter;
    /// branches of this one give its parameters ([`AdapterBranch::published`]).
    fn published(&self) -> Option<Arc<dyn Adapter>> {
        None
    }
    /// The branch beside one layer, before its first step: the layer computes what it did.
    fn beside(
        &self,
        path: &str,
        linear: &mut Linear,
        seed: Stream,
        device: &Device,
    ) -> Box<dyn AdapterBranch>;
    /// The settings that every kind has.
    fn settings(&self) -> &LoraSettings;
    /// Names of modules that are trained whole and saved with it.
    fn modules_to_save(&self) -> &[String] {
        &self.settings().modules_to_save
    }
    /// Tokens whose rows of the embedding are trained and saved with it, in the order of the file;
    /// those of an output head are among the settings.
    fn trainable_token_indices(&self) -> &[usize] {
        &self.settings().trainable_token_indices
    }
    /// More of them by their texts, until [`of_run_on`] has looked them up.
    fn trainable_tokens(&self) -> &[String] {
        &self.settings().trainable_tokens
    }
    /// Which biases are trained and saved with it.
    fn bias(&self) -> LoraBias {
        self.settings().bias
    }
    /// The same adapter with these settings.
    fn with_settings(&self, settings: LoraSettings) -> Arc<dyn Adapter>;
    /// The learning rate of one of its parameters, as a multiple of that of the run.
    fn rate_ratio(&self, parameter: &str) -> f64 {
        self.settings().rate_ratio(parameter)
    }
    /// Numbers a token that it makes a layer keep for its gradient, but for the few of a low rank.
    fn saved_per_token(&self, _dims: [usize; 2]) -> usize {
        0
    }
    /// What it makes of the weight of the layer `[out, in]` at `path`; `tensors` has all of
    /// [`Self::tensors`], row-major.
    fn change(
        &self,
        path: &str,
        dims: [usize; 2],
        tensors: BTreeMap<&'static str, Vec<f32>>,
    ) -> Box<dyn WeightChange>;
    /// What the product of its two factors beside the layer at `path` is multiplied with, where
    /// that is all that it adds to the weight.
    fn low_rank_scale(&self, _path: &str) -> Option<f64> {
        None
    }
    /// Keys of that file that are of training alone.
    fn training_keys(&self) -> &'static [&'static str] {
        &[]
    }
    /// Its part of PEFT's `adapter_config.json`; `modules` are the last names of its layers.
    fn to_peft(&self, modules: &BTreeSet<String>) -> Map<String, Value>;
}

/// What merging an adapter does to the weight of a layer.
pub trait WeightChange: Send + Sync {
    /// Changes whole rows, of which the first has the number `first`, and writes what was added to
    /// each number into `added`. Where that is exactly zero the number stays as it is, bit for bit.
    fn apply(&self, first: usize, rows: &mut [f32], added: &mut [f32]);
}

/// The settings of all kinds.
pub fn keys() -> Vec<OwnedKeys> {
    ADAPTERS.iter().flat_map(|kind| kind.keys()).collect()
}

/// The adapter of a run; without one, every weight is trained.
pub fn of_run(config: &RunConfig) -> Option<Arc<dyn Adapter>> {
    ADAPTERS.iter().rev().find_map(|kind| kind.of_run(config))
}

/// The same on a base model, which is, as its files have it, what the description says: its
/// tokenizer knows the tokens that are trained, or the run adds them.
///
/// # Errors
/// When it does not.
pub fn of_run_on(
    config: &RunConfig,
    base: (&BaseTokenizer, &Description),
) -> Result<Option<Arc<dyn Adapter>>> {
    of_run(config).map(|adapter| lora::with_token_rows(adapter, base)).transpose()
}

/// The adapter of an `adapter_config.json`.
///
/// # Errors
/// When it is of no kind that is known, or its settings are wrong.
pub fn of_peft(json: &Map<String, Value>) -> Result<Arc<dyn Adapter>> {
    for kind in ADAPTERS.iter().rev() {
        if let Some(adapter) = kind.of_peft(json)? {
            return Ok(adapter);
        }
    }
    let titles: Vec<&str> = ADAPTERS.iter().map(|kind| kind.label().title).collect();
    let found = json.get("peft_type").and_then(Value::as_str);
    let what = match found {
        Some(name) => format!("adapters of the type `{}` are not supported", name.escape_debug()),
        None => "`peft_type` is missing: it names the kind of adapter".to_owned(),
    };
    Err(Error::adapter(what).hint(format!("supported are {}", titles.join(", "))))
}

/// How to ask for an adapter in place of full training, to be read after "add".
pub fn asked_by() -> &'static str {
    ADAPTERS[0].asked_by()
}

/// How many trainable parameters an adapter has.
///
/// # Errors
/// Those of [`Adapter::layers`].
pub fn size(adapter: &dyn Adapter, description: &Description) -> Result<u64> {
    let layers = adapter.layers(description)?;
    let tensors = layers.iter().flat_map(|(path, dims)| adapter.tensors(path, *dims));
    let beside: u64 = tensors.map(|(_, shape)| shape.iter().product::<usize>() as u64).sum();
    let saved = saved_with(adapter, description)?;
    Ok(beside + saved.iter().map(|(_, dims)| dims.iter().product::<usize>() as u64).sum::<u64>())
}

/// Paths and dimensions of what an adapter saves beside the parameters of its layers: whole
/// weights, rows of the embedding, and biases.
///
/// # Errors
/// When it cannot be trained so.
pub fn saved_with(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<Vec<(String, Vec<usize>)>> {
    let whole = whole_weights(adapter, description)?.into_iter();
    let whole = whole.map(|(path, dims)| (path.to_owned(), dims));
    let tables = whole.chain(lora::token_rows(adapter, description)?);
    let tables = tables.chain(lora::table_factors(adapter, description)?);
    let tables = tables.map(|(path, dims)| (path, dims.to_vec()));
    Ok(tables.chain(lora::trained_biases(adapter, description)?).collect())
}

/// By path, the learning rates of parameters that have another than that of the run, as multiples
/// of it.
///
/// # Errors
/// Those of [`Adapter::layers`].
pub fn rate_ratios(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<BTreeMap<String, f64>> {
    let layers = adapter.layers(description)?;
    let all = layers.iter().flat_map(|(path, _)| {
        let parameters = adapter.kind().parameters().iter();
        parameters.map(move |name| (format!("{path}.{name}"), adapter.rate_ratio(name)))
    });
    let tables = lora::table_factors(adapter, description)?.into_iter();
    let all = all.chain(tables.map(|(path, _)| {
        let b = path.ends_with(lora::B);
        (path, if b { adapter.rate_ratio(lora::B) } else { 1.0 })
    }));
    let biases = lora::trained_biases(adapter, description)?.into_iter();
    let all = all.chain(biases.map(|(path, _)| {
        let ratio = adapter.rate_ratio(&path); // as all vectors have it
        (path, ratio)
    }));
    #[expect(clippy::float_cmp)] // exactly one means that there is nothing to do
    let others = all.filter(|(_, ratio)| *ratio != 1.0);
    Ok(others.collect())
}

/// The same under their names in files.
///
/// # Errors
/// Those of [`saved_with`], and of [`Adapter::layers`].
pub fn saved_in_files(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<Vec<(String, Vec<usize>)>> {
    let name = names_in_files(adapter, description)?;
    let saved = saved_with(adapter, description)?.into_iter();
    Ok(saved.map(|(path, dims)| (name(&path), dims)).collect())
}

/// Paths and shapes of all trainable parameters: those of an adapter, or else of the model.
///
/// # Errors
/// Those of [`Adapter::layers`].
pub fn trainable_tensors(
    adapter: Option<&dyn Adapter>,
    description: &Description,
) -> Result<Vec<(String, Vec<usize>)>> {
    let Some(adapter) = adapter else { return Ok(description.weights()) };
    let mut all = Vec::new();
    for (path, dims) in adapter.layers(description)? {
        let tensors = adapter.tensors(&path, dims).into_iter();
        all.extend(tensors.map(|(name, shape)| (format!("{path}.{name}"), shape)));
    }
    all.extend(saved_with(adapter, description)?);
    Ok(all)
}

/// What is trained beside each linear layer, by module path, as far as memory depends on it.
///
/// # Errors
/// Those of [`Adapter::layers`].
pub fn trained_linears(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<BTreeMap<String, TrainedLinear>> {
    let layers = adapter.layers(description)?.into_iter().map(|(path, dims)| {
        let tensors = adapter.tensors(&path, dims).into_iter();
        let matrices = tensors.filter(|(_, shape)| shape.len() == 2);
        let rank = matrices.filter_map(|(_, shape)| shape.into_iter().min()).min().unwrap_or(0);
        let kept = adapter.saved_per_token(dims);
        (path, TrainedLinear { rank, kept, whole: false })
    });
    Ok(layers.collect())
}

/// Whether it has factors beside the output head.
///
/// # Errors
/// Those of [`factored_tables`].
pub fn trains_beside_head(adapter: &dyn Adapter, description: &Description) -> Result<bool> {
    let tables = factored_tables(adapter, description)?;
    Ok(tables.iter().any(|table| table.kind == TableKind::Head))
}

/// Whether the model is the base when the adapter is off.
pub fn leaves_base(adapter: &dyn Adapter) -> bool {
    !adapter.changes_base() && replaces(adapter).is_none()
}

/// What it has in the place of numbers of the base, for people, if anything.
pub fn replaces(adapter: &dyn Adapter) -> Option<&'static str> {
    let of_head = adapter.settings().head_token_indices.len();
    let tokens = adapter.trainable_token_indices().len() + adapter.trainable_tokens().len();
    let biases = adapter.bias() != LoraBias::None;
    match adapter.modules_to_save() {
        [] if tokens > 0 => Some("rows of the embedding"),
        [] if of_head > 0 => Some("rows of the output head"),
        [] if lora::names_tables(adapter.settings()) => Some("factors of embedding or head"),
        [] => biases.then_some("biases"),
        _ => Some("whole modules"),
    }
}

fn last_name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn entries_have_names_of_their_own_and_tensors_for_all_their_parameters() {
        let names: BTreeSet<&str> = ADAPTERS.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ADAPTERS.len());
        for kind in ADAPTERS {
            let adapter = kind.sample();
            assert_eq!(adapter.kind().name(), kind.name());
            let tensors = adapter.tensors("q_proj", [6, 4]);
            let names: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, kind.parameters());
            // What is written for PEFT is read back as the same adapter.
            let modules = BTreeSet::from(["q_proj".to_owned()]);
            let again = of_peft(&adapter.to_peft(&modules)).unwrap();
            assert_eq!(again.to_peft(&modules), adapter.to_peft(&modules));
        }
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let mut json = Map::new();
        let refused = |json: &Map<String, Value>| of_peft(json).unwrap_err().to_string();
        says(
            refused(&json),
            snapbox::str![[r#"
error[adapter]: `peft_type` is missing: it names the kind of adapter

hint: supported are LoRA, DoRA
"#]],
        );
        json.insert("peft_type".to_owned(), "IA3".into());
        let error = refused(&json);
        says(
            &error,
            snapbox::str![[r#"
error[adapter]: adapters of the type `IA3` are not supported

hint: supported are LoRA, DoRA
"#]],
        );
    }
}
