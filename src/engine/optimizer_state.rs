//! The chosen optimizer and what it keeps for each parameter, by path.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::optimizers::{Optimizer, UpdateStep};

/// What is kept for each parameter, by its path; in the order of the optimizer's names.
pub type StateByPath = BTreeMap<String, Vec<Tensor<1>>>;

/// An optimizer at work: its rule, its state, and the number of updates done.
pub struct OptimizerState {
    rule: Box<dyn Optimizer>,
    by_path: StateByPath,
    updates: i32,
}

impl OptimizerState {
    /// An optimizer that has seen nothing.
    pub fn new(rule: Box<dyn Optimizer>) -> Self {
        Self { rule, by_path: BTreeMap::new(), updates: 0 }
    }

    /// Begins an update of all parameters.
    pub fn begin_update(&mut self) {
        self.updates += 1;
    }

    /// The new values of one parameter.
    pub fn update(
        &mut self,
        path: &str,
        value: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        let state = self.by_path.remove(path).unwrap_or_else(|| self.nothing_yet(&gradient));
        let (value, state) = self.rule.update(value, gradient, state, self.step(learning_rate));
        self.by_path.insert(path.to_owned(), state);
        value
    }

    /// Makes an update twice, without and with a state, and forgets it: so that kernels for a
    /// parameter of this length are compiled. `done` is told of both results.
    ///
    /// # Errors
    /// Those of `done`.
    pub fn try_out<E>(
        &self,
        gradient: impl Fn() -> Tensor<1>,
        done: impl Fn(&Tensor<1>) -> Result<(), E>,
    ) -> Result<(), E> {
        let step = |number| UpdateStep { learning_rate: 0.0, number };
        let (value, state) =
            self.rule.update(gradient(), gradient(), self.nothing_yet(&gradient()), step(1));
        done(&value)?;
        done(&self.rule.update(gradient(), gradient(), state, step(2)).0)
    }

    fn nothing_yet(&self, gradient: &Tensor<1>) -> Vec<Tensor<1>> {
        self.rule.state_names().iter().map(|_| gradient.zeros_like()).collect()
    }

    fn step(&self, learning_rate: f64) -> UpdateStep {
        UpdateStep { learning_rate, number: self.updates }
    }

    /// Number of updates done.
    pub fn updates(&self) -> u64 {
        u64::try_from(self.updates).expect("it only grows from zero")
    }

    /// What is kept for each parameter, as files name it.
    pub fn names(&self) -> &'static [&'static str] {
        self.rule.state_names()
    }

    /// All that is kept, by path.
    pub fn by_path(&self) -> &StateByPath {
        &self.by_path
    }

    /// Goes on from a saved state.
    pub fn restore(&mut self, by_path: StateByPath, updates: u64) {
        self.by_path = by_path;
        self.updates = i32::try_from(updates).expect("runs stay below 2^31 updates");
    }
}
