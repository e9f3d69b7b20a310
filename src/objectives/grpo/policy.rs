//! The loss of one completion: the clipped surrogate of PPO at tokens or at whole sequences, and
//! how far the model is from its base.

use super::keys::{ImportanceLevel, KlEstimator};
use crate::data::SampledToken;
use crate::document::Values;
use crate::objectives::{Loss, LossSum};

/// How a completion is valued.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// How far below and above 1 a ratio of probabilities still counts.
    epsilon: [f64; 2],
    level: ImportanceLevel,
    /// How much the distance to the base model counts.
    pub beta: f64,
    estimator: KlEstimator,
}

/// A completion as the loss sees it; lists have a number for each token.
#[derive(Debug, Clone, Copy)]
pub struct Completion<'a> {
    /// In nats, by the model.
    pub log_probs: &'a [f64],
    /// The same by the base model, where that is asked for.
    pub reference: Option<&'a [f64]>,
    /// What they are learnt by.
    pub sampled: &'a [SampledToken],
}

/// What becomes of a completion.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyOutcome {
    /// In nats, weighted.
    pub loss: f64,
    /// Its derivative by the log-probability of each token.
    pub slopes: Vec<f64>,
    /// Sums over tokens, in the order of the metrics.
    pub sums: [f64; 5],
}

impl From<PolicyOutcome> for Loss {
    fn from(outcome: PolicyOutcome) -> Self {
        Self { sum: LossSum::Number(outcome.loss), metrics: outcome.sums.to_vec() }
    }
}

impl Completion<'_> {
    /// How many tokens the loss is taken of.
    #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
    pub fn tokens(&self) -> f64 {
        self.sampled.iter().filter(|token| !token.masked).count() as f64
    }

    /// How much likelier each token is now than when it was sampled, in nats.
    fn log_ratios(&self, level: ImportanceLevel) -> Vec<f64> {
        let of = |(log_prob, sampled): (&f64, &SampledToken)| {
            sampled.log_prob.map_or(0.0, |old| log_prob - f64::from(old))
        };
        let mut ratios: Vec<f64> = self.log_probs.iter().zip(self.sampled).map(of).collect();
        if level == ImportanceLevel::Sequence {
            let counted = ratios.iter().zip(self.sampled).filter(|(_, token)| !token.masked);
            let sum: f64 = counted.map(|(ratio, _)| ratio).sum();
            ratios.fill(sum / self.tokens().max(1.0));
        }
        ratios
    }
}

impl Policy {
    /// From the settings.
    pub fn read(values: &Values) -> Self {
        let epsilon = values.number("grpo.epsilon");
        Self {
            epsilon: [epsilon, values.optional_number("grpo.epsilon_high").unwrap_or(epsilon)],
            level: values.choice("grpo.importance_sampling_level", ImportanceLevel::from_name),
            beta: values.number("grpo.beta"),
            estimator: values.choice("grpo.kl_estimator", KlEstimator::from_name),
        }
    }

    /// The loss of a completion of which every token has this weight. The ratio of a sequence is
    /// the mean of those of its tokens: a token's part in it, and the number of tokens that have
    /// it, cancel out in the derivative.
    pub fn of(&self, completion: &Completion, weight: f64) -> PolicyOutcome {
        let ratios = completion.log_ratios(self.level);
        let mut outcome =
            PolicyOutcome { loss: 0.0, slopes: vec![0.0; ratios.len()], sums: [0.0; 5] };
        for (place, (log_ratio, sampled)) in ratios.into_iter().zip(completion.sampled).enumerate()
        {
            if sampled.masked {
                continue;
            }
            let (ratio, advantage) = (log_ratio.exp(), f64::from(sampled.advantage));
            let log_prob = completion.log_probs[place];
            let [low, high] = [1.0 - self.epsilon[0], 1.0 + self.epsilon[1]];
            let (free, held) = (ratio * advantage, ratio.clamp(low, high) * advantage);
            let slope = if free <= held { -advantage * ratio } else { 0.0 };
            let base = completion.reference.map_or(log_prob, |all| all[place]);
            let (kl, kl_slope) = self.kl(log_prob, base);
            outcome.loss += weight * (-free.min(held) + self.beta * kl);
            outcome.slopes[place] = weight * (slope + self.beta * kl_slope);
            let flag = |is: bool| if is { 1.0 } else { 0.0 };
            let (below, above) = (ratio < low && advantage < 0.0, ratio > high && advantage > 0.0);
            let parts = [1.0, kl, flag(below), flag(above), -log_prob];
            outcome.sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        }
        outcome
    }

    /// How far a token is from the base model, and the derivative by its log-probability.
    fn kl(&self, log_prob: f64, base: f64) -> (f64, f64) {
        let gap = base - log_prob;
        match self.estimator {
            KlEstimator::K3 => (gap.exp_m1() - gap, -gap.exp_m1()),
            KlEstimator::K2 => (0.5 * gap * gap, -gap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG_PROBS: [f64; 3] = [-0.4, -2.0, -0.9];
    const BASE: [f64; 3] = [-0.7, -1.2, -0.9];

    fn sampled(advantage: f32) -> [SampledToken; 3] {
        [-0.9, -1.6, -0.95].map(|old| SampledToken {
            advantage,
            log_prob: Some(old),
            masked: false,
        })
    }

    /// Of tokens below, above and within what is clipped, at both levels.
    #[test]
    fn derivatives_are_those_of_finite_differences() {
        for level in [ImportanceLevel::Token, ImportanceLevel::Sequence] {
            for estimator in [KlEstimator::K2, KlEstimator::K3] {
                for advantage in [1.3, -0.7] {
                    let policy = Policy { epsilon: [0.2, 0.3], level, beta: 0.4, estimator };
                    let sampled = sampled(advantage);
                    let reference = Some(&BASE[..]);
                    let at = |log_probs: &[f64]| {
                        policy.of(&Completion { log_probs, reference, sampled: &sampled }, 0.5)
                    };
                    let found = at(&LOG_PROBS);
                    for token in 0..3 {
                        let moved = |by: f64| {
                            let mut log_probs = LOG_PROBS;
                            log_probs[token] += by;
                            at(&log_probs).loss
                        };
                        let wanted = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                        let ours = found.slopes[token];
                        assert!((ours - wanted).abs() < 1e-6, "{level:?} {ours} {wanted}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_what_goes_too_far_the_right_way_is_clipped() {
        let policy = |advantage| {
            let level = ImportanceLevel::Token;
            let policy =
                Policy { epsilon: [0.2, 0.3], level, beta: 0.0, estimator: KlEstimator::K3 };
            let sampled = sampled(advantage);
            policy
                .of(&Completion { log_probs: &LOG_PROBS, reference: None, sampled: &sampled }, 1.0)
        };
        let (good, bad) = (policy(1.0), policy(-1.0));
        // The first token is likelier by a half, the second one less likely by a third.
        assert_eq!(good.sums[2..4], [0.0, 1.0]);
        assert_eq!(bad.sums[2..4], [1.0, 0.0]);
        assert!(good.slopes[0] == 0.0 && good.slopes[1] < 0.0);
        assert!(bad.slopes[0] > 0.0 && bad.slopes[1] == 0.0);
    }

    #[test]
    fn what_is_masked_does_not_count() {
        let policy = Policy {
            epsilon: [0.2; 2],
            level: ImportanceLevel::Sequence,
            beta: 0.1,
            estimator: KlEstimator::K3,
        };
        let mut sampled = sampled(1.0);
        sampled[1].masked = true;
        let log_probs = &LOG_PROBS;
        let found = policy.of(&Completion { log_probs, reference: None, sampled: &sampled }, 1.0);
        assert_eq!((found.slopes[1], found.sums[0]), (0.0, 2.0));
        sampled.iter_mut().for_each(|token| token.masked = true);
        let found = policy.of(&Completion { log_probs, reference: None, sampled: &sampled }, 1.0);
        assert_eq!((found.loss, found.slopes), (0.0, vec![0.0; 3]));
    }

    /// What was sampled by the very model that learns has a ratio of one.
    #[test]
    fn a_model_that_has_not_learnt_since_is_not_clipped() {
        let policy = Policy {
            epsilon: [0.0; 2],
            level: ImportanceLevel::Token,
            beta: 0.0,
            estimator: KlEstimator::K3,
        };
        let sampled = sampled(2.0).map(|token| SampledToken { log_prob: None, ..token });
        let log_probs = &LOG_PROBS;
        let found = policy.of(&Completion { log_probs, reference: None, sampled: &sampled }, 1.0);
        assert_eq!((found.loss, found.slopes), (-6.0, vec![-2.0; 3]));
    }
}
