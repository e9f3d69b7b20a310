//! ORPO (Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model"): the
//! likelihood of the chosen answer, and odds that it has over the rejected one. Names and formulas
//! are those of TRL's `ORPOTrainer`, but that both terms are of the answers alone, as in the paper;
//! TRL takes the first one of the prompt too.

use super::pairwise::{Answer, PairLoss, PairOutcome, Pairwise, log_sigmoid, section};
use super::{ObjectiveEntry, Records};
use crate::document::key::{self, DefaultValue, Key, ValueKind};

pub(super) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "orpo",
    section: Some(section(
        "orpo",
        &["orpo"],
        "Odds-ratio preference optimisation of pairs of answers.",
        KEYS,
    )),
    records: Records::Pairs,
    build: |values| Box::new(Pairwise(Orpo { beta: values.number("orpo.beta") })),
};

const KEYS: &[Key] = &[Key::new(
    "orpo.beta",
    ValueKind::Number(key::Range::closed(0.0, 100.0)),
    DefaultValue::Value("0.1"),
    "How much the odds of the chosen answer over the rejected one count beside its likelihood; the \
     paper calls it lambda.",
)
.example("0.2")
.names(&[("axolotl", "orpo_alpha")])];

/// Probabilities of one are taken for this much less: the odds of certainty have no logarithm.
const LOG_PROBABILITY_MAX: f64 = -1e-7;

#[derive(Debug)]
struct Orpo {
    /// Weight of the odds ratio.
    beta: f64,
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

impl PairLoss for Orpo {
    fn of(&self, chosen: &Answer, rejected: &Answer) -> PairOutcome {
        let beta = self.beta;
        let [chosen, rejected] =
            [chosen.mean, rejected.mean].map(|mean| mean.min(LOG_PROBABILITY_MAX));
        let log_odds = (chosen - rejected) - (log_of_rest(chosen) - log_of_rest(rejected));
        let log_ratio = log_sigmoid(log_odds);
        // The derivative of log σ(z) is σ(−z), that of log(p / (1 − p)) by log p is 1 / (1 − p).
        let pull = beta * log_sigmoid(-log_odds).exp();
        let (up, down) = (pull / -chosen.exp_m1(), pull / -rejected.exp_m1());
        let rewards = [beta * chosen, beta * rejected];
        let mut metrics = super::pairwise::reported(rewards, [chosen, rejected]);
        metrics.extend([-chosen, log_ratio, log_odds]);
        PairOutcome {
            loss: -chosen - beta * log_ratio,
            d_log_prob: [0.0; 2],
            d_mean: [-1.0 - up, down],
            metrics,
        }
    }

    fn metrics(&self) -> &'static [&'static str] {
        &METRICS
    }
}

/// log(1 − exp(x)) of a negative number, exact for small and for large ones.
fn log_of_rest(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::super::pairwise::assert_derivatives;
    use super::*;

    fn answer(mean: f64) -> Answer {
        Answer { mean, tokens: 1.0, ..Answer::default() }
    }

    /// The odds of TRL's `ORPOTrainer.odds_ratio_loss`: `tests/reference/orpo.py` made these.
    #[test]
    fn odds_are_those_of_trl() {
        let text = include_str!("../../tests/reference/orpo.json");
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        for case in json["odds"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            let orpo = Orpo { beta: number("beta") };
            let found = orpo.of(&answer(number("chosen")), &answer(number("rejected")));
            let named = METRICS.iter().zip(&found.metrics);
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
            assert_derivatives(&orpo, answer(chosen), answer(rejected));
        }
        let certain = orpo.of(&answer(0.0), &answer(-1.0));
        assert!(certain.loss.is_finite() && certain.d_mean.iter().all(|d| d.is_finite()));
    }
}
