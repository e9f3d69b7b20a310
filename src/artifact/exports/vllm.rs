//! Adapters of experts as vLLM reads them: a tensor for each matrix of each expert, where PEFT has
//! those of all experts in one (`vllm/lora/model_manager.py`, modules of `get_expert_mapping`).
//! The gate's and what goes up beside it have factors A of their own there, which are equal.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::{AdapterSource, Contents, Export, Written};
use crate::adapters::{Adapter, file_name, layer_of, replaces};
use crate::artifact::lineage::INPUTS_KEY;
use crate::artifact::peft::{self, AdapterConfig};
use crate::error::{Context, Error, Result};
use crate::files::{open_regular, write_synced};
use crate::model::description::{ExpertMatrix, ExpertsDescription};
use crate::weights::{Element, OwnedTensor, TensorSpec, to_f32, write_safetensors};

/// The format.
pub struct Vllm;

/// Tensors with their shapes, by name.
type Numbers = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// What stands in the file in the place of the digest of its inputs.
const PLACEHOLDER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Export for Vllm {
    fn name(&self) -> &'static str {
        "vllm"
    }

    fn types(&self) -> &'static [&'static str] {
        &["f32"]
    }

    fn contents(&self) -> Contents {
        Contents::Adapter(write)
    }
}

fn write(source: AdapterSource, target: &Path) -> Result<Written> {
    let AdapterSource { origin, adapter, base, addition, .. } = source;
    if let Some(more) = replaces(adapter) {
        return Err(Error::export(format!("vLLM reads no adapter that is saved with {more}"))
            .at(&origin.model.path)
            .hint("merge it: `firebrand merge`"));
    }
    let mut tensors = addition.into_tensors();
    let (mut apart, mut notes) = (Numbers::new(), Vec::new());
    for (layer, experts) in base.experts() {
        let of_mixture = Mixture { layer, experts, adapter };
        if of_mixture.take(&mut tensors, &mut apart) && notes.is_empty() {
            notes.push(
                "matrices of experts without an adapter get one of zeros: vLLM wants all of an \
                 expert"
                    .to_owned(),
            );
        }
    }
    if apart.is_empty() {
        return Err(Error::export("the adapter has nothing beside experts")
            .at(&origin.model.path)
            .because("all that it holds has the names of vLLM already"));
    }
    let rest = tensors.into_iter();
    apart.extend(rest.map(|(name, of)| (name, (of.shape, to_f32(of.element, &of.bytes)))));
    let layers = apart.keys().filter_map(|name| layer_of(adapter.kind(), name));
    let modules = layers.filter_map(|layer| layer.rsplit('.').next()).map(str::to_owned).collect();
    let config = AdapterConfig {
        base_model: &origin.base.id,
        revision: origin.base.commit(),
        adapter,
        modules: &modules,
        names: base.names,
        scores: false,
        tied: base.tied,
    };
    let mut config: Value =
        serde_json::from_str(&config.to_json()).context("the settings are written as JSON")?;
    config["target_parameters"] = Value::Null; // every one has the name of a module
    write_synced(&target.join(peft::CONFIG_FILE), format!("{config:#}\n").as_bytes())?;
    let path = target.join(peft::WEIGHTS_FILE);
    write_numbers(&path, &apart)?;
    let binding = Some(place_of_digest(&path)?);
    Ok(Written { file: peft::WEIGHTS_FILE.to_owned(), base_files: Vec::new(), binding, notes })
}

/// A mixture of experts of a model, and the adapter that may stand beside it.
struct Mixture<'a> {
    layer: &'a str,
    experts: &'a ExpertsDescription,
    adapter: &'a dyn Adapter,
}

impl Mixture<'_> {
    /// Takes what belongs to the experts, and puts what each has of it in its place. Whether
    /// something was missing of it.
    fn take(&self, tensors: &mut BTreeMap<String, OwnedTensor>, apart: &mut Numbers) -> bool {
        let first = self.adapter.kind().parameters()[0];
        let path = |name: &str| format!("{}.{name}", self.layer);
        let held = |name: &str| tensors.contains_key(&file_name(&path(name), first));
        let all = self.experts.linears();
        let (held, missing): (Vec<_>, Vec<_>) = all.partition(|linear| held(linear.name));
        if held.is_empty() {
            return false;
        }
        for number in 0..self.experts.count {
            for matrix in ExpertMatrix::ALL {
                self.take_matrix(number, matrix, tensors, apart);
            }
        }
        !missing.is_empty()
    }

    fn take_matrix(
        &self,
        number: usize,
        matrix: ExpertMatrix,
        tensors: &mut BTreeMap<String, OwnedTensor>,
        apart: &mut Numbers,
    ) {
        let Self { layer, experts, adapter } = *self;
        let path = format!("{layer}.{}", experts.linear(number, matrix).name);
        let [gate, up, down] = experts.storage.names();
        let names: &[&str] = match matrix {
            ExpertMatrix::GateUp => &[gate, up],
            ExpertMatrix::Down => &[down],
        };
        let [outputs, inputs] = experts.dims(matrix);
        let whole = adapter.tensors(&path, [outputs, inputs]);
        let parts = adapter.tensors(&path, [outputs / names.len(), inputs]);
        for ((parameter, whole), (_, part)) in whole.into_iter().zip(parts) {
            let found = tensors.remove(&file_name(&path, parameter));
            let numbers = match found {
                Some(of) => to_f32(of.element, &of.bytes),
                None => vec![0.0; whole.iter().product()],
            };
            let count: usize = part.iter().product();
            for (place, name) in names.iter().enumerate() {
                // What does not follow from the outputs is the same for all.
                let first = if whole == part { 0 } else { place * count };
                let layer = format!("{layer}.{}.{number}.{name}", experts.served_as);
                let numbers = numbers[first..first + count].to_vec();
                apart.insert(file_name(&layer, parameter), (part.clone(), numbers));
            }
        }
    }
}

fn write_numbers(path: &Path, all: &Numbers) -> Result<()> {
    let specs = all.iter().map(|(name, (shape, _))| TensorSpec {
        name: name.clone(),
        element: Element::F32,
        shape: shape.clone(),
    });
    let metadata = [("format", "pt"), (INPUTS_KEY, PLACEHOLDER)];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    write_safetensors(path, specs.collect(), &metadata, |spec| Ok(all[&spec.name].1.clone()))?;
    Ok(())
}

/// Where in the file the digest of its inputs belongs.
fn place_of_digest(path: &Path) -> Result<u64> {
    let (mut file, mut length, mut header) = (open_regular(path)?, [0; 8], Vec::new());
    let read = file.read_exact(&mut length);
    let read = read.and_then(|()| file.take(u64::from_le_bytes(length)).read_to_end(&mut header));
    read.context_at("cannot read the export", path)?;
    let place = header.windows(PLACEHOLDER.len()).position(|part| part == PLACEHOLDER.as_bytes());
    Ok(8 + place.expect("it was written") as u64)
}
