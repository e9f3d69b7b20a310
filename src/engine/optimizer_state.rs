//! The chosen optimizer and what it keeps for each parameter, by path.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::optimizers::{Kept, Moving, Optimizer, StateSpec, UpdateStep, UpdatedParameter};

/// What is kept for each parameter, by its path; in the order of what the optimizer asks for.
pub type StateByPath = BTreeMap<String, Vec<Kept>>;

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
        parameter: UpdatedParameter,
        value: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        let path = parameter.path.clone();
        let step = self.step(self.rate_of(&path, learning_rate));
        let moving = self.moving(parameter, value, gradient);
        let (value, state) = self.rule.update(moving, step);
        self.by_path.insert(path, state);
        value
    }

    /// The new values of many parameters, by path, from values and gradients, which are multiplied
    /// with `factor: [1]`.
    pub fn update_together(
        &mut self,
        all: Vec<(UpdatedParameter, [Tensor<1>; 2])>,
        factor: &Tensor<1>,
        learning_rate: f64,
    ) -> BTreeMap<String, Tensor<1>> {
        // Those of one rate at a time.
        let mut groups: BTreeMap<u64, Vec<(UpdatedParameter, [Tensor<1>; 2])>> = BTreeMap::new();
        for (parameter, both) in all {
            let rate = self.rate_of(&parameter.path, learning_rate).to_bits();
            groups.entry(rate).or_default().push((parameter, both));
        }
        let groups = groups
            .into_iter()
            .flat_map(|(rate, all)| self.update_group(all, factor, f64::from_bits(rate)));
        groups.collect()
    }

    fn update_group(
        &mut self,
        all: Vec<(UpdatedParameter, [Tensor<1>; 2])>,
        factor: &Tensor<1>,
        learning_rate: f64,
    ) -> BTreeMap<String, Tensor<1>> {
        let paths: Vec<String> = all.iter().map(|(parameter, _)| parameter.path.clone()).collect();
        let taken = all
            .into_iter()
            .map(|(parameter, [value, gradient])| self.moving(parameter, value, gradient));
        let taken = taken.collect();
        let moved = self.rule.update_together(taken, factor, self.step(learning_rate));
        let kept = paths.into_iter().zip(moved).map(|(path, (value, state))| {
            self.by_path.insert(path.clone(), state);
            (path, value)
        });
        kept.collect()
    }

    /// A parameter with what is kept for it, which goes along.
    fn moving(
        &mut self,
        parameter: UpdatedParameter,
        value: Tensor<1>,
        gradient: Tensor<1>,
    ) -> Moving {
        let state = self.by_path.remove(&parameter.path);
        let state = state.unwrap_or_else(|| self.rule.initial(&parameter, &value));
        Moving { parameter, value, gradient, state }
    }

    /// Makes an update of parameters with these gradients twice, without and with a state, and
    /// forgets it: so that its kernels are compiled. `done` is told of all results.
    ///
    /// # Errors
    /// Those of `done`.
    pub fn try_out<E>(
        &self,
        gradients: Vec<(UpdatedParameter, Tensor<1>)>,
        factor: &Tensor<1>,
        done: impl Fn(&Tensor<1>) -> Result<(), E>,
    ) -> Result<(), E> {
        let fresh = |(of, like): &(UpdatedParameter, Tensor<1>)| self.rule.initial(of, like);
        let mut states: Vec<_> = gradients.iter().map(fresh).collect();
        for number in [1, 2] {
            let all = gradients.iter().zip(states).map(|((parameter, gradient), state)| {
                let (parameter, value) = (parameter.clone(), gradient.clone());
                Moving { parameter, value, gradient: gradient.clone(), state }
            });
            let step = UpdateStep { learning_rate: 0.0, number };
            let moved = self.rule.update_together(all.collect(), factor, step);
            moved.iter().try_for_each(|(value, _)| done(value))?;
            states = moved.into_iter().map(|(_, state)| state).collect();
        }
        Ok(())
    }

    fn step(&self, learning_rate: f64) -> UpdateStep {
        UpdateStep { learning_rate, number: self.updates }
    }

    /// Number of updates done.
    pub fn updates(&self) -> u64 {
        u64::try_from(self.updates).expect("it only grows from zero")
    }

    /// What is kept for a parameter, as files name it.
    pub fn specs(&self, parameter: &UpdatedParameter) -> Vec<StateSpec> {
        self.rule.state(parameter)
    }

    /// All that is kept, by path.
    pub fn by_path(&self) -> &StateByPath {
        &self.by_path
    }

    /// Whether other weights than those that are trained are measured and used.
    pub fn averages(&self) -> bool {
        self.rule.averages()
    }

    /// The weights that are measured and used, of those of one parameter that are trained.
    pub fn averaged(&self, path: &str, value: Tensor<1>) -> Tensor<1> {
        match self.by_path.get(path) {
            Some(state) => self.rule.averaged(value, state),
            None => value,
        }
    }

    /// Goes on from a saved state.
    pub fn restore(&mut self, by_path: StateByPath, updates: u64) {
        self.by_path = by_path;
        self.updates = i32::try_from(updates).expect("runs stay below 2^31 updates");
    }
}
