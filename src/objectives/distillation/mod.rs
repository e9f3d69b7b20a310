//! Distillation (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"): the model
//! learns the probabilities that a teacher gives to tokens at the places of the targets. The
//! divergence is that of TRL's `GKDTrainer` (Agarwal et al. 2024, "On-Policy Distillation of
//! Language Models"); with `lmbda`, so are the answers of the model that it is taken of.
//!
//! Of the teacher the likeliest tokens are known, and what all others have together, which is one
//! outcome more. They come with the batches: computed once, before the run, or, where the model
//! answers itself, in each step.

mod divergence;

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use self::divergence::generalised_jsd;
use super::cross_entropy::{divergence as losses_of, divergence_backward};
use super::pairwise::section;
use super::{
    Loss, LossSum, Objective, ObjectiveEntry, Records, Scales, Supervised, Targets,
    next_token_backward, next_token_scores,
};
use crate::data::Batch;
use crate::document::Values;
use crate::document::key::{DefaultValue, Key, MANY, Range, ValueKind};
use crate::error::{Error, Result};
use crate::model::Gradients;

pub(super) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "distillation",
    section: Some(section(
        "distillation",
        &["distillation"],
        "Learning the probabilities that a larger model gives to tokens.",
        KEYS,
    )),
    records: Records::Any,
    build: |values| Box::new(Distillation::read(values)),
};

const KEYS: &[Key] = &[
    Key::new(
        "distillation.teacher",
        ValueKind::Line,
        DefaultValue::Absent("none: it must be named"),
        "The model that is learnt from: a directory, or owner/name of a model on the hub, with \
         `@revision` behind it for another than `main`. It needs the tokenizer of the base model. \
         Its weights are in memory only before the run, while its probabilities are computed: \
         these are filed in the cache, and found there by every run with the same teacher, data \
         and settings. With `lmbda` they stay in memory beside the run.",
    )
    .example("\"HuggingFaceTB/SmolLM2-1.7B-Instruct\"")
    .names(&[("TRL", "teacher_model_name_or_path")]),
    Key::new(
        "distillation.beta",
        ValueKind::Number(Range::closed(0.0, 1.0)),
        DefaultValue::Value("0.5"),
        "Which divergence is minimised: 0 is the forward one (Kullback-Leibler of the model from \
         the teacher), which covers all that the teacher may say; 1 is the reverse one, which \
         keeps to what the teacher finds likely; between them lies the generalised Jensen-Shannon \
         divergence.",
    )
    .example("0"),
    Key::new(
        "distillation.temperature",
        ValueKind::Number(Range::closed(0.1, 100.0)),
        DefaultValue::Value("1"),
        "What the scores of both models are divided by before they are compared: above 1, \
         unlikely tokens count more.",
    )
    .example("2")
    .names(&[("axolotl", "kd_temperature")]),
    Key::new(
        "distillation.top_k",
        ValueKind::Integer { min: 1, max: 1 << 20 },
        DefaultValue::Value("64"),
        "How many of the teacher's likeliest tokens are kept for each target token, 8 bytes each. \
         All others together are one outcome more.",
    )
    .example("128"),
    Key::new(
        "distillation.kd_ratio",
        ValueKind::Number(Range::closed(0.0, 1.0)),
        DefaultValue::Value("1"),
        "The share of the divergence in the loss; the rest is the cross-entropy of the target \
         tokens.",
    )
    .example("0.5")
    .names(&[("axolotl", "kd_alpha")]),
    Key::new(
        "distillation.lmbda",
        ValueKind::Number(Range::closed(0.0, 1.0)),
        DefaultValue::Value("0"),
        "The share of steps in which the model answers the prompts itself, and learns from what \
         the teacher makes of these answers in the place of those of the data (GKD, Agarwal et \
         al. 2024). Which steps, and every draw, follow from `seed`. Above 0 the teacher is in \
         memory beside the run, is asked in each step, and nothing is filed.",
    )
    .example("0.5"),
    Key::new(
        "distillation.sampling_temperature",
        ValueKind::Number(Range::above(0.0, 100.0)),
        DefaultValue::Value("0.9"),
        "What scores are divided by before a token of such an answer is drawn. It changes no \
         loss: `temperature` does.",
    )
    .example("1"),
    Key::new(
        "distillation.max_new_tokens",
        ValueKind::Integer { min: 1, max: MANY },
        DefaultValue::Value("128"),
        "Longest such answer in tokens. Prompt and answer together are no longer than \
         `data.max_seq_len`.",
    )
    .example("64"),
];

/// The model that is learnt from, and what of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherConfig {
    /// As a configuration names it.
    pub model: String,
    /// How many of its likeliest tokens are kept.
    pub top_k: usize,
    /// What its scores are divided by.
    pub temperature: f32,
}

/// Which steps learn from answers that the model writes itself, and how it does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnPolicyConfig {
    /// The share of such steps.
    pub lmbda: f64,
    /// What scores are divided by before a token is drawn.
    pub temperature: f64,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
}

#[derive(Debug)]
struct Distillation {
    teacher: TeacherConfig,
    beta: f64,
    /// The share of the divergence.
    ratio: f64,
    on_policy: OnPolicyConfig,
}

/// Means over target tokens.
const METRICS: [&str; 2] = ["divergence", "cross_entropy"];

impl Distillation {
    fn read(values: &Values) -> Self {
        #[expect(clippy::cast_possible_truncation)] // scores are f32
        let temperature = values.number("distillation.temperature") as f32;
        let model = values.optional_text("distillation.teacher").unwrap_or_default().to_owned();
        Self {
            teacher: TeacherConfig { model, top_k: values.size("distillation.top_k"), temperature },
            beta: values.number("distillation.beta"),
            ratio: values.number("distillation.kd_ratio"),
            on_policy: OnPolicyConfig {
                lmbda: values.number("distillation.lmbda"),
                temperature: values.number("distillation.sampling_temperature"),
                max_new_tokens: values.size("distillation.max_new_tokens"),
            },
        }
    }

    /// The share of the divergence in the loss of a batch. What the model wrote itself is nothing
    /// to be made likelier as it is.
    fn ratio(&self, batch: &Batch) -> f64 {
        match (batch.teacher.is_empty(), batch.sampled.is_empty()) {
            (true, _) => 0.0,
            (false, true) => self.ratio,
            (false, false) => 1.0,
        }
    }

    /// What each target counts.
    fn weights(batch: &Batch) -> Vec<f64> {
        match batch.weights.as_slice() {
            [] => vec![1.0; batch.targets.len()],
            weights => weights.iter().copied().map(f64::from).collect(),
        }
    }

    /// Whether the cross-entropy is a part of the loss, or all of it, or is reported beside it.
    fn has_cross_entropy(&self, batch: &Batch) -> bool {
        self.ratio < 1.0 || batch.teacher.is_empty()
    }

    /// The loss from those of all targets, weighted.
    fn sum(&self, batch: &Batch, divergences: &[f64], losses: &[f64]) -> Loss {
        let weights = Self::weights(batch);
        let sum = |all: &[f64]| all.iter().zip(&weights).map(|(one, weight)| one * weight).sum();
        let (divergence, cross_entropy): (f64, f64) = (sum(divergences), sum(losses));
        let ratio = self.ratio(batch);
        let both = ratio * divergence + (1.0 - ratio) * cross_entropy;
        Loss { sum: LossSum::Number(both), metrics: vec![divergence, cross_entropy] }
    }

    /// The cross-entropy of each target, at no temperature.
    fn losses(&self, batch: Supervised) -> Vec<f64> {
        if !self.has_cross_entropy(batch.batch) {
            return Vec::new();
        }
        let targets = Targets { temperature: 1.0, ..batch.targets };
        let scores = next_token_scores(batch.model, batch.x, targets);
        scores.into_iter().map(|(loss, _)| loss).collect()
    }
}

impl Objective for Distillation {
    fn count(&self, batch: &Batch) -> u64 {
        batch.targets.len() as u64
    }

    fn weighs_tokens(&self) -> bool {
        true
    }

    fn check(&self, _validates: bool) -> Result<()> {
        if !self.teacher.model.is_empty() {
            return Ok(());
        }
        Err(Error::config("`train.objective = \"distillation\"` needs a teacher")
            .hint("name the model to learn from as `distillation.teacher`"))
    }

    fn teacher(&self) -> Option<&TeacherConfig> {
        Some(&self.teacher)
    }

    fn on_policy(&self) -> Option<OnPolicyConfig> {
        (self.on_policy.lmbda > 0.0).then_some(self.on_policy)
    }

    fn temperature(&self) -> f32 {
        self.teacher.temperature
    }

    fn loss(&self, batch: Supervised) -> Loss {
        let of = |teacher: &[f64], own: &[f64]| generalised_jsd(teacher, own, self.beta);
        let teacher = &batch.batch.teacher;
        let divergences = match teacher.is_empty() {
            true => Vec::new(),
            false => losses_of(batch.model, batch.x, batch.targets, teacher, &of),
        };
        self.sum(batch.batch, &divergences, &self.losses(batch))
    }

    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>) {
        let Supervised { model, x, targets, .. } = batch;
        let teacher = &batch.batch.teacher;
        let ratio = self.ratio(batch.batch);
        let weights = Self::weights(batch.batch);
        #[expect(clippy::cast_possible_truncation)] // gradients are f32
        let scaled = |share: f64| -> Vec<f32> {
            weights.iter().map(|weight| (scale * share * weight) as f32).collect()
        };
        let (mut divergences, mut dx) = (Vec::new(), None);
        if !teacher.is_empty() {
            let of = |teacher: &[f64], own: &[f64]| generalised_jsd(teacher, own, self.beta);
            let scales = scaled(ratio);
            let scales = Scales::Each(&scales);
            let learnt = (teacher.as_slice(), &of as _);
            let (losses, gradient) = divergence_backward(model, x, targets, learnt, scales, sums);
            (divergences, dx) = (losses, Some(gradient));
        }
        let losses = self.losses(batch);
        if ratio < 1.0 {
            let targets = Targets { temperature: 1.0, ..targets };
            let scales = scaled(1.0 - ratio);
            let scales = Scales::Each(&scales);
            let (_, gradient) = next_token_backward(model, x, targets, scales, sums);
            dx = Some(dx.map_or_else(|| gradient.clone(), |dx| dx + gradient.clone()));
        }
        let dx = dx.unwrap_or_else(|| x.zeros_like());
        (self.sum(batch.batch, &divergences, &losses), dx)
    }

    fn metrics(&self) -> &'static [&'static str] {
        &METRICS
    }

    fn report(&self, means: &[f64]) -> BTreeMap<String, f64> {
        let named = METRICS.iter().zip(means);
        let told = named.filter(|(name, _)| **name != "cross_entropy" || self.ratio < 1.0);
        told.map(|(name, mean)| ((*name).to_owned(), *mean)).collect()
    }
}
