//! GRPO (Shao et al. 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open
//! Language Models") and its kin: the model answers each prompt several times, and an answer with a
//! reward above those of the others becomes likelier. Names and formulas are those of TRL's
//! `GRPOTrainer`; the variants of DAPO, Dr. GRPO, GSPO and RLOO are settings.
//!
//! What was sampled stands in [`Batch::sampled`]. Batches without it, as those of validation, have
//! the loss of supervised fine-tuning: how likely the records' own answers are.

mod config;
mod keys;
mod policy;

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::Tensor;

pub use self::config::{AdvantageBaseline, RewardScale, RewardSpec, RolloutConfig};
use self::keys::{KEYS, LossType};
use self::policy::{Completion, Policy, PolicyOutcome};
use super::pairwise::{count, section};
use super::{
    Loss, LossSum, Objective, ObjectiveEntry, Records, Scales, Supervised, next_token_backward,
    next_token_loss, next_token_scores,
};
use crate::data::{Batch, Target};
use crate::document::Values;
use crate::document::key::Section;
use crate::model::Gradients;

pub(super) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "grpo",
    section: Some(Section {
        // A row is a prompt, and an answer to compare with must be whole.
        defaults: &[
            ("data.packing", "false"),
            ("data.overlong", "\"error\""),
            ("checkpoint.reuse", "\"never\""),
        ],
        ..section(
            "grpo",
            &["grpo"],
            "Group relative policy optimisation: the model answers prompts, and learns from \
             rewards.",
            KEYS,
        )
    }),
    records: Records::Prompts,
    build: |values| Box::new(Grpo::read(values)),
};

/// Sums over tokens of which the loss is taken.
const METRICS: [&str; 5] =
    ["tokens", "kl", "clip_ratio/low_mean", "clip_ratio/high_mean", "entropy"];

#[derive(Debug)]
struct Grpo {
    loss: LossType,
    policy: Policy,
    rollouts: RolloutConfig,
}

impl Grpo {
    fn read(values: &Values) -> Self {
        Self {
            loss: values.choice("grpo.loss_type", LossType::from_name),
            policy: Policy::read(values),
            rollouts: RolloutConfig::read(values),
        }
    }

    /// Every completion of a batch with what becomes of it.
    fn outcomes(&self, batch: Supervised) -> Vec<(Range<usize>, PolicyOutcome)> {
        let scores = next_token_scores(batch.model, batch.x, batch.targets);
        let log_probs: Vec<f64> = scores.into_iter().map(|(loss, _)| -loss).collect();
        let outcome = |of: Range<usize>| {
            let sampled = &batch.batch.sampled[of.clone()];
            let completion = Completion {
                log_probs: &log_probs[of.clone()],
                reference: batch.reference.map(|all| &all[of.clone()]),
                sampled,
            };
            let weight = match self.loss {
                LossType::Grpo => 1.0 / completion.tokens().max(1.0),
                LossType::Dapo | LossType::DrGrpo => 1.0,
            };
            (of, self.policy.of(&completion, weight))
        };
        completions_of(batch.batch).into_iter().map(outcome).collect()
    }
}

/// Sums over no completions.
fn nothing() -> Loss {
    Loss { sum: LossSum::Number(0.0), metrics: vec![0.0; METRICS.len()] }
}

impl Objective for Grpo {
    fn shares_prompts(&self) -> bool {
        true
    }

    fn count(&self, batch: &Batch) -> u64 {
        if batch.sampled.is_empty() {
            return batch.targets.len() as u64;
        }
        match self.loss {
            LossType::Grpo => count(batch),
            LossType::Dapo => batch.sampled.iter().filter(|token| !token.masked).count() as u64,
            LossType::DrGrpo => count(batch) * self.rollouts.max_completion_length as u64,
        }
    }

    fn needs_reference(&self) -> bool {
        self.policy.beta > 0.0
    }

    #[expect(clippy::cast_possible_truncation)] // scores are f32
    fn temperature(&self) -> f32 {
        self.rollouts.temperature as f32
    }

    fn rollouts(&self) -> Option<&RolloutConfig> {
        Some(&self.rollouts)
    }

    fn loss(&self, batch: Supervised) -> Loss {
        if batch.batch.sampled.is_empty() {
            let sum = next_token_loss(batch.model, batch.x, batch.targets);
            return Loss { sum: LossSum::Number(sum), metrics: Vec::new() };
        }
        let outcomes = self.outcomes(batch).into_iter();
        outcomes.fold(nothing(), |sums, (_, outcome)| sums.plus(outcome.into()))
    }

    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>) {
        let Supervised { model, x, targets, .. } = batch;
        if batch.batch.sampled.is_empty() {
            let (sum, dx) = next_token_backward(model, x, targets, Scales::Same(scale), sums);
            return (Loss { sum, metrics: Vec::new() }, dx);
        }
        let mut scales = vec![0.0; targets.pairs.len()];
        let mut loss = nothing();
        for (of, outcome) in self.outcomes(batch) {
            for (target, slope) in scales[of].iter_mut().zip(&outcome.slopes) {
                // A token's loss is the negative of its log-probability.
                #[expect(clippy::cast_possible_truncation)] // gradients are f32
                let scale = (-slope * scale) as f32;
                *target = scale;
            }
            loss = loss.plus(outcome.into());
        }
        let (_, dx) = next_token_backward(model, x, targets, Scales::Each(&scales), sums);
        (loss, dx)
    }

    fn metrics(&self) -> &'static [&'static str] {
        &METRICS
    }

    fn report(&self, means: &[f64]) -> BTreeMap<String, f64> {
        let Some((&tokens, sums)) = means.split_first() else { return BTreeMap::new() };
        let names = METRICS[1..].iter().zip(sums);
        let told = names.filter(|(name, _)| **name != "kl" || self.needs_reference());
        let of_token = |(name, sum): (&&str, &f64)| {
            let mean = if tokens > 0.0 { sum / tokens } else { 0.0 };
            ((*name).to_owned(), mean)
        };
        told.map(of_token).collect()
    }
}

/// The targets of each completion, of which each is in a document of its own.
fn completions_of(batch: &Batch) -> Vec<Range<usize>> {
    let row = |target: &Target| target.index as usize / batch.length.max(1);
    let document = |target: &Target| (row(target), batch.documents[target.index as usize]);
    let mut begin = 0;
    let runs = batch.targets.chunk_by(|one, next| document(one) == document(next));
    runs.map(|run| {
        let of = begin..begin + run.len();
        begin = of.end;
        of
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::SampledToken;
    use crate::document::Value;

    fn batch() -> Batch {
        let sampled = |masked| SampledToken { advantage: 1.0, log_prob: None, masked };
        Batch {
            rows: 2,
            length: 4,
            tokens: vec![1, 2, 3, 4, 5, 6, 7, 0],
            positions: vec![0, 1, 2, 3, 0, 1, 2, 0],
            documents: vec![1, 1, 1, 1, 1, 1, 1, 0],
            targets: [(0, 2), (1, 3), (2, 4), (5, 7)]
                .map(|(index, token)| Target { index, token })
                .to_vec(),
            sampled: [false, false, false, true].map(sampled).to_vec(),
            ..Batch::default()
        }
    }

    fn grpo(loss: &str) -> Box<dyn Objective> {
        let length = ("grpo.max_completion_length", Value::Integer(5));
        super::super::with("grpo", &[("grpo.loss_type", Value::Text(loss.to_owned())), length])
    }

    #[test]
    fn what_the_loss_is_the_mean_over_is_that_of_the_variant() {
        assert_eq!(grpo("grpo").count(&batch()), 2);
        assert_eq!(grpo("dapo").count(&batch()), 3);
        assert_eq!(grpo("dr_grpo").count(&batch()), 10);
        let own = Batch { sampled: Vec::new(), ..batch() };
        assert_eq!(grpo("grpo").count(&own), 4);
    }

    #[test]
    fn completions_are_found_in_rows_and_without_padding() {
        assert_eq!(completions_of(&batch()), [0..3, 3..4]);
        let (packed, _) = batch().without_padding().unwrap();
        assert_eq!(completions_of(&packed), [0..3, 3..4]);
    }

    #[test]
    fn what_is_reported_are_means_over_tokens() {
        let report = grpo("grpo").report(&[2.0, 0.0, 0.5, 1.0, 6.0]);
        assert_eq!(report["clip_ratio/low_mean"], 0.25);
        assert_eq!(report["entropy"], 3.0);
        assert!(!report.contains_key("kl") && !report.contains_key("tokens"));
        assert!(grpo("grpo").report(&[]).is_empty());
        assert_eq!(grpo("grpo").report(&[0.0; 5])["entropy"], 0.0);
    }
}
