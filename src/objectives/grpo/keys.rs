//! The keys of `[grpo]`.

use super::config::{AdvantageBaseline, RewardScale};
use crate::document::choices;
use crate::document::key::{DefaultValue, Key, MANY, Range, ValueKind};
use crate::scorers::{
    APPEND_REFERENCE, COMMAND, COMPARE, EXTRACT, KIND, PATTERN, RUN_MEMORY, RUN_SECONDS, SCHEMA,
    TIMEOUT,
};

choices! {
    /// What the loss is the mean over.
    LossType {
        /// All tokens of a step.
        Dapo = "dapo",
        /// Completions, each the mean of its tokens.
        Grpo = "grpo",
        /// Completions of the greatest length.
        DrGrpo = "dr_grpo",
    }
}

choices! {
    /// Of what ratios of probabilities are made.
    ImportanceLevel {
        /// A token.
        Token = "token",
        /// The mean of a completion.
        Sequence = "sequence",
    }
}

choices! {
    /// How the divergence from the base model is estimated from what was sampled.
    KlEstimator {
        /// exp(d) − d − 1.
        K3 = "k3",
        /// d² / 2.
        K2 = "k2",
    }
}

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "grpo.num_generations",
        ValueKind::Integer { min: 2, max: 65_536 },
        DefaultValue::Value("8"),
        "How many completions the model writes for each prompt. A step has as many prompts as rows \
         (`train.micro_batch_size` times `train.gradient_accumulation_steps`), and so many times \
         more completions, which pass in micro-batches of that size.",
    )
    .example("16"),
    Key::new(
        "grpo.max_completion_length",
        ValueKind::Integer { min: 1, max: MANY },
        DefaultValue::Value("256"),
        "Longest completion in tokens. Prompt and completion together are no longer than \
         `data.max_seq_len`.",
    )
    .example("128"),
    Key::new(
        "grpo.temperature",
        ValueKind::Number(Range::above(0.0, 100.0)),
        DefaultValue::Value("1"),
        "What scores are divided by before a token is drawn, and where its probability is asked \
         for.",
    )
    .example("0.7"),
    Key::new(
        "grpo.top_p",
        ValueKind::Number(Range { min: 0.0, max: 1.0, min_excluded: true, max_excluded: false }),
        DefaultValue::Value("1"),
        "Tokens are drawn from the likeliest ones that have this probability together.",
    )
    .example("0.95"),
    Key::new(
        "grpo.top_k",
        ValueKind::Integer { min: 0, max: MANY },
        DefaultValue::Value("0"),
        "Tokens are drawn from so many of the likeliest ones. 0 means all.",
    )
    .example("50"),
    Key::new(
        "grpo.num_iterations",
        ValueKind::Integer { min: 1, max: 1_000 },
        DefaultValue::Value("1"),
        "How many steps are made with the same completions. From the second one on, `epsilon` \
         limits how far the model goes from the one that wrote them.",
    )
    .example("2"),
    Key::new(
        "grpo.loss_type",
        ValueKind::Choice(LossType::NAMES),
        DefaultValue::Value("\"dapo\""),
        "What the loss is the mean over. `dapo`: all tokens of a step (Yu et al. 2025). `grpo`: \
         completions, each the mean of its tokens, which favours short ones among the good. \
         `dr_grpo`: completions of `max_completion_length` tokens (Liu et al. 2025).",
    )
    .example("\"dr_grpo\""),
    Key::new(
        "grpo.importance_sampling_level",
        ValueKind::Choice(ImportanceLevel::NAMES),
        DefaultValue::Value("\"token\""),
        "Whether how much likelier a completion has become is asked of each token, or of all of \
         them together (`sequence`: GSPO, Zheng et al. 2025). It matters where `num_iterations` is \
         above 1.",
    )
    .example("\"sequence\""),
    Key::new(
        "grpo.epsilon",
        ValueKind::Number(Range::closed(0.0, 1.0)),
        DefaultValue::Value("0.2"),
        "How far below 1 that ratio counts, and above where `epsilon_high` is not given.",
    )
    .example("3e-4"),
    Key::new(
        "grpo.epsilon_high",
        ValueKind::Number(Range::closed(0.0, 100.0)),
        DefaultValue::Depends("`epsilon`"),
        "How far above 1 that ratio counts: DAPO's higher clip lets unlikely tokens become likely.",
    )
    .example("0.28"),
    Key::new(
        "grpo.beta",
        ValueKind::Number(Range::closed(0.0, 100.0)),
        DefaultValue::Value("0"),
        "How much the divergence from the base model counts. Above 0 a step takes one more forward \
         pass, and an adapter is required.",
    )
    .example("0.04"),
    Key::new(
        "grpo.kl_estimator",
        ValueKind::Choice(KlEstimator::NAMES),
        DefaultValue::Value("\"k3\""),
        "How that divergence is estimated from the difference `d` of log-probabilities. `k3`: \
         exp(d) - d - 1, as in the paper. `k2`: d² / 2, of which the gradient has no bias.",
    )
    .example("\"k2\""),
    Key::new(
        "grpo.scale_rewards",
        ValueKind::Choice(RewardScale::NAMES),
        DefaultValue::Value("\"group\""),
        "What the distance of a reward to its baseline is divided by: the standard deviation of \
         the prompt's rewards, that of the whole step, or nothing (Dr. GRPO).",
    )
    .example("\"none\""),
    Key::new(
        "grpo.baseline",
        ValueKind::Choice(AdvantageBaseline::NAMES),
        DefaultValue::Value("\"mean\""),
        "What a reward is compared with: the mean of all rewards of the prompt, or of the others \
         (`leave_one_out`: RLOO, Ahmadian et al. 2024).",
    )
    .example("\"leave_one_out\""),
    Key::new(
        "grpo.mask_truncated_completions",
        ValueKind::Boolean,
        DefaultValue::Value("false"),
        "Whether completions that did not end within `max_completion_length` are left out of the \
         loss (DAPO): their rewards say little.",
    )
    .example("true"),
    Key::new(
        "grpo.dynamic_sampling",
        ValueKind::Integer { min: 1, max: 1_000 },
        DefaultValue::Value("1"),
        "How many times the prompts that it learns from a step reads at most (DAPO's dynamic \
         sampling). It answers them in their order until enough have completions of which the \
         rewards differ, since others teach nothing; where too few do, the others fill the step.",
    )
    .example("3"),
    Key::new(
        "grpo.reward",
        ValueKind::Tables { keys: REWARD, may_be_empty: true },
        DefaultValue::Absent("an error: there is nothing to learn from"),
        "What is rewarded, one `[[grpo.reward]]` each; a completion gets the weighted sum.",
    )
    .example("[{ name = \"right\", kind = \"exact\" }]"),
];

const REWARD: &[Key] = &[
    Key::new(
        "name",
        ValueKind::Name,
        DefaultValue::Required,
        "What it is called in metrics: `rewards/NAME/mean`.",
    )
    .example("\"right\""),
    Key::new(
        "weight",
        ValueKind::Number(Range::closed(-1000.0, 1000.0)),
        DefaultValue::Value("1"),
        "What its number is multiplied with. Below 0 it is a penalty.",
    )
    .example("0.5"),
    KIND,
    COMPARE,
    SCHEMA,
    PATTERN,
    COMMAND,
    TIMEOUT,
    RUN_SECONDS,
    RUN_MEMORY,
    APPEND_REFERENCE,
    EXTRACT,
];
