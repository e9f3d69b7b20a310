//! `[eval]`: what is measured beside the training loss.

use crate::document::key::{DefaultValue, Key, MANY, Range, Section, ValueKind};
use crate::document::{Effect, Entries, Values};

/// What is measured beside the training loss.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalConfig {
    /// Validation loss after every so many steps; 0 only before and after.
    pub every_steps: u64,
    /// Answered before and after.
    pub prompts: Vec<String>,
    /// Longest answer in tokens.
    pub max_tokens: usize,
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// Validation records measured; 0 means all.
    pub max_records: u64,
    /// What the finished model is evaluated on besides: a file as `firebrand eval` takes it.
    pub suite: Option<String>,
}

pub(in crate::config) const SECTION: Section = Section::new(
    "eval",
    "What is measured beside the training loss.",
    &[
        Key::new(
            "eval.every_steps",
            ValueKind::Integer { min: 0, max: MANY },
            DefaultValue::Value("0"),
            "Validation loss after every so many steps. 0 measures only before and after.",
        )
        .effect(Effect::Measures)
        .example("50")
        .names(&[("axolotl, TRL and LLaMA-Factory", "eval_steps"), ("mlx-lm", "steps_per_eval")]),
        Key::new(
            "eval.prompts",
            ValueKind::Texts,
            DefaultValue::Value("[]"),
            "Prompts answered before and after training, to show the difference. Each is a chat \
             turn if the model has a chat template.",
        )
        .effect(Effect::Measures)
        .example("[\"What is the capital of France?\"]"),
        Key::new(
            "eval.max_tokens",
            ValueKind::Integer { min: 1, max: 131_072 },
            DefaultValue::Value("64"),
            "Longest answer to a prompt, in tokens.",
        )
        .effect(Effect::Measures)
        .example("128")
        .names(&[("axolotl", "eval_max_new_tokens"), ("LLaMA-Factory", "max_new_tokens")]),
        Key::new(
            "eval.temperature",
            ValueKind::Number(Range::closed(0.0, 10.0)),
            DefaultValue::Value("0.0"),
            "How freely answers are drawn. 0 takes the likeliest token every time.",
        )
        .effect(Effect::Measures)
        .example("0.7"),
        Key::new(
            "eval.max_records",
            ValueKind::Integer { min: 0, max: MANY },
            DefaultValue::Value("0"),
            "How many validation records are measured. 0 means all.",
        )
        .effect(Effect::Measures)
        .example("200")
        .names(&[("TRL", "max_eval_samples")]),
        Key::new(
            "eval.suite",
            ValueKind::Line,
            DefaultValue::Absent("the loss alone is measured"),
            "What the finished model is evaluated on besides: a file as `firebrand eval` takes it, \
             with slices and tasks. The numbers go into model card and lineage, and into \
             `evaluations.jsonl` of the run.",
        )
        .effect(Effect::Measures)
        .example("\"eval.toml\""),
    ],
);

impl EvalConfig {
    pub(in crate::config) fn read(values: &Values) -> Self {
        Self {
            every_steps: values.integer("eval.every_steps"),
            prompts: values.texts("eval.prompts"),
            max_tokens: values.size("eval.max_tokens"),
            temperature: values.number("eval.temperature"),
            max_records: values.integer("eval.max_records"),
            suite: values.optional_text("eval.suite"),
        }
    }

    pub(in crate::config) fn write(&self, out: &mut Entries) {
        out.integer("eval.every_steps", self.every_steps);
        out.texts("eval.prompts", &self.prompts);
        out.size("eval.max_tokens", self.max_tokens);
        out.number("eval.temperature", self.temperature);
        out.integer("eval.max_records", self.max_records);
        out.optional_text("eval.suite", self.suite.as_deref());
    }
}
