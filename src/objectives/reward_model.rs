//! Reward models: a head with one score at the last token of each answer, and the likelihood that
//! the chosen answer of a pair is preferred (Bradley and Terry 1952; Ouyang et al. 2022). Names and
//! formulas are those of TRL's `RewardTrainer`.

use std::borrow::Cow;

use burn::tensor::Tensor;

use super::pairwise::{answer_ends, arranged, count, logistic, section};
use super::score_layer::{backward, scores};
use super::{Loss, LossSum, Objective, ObjectiveEntry, Records, Supervised};
use crate::config::ScoreHead;
use crate::data::Batch;
use crate::document::key::{self, DefaultValue, Key, ValueKind};
use crate::model::Gradients;

pub(super) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "reward",
    section: Some(section(
        "reward",
        &["reward"],
        "A reward model of pairs of answers: a head with one score for each answer.",
        KEYS,
    )),
    records: Records::Pairs,
    build: |values| {
        let center = values.number("reward.center_rewards_coefficient");
        Box::new(Reward { center })
    },
};

const KEYS: &[Key] = &[Key::new(
    "reward.center_rewards_coefficient",
    ValueKind::Number(key::Range::closed(0.0, 100.0)),
    DefaultValue::Value("0"),
    "How much the squared sum of both rewards counts beside the preference, so that rewards are 0 \
     in the mean (Eisenstein et al. 2023); 0.01 is usual.",
)
.example("0.01")];

#[derive(Debug)]
struct Reward {
    center: f64,
}

/// Sums over pairs of what is reported, under the names of TRL.
const METRICS: [&str; 3] = ["accuracy", "margin", "mean_reward"];

impl Reward {
    /// The loss of a pair, its derivatives, and what is reported.
    fn value(&self, chosen: f64, rejected: f64) -> (f64, [f64; 2], Vec<f64>) {
        let (preference, slope) = logistic(chosen - rejected, 0.0);
        let sum = chosen + rejected;
        let of_center = 2.0 * self.center * sum;
        let right = if chosen > rejected { 1.0 } else { 0.0 };
        (
            preference + self.center * sum * sum,
            [slope + of_center, -slope + of_center],
            vec![right, chosen - rejected, sum / 2.0],
        )
    }

    fn outcomes(&self, batch: Supervised) -> (Loss, Vec<f64>) {
        let scores = scores(batch.model, batch.x, batch.targets);
        let mut all = Loss { sum: LossSum::Number(0.0), metrics: vec![0.0; METRICS.len()] };
        let mut derivatives = Vec::with_capacity(scores.len());
        for pair in scores.chunks_exact(2) {
            let (loss, d, metrics) = self.value(pair[0][0], pair[1][0]);
            derivatives.extend(d);
            all = all.plus(Loss { sum: LossSum::Number(loss), metrics });
        }
        (all, derivatives)
    }
}

impl Objective for Reward {
    fn shares_prompts(&self) -> bool {
        true
    }

    fn count(&self, batch: &Batch) -> u64 {
        count(batch)
    }

    fn arrange<'a>(&self, batch: &'a Batch) -> Cow<'a, Batch> {
        let arranged = arranged(batch);
        let targets = answer_ends(&arranged);
        Cow::Owned(Batch { targets, ..arranged })
    }

    fn loss(&self, batch: Supervised) -> Loss {
        self.outcomes(batch).0
    }

    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>) {
        let (loss, derivatives) = self.outcomes(batch);
        (loss, backward(batch.model, batch.x, batch.targets, (derivatives, scale), sums))
    }

    fn metrics(&self) -> &'static [&'static str] {
        &METRICS
    }

    fn score_head(&self) -> Option<ScoreHead> {
        Some(ScoreHead::single_score())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        for center in [0.0, 0.3] {
            let reward = Reward { center };
            for [chosen, rejected] in [[0.4, -1.0], [-30.0, 2.0], [3.0, 3.0]] {
                let (_, d, _) = reward.value(chosen, rejected);
                let step = 1e-6;
                let loss = |a: f64, b: f64| reward.value(chosen + a, rejected + b).0;
                let wanted =
                    [loss(step, 0.0) - loss(-step, 0.0), loss(0.0, step) - loss(0.0, -step)];
                for (ours, wanted) in d.into_iter().zip(wanted) {
                    let wanted = wanted / (2.0 * step);
                    assert!((ours - wanted).abs() < 1e-4 * wanted.abs().max(1.0));
                }
            }
        }
    }
}
