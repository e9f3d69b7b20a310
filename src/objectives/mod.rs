//! What a model is trained on: losses at the head, with their gradients. Each is a file here and a
//! line in the table.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::data::Batch;
use crate::document::key::{DefaultValue, Key, OwnedKeys, Section, ValueKind};
use crate::document::{Value, Values, set_defaults};
use crate::model::{Gradients, Model};

mod cross_entropy;
mod orpo;
mod sft;

pub use cross_entropy::{
    LossSum, Targets, next_token_backward, next_token_loss, next_token_scores,
};

/// Every objective; the first one is the default.
pub const OBJECTIVES: &[ObjectiveEntry] = &[sft::ENTRY, orpo::ENTRY];

/// A line of the table.
#[derive(Debug)]
pub struct ObjectiveEntry {
    /// Its name as `train.objective` has it.
    pub name: &'static str,
    /// Its own section, if it has settings.
    pub section: Option<Section>,
    /// Whether it learns from pairs of answers, each of them one example: what precedes the last
    /// answer and the chosen one, then what precedes it and the rejected one.
    pub pairs: bool,
    /// Reads its settings.
    pub build: fn(&Values) -> Box<dyn Objective>,
}

/// A loss: settings, and no state.
pub trait Objective: Send + Sync + std::fmt::Debug {
    /// How many of what the loss is the mean over stand in a batch: target tokens, or pairs. A step
    /// is the mean over all micro-batches, so that splitting one changes no update.
    fn count(&self, batch: &Batch) -> u64;

    /// The batch as the model is to see it.
    fn arrange<'a>(&self, batch: &'a Batch) -> Cow<'a, Batch> {
        Cow::Borrowed(batch)
    }

    /// The sum of the loss over what is counted, in nats.
    fn loss(&self, batch: Supervised) -> f64;

    /// The same, with the gradient of `scale` times it with respect to the input of the head;
    /// gradients of trainable parameters of the head go into `sums`.
    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>);

    /// Names of what is reported of a step beside the loss, in the order of [`Loss::metrics`].
    fn metrics(&self) -> &'static [&'static str] {
        &[]
    }
}

/// What the layers made of a batch, and what is to be predicted from it.
#[derive(Clone, Copy)]
pub struct Supervised<'a> {
    /// The model.
    pub model: &'a Model,
    /// `[positions, hidden]`, as it leaves the layers: all positions, or those of targets alone.
    pub x: &'a Tensor<2>,
    /// The batch as it was arranged.
    pub batch: &'a Batch,
    /// The row of `x` and the token of each of the batch's targets, in their order.
    pub targets: Targets<'a>,
}

/// A summed loss, and sums of what is reported beside it.
#[derive(Debug, Clone, Default)]
pub struct Loss {
    /// In nats.
    pub sum: LossSum,
    /// By the names of [`Objective::metrics`].
    pub metrics: Vec<f64>,
}

impl Loss {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let metrics = match (self.metrics, other.metrics) {
            (mut ours, theirs) if ours.len() == theirs.len() => {
                ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
                ours
            }
            // One of them is that of nothing yet.
            (ours, theirs) => {
                if ours.is_empty() {
                    theirs
                } else {
                    ours
                }
            }
        };
        Self { sum: self.sum.plus(other.sum), metrics }
    }

    /// All sums times a factor.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        let metrics = self.metrics.into_iter().map(|sum| sum * factor).collect();
        Self { sum: self.sum.times(factor), metrics }
    }

    /// The summed loss; of a device, when it is there.
    pub fn number(self) -> f64 {
        self.sum.number()
    }

    /// What is reported, by name.
    pub fn named(&self, names: &[&str]) -> BTreeMap<String, f64> {
        names.iter().map(|name| (*name).to_owned()).zip(self.metrics.iter().copied()).collect()
    }
}

const NAMES: [&str; OBJECTIVES.len()] = {
    let mut names = [""; OBJECTIVES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = OBJECTIVES[index].name;
        index += 1;
    }
    names
};

const CHOICE: &[Key] = &[Key::new(
    "train.objective",
    ValueKind::Choice(&NAMES),
    DefaultValue::Value("\"sft\""),
    "What is minimised. `sft`: the negative log-likelihood of the target tokens. `orpo`: that of \
     the chosen of two answers, and the odds of the rejected one (Hong et al. 2024).",
)
.example("\"orpo\"")
.silent_default()
.names(&[("LLaMA-Factory", "stage"), ("axolotl", "rl")])];

/// The keys that choose an objective and configure it.
pub fn keys() -> Vec<OwnedKeys> {
    let mut all = vec![OwnedKeys::within("train", "train.micro_batch_size", CHOICE)];
    let sections = OBJECTIVES.iter().filter_map(|entry| entry.section);
    all.extend(sections.map(|section| OwnedKeys::section(section, "eval")));
    all
}

/// The line of the table that a config chooses.
///
/// # Panics
/// When the values are not those of a checked config.
pub fn entry(values: &Values) -> &'static ObjectiveEntry {
    let name = values.text("train.objective");
    find(&name).expect("the config was checked against the table")
}

/// The objective that a config chooses.
///
/// # Panics
/// When the values are not those of a checked config.
pub fn chosen(values: &Values) -> Box<dyn Objective> {
    (entry(values).build)(values)
}

/// The objective of a run that chooses none.
pub fn by_default() -> Box<dyn Objective> {
    with(OBJECTIVES[0].name, &[])
}

/// The objective of this name with its defaults, but for the numbers in `set`, by key.
///
/// # Panics
/// When there is no such objective.
pub fn with(name: &str, set: &[(&'static str, f64)]) -> Box<dyn Objective> {
    let entry = find(name).expect("there is an objective of this name");
    let mut values = Values::default();
    let keys = entry.section.iter().flat_map(|section| section.keys);
    set_defaults(&mut values, keys);
    for (path, number) in set {
        values.set(path, Value::Number(*number));
    }
    (entry.build)(&values)
}

/// A hint for records that are pairs of answers: the objectives that learn from them.
pub fn hint_of_pairs() -> String {
    let names = OBJECTIVES.iter().filter(|entry| entry.pairs);
    let settings: Vec<String> =
        names.map(|entry| format!("`train.objective = \"{}\"`", entry.name)).collect();
    match settings.is_empty() {
        true => String::new(),
        false => format!("{} trains on both answers", settings.join(" or ")),
    }
}

fn find(name: &str) -> Option<&'static ObjectiveEntry> {
    OBJECTIVES.iter().find(|entry| entry.name == name)
}
