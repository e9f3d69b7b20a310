//! Reward models: a head with one score at the last token of each answer, and the likelihood that
//! the chosen answer of a pair is preferred (Bradley and Terry 1952; Ouyang et al. 2022). Names and
//! formulas are those of TRL's `RewardTrainer`.

use std::borrow::Cow;

use burn::tensor::Tensor;

use super::pairwise::{PairTargets, answer_ends, arranged, count, logistic, pairs_of, section};
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
        let margin = values.optional_text("reward.margin");
        Box::new(Reward { center, margin })
    },
};

const KEYS: &[Key] = &[
    Key::new(
        "reward.center_rewards_coefficient",
        ValueKind::Number(key::Range::closed(0.0, 100.0)),
        DefaultValue::Value("0"),
        "How much the squared sum of both rewards counts beside the preference, so that rewards \
         are 0 in the mean (Eisenstein et al. 2023); 0.01 is usual.",
    )
    .example("0.01"),
    Key::new(
        "reward.margin",
        ValueKind::Line,
        DefaultValue::Absent("no margin: 0"),
        "A column, or a key of the records (a dot leads into an object), that holds by how much \
         more the chosen answer is to be scored than the other (Touvron et al. 2023).",
    )
    .example("\"margin\""),
];

#[derive(Debug)]
struct Reward {
    center: f64,
    /// The column of margins.
    margin: Option<String>,
}

/// Sums over pairs of what is reported, under the names of TRL.
const METRICS: [&str; 3] = ["accuracy", "margin", "mean_reward"];

impl Reward {
    /// The loss of a pair, its derivatives, and what is reported.
    fn value(&self, chosen: f64, rejected: f64, margin: f64) -> (f64, [f64; 2], Vec<f64>) {
        let (preference, slope) = logistic(chosen - rejected - margin, 0.0);
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
        for (number, pair) in scores.chunks_exact(2).enumerate() {
            let margin = batch.batch.margins.get(2 * number).copied().unwrap_or_default();
            let (loss, d, metrics) = self.value(pair[0][0], pair[1][0], margin.into());
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
        let margin = |pair: &PairTargets| arranged.margins.get(pair.chosen.start).copied();
        let margins = pairs_of(&arranged).into_iter().filter_map(|pair| margin(&pair));
        let margins = margins.flat_map(|margin| [margin; 2]).collect();
        Cow::Owned(Batch { targets, margins, ..arranged })
    }

    fn loss(&self, batch: Supervised) -> Loss {
        self.outcomes(batch).0
    }

    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>) {
        let (loss, derivatives) = self.outcomes(batch);
        (loss, backward(batch.model, batch.x, batch.targets, (derivatives, scale), sums))
    }

    fn margin_column(&self) -> Option<&str> {
        self.margin.as_deref()
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

    fn reward(center: f64) -> Reward {
        Reward { center, margin: None }
    }

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        for (center, margin) in [(0.0, 0.0), (0.3, 0.0), (0.3, 1.5)] {
            let reward = reward(center);
            for [chosen, rejected] in [[0.4, -1.0], [-30.0, 2.0], [3.0, 3.0]] {
                let (_, d, _) = reward.value(chosen, rejected, margin);
                let step = 1e-6;
                let loss = |a: f64, b: f64| reward.value(chosen + a, rejected + b, margin).0;
                let wanted =
                    [loss(step, 0.0) - loss(-step, 0.0), loss(0.0, step) - loss(0.0, -step)];
                for (ours, wanted) in d.into_iter().zip(wanted) {
                    let wanted = wanted / (2.0 * step);
                    assert!((ours - wanted).abs() < 1e-4 * wanted.abs().max(1.0));
                }
            }
        }
    }

    /// TRL: `-logsigmoid(rewards_chosen - rewards_rejected - margin)`, by torch.
    #[test]
    fn a_margin_is_what_the_chosen_answer_is_to_have_more() {
        let (loss, _, metrics) = reward(0.0).value(0.4, -1.0, 3.0);
        assert!((loss - 1.783_900_740_8).abs() < 1e-9, "{loss}");
        assert_eq!(metrics[..2], [1.0, 1.4]);
    }

    #[test]
    fn both_answers_of_a_pair_have_its_margin() {
        let target = |index| crate::data::Target { index, token: 9 };
        let batch = Batch {
            rows: 1,
            length: 12,
            tokens: (0..12).collect(),
            documents: [vec![1; 6], vec![2; 6]].concat(),
            positions: [0, 1, 2, 3, 4, 5].repeat(2),
            targets: [1, 4, 7, 10].map(target).to_vec(),
            margins: vec![0.5, 0.5, -2.0, -2.0],
            ..Batch::default()
        };
        assert_eq!(reward(0.0).arrange(&batch).margins, [0.5, 0.5, -2.0, -2.0]);
        let none = Batch { margins: Vec::new(), ..batch };
        assert!(reward(0.0).arrange(&none).margins.is_empty());
    }
}
