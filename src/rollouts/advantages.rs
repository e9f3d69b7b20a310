//! From rewards to advantages: how much better than the others of its prompt a completion is.

use crate::objectives::{AdvantageBaseline, RewardScale};

/// Keeps rewards that are all the same from being divided by nothing, as TRL does.
const EPSILON: f64 = 1e-4;

/// The advantage of each reward, of which each prompt has `group` one after the other.
pub fn advantages(
    rewards: &[f64],
    group: usize,
    scale: RewardScale,
    baseline: AdvantageBaseline,
) -> Vec<f64> {
    let of_all = deviation(rewards);
    let mut advantages = Vec::with_capacity(rewards.len());
    for rewards in rewards.chunks(group.max(1)) {
        let (count, sum) = (count(rewards), rewards.iter().sum::<f64>());
        let divisor = match scale {
            RewardScale::Group => deviation(rewards) + EPSILON,
            RewardScale::Batch => of_all + EPSILON,
            RewardScale::None => 1.0,
        };
        advantages.extend(rewards.iter().map(|reward| {
            let expected = match baseline {
                AdvantageBaseline::Mean => sum / count,
                AdvantageBaseline::LeaveOneOut => (sum - reward) / (count - 1.0).max(1.0),
            };
            (reward - expected) / divisor
        }));
    }
    advantages
}

/// The standard deviation of a sample: divided by one less than its size.
pub fn deviation(numbers: &[f64]) -> f64 {
    let mean = mean(numbers);
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    (squares / (count(numbers) - 1.0).max(1.0)).sqrt()
}

/// The mean; 0 of nothing.
pub fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / count(numbers).max(1.0)
}

#[expect(clippy::cast_precision_loss)] // of completions there are few
fn count(numbers: &[f64]) -> f64 {
    numbers.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const REWARDS: [f64; 6] = [1.0, 0.0, 0.5, 2.0, 2.0, 2.0];

    fn of(scale: RewardScale, baseline: AdvantageBaseline) -> Vec<f64> {
        advantages(&REWARDS, 3, scale, baseline)
    }

    #[test]
    fn rewards_are_compared_within_their_prompt() {
        let plain = of(RewardScale::None, AdvantageBaseline::Mean);
        assert_eq!(plain, [0.5, -0.5, 0.0, 0.0, 0.0, 0.0]);
        let others = of(RewardScale::None, AdvantageBaseline::LeaveOneOut);
        assert_eq!(others, [0.75, -0.75, 0.0, 0.0, 0.0, 0.0]);
        let scaled = of(RewardScale::Group, AdvantageBaseline::Mean);
        assert!((scaled[0] - 0.5 / 0.5001).abs() < 1e-12 && scaled[3] == 0.0);
        let together = of(RewardScale::Batch, AdvantageBaseline::Mean);
        let all = deviation(&REWARDS) + EPSILON;
        assert!((together[1] + 0.5 / all).abs() < 1e-12);
    }

    #[test]
    fn deviations_are_those_of_samples() {
        assert!((deviation(&[1.0, 3.0]) - 2.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!((deviation(&[1.0]), deviation(&[]), mean(&[])), (0.0, 0.0, 0.0));
    }
}
