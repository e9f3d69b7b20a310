//! The learning tensors of a model, by their names in files.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::error::{Error, Result};
use crate::model::{Model, Parameter, Visitor};
use crate::ops::{flat, from_vec, host};
use crate::weights::{Element, Shard, TensorSpec, to_f32};

/// A learning tensor, flat, with its shape.
pub struct Learning {
    /// Path of the parameter.
    pub path: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Tensor<1>,
}

/// Every learning tensor of a model.
pub fn learning(model: &mut Model) -> Vec<Learning> {
    #[derive(Default)]
    struct Collect(Vec<Learning>);
    impl Collect {
        fn add<const D: usize>(&mut self, path: &str, parameter: &Parameter<D>) {
            if parameter.learns {
                self.0.push(Learning {
                    path: path.to_owned(),
                    shape: parameter.value.dims().to_vec(),
                    values: flat(parameter.value.clone()),
                });
            }
        }
    }
    impl Visitor for Collect {
        fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
            self.add(path, parameter);
        }
        fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
            self.add(path, parameter);
        }
    }
    let mut collect = Collect::default();
    model.visit(&mut collect);
    collect.0
}

/// Names, shapes and values of the learning tensors, ready for a safetensors file in which
/// `rename` makes the names.
pub fn learning_specs(
    model: &mut Model,
    rename: impl Fn(&str) -> String,
    element: impl Fn(&str) -> Element,
) -> (Vec<TensorSpec>, BTreeMap<String, Tensor<1>>) {
    let mut specs = Vec::new();
    let mut values = BTreeMap::new();
    for learning in learning(model) {
        let name = rename(&learning.path);
        specs.push(TensorSpec {
            name: name.clone(),
            element: element(&learning.path),
            shape: learning.shape,
        });
        values.insert(name, learning.values);
    }
    (specs, values)
}

/// The host values of a tensor that [`learning_specs`] listed.
pub fn learning_values(values: &BTreeMap<String, Tensor<1>>, spec: &TensorSpec) -> Vec<f32> {
    host(values[&spec.name].clone())
}

/// Puts the tensors of a file into the learning parameters of a model.
///
/// # Errors
/// When the file lacks a parameter, has one more, or one of another shape.
pub fn put(model: &mut Model, shard: &Shard, rename: impl Fn(&str) -> String) -> Result<()> {
    struct Put<'a, F> {
        tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
        rename: F,
        device: &'a burn::tensor::Device,
        problems: Vec<Error>,
    }
    impl<F: Fn(&str) -> String> Put<'_, F> {
        fn set<const D: usize>(&mut self, path: &str, parameter: &mut Parameter<D>) {
            if !parameter.learns {
                return;
            }
            let name = (self.rename)(path);
            match self.tensors.remove(&name) {
                Some((shape, values)) if shape == parameter.value.dims() => {
                    parameter.value = from_vec(values, parameter.value.dims(), self.device);
                }
                Some((shape, _)) => self.problems.push(Error::new(format!(
                    "tensor `{name}` has shape {shape:?} instead of {:?}",
                    parameter.value.dims()
                ))),
                None => self.problems.push(Error::new(format!("tensor `{name}` is missing"))),
            }
        }
    }
    impl<F: Fn(&str) -> String> Visitor for Put<'_, F> {
        fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
            self.set(path, parameter);
        }
        fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
            self.set(path, parameter);
        }
    }
    let mut tensors = BTreeMap::new();
    for tensor in shard.tensors()? {
        tensors.insert(tensor.name, (tensor.shape, to_f32(tensor.element, tensor.bytes)));
    }
    let device = model.device.clone();
    let mut put = Put { tensors, rename, device: &device, problems: Vec::new() };
    model.visit(&mut put);
    put.problems.extend(
        put.tensors.keys().map(|name| Error::new(format!("tensor `{name}` is not of this model"))),
    );
    match Error::all(put.problems) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
