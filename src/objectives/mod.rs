//! What a model is trained on: losses at the head, with their gradients. Each is a file here and a
//! line in the table.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::config::ScoreHead;
use crate::data::Batch;
use crate::document::key::{DefaultValue, Key, OwnedKeys, Section, ValueKind};
use crate::document::{Value, Values, set_defaults};
use crate::error::Result;
use crate::model::{Gradients, Model};

mod cross_entropy;
mod pairwise;
mod cpo;
mod distillation;
mod dpo;
mod grpo;
mod kto;
mod orpo;
mod sft;
mod simpo;
mod classification;
mod reward_model;
mod score_layer;

pub use classification::TASK as LABELLING_TASK;
pub use cross_entropy::{
    LossSum, Scales, Targets, next_token_backward, next_token_loss, next_token_scores, top_tokens,
};
pub use distillation::{OnPolicyConfig, TeacherConfig};
pub use grpo::{AdvantageBaseline, RewardScale, RewardSpec, RolloutConfig};
pub use score_layer::scores as label_scores;

/// Every objective; the first one is the default.
pub const OBJECTIVES: &[ObjectiveEntry] = &[
    sft::ENTRY,
    dpo::ENTRY,
    simpo::ENTRY,
    cpo::ENTRY,
    orpo::ENTRY,
    kto::ENTRY,
    classification::ENTRY,
    reward_model::ENTRY,
    grpo::ENTRY,
    distillation::ENTRY,
];

/// A line of the table.
#[derive(Debug)]
pub struct ObjectiveEntry {
    /// Its name as `train.objective` has it.
    pub name: &'static str,
    /// Its own section, if it has settings.
    pub section: Option<Section>,
    /// What it learns from.
    pub records: Records,
    /// Reads its settings.
    pub build: fn(&Values) -> Box<dyn Objective>,
}

/// What an objective learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// Every record with target tokens.
    Any,
    /// Pairs of answers, each of them one example: what precedes the last answer and the chosen
    /// one, then what precedes it and the rejected one.
    Pairs,
    /// Answers with a label, each of them one example: what precedes the last answer, the answer,
    /// and a token that is no target if it is undesirable.
    Labels,
    /// Texts with labels of their own, each of them one example: the text, and targets that tell
    /// the labels.
    Texts,
    /// Prompts, each with an answer to compare with: what precedes the last answer, and the answer.
    Prompts,
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

    /// The column of records with the margin of a pair, if one is to be read.
    fn margin_column(&self) -> Option<&str> {
        None
    }

    /// Whether documents of it that follow each other begin alike, as answers to the same prompt
    /// do.
    fn shares_prompts(&self) -> bool {
        false
    }

    /// Whether it compares with the base model: [`Supervised::reference`] is there then.
    fn needs_reference(&self) -> bool {
        false
    }

    /// What is scored in the place of tokens, if anything is: the model has a head for it then.
    /// Labels that the settings do not name are those of the data.
    fn score_head(&self) -> Option<ScoreHead> {
        None
    }

    /// Whether targets may have weights ([`Batch::weights`]): the loss is a sum over tokens.
    fn weighs_tokens(&self) -> bool {
        false
    }

    /// Whether a temperature for the probabilities of labels is fitted at the end.
    fn calibrates(&self) -> bool {
        false
    }

    /// Looks at what the table of keys cannot say of its settings; `validates` where the run has
    /// validation data.
    ///
    /// # Errors
    /// When they make no sense.
    fn check(&self, _validates: bool) -> Result<()> {
        Ok(())
    }

    /// What scores are divided by, where what is learnt from was sampled at another temperature.
    fn temperature(&self) -> f32 {
        1.0
    }

    /// The model whose probabilities are learnt from: [`Batch::teacher`] has them then, but where
    /// nothing is to be learnt.
    fn teacher(&self) -> Option<&TeacherConfig> {
        None
    }

    /// What the model is to write itself before a step, in place of what the data has for answers.
    fn rollouts(&self) -> Option<&RolloutConfig> {
        None
    }

    /// How the model answers prompts itself in some steps, if it is to: the teacher is asked about
    /// these answers then.
    fn on_policy(&self) -> Option<OnPolicyConfig> {
        None
    }

    /// Whether steps may learn from rows that the model writes, which no data has.
    fn writes_rows(&self) -> bool {
        self.rollouts().is_some() || self.on_policy().is_some()
    }

    /// Sums of the loss over what is counted, in nats, and of what is reported beside it.
    fn loss(&self, batch: Supervised) -> Loss;

    /// The same, with the gradient of `scale` times it with respect to the input of the head;
    /// gradients of trainable parameters of the head go into `sums`.
    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>);

    /// Names of what is summed up of a step beside the loss, in the order of [`Loss::metrics`].
    fn metrics(&self) -> &'static [&'static str] {
        &[]
    }

    /// What is reported of a step, by name, from means of those sums over what is counted.
    fn report(&self, means: &[f64]) -> BTreeMap<String, f64> {
        let names = self.metrics().iter().map(|name| (*name).to_owned());
        names.zip(means.iter().copied()).collect()
    }

    /// Batches of which is to be known before a step, or an evaluation, how much likelier the model
    /// finds their targets than the base model; of the step, or of all that is evaluated.
    fn beforehand(&self, _batches: &[Batch]) -> Vec<Batch> {
        Vec::new()
    }

    /// The objective of the step, knowing the sum of that over all targets of those batches, in
    /// nats; none where it is what it was.
    fn knowing(&self, _gain: f64, _measured: &[Batch]) -> Option<Box<dyn Objective>> {
        None
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
    /// The log-probability of each target by the base model, in nats, where the objective needs it.
    pub reference: Option<&'a [f64]>,
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

    /// All sums divided by a count.
    #[must_use]
    pub fn over(self, count: f64) -> Self {
        let metrics = self.metrics.into_iter().map(|sum| sum / count).collect();
        let sum = match self.sum {
            LossSum::Number(sum) => LossSum::Number(sum / count),
            LossSum::OnDevice(sum) => LossSum::OnDevice(sum.div_scalar(count)),
        };
        Self { sum, metrics }
    }

    /// The summed loss; of a device, when it is there.
    pub fn number(self) -> f64 {
        self.sum.number()
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
    "What is minimised. `sft`: the negative log-likelihood of the target tokens. From pairs \
     of answers, `dpo`: rewards against the base model (Rafailov et al. 2023). `simpo`: rewards \
     per token, without it (Meng et al. 2024). `cpo`: log-probabilities, and the likelihood of \
     the chosen answer (Xu et al. 2024). `orpo`: that likelihood, and the odds of the rejected \
     answer (Hong et al. 2024). `kto` learns from single answers with a label, `true` or `false`, \
     by rewards against the base model (Ethayarajh et al. 2024). `classification` scores labels of \
     texts, or predicts numbers, by a head of its own; `reward` scores answers so that the chosen \
     ones of pairs have more (Ouyang et al. 2022). `grpo` has the model answer prompts itself, \
     several times each, and learns from the rewards of `[[grpo.reward]]` (Shao et al. 2024). \
     `distillation` learns the probabilities that a larger model, `distillation.teacher`, gives to \
     tokens (Hinton et al. 2015).",
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

/// The objective of this name with its defaults, but for the values in `set`, by key.
///
/// # Panics
/// When there is no such objective.
pub fn with(name: &str, set: &[(&'static str, Value)]) -> Box<dyn Objective> {
    let entry = find(name).expect("there is an objective of this name");
    let mut values = Values::default();
    let keys = entry.section.iter().flat_map(|section| section.keys);
    set_defaults(&mut values, keys);
    for (path, value) in set {
        values.set(path, value.clone());
    }
    (entry.build)(&values)
}

/// A hint for records that are pairs of answers: the objectives that learn from them.
pub fn hint_of_pairs() -> String {
    let answers = |entry: &&ObjectiveEntry| {
        entry.records == Records::Pairs && with(entry.name, &[]).score_head().is_none()
    };
    let names = OBJECTIVES.iter().filter(answers);
    let mut names = names.map(|entry| entry.name);
    let first = names.next().unwrap_or_default();
    let others: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let others = others.join(", ");
    format!("`train.objective = \"{first}\"` trains on both answers, and so do {others}")
}

/// A hint of how a head of labels is trained.
pub fn hint_of_labels() -> String {
    format!("`train.objective = \"{}\"` trains one", classification::ENTRY.name)
}

/// The objectives that learn from pairs of answers and compare with no base model, for a hint.
pub fn without_reference() -> String {
    let alone = |entry: &&ObjectiveEntry| {
        let objective = with(entry.name, &[]);
        let writes = !objective.needs_reference() && objective.score_head().is_none();
        entry.records == Records::Pairs && writes
    };
    let names: Vec<String> =
        OBJECTIVES.iter().filter(alone).map(|entry| format!("`{}`", entry.name)).collect();
    names.join(" or ")
}

/// The objectives whose tokens may have weights, for a hint.
pub fn that_weigh_tokens() -> String {
    let weighs = |entry: &&ObjectiveEntry| with(entry.name, &[]).weighs_tokens();
    let names: Vec<String> =
        OBJECTIVES.iter().filter(weighs).map(|entry| format!("`{}`", entry.name)).collect();
    names.join(" or ")
}

fn find(name: &str) -> Option<&'static ObjectiveEntry> {
    OBJECTIVES.iter().find(|entry| entry.name == name)
}
