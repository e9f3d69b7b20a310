//! DPO (Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a
//! Reward Model"): how much likelier than by the base model the chosen answer is, against the same
//! of the rejected one. Names and formulas are those of TRL's `DPOTrainer`, but that `sigmoid` has
//! label smoothing too, as conservative DPO has it.
//!
//! The reference is the base model itself: log-probabilities are computed with adapters off, in the
//! step that needs them. So there is no second model in memory, data may come in any order and
//! without end, and nothing is kept that a resumed run would have to find again.

use super::pairwise::{
    Answer, METRICS, PairLoss, PairOutcome, Pairwise, hinge, label_smoothing, logistic, reported,
    robust, section, squared,
};
use super::{ObjectiveEntry, Records};
use crate::document::Values;
use crate::document::choices;
use crate::document::key::{self, DefaultValue, Key, ValueKind};

pub(super) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "dpo",
    section: Some(section(
        "dpo",
        &["dpo"],
        "Direct preference optimisation of pairs of answers, against the base model.",
        KEYS,
    )),
    records: Records::Pairs,
    build: |values| Box::new(Pairwise(Dpo::read(values))),
};

choices! {
    /// What is made of the margin between both answers.
    DpoLoss {
        /// The cross-entropy of the chosen answer being preferred.
        Sigmoid = "sigmoid",
        /// What the margin lacks to one (SLiC).
        Hinge = "hinge",
        /// The squared distance to a margin per token (IPO).
        Ipo = "ipo",
        /// The cross-entropy without the bias of wrong labels.
        Robust = "robust",
    }
}

const KEYS: &[Key] = &[
    Key::new(
        "dpo.beta",
        ValueKind::Number(key::Range::above(0.0, 100.0)),
        DefaultValue::Value("0.1"),
        "How much the model is held to the base model: rewards are this times the difference of \
         log-probabilities. For `ipo` it is the paper's tau.",
    )
    .example("0.3")
    .names(&[("LLaMA-Factory", "pref_beta"), ("axolotl", "dpo_beta")]),
    Key::new(
        "dpo.loss_type",
        ValueKind::Choice(DpoLoss::NAMES),
        DefaultValue::Value("\"sigmoid\""),
        "What is made of the margin between the rewards of both answers. `sigmoid`: the paper's. \
         `hinge`: what it lacks to one (SLiC). `ipo`: its squared distance, for each token, to a \
         fixed one (Azar et al. 2023). `robust`: `sigmoid` without the bias of wrong labels \
         (Chowdhury et al. 2024).",
    )
    .example("\"ipo\"")
    .names(&[("LLaMA-Factory", "pref_loss")]),
    label_smoothing("dpo.label_smoothing").only_with("dpo.loss_type", &["sigmoid", "robust"]),
    Key::new(
        "dpo.ld_alpha",
        ValueKind::Number(key::Range::closed(0.0, 1.0)),
        DefaultValue::Value("1"),
        "How much tokens count that stand beyond the length of the other answer: less than 1 keeps \
         length from being what is preferred (LD-DPO, Liu et al. 2024).",
    )
    .example("0.5"),
    Key::new(
        "dpo.rpo_alpha",
        ValueKind::Number(key::Range::closed(0.0, 100.0)),
        DefaultValue::Value("0"),
        "How much the negative log-likelihood of the chosen answer counts beside the preference, \
         so that it does not become unlikely itself (RPO, Pang et al. 2024).",
    )
    .example("1")
    .names(&[("LLaMA-Factory", "pref_ftx")]),
];

#[derive(Debug)]
struct Dpo {
    beta: f64,
    loss: DpoLoss,
    label_smoothing: f64,
    ld_alpha: f64,
    rpo_alpha: f64,
}

impl Dpo {
    fn read(values: &Values) -> Self {
        Self {
            beta: values.number("dpo.beta"),
            loss: values.choice("dpo.loss_type", DpoLoss::from_name),
            label_smoothing: values.optional_number("dpo.label_smoothing").unwrap_or(0.0),
            ld_alpha: values.number("dpo.ld_alpha"),
            rpo_alpha: values.number("dpo.rpo_alpha"),
        }
    }
}

impl PairLoss for Dpo {
    fn of(&self, chosen: &Answer, rejected: &Answer) -> PairOutcome {
        let Self { beta, label_smoothing, rpo_alpha, .. } = *self;
        let ratios = [chosen, rejected].map(|answer| answer.log_prob - answer.reference);
        let margin = beta * (ratios[0] - ratios[1]);
        let of_margin = |(loss, slope): (f64, f64)| (loss, [beta * slope, -beta * slope]);
        let (loss, d_log_prob) = match self.loss {
            DpoLoss::Sigmoid => of_margin(logistic(margin, label_smoothing)),
            DpoLoss::Robust => of_margin(robust(margin, label_smoothing)),
            DpoLoss::Hinge => of_margin(hinge(margin)),
            DpoLoss::Ipo => {
                let per_token = ratios[0] / chosen.tokens - ratios[1] / rejected.tokens;
                let (loss, slope) = squared(per_token, 1.0 / (2.0 * beta));
                (loss, [slope / chosen.tokens, -slope / rejected.tokens])
            }
        };
        let rewards = ratios.map(|ratio| beta * ratio);
        let mut metrics = reported(rewards, [chosen.log_prob, rejected.log_prob]);
        metrics.push(-chosen.mean);
        PairOutcome {
            loss: loss - rpo_alpha * chosen.mean,
            d_log_prob,
            d_mean: [-rpo_alpha, 0.0],
            metrics,
        }
    }

    fn metrics(&self) -> &'static [&'static str] {
        &METRICS
    }

    fn needs_reference(&self) -> bool {
        true
    }

    fn tail_weight(&self) -> f64 {
        self.ld_alpha
    }
}

#[cfg(test)]
mod tests {
    use super::super::pairwise::assert_derivatives;
    use super::*;

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        for name in DpoLoss::NAMES {
            let loss = DpoLoss::from_name(name).unwrap();
            for (beta, label_smoothing, rpo_alpha) in [(0.1, 0.0, 0.0), (0.7, 0.2, 0.5)] {
                let dpo = Dpo { beta, loss, label_smoothing, ld_alpha: 1.0, rpo_alpha };
                for (log_probs, references) in
                    [([-3.0, -9.0], [-4.0, -4.5]), ([-20.0, -0.5], [-2.0, -6.0])]
                {
                    let answer = |log_prob: f64, reference, tokens| Answer {
                        log_prob,
                        reference,
                        mean: log_prob / tokens,
                        tokens,
                    };
                    let chosen = answer(log_probs[0], references[0], 3.0);
                    let rejected = answer(log_probs[1], references[1], 5.0);
                    assert_derivatives(&dpo, chosen, rejected);
                }
            }
        }
    }

    #[test]
    fn a_model_that_is_the_base_has_no_rewards() {
        let answer = |log_prob| Answer { log_prob, reference: log_prob, mean: -1.0, tokens: 4.0 };
        let dpo = Dpo {
            beta: 0.1,
            loss: DpoLoss::Sigmoid,
            label_smoothing: 0.0,
            ld_alpha: 1.0,
            rpo_alpha: 0.0,
        };
        let found = dpo.of(&answer(-4.0), &answer(-7.0));
        assert!((found.loss - std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!(found.metrics[..4], [0.0; 4]);
    }
}
