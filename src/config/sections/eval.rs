//! `[eval]`: what is measured beside the training loss.

use crate::document::key::{DefaultValue, Key, MANY, Range, Section, ValueKind};
use crate::document::{Effect, settings};

settings! {
    /// What is measured beside the training loss.
    pub struct EvalConfig, KEYS {
        /// Validation loss after every so many steps; 0 only before and after.
        every_steps: u64 = Key::new(
            "eval.every_steps",
            ValueKind::Integer { min: 0, max: MANY },
            DefaultValue::Value("0"),
            "Validation loss after every so many steps. 0 measures only before and after.",
        )
        .effect(Effect::Measures)
        .example("50")
        .names(&[("axolotl, TRL and LLaMA-Factory", "eval_steps"), ("mlx-lm", "steps_per_eval")]);
        /// Whether the result is made of the checkpoint with the least validation loss.
        load_best_model_at_end: bool = Key::new(
            "eval.load_best_model_at_end",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "The result is made of the checkpoint with the least validation loss, not of the last \
             one. Whenever a validation (`eval.every_steps`) is the best so far, a checkpoint is \
             saved, and nothing removes it while it is the best.",
        )
        .effect(Effect::Weights)
        .example("true")
        .silent_default();
        /// So many validations without an improvement end the run.
        early_stopping_patience: Option<u64> = Key::new(
            "eval.early_stopping_patience",
            ValueKind::Integer { min: 1, max: MANY },
            DefaultValue::Absent("the run does all its steps"),
            "The run ends when so many validations in a row (`eval.every_steps`) have not improved \
             on the least validation loss. Schedules of the learning rate stay those of all steps.",
        )
        .effect(Effect::Length)
        .example("3");
        /// By how much the loss has to fall to be an improvement.
        early_stopping_threshold: Option<f64> = Key::new(
            "eval.early_stopping_threshold",
            ValueKind::Number(Range::closed(0.0, 1000.0)),
            DefaultValue::Absent("any lower loss is an improvement"),
            "By more than this the validation loss has to fall below the least before to be an \
             improvement for `eval.early_stopping_patience`.",
        )
        .effect(Effect::Length)
        .example("0.001");
        /// Answered before and after.
        prompts: Vec<String> = Key::new(
            "eval.prompts",
            ValueKind::Texts,
            DefaultValue::Value("[]"),
            "Prompts answered before and after training, to show the difference. Each is a chat \
             turn if the model has a chat template.",
        )
        .effect(Effect::Measures)
        .example("[\"What is the capital of France?\"]");
        /// Longest answer in tokens.
        max_tokens: usize = Key::new(
            "eval.max_tokens",
            ValueKind::Integer { min: 1, max: 131_072 },
            DefaultValue::Value("64"),
            "Longest answer to a prompt, in tokens.",
        )
        .effect(Effect::Measures)
        .example("128")
        .names(&[("axolotl", "eval_max_new_tokens")]);
        /// 0 takes the likeliest token.
        temperature: f64 = Key::new(
            "eval.temperature",
            ValueKind::Number(Range::closed(0.0, 10.0)),
            DefaultValue::Value("0.0"),
            "How freely answers are drawn. 0 takes the likeliest token every time.",
        )
        .effect(Effect::Measures)
        .example("0.7");
        /// Validation records measured; 0 means all.
        max_records: u64 = Key::new(
            "eval.max_records",
            ValueKind::Integer { min: 0, max: MANY },
            DefaultValue::Value("0"),
            "How many validation records are measured. 0 means all.",
        )
        .effect(Effect::Measures)
        .example("200")
        .names(&[("TRL", "max_eval_samples")]);
        /// What the finished model is evaluated on besides: a file as `firebrand eval` takes it.
        suite: Option<String> = Key::new(
            "eval.suite",
            ValueKind::Line,
            DefaultValue::Absent("the loss alone is measured"),
            "What the finished model is evaluated on besides: a file as `firebrand eval` takes it, \
             with slices and tasks. The numbers go into model card and lineage, and into \
             `evaluations.jsonl` of the run.",
        )
        .effect(Effect::Measures)
        .example("\"eval.toml\"");
    }
}

pub(in crate::config) const SECTION: Section =
    Section::new("eval", "What is measured beside the training loss.", KEYS);
