//! CPO (Xu et al. 2024, "Contrastive Preference Optimization: Pushing the Boundaries of LLM
//! Performance in Machine Translation"): DPO against a uniform reference, and the likelihood of the
//! chosen answer beside it. Names and formulas are those of TRL's `CPOTrainer`.

use super::pairwise::{
    Answer, METRICS, PairLoss, PairOutcome, Pairwise, hinge, label_smoothing, logistic, reported,
    section, squared,
};
use super::{ObjectiveEntry, Records};
use crate::document::choices;
use crate::document::key::{self, DefaultValue, Key, ValueKind};

pub(super) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "cpo",
    section: Some(section(
        "cpo",
        &["cpo"],
        "Contrastive preference optimisation of pairs of answers, without a reference.",
        KEYS,
    )),
    records: Records::Pairs,
    build: |values| {
        Box::new(Pairwise(Cpo {
            beta: values.number("cpo.beta"),
            loss: values.choice("cpo.loss_type", CpoLoss::from_name),
            label_smoothing: values.optional_number("cpo.label_smoothing").unwrap_or(0.0),
            cpo_alpha: values.number("cpo.cpo_alpha"),
        }))
    },
};

choices! {
    /// What is made of the margin between both answers.
    CpoLoss {
        /// The cross-entropy of the chosen answer being preferred.
        Sigmoid = "sigmoid",
        /// What the margin lacks to one.
        Hinge = "hinge",
        /// The squared distance to a margin of means per token.
        Ipo = "ipo",
    }
}

const KEYS: &[Key] = &[
    Key::new(
        "cpo.beta",
        ValueKind::Number(key::Range::above(0.0, 100.0)),
        DefaultValue::Value("0.1"),
        "What the difference of log-probabilities is multiplied with; for `ipo` it is the tau of \
         that paper.",
    )
    .example("0.3"),
    Key::new(
        "cpo.loss_type",
        ValueKind::Choice(CpoLoss::NAMES),
        DefaultValue::Value("\"sigmoid\""),
        "What is made of the margin between both answers. `sigmoid`: the paper's. `hinge`: what it \
         lacks to one. `ipo`: the squared distance, for each token, to a fixed one.",
    )
    .example("\"hinge\""),
    label_smoothing("cpo.label_smoothing").only_with("cpo.loss_type", &["sigmoid"]),
    Key::new(
        "cpo.cpo_alpha",
        ValueKind::Number(key::Range::closed(0.0, 100.0)),
        DefaultValue::Value("1"),
        "How much the negative log-likelihood of the chosen answer counts beside the preference.",
    )
    .example("0.5"),
];

#[derive(Debug)]
struct Cpo {
    beta: f64,
    loss: CpoLoss,
    label_smoothing: f64,
    cpo_alpha: f64,
}

impl PairLoss for Cpo {
    fn of(&self, chosen: &Answer, rejected: &Answer) -> PairOutcome {
        let Self { beta, label_smoothing, cpo_alpha, .. } = *self;
        let sums = [chosen.log_prob, rejected.log_prob];
        let means = [chosen.mean, rejected.mean];
        let margin = beta * (sums[0] - sums[1]);
        let of_sums = |(loss, slope): (f64, f64)| (loss, [beta * slope, -beta * slope], [0.0; 2]);
        let (loss, d_log_prob, d_mean) = match self.loss {
            CpoLoss::Sigmoid => of_sums(logistic(margin, label_smoothing)),
            CpoLoss::Hinge => of_sums(hinge(margin)),
            CpoLoss::Ipo => {
                let (loss, slope) = squared(means[0] - means[1], 1.0 / (2.0 * beta));
                (loss, [0.0; 2], [slope, -slope])
            }
        };
        // What is compared is what is reported.
        let compared = if self.loss == CpoLoss::Ipo { means } else { sums };
        let mut metrics = reported(compared.map(|log_prob| beta * log_prob), compared);
        metrics.push(-chosen.mean);
        PairOutcome {
            loss: loss - cpo_alpha * chosen.mean,
            d_log_prob,
            d_mean: [d_mean[0] - cpo_alpha, d_mean[1]],
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
        for name in CpoLoss::NAMES {
            let loss = CpoLoss::from_name(name).unwrap();
            for (beta, label_smoothing, cpo_alpha) in [(0.1, 0.0, 1.0), (0.7, 0.2, 0.0)] {
                let cpo = Cpo { beta, loss, label_smoothing, cpo_alpha };
                for [one, other] in [[-3.0, -9.0], [-20.0, -0.5]] {
                    let answer = |log_prob: f64, tokens| Answer {
                        log_prob,
                        mean: log_prob / tokens,
                        tokens,
                        ..Answer::default()
                    };
                    assert_derivatives(&cpo, answer(one, 3.0), answer(other, 5.0));
                }
            }
        }
    }
}
