//! Optimizers: rules of the update of one parameter. Each is a file here and a line in the table.

use burn::tensor::Tensor;

use crate::document::key::{DefaultValue, Key, OwnedKeys, Range, ValueKind};
use crate::document::{Value, Values, set_defaults};

mod adamw;
mod lion;

/// Every optimizer; the first one is the default.
pub const OPTIMIZERS: &[OptimizerEntry] = &[adamw::ENTRY, lion::ENTRY];

/// A line of the table.
#[derive(Debug)]
pub struct OptimizerEntry {
    /// Its name as `train.optimizer` has it.
    pub name: &'static str,
    /// Keys of `[train]` that mean something only with it.
    pub keys: &'static [Key],
    /// Settings of other tools that have no key of this name: tool, name, what takes their place.
    pub notes: &'static [(&'static str, &'static str, &'static str)],
    /// Settings with which rounding in a gradient stays rounding in the update: to compare devices.
    pub smooth: &'static [(&'static str, f64)],
    /// Reads its settings.
    pub build: fn(&Values) -> Box<dyn Optimizer>,
}

/// The rule by which one parameter is updated: settings, and no state.
pub trait Optimizer: Send + Sync + std::fmt::Debug {
    /// What it keeps for each parameter, as files name it, such as `first_moment`. Each of these
    /// tensors has as many numbers as the parameter.
    fn state_names(&self) -> &'static [&'static str];

    /// New values of a parameter, and what is kept for it, in the order of the names.
    ///
    /// `value`, `gradient`: flat, f32. `state`: what was kept; zeros before the first update.
    fn update(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        state: Vec<Tensor<1>>,
        step: UpdateStep,
    ) -> (Tensor<1>, Vec<Tensor<1>>);

    /// The same of many parameters, with their gradients times `factor: [1]`; a rule that has a
    /// kernel of its own moves them together.
    fn update_together(
        &self,
        all: Vec<Moving>,
        factor: &Tensor<1>,
        step: UpdateStep,
    ) -> Vec<(Tensor<1>, Vec<Tensor<1>>)> {
        one_by_one(|value, d, state| self.update(value, d, state, step), all, factor)
    }

    /// Bytes that it keeps for each trainable parameter.
    fn state_bytes(&self) -> u64 {
        4 * self.state_names().len() as u64
    }
}

/// A parameter on its way through an update; what it is made of is that of [`Optimizer::update`].
pub struct Moving {
    /// Its values.
    pub value: Tensor<1>,
    /// Their gradient.
    pub gradient: Tensor<1>,
    /// What was kept for it.
    pub state: Vec<Tensor<1>>,
}

/// What an update is told beside the numbers themselves.
#[derive(Debug, Clone, Copy)]
pub struct UpdateStep {
    /// Learning rate.
    pub learning_rate: f64,
    /// Number of this update, from 1.
    pub number: i32,
}

/// Each by its own update.
fn one_by_one<T>(
    update: impl Fn(Tensor<1>, Tensor<1>, Vec<Tensor<1>>) -> T,
    all: Vec<Moving>,
    factor: &Tensor<1>,
) -> Vec<T> {
    let each = all
        .into_iter()
        .map(|Moving { value, gradient, state }| update(value, gradient * factor.clone(), state));
    each.collect()
}

const NAMES: [&str; OPTIMIZERS.len()] = {
    let mut names = [""; OPTIMIZERS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = OPTIMIZERS[index].name;
        index += 1;
    }
    names
};

const CHOICE: &[Key] = &[Key::new(
    "train.optimizer",
    ValueKind::Choice(&NAMES),
    DefaultValue::Value("\"adamw\""),
    "The rule of the update.",
)
.example("\"lion\"")
.names(&[("TRL and LLaMA-Factory", "optim"), ("torchtune", "optimizer._component_")])];

/// What every optimizer is told.
const SHARED: &[Key] = &[Key::new(
    "train.weight_decay",
    ValueKind::Number(Range::closed(0.0, 10.0)),
    DefaultValue::Value("0.01"),
    "Decoupled weight decay: a step multiplies weights by `1 - learning_rate * weight_decay`.",
)
.example("0.1")];

/// The keys that choose an optimizer and configure it.
pub fn keys() -> Vec<OwnedKeys> {
    // The order in which they have always been rendered, on which digests depend.
    const BEFORE: &str = "train.max_grad_norm";
    let mut all = vec![
        OwnedKeys::within("train", "train.learning_rate", CHOICE),
        OwnedKeys::within("train", BEFORE, SHARED),
    ];
    all.extend(OPTIMIZERS.iter().map(|entry| OwnedKeys {
        notes: entry.notes,
        ..OwnedKeys::within("train", BEFORE, entry.keys)
    }));
    all
}

/// The optimizer that a config chooses.
///
/// # Panics
/// When the values are not those of a checked config.
pub fn chosen(values: &Values) -> Box<dyn Optimizer> {
    let name = values.text("train.optimizer");
    (find(&name).expect("the config was checked against the table").build)(values)
}

/// The optimizer of this name with its defaults, but for the numbers in `set`, by key.
///
/// # Panics
/// When there is no such optimizer.
pub fn with(name: &str, set: &[(&'static str, f64)]) -> Box<dyn Optimizer> {
    let entry = find(name).expect("there is an optimizer of this name");
    let mut values = Values::default();
    set_defaults(&mut values, SHARED.iter().chain(entry.keys));
    for (path, number) in set {
        values.set(path, Value::Number(*number));
    }
    (entry.build)(&values)
}

fn find(name: &str) -> Option<&'static OptimizerEntry> {
    OPTIMIZERS.iter().find(|entry| entry.name == name)
}
