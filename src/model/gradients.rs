//! Sums of gradients by parameter path, kept flat in f32.

use std::collections::BTreeMap;

use burn::tensor::{Gradients as Tape, Tensor};

use crate::model::{Parameter, Visitor};
#[cfg(feature = "gpu")]
use crate::ops::gpu;
use crate::ops::{flat, host};

/// Gradient sums of one optimiser step.
#[derive(Default)]
pub struct Gradients {
    sums: BTreeMap<String, Tensor<1>>,
}

impl Gradients {
    /// Adds the gradient of one parameter.
    pub fn add<const D: usize>(&mut self, path: &str, gradient: Tensor<D>) {
        let gradient = flat(gradient);
        match self.sums.remove(path) {
            Some(sum) => self.sums.insert(path.to_owned(), sum + gradient),
            None => self.sums.insert(path.to_owned(), gradient),
        };
    }

    /// Adds all of another micro-batch.
    pub fn merge(&mut self, other: Self) {
        for (path, gradient) in other.sums {
            self.add(&path, gradient);
        }
    }

    /// Adds what the tapes hold for trainable parameters that are leaves of them (`tracked`); each
    /// is on one of the tapes. `visit` shows them to a visitor.
    pub fn collect(&mut self, tapes: &mut [Tape], visit: impl FnOnce(&mut dyn Visitor)) {
        struct Collect<'a> {
            sums: &'a mut Gradients,
            tapes: &'a mut [Tape],
        }
        impl Collect<'_> {
            fn take<const D: usize>(&mut self, path: &str, parameter: &Parameter<D>) {
                if !parameter.trainable {
                    return;
                }
                let value = &parameter.value;
                let gradient = self.tapes.iter_mut().find_map(|tape| value.grad_remove(tape));
                assert!(value.is_require_grad(), "a trainable parameter is a leaf of the tape");
                // An expert that no token chose has no part in what the tape is of.
                self.sums.add(path, gradient.unwrap_or_else(|| value.clone().inner().zeros_like()));
            }
        }
        impl Visitor for Collect<'_> {
            fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
                self.take(path, parameter);
            }
            fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
                self.take(path, parameter);
            }
        }
        visit(&mut Collect { sums: self, tapes });
    }

    /// Global L2 norm. Squares are summed in f64 on the host, in path order, so that the result
    /// does not depend on threads.
    pub fn norm(&self) -> f64 {
        let squares: f64 =
            self.sums.values().map(|sum| f64::from(host(sum.clone().square().sum())[0])).sum();
        squares.sqrt()
    }

    /// A loss `[1]` and the same norm on its device, `[2]`: in f32, and nobody waits for it.
    pub fn with_norm(&self, loss: Tensor<1>) -> Tensor<1> {
        #[cfg(feature = "gpu")]
        if gpu::holds(&loss) {
            return gpu::measured(loss, self.sums.values().cloned().collect());
        }
        let squares = self.sums.values().map(|sum| sum.clone().square().sum());
        let total = squares.reduce(|a, b| a + b);
        let norm = total.map_or_else(|| loss.zeros_like(), Tensor::sqrt);
        Tensor::cat(vec![loss, norm], 0)
    }

    /// The sums, by path.
    pub fn into_sums(self) -> BTreeMap<String, Tensor<1>> {
        self.sums
    }

    /// The sum of one parameter.
    pub fn get(&self, path: &str) -> Option<&Tensor<1>> {
        self.sums.get(path)
    }

    /// Paths that have a gradient.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.sums.keys().map(String::as_str)
    }
}
