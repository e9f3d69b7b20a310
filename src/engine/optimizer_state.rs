//! The chosen optimizer and what it keeps for each parameter, by path.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::optimizers::{Moving, Optimizer, UpdateStep};

/// What is kept for each parameter, by its path; in the order of the optimizer's names.
pub type StateByPath = BTreeMap<String, Vec<Tensor<1>>>;

/// An optimizer at work: its rule, its state, and the number of updates done.
pub struct OptimizerState {
    rule: Box<dyn Optimizer>,
    by_path: StateByPath,
    updates: i32,
    rates: RateRatios,
}

/// By path, the rates of parameters that have another than the others, as multiples of that.
pub type RateRatios = BTreeMap<String, f64>;

impl OptimizerState {
    /// An optimizer that has seen nothing.
    pub fn new(rule: Box<dyn Optimizer>) -> Self {
        Self { rule, by_path: BTreeMap::new(), updates: 0, rates: RateRatios::new() }
    }

    /// Gives some parameters a rate of their own.
    pub fn set_rates(&mut self, rates: RateRatios) {
        self.rates = rates;
    }

    /// The rate of a parameter.
    fn rate_of(&self, path: &str, learning_rate: f64) -> f64 {
        self.rates.get(path).map_or(learning_rate, |ratio| learning_rate * ratio)
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
        let step = self.step(self.rate_of(path, learning_rate));
        let (value, state) = self.rule.update(value, gradient, state, step);
        self.by_path.insert(path.to_owned(), state);
        value
    }

    /// The new values of many parameters, by path, from values and gradients, which are multiplied
    /// with `factor: [1]`.
    pub fn update_together(
        &mut self,
        all: BTreeMap<String, [Tensor<1>; 2]>,
        factor: &Tensor<1>,
        learning_rate: f64,
    ) -> BTreeMap<String, Tensor<1>> {
        // Those of one rate at a time.
        let mut groups: BTreeMap<u64, BTreeMap<String, [Tensor<1>; 2]>> = BTreeMap::new();
        for (path, both) in all {
            let rate = self.rate_of(&path, learning_rate).to_bits();
            groups.entry(rate).or_default().insert(path, both);
        }
        let groups = groups
            .into_iter()
            .flat_map(|(rate, all)| self.update_group(all, factor, f64::from_bits(rate)));
        groups.collect()
    }

    fn update_group(
        &mut self,
        all: BTreeMap<String, [Tensor<1>; 2]>,
        factor: &Tensor<1>,
        learning_rate: f64,
    ) -> BTreeMap<String, Tensor<1>> {
        let (paths, all): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let taken = paths.iter().zip(all).map(|(path, [value, gradient])| {
            let state = self.by_path.remove(path);
            let state = state.unwrap_or_else(|| self.nothing_yet(&gradient));
            Moving { value, gradient, state }
        });
        let taken = taken.collect();
        let moved = self.rule.update_together(taken, factor, self.step(learning_rate));
        let kept = paths.into_iter().zip(moved).map(|(path, (value, state))| {
            self.by_path.insert(path.clone(), state);
            (path, value)
        });
        kept.collect()
    }

    /// Makes an update of parameters with these gradients twice, without and with a state, and
    /// forgets it: so that its kernels are compiled. `done` is told of all results.
    ///
    /// # Errors
    /// Those of `done`.
    pub fn try_out<E>(
        &self,
        gradients: Vec<Tensor<1>>,
        factor: &Tensor<1>,
        done: impl Fn(&Tensor<1>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut states: Vec<_> = gradients.iter().map(|of| self.nothing_yet(of)).collect();
        for number in [1, 2] {
            let all = gradients.iter().zip(states).map(|(gradient, state)| {
                let (value, gradient) = (gradient.clone(), gradient.clone());
                Moving { value, gradient, state }
            });
            let step = UpdateStep { learning_rate: 0.0, number };
            let moved = self.rule.update_together(all.collect(), factor, step);
            moved.iter().try_for_each(|(value, _)| done(value))?;
            states = moved.into_iter().map(|(_, state)| state).collect();
        }
        Ok(())
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
