//! The chosen optimizer and what it keeps for each parameter, by path.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};

use super::offload::{STATE_AT_ONCE, StateStore};
use super::optimizers::{Kept, Moving, Optimizer, StateSpec, UpdateStep, UpdatedParameter};
use crate::error::Result;

/// What is kept for each parameter, by its path; in the order of what the optimizer asks for.
pub type StateByPath = BTreeMap<String, Vec<Kept>>;

/// An optimizer at work: its rule, its state, and the number of updates done.
pub struct OptimizerState {
    rule: Box<dyn Optimizer>,
    by_path: StateByPath,
    updates: i32,
    rules: ParameterRules,
    /// Where the state is between updates, if that is not on the device.
    store: Option<StateStore>,
}

/// What a parameter has that others have not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParameterRule {
    /// Its learning rate as a multiple of that of the others.
    pub rate_ratio: f64,
    /// Its weight decay, if it has one of its own.
    pub weight_decay: Option<f64>,
}

impl Default for ParameterRule {
    fn default() -> Self {
        Self { rate_ratio: 1.0, weight_decay: None }
    }
}

/// By path, the parameters that have a rate or a decay of their own.
pub type ParameterRules = BTreeMap<String, ParameterRule>;

/// A parameter with its value and its gradient.
type Given = (UpdatedParameter, [Tensor<1>; 2]);

impl OptimizerState {
    /// An optimizer that has seen nothing.
    pub fn new(rule: Box<dyn Optimizer>) -> Self {
        let rules = ParameterRules::new();
        Self { rule, by_path: BTreeMap::new(), updates: 0, rules, store: None }
    }

    /// Keeps the state elsewhere than on the device, from the next update on.
    pub fn offload_to(&mut self, store: StateStore) {
        self.store = Some(store);
    }

    /// What is kept, as it is between updates.
    ///
    /// # Errors
    /// When it goes to a disk that is full.
    pub fn stored(&self, kept: Kept) -> Result<Kept> {
        match &self.store {
            Some(store) => store.put(kept),
            None => Ok(kept),
        }
    }

    fn keep(&mut self, path: String, state: Vec<Kept>) -> Result<()> {
        let state: Result<_> = state.into_iter().map(|kept| self.stored(kept)).collect();
        self.by_path.insert(path, state?);
        Ok(())
    }

    /// Gives some parameters a rate or a decay of their own.
    pub fn set_rules(&mut self, rules: ParameterRules) {
        self.rules = rules;
    }

    /// What an update of a parameter is told, at this rate of the others.
    fn step_of(&self, path: &str, learning_rate: f64) -> UpdateStep {
        let own = self.rules.get(path).copied().unwrap_or_default();
        let (learning_rate, weight_decay) = (learning_rate * own.rate_ratio, own.weight_decay);
        UpdateStep { learning_rate, weight_decay, number: self.updates }
    }

    /// Begins an update of all parameters.
    pub fn begin_update(&mut self) {
        self.updates += 1;
    }

    /// The new values of one parameter.
    ///
    /// # Errors
    /// When its state goes to a disk that is full.
    pub fn update(
        &mut self,
        parameter: UpdatedParameter,
        value: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Result<Tensor<1>> {
        let path = parameter.path.clone();
        let step = self.step_of(&path, learning_rate);
        let moving = self.moving(parameter, value, gradient);
        let (value, state) = self.rule.update(moving, step);
        self.keep(path, state)?;
        Ok(value)
    }

    /// The new values of many parameters, by path, from values and gradients, which are multiplied
    /// with `factor: [1]`.
    ///
    /// # Errors
    /// When their state goes to a disk that is full.
    pub fn update_together(
        &mut self,
        all: Vec<Given>,
        factor: &Tensor<1>,
        learning_rate: f64,
    ) -> Result<BTreeMap<String, Tensor<1>>> {
        // Those of one rate and one decay at a time.
        let mut groups: BTreeMap<_, (UpdateStep, Vec<Given>)> = BTreeMap::new();
        for (parameter, both) in all {
            let step = self.step_of(&parameter.path, learning_rate);
            let alike = (step.learning_rate.to_bits(), step.weight_decay.map(f64::to_bits));
            let (_, group) = groups.entry(alike).or_insert_with(|| (step, Vec::new()));
            group.push((parameter, both));
        }
        let mut moved = BTreeMap::new();
        for (step, all) in groups.into_values() {
            for all in self.portions(all, |(parameter, _)| parameter) {
                moved.extend(self.update_group(all, factor, step)?);
            }
        }
        Ok(moved)
    }

    /// What is moved at the same time: all, or where the state is not on the device as many
    /// parameters as are brought there at once.
    fn portions<T>(&self, all: Vec<T>, of: impl Fn(&T) -> &UpdatedParameter) -> Vec<Vec<T>> {
        if self.store.is_none() {
            return vec![all];
        }
        let (mut portions, mut bytes) = (Vec::<Vec<T>>::new(), 0);
        for one in all {
            let state: u64 = self.specs(of(&one)).iter().map(StateSpec::bytes).sum();
            match portions.last_mut().filter(|_| bytes + state <= STATE_AT_ONCE) {
                Some(portion) => portion.push(one),
                None => {
                    portions.push(vec![one]);
                    bytes = 0;
                }
            }
            bytes += state;
        }
        portions
    }

    fn update_group(
        &mut self,
        all: Vec<Given>,
        factor: &Tensor<1>,
        step: UpdateStep,
    ) -> Result<Vec<(String, Tensor<1>)>> {
        let paths: Vec<String> = all.iter().map(|(parameter, _)| parameter.path.clone()).collect();
        let taken = all
            .into_iter()
            .map(|(parameter, [value, gradient])| self.moving(parameter, value, gradient));
        let taken = taken.collect();
        let moved = self.rule.update_together(taken, factor, step);
        let kept = paths.into_iter().zip(moved).map(|(path, (value, state))| {
            self.keep(path.clone(), state)?;
            Ok((path, value))
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
        let state = match self.by_path.remove(&parameter.path) {
            Some(state) => brought(state, &value.device()),
            None => self.rule.initial(&parameter, &value),
        };
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
        done: impl Fn(&Tensor<1>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let portions = self.portions(gradients, |(parameter, _)| parameter);
        portions.into_iter().try_for_each(|all| self.try_portion(all, factor, &done))
    }

    fn try_portion<E>(
        &self,
        gradients: Vec<(UpdatedParameter, Tensor<1>)>,
        factor: &Tensor<1>,
        done: impl Fn(&Tensor<1>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let fresh = |(of, like): &(UpdatedParameter, Tensor<1>)| self.rule.initial(of, like);
        let mut states: Vec<_> = gradients.iter().map(fresh).collect();
        for number in [1, 2] {
            let all = gradients.iter().zip(states).map(|((parameter, gradient), state)| {
                let (parameter, value) = (parameter.clone(), gradient.clone());
                Moving { parameter, value, gradient: gradient.clone(), state }
            });
            let step = UpdateStep { learning_rate: 0.0, weight_decay: None, number };
            let moved = self.rule.update_together(all.collect(), factor, step);
            moved.iter().try_for_each(|(value, _)| done(value))?;
            states = moved.into_iter().map(|(_, state)| state).collect();
        }
        Ok(())
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
            Some(state) => {
                let state = brought(state.clone(), &value.device());
                self.rule.averaged(value, &state)
            }
            None => value,
        }
    }

    /// Goes on from a saved state, each part of which is as [`Self::stored`] has it.
    pub fn restore(&mut self, by_path: StateByPath, updates: u64) {
        self.by_path = by_path;
        self.updates = i32::try_from(updates).expect("runs stay below 2^31 updates");
    }
}

fn brought(state: Vec<Kept>, device: &Device) -> Vec<Kept> {
    state.into_iter().map(|kept| kept.brought_to(device)).collect()
}
