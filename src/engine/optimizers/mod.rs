//! Optimizers: rules of the update of one parameter. Each is a file here and a line in the table.

use burn::tensor::Tensor;

use crate::document::key::{DefaultValue, Key, OwnedKeys, Range, ValueKind};
use crate::document::{Value, Values, set_defaults};

mod adafactor;
mod adamw;
mod adamw_8bit;
mod ema;
mod lion;
mod muon;
mod parameter;
mod schedule_free;
mod sgd;

pub use parameter::{Kept, StateSpec, UpdatedParameter, WeightDecay};

/// Every optimizer; the first one is the default.
pub const OPTIMIZERS: &[OptimizerEntry] = &[
    adamw::ENTRY,
    lion::ENTRY,
    sgd::ENTRY,
    adafactor::ENTRY,
    muon::ENTRY,
    schedule_free::ENTRY,
    adamw_8bit::ENTRY,
];

/// A line of the table.
#[derive(Debug)]
pub struct OptimizerEntry {
    /// Its name as `train.optimizer` has it.
    pub name: &'static str,
    /// Keys of `[train]` that mean something only with it, or with those of other lines, too.
    pub keys: &'static [Key],
    /// Settings of other tools that have no key of this name: tool, name, what takes their place.
    pub notes: &'static [(&'static str, &'static str, &'static str)],
    /// Settings with which rounding in a gradient stays rounding in the update: to compare devices.
    pub smooth: &'static [(&'static str, f64)],
    /// How far the numbers of two devices may be apart, relative to the largest.
    pub tolerance: f64,
    /// Reads its settings.
    pub build: fn(&Values) -> Box<dyn Optimizer>,
}

/// The rule by which one parameter is updated: settings, and no state.
pub trait Optimizer: Send + Sync + std::fmt::Debug {
    /// What it keeps for a parameter, in order.
    fn state(&self, parameter: &UpdatedParameter) -> Vec<StateSpec>;

    /// What is kept before the first update: zeros, unless a rule needs something else.
    fn initial(&self, parameter: &UpdatedParameter, value: &Tensor<1>) -> Vec<Kept> {
        let specs = self.state(parameter);
        specs.iter().map(|spec| nothing_yet(spec, value)).collect()
    }

    /// New values of a parameter, and what is kept for it.
    fn update(&self, moving: Moving, step: UpdateStep) -> (Tensor<1>, Vec<Kept>);

    /// The same of many parameters, with their gradients times `factor: [1]`; a rule that has a
    /// kernel of its own moves them together.
    fn update_together(
        &self,
        all: Vec<Moving>,
        factor: &Tensor<1>,
        step: UpdateStep,
    ) -> Vec<(Tensor<1>, Vec<Kept>)> {
        one_by_one(|moving| self.update(moving, step), all, factor)
    }

    /// Whether other weights than those that are trained are measured and used.
    fn averages(&self) -> bool {
        false
    }

    /// The weights that are measured and used, of those that are trained; the same ones unless the
    /// rule averages.
    fn averaged(&self, value: Tensor<1>, _state: &[Kept]) -> Tensor<1> {
        value
    }
}

/// Bytes that a rule keeps for these parameters.
pub fn state_bytes<'a>(
    rule: &dyn Optimizer,
    parameters: impl IntoIterator<Item = &'a UpdatedParameter>,
) -> u64 {
    parameters.into_iter().flat_map(|of| rule.state(of)).map(|spec| spec.bytes()).sum()
}

/// Whether a rule has its state in host memory, and computes updates there.
pub fn is_on_host(rule: &dyn Optimizer) -> bool {
    let large = UpdatedParameter::new("layers.0.weight", &[1024, 1024]);
    rule.state(&large).iter().any(|spec| spec.codes)
}

/// Zeros of one kind, where `like` is.
pub(super) fn nothing_yet(spec: &StateSpec, like: &Tensor<1>) -> Kept {
    match spec.codes {
        true => Kept::Codes(std::sync::Arc::new(vec![0; spec.count])),
        false => Kept::Numbers(Tensor::zeros([spec.count], &like.device())),
    }
}

/// A parameter on its way through an update.
pub struct Moving {
    /// Which one.
    pub parameter: UpdatedParameter,
    /// Its values, flat, f32.
    pub value: Tensor<1>,
    /// Their gradient.
    pub gradient: Tensor<1>,
    /// What was kept for it.
    pub state: Vec<Kept>,
}

/// What an update is told beside the numbers themselves.
#[derive(Debug, Clone, Copy)]
pub struct UpdateStep {
    /// Learning rate.
    pub learning_rate: f64,
    /// Weight decay of parameters that have one of their own.
    pub weight_decay: Option<f64>,
    /// Number of this update, from 1.
    pub number: i32,
}

/// Each by its own update.
fn one_by_one<T>(update: impl Fn(Moving) -> T, all: Vec<Moving>, factor: &Tensor<1>) -> Vec<T> {
    let scaled = |moving: Moving| Moving { gradient: moving.gradient * factor.clone(), ..moving };
    all.into_iter().map(|moving| update(scaled(moving))).collect()
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

/// Optimizers that train the weights that are used.
const NOT_AVERAGING: &[&str] = &["adamw", "lion", "sgd", "adafactor", "muon", "adamw-8bit"];

/// What goes along with any of them.
const MORE: &[Key] = &[Key::new(
    "train.ema_decay",
    ValueKind::Number(Range { min: 0.0, max: 1.0, min_excluded: true, max_excluded: true }),
    DefaultValue::Absent("the trained weights themselves are used"),
    "Keeps an exponential moving average of the trained weights, of which so much stays in each \
     step; the average is what is measured, saved for use and published.",
)
.example("0.999")
.only_with("train.optimizer", NOT_AVERAGING)];

/// The keys that choose an optimizer and configure it.
pub fn keys() -> Vec<OwnedKeys> {
    // The order in which they have always been rendered, on which digests depend.
    const BEFORE: &str = "train.max_grad_norm";
    let mut all = vec![
        OwnedKeys::within("train", "train.learning_rate", CHOICE),
        OwnedKeys::within("train", BEFORE, parameter::DECAY_KEYS),
    ];
    all.extend(OPTIMIZERS.iter().map(|entry| OwnedKeys {
        notes: entry.notes,
        ..OwnedKeys::within("train", BEFORE, entry.keys)
    }));
    all.push(OwnedKeys::within("train", BEFORE, MORE));
    all
}

/// The optimizer that a config chooses.
///
/// # Panics
/// When the values are not those of a checked config.
pub fn chosen(values: &Values) -> Box<dyn Optimizer> {
    let name = values.text("train.optimizer");
    let rule = (find(&name).expect("the config was checked against the table").build)(values);
    averaging(rule, values)
}

fn averaging(rule: Box<dyn Optimizer>, values: &Values) -> Box<dyn Optimizer> {
    match values.optional_number("train.ema_decay") {
        Some(decay) => Box::new(ema::Averaging { rule, decay }),
        None => rule,
    }
}

/// The optimizer of this name with its defaults, but for the numbers in `set`, by key.
///
/// # Panics
/// When there is no such optimizer.
pub fn with(name: &str, set: &[(&'static str, f64)]) -> Box<dyn Optimizer> {
    let set: Vec<_> = set.iter().map(|(path, number)| (*path, Value::Number(*number))).collect();
    with_values(name, &set)
}

/// The same with values of any kind.
///
/// # Panics
/// When there is no such optimizer.
pub fn with_values(name: &str, set: &[(&'static str, Value)]) -> Box<dyn Optimizer> {
    let entry = find(name).expect("there is an optimizer of this name");
    let mut values = Values::default();
    // Some have settings of another's.
    let keys = OPTIMIZERS.iter().flat_map(|entry| entry.keys);
    set_defaults(&mut values, parameter::DECAY_KEYS.iter().chain(keys));
    for (path, value) in set {
        values.set(path, value.clone());
    }
    let rule = (entry.build)(&values);
    averaging(rule, &values)
}

fn find(name: &str) -> Option<&'static OptimizerEntry> {
    OPTIMIZERS.iter().find(|entry| entry.name == name)
}
