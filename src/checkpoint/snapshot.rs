//! The state of a trainer in host memory: what a checkpoint holds, taken while training stands
//! still, so that it can be written while training goes on.

use std::collections::BTreeMap;

use crate::checkpoint::{State, learning_specs, learning_values};
use crate::engine::Trainer;
use crate::ops::host;
use crate::weights::{Element, TensorSpec};

/// Tensors of one file, with their values.
pub type Tensors = Vec<(TensorSpec, Vec<f32>)>;

/// Everything that a checkpoint holds.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The learning weights, by their names in files.
    pub weights: Tensors,
    /// Moments of the optimiser.
    pub moments: Tensors,
    /// Everything else.
    pub state: State,
}

/// The name of a parameter in files: PEFT's for adapters, Hugging Face's otherwise.
pub fn file_name_of(path: &str) -> String {
    if path.contains(".lora_") { format!("base_model.model.{path}") } else { path.to_owned() }
}

impl Snapshot {
    /// Copies weights and moments into host memory: 12 bytes for each number that learns.
    pub fn of(trainer: &mut Trainer, state: State) -> Self {
        let (specs, values) = learning_specs(&mut trainer.model, file_name_of, |_| Element::F32);
        let with_values = |spec: TensorSpec| {
            let values = learning_values(&values, &spec);
            (spec, values)
        };
        let weights = specs.into_iter().map(with_values).collect();
        let mut moments = BTreeMap::new();
        for (path, found) in trainer.optimizer.moments() {
            moments.insert(format!("first_moment.{path}"), found.first.clone());
            moments.insert(format!("second_moment.{path}"), found.second.clone());
        }
        let spec = |(name, values): (String, burn::tensor::Tensor<1>)| {
            let shape = values.dims().to_vec();
            (TensorSpec { name, element: Element::F32, shape }, host(values))
        };
        Self { weights, moments: moments.into_iter().map(spec).collect(), state }
    }

    /// About how many bytes its files take.
    pub fn bytes(&self) -> u64 {
        const HEADERS: u64 = 64 << 10;
        let numbers = |tensors: &Tensors| -> u64 {
            tensors.iter().map(|(_, values)| values.len() as u64).sum()
        };
        (numbers(&self.weights) + numbers(&self.moments)) * 4 + HEADERS
    }

    /// Name of the file with the weights.
    pub fn weights_name(&self) -> &'static str {
        weights_name(self.weights.iter().all(|(spec, _)| spec.name.contains(".lora_")))
    }
}

/// Name of the file with the learning weights.
pub fn weights_name(adapter: bool) -> &'static str {
    if adapter { "adapter.safetensors" } else { "model.safetensors" }
}
