//! The weights of an artifact: trained tensors, in the arrangement that files have.

use std::collections::BTreeMap;
use std::path::Path;

use crate::adapters::{names_in_files, tied_copy};
use crate::artifact::lineage::{self, Inputs, settings_digest};
use crate::artifact::peft;
use crate::checkpoint::{Pieces, joined, learning_specs, learning_values};
use crate::engine::Trainer;
use crate::error::Result;
use crate::files::name_anywhere;
use crate::model::description::{StoredTensors, stack_specs, stacked_numbers};
use crate::train::carried::{Buffers, Carried};
use crate::train::{Prepared, Request};
use crate::weights::{Element, TensorSpec, write_safetensors};

/// Writes them into a folder.
pub(super) fn write_weights(
    scratch: &Path,
    request: &Request,
    prepared: &Prepared,
    trainer: &mut Trainer,
    inputs: &Inputs,
) -> Result<()> {
    let metadata = metadata(request, prepared, inputs);
    let adapter = prepared.adapter.is_some();
    // An adapter is kept in f32, as it was trained; a whole model in the format of its base.
    let element = |path: &str| match prepared.elements.get(path) {
        Some(element) if !adapter => *element,
        _ => Element::F32,
    };
    let name = if adapter { peft::WEIGHTS_FILE } else { "model.safetensors" };
    let carried = Carried::of(prepared)?;
    let of_adapter = prepared.adapter.as_deref();
    let names = of_adapter.map(|it| names_in_files(it, &prepared.description)).transpose()?;
    let rename = |path: &str| match (&carried, &names) {
        (Some(carried), _) => carried.name_in_file(path),
        (None, Some(names)) => names(path),
        (None, None) => path.to_owned(),
    };
    let buffers = if adapter { Vec::new() } else { trainer.model.buffers() };
    let buffers = Buffers::new(buffers, rename);
    let (mut specs, values) = learning_specs(&mut trainer.model, rename, element);
    let description = &prepared.description;
    // Files have more dimensions of some tensors than they are computed with.
    let shapes = description.tensors().into_iter();
    let shapes: BTreeMap<_, _> = shapes.map(|(path, shape)| (rename(&path), shape)).collect();
    for spec in &mut specs {
        if let Some(shape) = shapes.get(&spec.name) {
            spec.shape.clone_from(shape);
        }
    }
    let stacked = of_adapter.map_or_else(Vec::new, |adapter| adapter.stacked(description));
    let stored = match of_adapter {
        Some(_) => StoredTensors::none(),
        None => StoredTensors::of(description),
    };
    let mut specs = stored_specs(&stored, stack_specs(&stacked, specs), element);
    let copy = of_adapter.and_then(|adapter| tied_copy(adapter, description));
    let copied = copy.as_ref().map_or(Vec::new(), |[copy, of]| {
        let found = specs.iter().filter(|spec| spec.name == *of);
        found.map(|spec| TensorSpec { name: copy.clone(), ..spec.clone() }).collect()
    });
    specs.extend(copied);
    specs.extend(buffers.specs(element));
    specs.extend(carried.iter().flat_map(Carried::specs));
    write_safetensors(&scratch.join(name), specs, &metadata, |spec| {
        if let Some([_, of]) = copy.as_ref().filter(|[copy, _]| *copy == spec.name) {
            return Ok(joined(&values[of]));
        }
        if let Some(carried) = carried.as_ref().and_then(|carried| carried.values(&spec.name)) {
            return carried;
        }
        if let Some(value) = buffers.value(&spec.name) {
            return Ok(value);
        }
        let of_layer = |name: &str| joined(&values[name]);
        let stacked = stacked_numbers(&stacked, &spec.name, of_layer);
        let made = stacked.or_else(|| stored_numbers(&stored, &spec.name, &values));
        Ok(made.unwrap_or_else(|| learning_values(&values, spec)))
    })?;
    Ok(())
}

/// What the header of the file says of the run.
fn metadata(request: &Request, prepared: &Prepared, inputs: &Inputs) -> BTreeMap<String, String> {
    let mut metadata: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |key: &str, value: String| metadata.insert(key.to_owned(), value);
    put("format", "pt".to_owned()); // loaders of the transformers family insist on it
    put("firebrand.version", env!("CARGO_PKG_VERSION").to_owned());
    put(lineage::INPUTS_KEY, inputs.digest().to_string());
    put("firebrand.base_model", name_anywhere(&prepared.base.id));
    let settings = settings_digest(&request.loaded.portable());
    put("firebrand.config_sha256", settings.to_string());
    metadata
}

/// Puts what files have in the place of the parameters that it is made of.
fn stored_specs(
    stored: &StoredTensors,
    mut specs: Vec<TensorSpec>,
    element: impl Fn(&str) -> Element,
) -> Vec<TensorSpec> {
    let parameters = stored.parameters();
    specs.retain(|spec| !parameters.contains(spec.name.as_str()));
    specs.extend(stored.iter().map(|tensor| TensorSpec {
        name: tensor.name.clone(),
        element: element(&tensor.name),
        shape: tensor.shape.clone(),
    }));
    specs
}

fn stored_numbers(stored: &StoredTensors, name: &str, values: &Pieces) -> Option<Vec<f32>> {
    let tensor = stored.get(name)?;
    let parameters: Vec<_> = tensor.parameters.iter().map(|path| joined(&values[path])).collect();
    Some(tensor.joined(&parameters))
}
