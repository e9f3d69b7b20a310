//! ORPO (Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model"): the
//! likelihood of the chosen answer, and odds that it has over the rejected one. Names and formulas
//! are those of TRL's `ORPOTrainer`, with two differences. Both terms are of the answers alone, as
//! in the paper; TRL takes the first one of the prompt too. And a step is the mean over its pairs
//! however they are split into micro-batches; TRL weighs the first term by tokens in each of them.

use std::borrow::Cow;
use std::ops::Range;

use burn::tensor::Tensor;

use super::{
    Loss, LossSum, Objective, ObjectiveEntry, Supervised, Targets, next_token_backward,
    next_token_scores,
};
use crate::data::{Batch, Target};
use crate::document::Effect;
use crate::document::key::{self, DefaultValue, Key, Section, ValueKind};
use crate::model::Gradients;

pub(super) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "orpo",
    section: Some(SECTION),
    pairs: true,
    build: |values| Box::new(Orpo { beta: values.number("orpo.beta") }),
};

const SECTION: Section = Section {
    only_with: Some(("train.objective", &["orpo"])),
    effect: Some(Effect::Weights),
    ..Section::new("orpo", "Odds-ratio preference optimisation of pairs of answers.", KEYS)
};

const KEYS: &[Key] = &[Key::new(
    "orpo.beta",
    ValueKind::Number(key::Range::closed(0.0, 100.0)),
    DefaultValue::Value("0.1"),
    "How much the odds of the chosen answer over the rejected one count beside its likelihood; the \
     paper calls it lambda.",
)
.example("0.2")
.names(&[("LLaMA-Factory", "pref_beta"), ("axolotl", "orpo_alpha")])];

/// Probabilities of one are taken for this much less: the odds of certainty have no logarithm.
const LOG_PROBABILITY_MAX: f64 = -1e-7;

#[derive(Debug)]
struct Orpo {
    /// Weight of the odds ratio.
    beta: f64,
}

/// A pair as the targets have it: those of the chosen answer, then those of the rejected one.
struct Pair {
    chosen: Range<usize>,
    rejected: Range<usize>,
}

/// One pair's loss, its derivatives and what is reported of it.
struct Odds {
    loss: f64,
    /// With respect to the mean log-probability of a token of each answer.
    d_chosen: f64,
    d_rejected: f64,
    metrics: [f64; METRICS.len()],
}

const METRICS: [&str; 9] = [
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "nll_loss",
    "log_odds_ratio",
    "log_odds_chosen",
];

impl Orpo {
    /// From the mean log-probabilities of a token of both answers.
    fn odds(&self, chosen: f64, rejected: f64) -> Odds {
        let beta = self.beta;
        let (chosen, rejected) =
            (chosen.min(LOG_PROBABILITY_MAX), rejected.min(LOG_PROBABILITY_MAX));
        let log_odds = (chosen - rejected) - (log_of_rest(chosen) - log_of_rest(rejected));
        let log_ratio = log_sigmoid(log_odds);
        // The derivative of log σ(z) is σ(−z), that of log(p / (1 − p)) by log p is 1 / (1 − p).
        let pull = beta * log_sigmoid(-log_odds).exp();
        let (up, down) = (pull / -chosen.exp_m1(), pull / -rejected.exp_m1());
        let (reward, other) = (beta * chosen, beta * rejected);
        Odds {
            loss: -chosen - beta * log_ratio,
            d_chosen: -1.0 - up,
            d_rejected: down,
            metrics: [
                reward,
                other,
                if reward > other { 1.0 } else { 0.0 },
                reward - other,
                chosen,
                rejected,
                -chosen,
                log_ratio,
                log_odds,
            ],
        }
    }

    /// Every pair with its odds, from the losses of all targets.
    fn all(&self, batch: Supervised) -> Vec<(Pair, Odds)> {
        let scores = next_token_scores(batch.model, batch.x, batch.targets);
        let mean = |of: &Range<usize>| {
            let sum: f64 = scores[of.clone()].iter().map(|(loss, _)| -loss).sum();
            sum / length(of)
        };
        let with_odds = |pair: Pair| {
            let odds = self.odds(mean(&pair.chosen), mean(&pair.rejected));
            (pair, odds)
        };
        pairs_of(batch.batch).into_iter().map(with_odds).collect()
    }
}

impl Objective for Orpo {
    fn count(&self, batch: &Batch) -> u64 {
        let places = batch.documents.chunks(batch.length.max(1));
        let of_row = |row: &[u32]| {
            let begun = row.chunk_by(|one, next| one == next);
            begun.filter(|document| document[0] > 0).count() as u64
        };
        places.map(of_row).sum()
    }

    /// An example holds both answers, each after the prompt: they become two documents.
    fn arrange<'a>(&self, batch: &'a Batch) -> Cow<'a, Batch> {
        let mut arranged = batch.clone();
        let mut place = 0;
        let mut targets = batch.targets.as_slice();
        for row in batch.documents.chunks(batch.length.max(1)) {
            let mut number = 0;
            for document in row.chunk_by(|one, next| one == next) {
                let (begin, end) = (place, place + document.len());
                place = end;
                let count = targets.partition_point(|target| (target.index as usize) < end);
                let (inside, after) = targets.split_at(count);
                targets = after;
                if document[0] == 0 {
                    continue;
                }
                let middle = end_of_first(inside, end);
                for (from, to) in [(begin, middle), (middle, end)] {
                    number += 1;
                    arranged.documents[from..to].fill(number);
                    let positions = arranged.positions[from..to].iter_mut();
                    positions.zip(0..).for_each(|(position, number)| *position = number);
                }
            }
        }
        Cow::Owned(arranged)
    }

    fn loss(&self, batch: Supervised) -> f64 {
        self.all(batch).iter().map(|(_, odds)| odds.loss).sum()
    }

    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>) {
        let Supervised { model, x, targets, .. } = batch;
        let mut loss = Loss { sum: LossSum::Number(0.0), metrics: vec![0.0; METRICS.len()] };
        let mut dx = x.zeros_like();
        for (pair, odds) in self.all(batch) {
            loss =
                loss.plus(Loss { sum: LossSum::Number(odds.loss), metrics: odds.metrics.into() });
            for (of, derivative) in [(pair.chosen, odds.d_chosen), (pair.rejected, odds.d_rejected)]
            {
                // A token's loss is the negative of its log-probability.
                let scale = scale * -derivative / length(&of);
                let answer = Targets { pairs: &targets.pairs[of], ..targets };
                dx = dx + next_token_backward(model, x, answer, scale, sums).1;
            }
        }
        (loss, dx)
    }

    fn metrics(&self) -> &'static [&'static str] {
        &METRICS
    }
}

/// Where the first of two answers ends: behind the first run of targets, of which each stands one
/// place before the token that it predicts.
fn end_of_first(targets: &[Target], end: usize) -> usize {
    let first = targets.chunk_by(|one, next| one.index + 1 == next.index).next();
    let last = first.and_then(<[Target]>::last);
    last.map_or(end, |last| last.index as usize + 2).min(end)
}

/// The targets of each pair of an arranged batch: of two documents, one after the other.
fn pairs_of(batch: &Batch) -> Vec<Pair> {
    let row = |target: &Target| target.index as usize / batch.length.max(1);
    let document = |target: &Target| (row(target), batch.documents[target.index as usize]);
    let mut answers = Vec::new();
    let mut begin = 0;
    for run in batch.targets.chunk_by(|one, next| document(one) == document(next)) {
        answers.push((document(&run[0]), begin..begin + run.len()));
        begin += run.len();
    }
    answers
        .windows(2)
        .filter(|both| {
            let ((row, chosen), (same, rejected)) = (both[0].0, both[1].0);
            row == same && chosen % 2 == 1 && rejected == chosen + 1
        })
        .map(|both| Pair { chosen: both[0].1.clone(), rejected: both[1].1.clone() })
        .collect()
}

#[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
fn length(of: &Range<usize>) -> f64 {
    of.len() as f64
}

/// log(1 − exp(x)) of a negative number, exact for small and for large ones.
fn log_of_rest(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

/// log σ(x) without overflow.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The odds of TRL's `ORPOTrainer.odds_ratio_loss`: `tests/reference/orpo.py` made these.
    #[test]
    fn odds_are_those_of_trl() {
        let text = include_str!("../../tests/reference/orpo.json");
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        for case in json["odds"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            let orpo = Orpo { beta: number("beta") };
            let found = orpo.odds(number("chosen"), number("rejected"));
            let named = METRICS.iter().zip(found.metrics);
            for (name, ours) in named.filter(|(name, _)| case.get(**name).is_some()) {
                let wanted = number(name);
                assert!((ours - wanted).abs() <= 1e-5 * wanted.abs().max(1e-3), "{name} {case}");
            }
            let loss = number("nll_loss") - number("losses");
            assert!((found.loss - loss).abs() < 1e-5 * loss.abs().max(1.0), "{case}");
        }
    }

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let orpo = Orpo { beta: 0.3 };
        for (chosen, rejected) in [(-0.1, -2.0), (-3.0, -0.01), (-0.7, -0.7), (-40.0, -0.2)] {
            let step = 1e-6_f64;
            let at = |a: f64, b: f64| orpo.odds(chosen + a, rejected + b).loss;
            let found = orpo.odds(chosen, rejected);
            let by_chosen = (at(step, 0.0) - at(-step, 0.0)) / (2.0 * step);
            let by_rejected = (at(0.0, step) - at(0.0, -step)) / (2.0 * step);
            assert!((found.d_chosen - by_chosen).abs() < 1e-4 * by_chosen.abs().max(1.0));
            assert!((found.d_rejected - by_rejected).abs() < 1e-4 * by_rejected.abs().max(1.0));
        }
        let certain = orpo.odds(0.0, -1.0);
        assert!(certain.loss.is_finite() && certain.d_chosen.is_finite());
    }

    #[test]
    fn both_answers_of_an_example_become_documents() {
        let target = |index| Target { index, token: 9 };
        let batch = Batch {
            rows: 2,
            length: 9,
            tokens: (0..18).collect(),
            // Two pairs in the first row (5 and 3 tokens, 1 of padding), one in the second.
            documents: [vec![1; 5], vec![2; 3], vec![0], vec![1; 6], vec![0; 3]].concat(),
            positions: [vec![0, 1, 2, 3, 4, 0, 1, 2, 0], vec![0, 1, 2, 3, 4, 5, 0, 0, 0]].concat(),
            targets: vec![
                target(0),
                target(3),
                target(5),
                target(6),
                target(9),
                target(10),
                target(13),
            ],
            sources: Vec::new(),
        };
        let orpo = Orpo { beta: 0.1 };
        assert_eq!(orpo.count(&batch), 3);
        let arranged = orpo.arrange(&batch);
        let wanted = [vec![1, 1, 2, 2, 2, 3, 3, 3, 0], vec![1, 1, 1, 2, 2, 2, 0, 0, 0]].concat();
        assert_eq!(arranged.documents, wanted);
        assert_eq!(arranged.positions[..5], [0, 1, 0, 1, 2]);
        assert_eq!(arranged.positions[9..15], [0, 1, 2, 0, 1, 2]);
        let pairs: Vec<_> =
            pairs_of(&arranged).into_iter().map(|pair| (pair.chosen, pair.rejected)).collect();
        // The second example of the first row has one answer alone, which is no pair.
        assert_eq!(pairs, [(0..1, 1..2), (4..6, 6..7)]);
    }
}
