//! SimPO (Meng et al. 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward"):
//! the reward of an answer is the mean log-probability of its tokens, and the chosen one is to be
//! ahead by a margin. Names and formulas are those of `CPOTrainer` of TRL, loss type `simpo`.

use super::pairwise::{
    Answer, METRICS, PairLoss, PairOutcome, Pairwise, label_smoothing, logistic, reported, section,
};
use super::{ObjectiveEntry, Records};
use crate::document::key::{self, DefaultValue, Key, ValueKind};

pub(super) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "simpo",
    section: Some(section(
        "simpo",
        &["simpo"],
        "Simple preference optimisation of pairs of answers, without a reference.",
        KEYS,
    )),
    records: Records::Pairs,
    build: |values| {
        Box::new(Pairwise(SimPo {
            beta: values.number("simpo.beta"),
            gamma: values.number("simpo.gamma"),
            label_smoothing: values.number("simpo.label_smoothing"),
            cpo_alpha: values.number("simpo.cpo_alpha"),
        }))
    },
};

const KEYS: &[Key] = &[
    Key::new(
        "simpo.beta",
        ValueKind::Number(key::Range::above(0.0, 100.0)),
        DefaultValue::Value("2"),
        "Rewards are this times the mean log-probability of a token.",
    )
    .example("2.5"),
    Key::new(
        "simpo.gamma",
        ValueKind::Number(key::Range::closed(0.0, 100.0)),
        DefaultValue::Value("1"),
        "By how much the reward of the chosen answer is to be above that of the rejected one.",
    )
    .example("0.5")
    .names(&[("TRL", "simpo_gamma")]),
    label_smoothing("simpo.label_smoothing"),
    Key::new(
        "simpo.cpo_alpha",
        ValueKind::Number(key::Range::closed(0.0, 100.0)),
        DefaultValue::Value("0"),
        "How much the negative log-likelihood of the chosen answer counts beside the preference \
         (CPO-SimPO).",
    )
    .example("0.5"),
];

#[derive(Debug)]
struct SimPo {
    beta: f64,
    gamma: f64,
    label_smoothing: f64,
    cpo_alpha: f64,
}

impl PairLoss for SimPo {
    fn of(&self, chosen: &Answer, rejected: &Answer) -> PairOutcome {
        let Self { beta, gamma, label_smoothing, cpo_alpha } = *self;
        let means = [chosen.mean, rejected.mean];
        let (loss, slope) = logistic(beta * (means[0] - means[1]) - gamma, label_smoothing);
        let mut metrics = reported(means.map(|mean| beta * mean), means);
        metrics.push(-chosen.mean);
        PairOutcome {
            loss: loss - cpo_alpha * chosen.mean,
            d_log_prob: [0.0; 2],
            d_mean: [beta * slope - cpo_alpha, -beta * slope],
            metrics,
        }
    }

    fn metrics(&self) -> &'static [&'static str] {
        &METRICS
    }
}

#[cfg(test)]
mod tests {
    use super::super::pairwise::assert_derivatives;
    use super::*;

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        for (label_smoothing, cpo_alpha) in [(0.0, 0.0), (0.2, 0.5)] {
            let simpo = SimPo { beta: 2.0, gamma: 0.7, label_smoothing, cpo_alpha };
            for [one, other] in [[-1.0, -2.0], [-4.0, -0.5]] {
                let answer = |mean| Answer { mean, tokens: 3.0, ..Answer::default() };
                assert_derivatives(&simpo, answer(one), answer(other));
            }
        }
    }
}
