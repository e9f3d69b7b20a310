//! Optimizers that average train other weights than those that are measured and used.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::engine::{OptimizerState, Trainer};
use crate::model::{Parameter, Visitor};
use crate::ops::flat;

/// The weights that are trained, while others stand in their place; none where they are the same.
pub struct TrainedWeights(BTreeMap<String, Tensor<1>>);

impl Trainer {
    /// Whether other weights than those that are trained are measured and used.
    pub fn averages(&self) -> bool {
        self.optimizer.averages()
    }

    /// Puts the weights that are measured and used in the place of those that are trained, until
    /// [`Self::train_on`] brings those back.
    pub fn use_averaged(&mut self) -> TrainedWeights {
        let mut swap = Swap { optimizer: &self.optimizer, trained: BTreeMap::new() };
        if self.optimizer.averages() {
            self.model.visit(&mut swap);
        }
        TrainedWeights(swap.trained)
    }

    /// Goes on with the weights that are trained.
    pub fn train_on(&mut self, trained: TrainedWeights) {
        let mut back = Back(trained.0);
        if !back.0.is_empty() {
            self.model.visit(&mut back);
        }
    }
}

struct Swap<'a> {
    optimizer: &'a OptimizerState,
    trained: BTreeMap<String, Tensor<1>>,
}

impl Swap<'_> {
    fn swap<const D: usize>(&mut self, path: &str, parameter: &mut Parameter<D>) {
        if !parameter.trainable {
            return;
        }
        let value = flat(parameter.value.clone());
        let averaged = self.optimizer.averaged(path, value.clone());
        let shape = parameter.value.dims();
        parameter.value = averaged.reshape(shape.map(|size| size as i32));
        self.trained.insert(path.to_owned(), value);
    }
}

impl Visitor for Swap<'_> {
    fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
        self.swap(path, parameter);
    }
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
        self.swap(path, parameter);
    }
}

struct Back(BTreeMap<String, Tensor<1>>);

impl Back {
    fn put<const D: usize>(&mut self, path: &str, parameter: &mut Parameter<D>) {
        if let Some(value) = self.0.remove(path) {
            let shape = parameter.value.dims();
            parameter.value = value.reshape(shape.map(|size| size as i32));
        }
    }
}

impl Visitor for Back {
    fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
        self.put(path, parameter);
    }
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
        self.put(path, parameter);
    }
}
