//! What is reported of the completions of a step, under the names of TRL.

use std::collections::BTreeMap;

use super::advantages::{deviation, mean};
use super::{OnPolicyAnswer, Rollout, RolloutGroup};

/// Means over all completions, by name.
pub fn summary(groups: &[RolloutGroup]) -> BTreeMap<String, f64> {
    let all: Vec<&Rollout> = groups.iter().flat_map(|group| &group.completions).collect();
    let of = |number: &dyn Fn(&Rollout) -> f64| -> Vec<f64> {
        all.iter().map(|rollout| number(rollout)).collect()
    };
    let rewards = of(&|rollout| rollout.reward);
    let flag = |is: bool| if is { 1.0 } else { 0.0 };
    #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
    let lengths = of(&|rollout| rollout.tokens.len() as f64);
    let alike: Vec<f64> = groups.iter().map(|group| flag(!group.differs())).collect();
    let unused: Vec<f64> = groups.iter().map(|group| flag(group.unused)).collect();
    let mut found: BTreeMap<String, f64> = [
        ("reward", mean(&rewards)),
        ("reward_std", deviation(&rewards)),
        ("frac_reward_zero_std", mean(&alike)),
        ("frac_unused", mean(&unused)),
        ("completions/mean_length", mean(&lengths)),
        ("completions/clipped_ratio", mean(&of(&|rollout| flag(!rollout.ended)))),
    ]
    .into_iter()
    .map(|(name, number)| (name.to_owned(), number))
    .collect();
    for name in all.first().iter().flat_map(|first| first.rewards.keys()) {
        let scores = of(&|rollout| rollout.rewards[name]);
        found.insert(format!("rewards/{name}/mean"), mean(&scores));
        found.insert(format!("rewards/{name}/std"), deviation(&scores));
    }
    found
}

/// Of a step of a run of which some steps learn from answers of the model: whether this one does,
/// and means over them.
pub fn on_policy_summary(answers: &[OnPolicyAnswer]) -> BTreeMap<String, f64> {
    let flag = |is: bool| if is { 1.0 } else { 0.0 };
    let mut found = BTreeMap::from([("on_policy".to_owned(), flag(!answers.is_empty()))]);
    if !answers.is_empty() {
        #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
        let lengths: Vec<f64> = answers.iter().map(|answer| answer.tokens.len() as f64).collect();
        let clipped: Vec<f64> = answers.iter().map(|answer| flag(!answer.ended)).collect();
        found.insert("completions/mean_length".to_owned(), mean(&lengths));
        found.insert("completions/clipped_ratio".to_owned(), mean(&clipped));
    }
    found
}

/// Means over completions of which each prompt has one.
pub fn validation_summary(groups: &[RolloutGroup]) -> BTreeMap<String, f64> {
    let told = |name: &String| {
        name == "reward" || name.ends_with("/mean") || name.starts_with("completions/")
    };
    summary(groups).into_iter().filter(|(name, _)| told(name)).collect()
}
