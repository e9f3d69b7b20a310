//! Makes parameters trainable: puts adapters in their places, or unfreezes every weight.

use std::collections::{BTreeMap, BTreeSet};

use super::{Adapter, last_name, lora, resized, whole_weights};
use crate::error::Result;
use crate::model::{AdapterBranch, Linear, Model, Parameter, Visitor};
use crate::random::Stream;

/// Full training: every weight is trainable.
pub fn unfreeze_all(model: &mut Model) {
    struct Unfreeze;
    impl Visitor for Unfreeze {
        fn vector(&mut self, _: &str, parameter: &mut Parameter<1>) {
            parameter.trainable = true;
        }
        fn matrix(&mut self, _: &str, parameter: &mut Parameter<2>) {
            parameter.trainable = true;
        }
    }
    model.visit(&mut Unfreeze);
}

/// Puts an adapter beside every layer that it is for; returns the last names of those that are
/// modules to PEFT, sorted.
///
/// # Errors
/// Those of [`Adapter::layers`].
pub fn attach(model: &mut Model, adapter: &dyn Adapter, seed: Stream) -> Result<BTreeSet<String>> {
    model.resize_vocabulary(resized(adapter, &model.description)?.vocabulary)?;
    let layers: BTreeSet<String> =
        adapter.layers(&model.description)?.into_iter().map(|(path, _)| path).collect();
    let whole = whole_weights(adapter, &model.description)?;
    let biases = lora::trained_biases(adapter, &model.description)?;
    lora::unfreeze(model, &whole);
    lora::unfreeze_biases(model, &biases);
    lora::train_rows(model, adapter)?;
    lora::put_beside_tables(model, adapter, seed)?;
    let tables = lora::factored_tables(adapter, &model.description)?;
    let device = model.device.clone();
    model.linears(&mut |path, linear: &mut Linear| {
        if layers.contains(path) {
            linear.adapter = Some(adapter.beside(path, linear, seed, &device));
        }
    });
    let modules = model.description.linears.iter().filter(|(path, _)| layers.contains(path));
    let modules = modules.map(|(path, _)| path.as_str());
    let modules = modules.chain(tables.iter().map(|table| table.module.as_str()));
    Ok(modules.map(|path| last_name(path).to_owned()).collect())
}

/// Puts what other programs have of an adapter in its place, and gives back what stood there.
pub fn publish(model: &mut Model) -> BTreeMap<String, Box<dyn AdapterBranch>> {
    let mut trained = BTreeMap::new();
    model.linears(&mut |path, linear| {
        let published = linear.adapter.as_ref().and_then(|adapter| adapter.published());
        if let Some(before) = published.and_then(|adapter| linear.adapter.replace(adapter)) {
            trained.insert(path.to_owned(), before);
        }
    });
    trained
}

/// Puts adapters back in their places.
pub fn put_back(model: &mut Model, mut trained: BTreeMap<String, Box<dyn AdapterBranch>>) {
    model.linears(&mut |path, linear| {
        if let Some(adapter) = trained.remove(path) {
            linear.adapter = Some(adapter);
        }
    });
}
