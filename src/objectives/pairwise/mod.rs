//! What objectives that learn from pairs of answers share: where the answers are, their
//! log-probabilities, and the way from a loss of those to gradients. A loss is one function of two
//! answers, with its derivatives.
//!
//! A step is the mean over its pairs, however they are split into micro-batches. TRL weighs terms
//! that are means over tokens by those of a micro-batch; here each pair counts the same.

mod layout;
mod margin;

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Range;

use burn::tensor::Tensor;

use super::{Loss, LossSum, Objective, Scales, Supervised, next_token_backward, next_token_scores};
use crate::data::Batch;
use crate::document::Effect;
use crate::document::key::{self, DefaultValue, Key, Section, ValueKind};
use crate::model::Gradients;

pub use self::layout::{PairTargets, answer_ends, arranged, count, pairs_of};
pub use self::margin::{hinge, log_sigmoid, logistic, robust, sigmoid, squared};

/// One of two answers, as a loss sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Answer {
    /// Its log-probability: the sum over its tokens, of which those beyond the length of the other
    /// answer count by [`PairLoss::tail_weight`].
    pub log_prob: f64,
    /// The same by the base model, where the loss needs it.
    pub reference: f64,
    /// The mean log-probability of its tokens.
    pub mean: f64,
    /// How many tokens it has.
    pub tokens: f64,
}

/// What a loss makes of a pair.
#[derive(Debug, Clone, PartialEq)]
pub struct PairOutcome {
    /// In nats.
    pub loss: f64,
    /// With respect to [`Answer::log_prob`] of the chosen and of the rejected answer.
    pub d_log_prob: [f64; 2],
    /// With respect to [`Answer::mean`] of both.
    pub d_mean: [f64; 2],
    /// By the names of [`PairLoss::metrics`].
    pub metrics: Vec<f64>,
}

impl From<PairOutcome> for Loss {
    fn from(outcome: PairOutcome) -> Self {
        Self { sum: LossSum::Number(outcome.loss), metrics: outcome.metrics }
    }
}

/// A loss of pairs: settings, and no state.
pub trait PairLoss: Debug + Send + Sync {
    /// From the chosen and the rejected answer.
    fn of(&self, chosen: &Answer, rejected: &Answer) -> PairOutcome;

    /// Names of what is reported beside the loss.
    fn metrics(&self) -> &'static [&'static str];

    /// Whether it compares with log-probabilities of the base model.
    fn needs_reference(&self) -> bool {
        false
    }

    /// How much a token counts that stands beyond the length of the other answer.
    fn tail_weight(&self) -> f64 {
        1.0
    }
}

/// What most losses of pairs report, under the names of TRL.
pub const METRICS: [&str; 7] = [
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "nll_loss",
];

/// The numbers of [`METRICS`] but for the last, from rewards and log-probabilities of both.
pub fn reported(rewards: [f64; 2], log_probs: [f64; 2]) -> Vec<f64> {
    let [chosen, rejected] = rewards;
    let right = if chosen > rejected { 1.0 } else { 0.0 };
    vec![chosen, rejected, right, chosen - rejected, log_probs[0], log_probs[1]]
}

/// A section of a loss of pairs; it means something with that objective alone.
pub const fn section(
    name: &'static str,
    only: &'static [&'static str],
    doc: &'static str,
    keys: &'static [Key],
) -> Section {
    Section {
        only_with: Some(("train.objective", only)),
        effect: Some(Effect::Weights),
        ..Section::new(name, doc, keys)
    }
}

/// The key of that share.
pub const fn label_smoothing(name: &'static str) -> Key {
    Key::new(
        name,
        ValueKind::Number(key::Range::below(0.0, 0.5)),
        DefaultValue::Value("0"),
        "The share of pairs that are taken to be labelled the wrong way round.",
    )
    .example("0.1")
}

/// The objective of a loss.
#[derive(Debug)]
pub struct Pairwise<T>(pub T);

impl<T: PairLoss> Pairwise<T> {
    /// Every pair with what the loss makes of it.
    fn outcomes(&self, batch: Supervised) -> Vec<(PairTargets, PairOutcome)> {
        let scores = next_token_scores(batch.model, batch.x, batch.targets);
        let log_probs: Vec<f64> = scores.into_iter().map(|(loss, _)| -loss).collect();
        let with_outcome = |pair: PairTargets| {
            let weights = self.weights(&pair);
            let answer = |of: &Range<usize>, weights: &[f64]| {
                let sum = |numbers: &[f64]| -> f64 {
                    numbers.iter().zip(weights).map(|(number, weight)| number * weight).sum()
                };
                let reference = batch.reference.map_or(0.0, |all| sum(&all[of.clone()]));
                let own = &log_probs[of.clone()];
                let tokens = length(of);
                let mean = own.iter().sum::<f64>() / tokens;
                Answer { log_prob: sum(own), reference, mean, tokens }
            };
            let chosen = answer(&pair.chosen, &weights[0]);
            let rejected = answer(&pair.rejected, &weights[1]);
            let outcome = self.0.of(&chosen, &rejected);
            (pair, outcome)
        };
        pairs_of(batch.batch).into_iter().map(with_outcome).collect()
    }

    /// Sums over no pairs.
    fn nothing(&self) -> Loss {
        Loss { sum: LossSum::Number(0.0), metrics: vec![0.0; self.0.metrics().len()] }
    }

    /// How much each token of both answers counts.
    fn weights(&self, pair: &PairTargets) -> [Vec<f64>; 2] {
        let shared = pair.chosen.len().min(pair.rejected.len());
        let tail = self.0.tail_weight();
        let of = |answer: &Range<usize>| {
            (0..answer.len()).map(|place| if place < shared { 1.0 } else { tail }).collect()
        };
        [of(&pair.chosen), of(&pair.rejected)]
    }
}

impl<T: PairLoss> Objective for Pairwise<T> {
    fn shares_prompts(&self) -> bool {
        true
    }

    fn count(&self, batch: &Batch) -> u64 {
        count(batch)
    }

    fn arrange<'a>(&self, batch: &'a Batch) -> Cow<'a, Batch> {
        Cow::Owned(arranged(batch))
    }

    fn needs_reference(&self) -> bool {
        self.0.needs_reference()
    }

    fn loss(&self, batch: Supervised) -> Loss {
        let outcomes = self.outcomes(batch).into_iter();
        outcomes.fold(self.nothing(), |loss, (_, outcome)| loss.plus(outcome.into()))
    }

    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>) {
        let Supervised { model, x, targets, .. } = batch;
        let mut loss = self.nothing();
        let mut scales = vec![0.0; targets.pairs.len()];
        for (pair, outcome) in self.outcomes(batch) {
            let answers = [&pair.chosen, &pair.rejected].into_iter().zip(self.weights(&pair));
            for (number, (of, weights)) in answers.enumerate() {
                let of_mean = outcome.d_mean[number] / length(of);
                for (target, weight) in scales[of.clone()].iter_mut().zip(weights) {
                    let derivative = outcome.d_log_prob[number] * weight + of_mean;
                    // A token's loss is the negative of its log-probability.
                    #[expect(clippy::cast_possible_truncation)] // gradients are f32
                    let scale = (-derivative * scale) as f32;
                    *target = scale;
                }
            }
            loss = loss.plus(outcome.into());
        }
        let (_, dx) = next_token_backward(model, x, targets, Scales::Each(&scales), sums);
        (loss, dx)
    }

    fn metrics(&self) -> &'static [&'static str] {
        self.0.metrics()
    }
}

#[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
fn length(of: &Range<usize>) -> f64 {
    of.len() as f64
}

/// Compares the derivatives of a loss with finite differences.
#[cfg(test)]
pub fn assert_derivatives(loss: &impl PairLoss, chosen: Answer, rejected: Answer) {
    let step = 1e-6;
    let found = loss.of(&chosen, &rejected);
    let at = |number: usize, of_mean: bool, by: f64| {
        let mut both = [chosen, rejected];
        let place = if of_mean { &mut both[number].mean } else { &mut both[number].log_prob };
        *place += by;
        loss.of(&both[0], &both[1]).loss
    };
    for number in [0, 1] {
        for (of_mean, ours) in [(false, found.d_log_prob), (true, found.d_mean)] {
            let (up, down) = (at(number, of_mean, step), at(number, of_mean, -step));
            let wanted = (up - down) / (2.0 * step);
            let near = (ours[number] - wanted).abs() < 1e-4 * wanted.abs().max(1.0);
            assert!(near, "{loss:?} {number} {of_mean}: {} {wanted}", ours[number]);
        }
    }
    assert_eq!(found.metrics.len(), loss.metrics().len());
}
