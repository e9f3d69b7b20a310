//! What is written before a step, and how rewards become advantages.

use crate::document::Values;
use crate::document::choices;
use crate::error::Result;
use crate::model::Filters;
use crate::scorers::Scorer;

choices! {
    /// What the distance of a reward to that of the others is divided by.
    RewardScale {
        /// The standard deviation of the prompt's rewards.
        Group = "group",
        /// That of all rewards of the step.
        Batch = "batch",
        /// Nothing.
        None = "none",
    }
}

choices! {
    /// What a reward is compared with.
    AdvantageBaseline {
        /// The mean of all rewards of the prompt.
        Mean = "mean",
        /// The mean of the others.
        LeaveOneOut = "leave_one_out",
    }
}

/// What the model writes before a step, and what that is worth.
#[derive(Debug, Clone)]
pub struct RolloutConfig {
    /// Completions of each prompt.
    pub num_generations: usize,
    /// Longest completion in tokens.
    pub max_completion_length: usize,
    /// What scores are divided by before a token is drawn.
    pub temperature: f64,
    /// Which tokens may be drawn.
    pub filters: Filters,
    /// Steps that are made with the same completions.
    pub num_iterations: u64,
    /// What the distance of a reward to its baseline is divided by.
    pub scale_rewards: RewardScale,
    /// What a reward is compared with.
    pub baseline: AdvantageBaseline,
    /// Whether completions that did not end are left out of the loss.
    pub mask_truncated: bool,
    /// How many times the prompts that it learns from a step reads.
    pub dynamic_sampling: usize,
    /// What is rewarded.
    pub rewards: Vec<RewardSpec>,
}

/// Something that is rewarded.
#[derive(Debug, Clone)]
pub struct RewardSpec {
    /// What it is called in metrics.
    pub name: String,
    /// What its number is multiplied with.
    pub weight: f64,
    table: Values,
}

impl RewardSpec {
    /// Reads the scorer.
    ///
    /// # Errors
    /// When its schema cannot be used, or its command is empty.
    pub fn scorer(&self) -> Result<Scorer> {
        Scorer::read(&self.table)
            .map_err(|(error, _)| error.because(format!("the reward `{}` asks for it", self.name)))
    }
}

impl RolloutConfig {
    /// From the settings.
    pub fn read(values: &Values) -> Self {
        let all = |number: f64| (number < 1.0).then_some(number);
        let reward = |table: &Values| RewardSpec {
            name: table.text("name"),
            weight: table.number("weight"),
            table: table.clone(),
        };
        Self {
            num_generations: values.size("grpo.num_generations"),
            max_completion_length: values.size("grpo.max_completion_length"),
            temperature: values.number("grpo.temperature"),
            filters: Filters {
                top_k: Some(values.size("grpo.top_k")).filter(|count| *count > 0),
                top_p: all(values.number("grpo.top_p")),
                ..Filters::default()
            },
            num_iterations: values.integer("grpo.num_iterations"),
            scale_rewards: values.choice("grpo.scale_rewards", RewardScale::from_name),
            baseline: values.choice("grpo.baseline", AdvantageBaseline::from_name),
            mask_truncated: values.boolean("grpo.mask_truncated_completions"),
            dynamic_sampling: values.size("grpo.dynamic_sampling"),
            rewards: values.tables("grpo.reward").iter().map(reward).collect(),
        }
    }
}
