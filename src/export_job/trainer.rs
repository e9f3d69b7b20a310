//! What trainers on `transformers` have in common.

use super::settings::Rule::{Here, InRows, Is, Make, Without};
use super::settings::{Became, JobSettings, Rule, one};

const ADDED: &str = "add them to the base's tokenizer first, in this order, and resize its \
                     embedding and head to it: rows have their ids";
const NOT_EXPORTED: &str = "it belongs to an objective that is not exported";
const ITS_OWN_EVALUATION: &str = "answers and suites are this program's own: `firebrand eval`";

/// Settings that they share, or that none of them has.
pub(super) const SETTINGS: &[(&str, Rule)] = &[
    ("name", Here),
    ("seed", Is("seed")),
    ("model.base", Here), // under a name that each target has for it
    ("model.base_id", Here),
    ("model.revision", Here),
    ("model.trusted_keys", Here),
    ("model.adapter", Without("the adapter to begin with must be merged, or loaded by hand")),
    ("model.base_adapters", Without("merge them into the base first: `firebrand merge`")),
    ("model.add_tokens", Without(ADDED)),
    ("model.add_special_tokens", Without(ADDED)),
    ("model.init", Without("weights are loaded, not drawn")),
    ("data.*", InRows),
    ("train.epochs", Here), // `max_steps` says how long it is
    ("train.max_steps", Here),
    ("train.objective", InRows),
    ("train.learning_rate", Is("learning_rate")),
    ("train.optimizer", Make(optimizer)),
    ("train.weight_decay", Is("weight_decay")),
    ("train.decay_norms_and_biases", Make(decay)),
    ("train.adam_beta1", Is("adam_beta1")),
    ("train.adam_beta2", Is("adam_beta2")),
    ("train.adam_epsilon", Is("adam_epsilon")),
    ("train.lion_beta1", Is("adam_beta1")),
    ("train.lion_beta2", Is("adam_beta2")),
    ("train.sgd_momentum", Make(momentum)),
    ("train.sgd_nesterov", Without("it is the optimizer's own setting there")),
    ("train.adafactor_decay_rate", Without("its optimizer has it fixed at -0.8")),
    ("train.adafactor_clip_threshold", Without("its optimizer has it fixed at 1")),
    ("train.adafactor_scale_parameter", Without("its optimizer has it fixed at `false`")),
    ("train.muon_momentum", Without("the optimizer has no counterpart")),
    ("train.muon_nesterov", Without("the optimizer has no counterpart")),
    ("train.muon_ns_steps", Without("the optimizer has no counterpart")),
    ("train.muon_adjust_lr_fn", Without("the optimizer has no counterpart")),
    ("train.schedule_free_beta1", Is("adam_beta1")),
    ("train.ema_decay", Without("weights are not averaged there")),
    ("train.max_grad_norm", Is("max_grad_norm")),
    ("train.neftune_noise_alpha", Is("neftune_noise_alpha")),
    ("train.recompute", Make(|_, value| one("gradient_checkpointing", value == "layers"))),
    ("train.tiled_mlp", Here),
    ("train.memory", Here),
    ("train.optimizer_offload", Here),
    ("train.activation_offload", Here),
    ("train.loss_chunk_tokens", Here),
    ("train.precision", Make(precision)),
    ("dpo.*", Without(NOT_EXPORTED)),
    ("simpo.*", Without(NOT_EXPORTED)),
    ("cpo.*", Without(NOT_EXPORTED)),
    ("orpo.*", Without(NOT_EXPORTED)),
    ("kto.*", Without(NOT_EXPORTED)),
    ("classification.*", Without(NOT_EXPORTED)),
    ("reward.*", Without(NOT_EXPORTED)),
    ("grpo.*", Without(NOT_EXPORTED)),
    ("distillation.*", Without(NOT_EXPORTED)),
    ("eval.every_steps", Make(evaluation)),
    ("eval.load_best_model_at_end", Make(best)),
    ("eval.early_stopping_threshold", Without("it is an argument of the callback there")),
    ("eval.prompts", Without(ITS_OWN_EVALUATION)),
    ("eval.max_tokens", Without(ITS_OWN_EVALUATION)),
    ("eval.temperature", Without(ITS_OWN_EVALUATION)),
    ("eval.max_records", InRows),
    ("eval.suite", Without(ITS_OWN_EVALUATION)),
    ("checkpoint.every_steps", Make(saving)),
    ("checkpoint.keep_last", Is("save_total_limit")),
    ("checkpoint.keep_every", Without("only the newest checkpoints are kept there")),
    ("checkpoint.keep_best", Without("only the newest checkpoints are kept there")),
    ("checkpoint.*", Here),
    ("output.title", Without("its model card has a title of its own")),
    ("output.license", Without("its model card has no licence")),
    ("output.sbom", Without("there is no bill of materials")),
    ("output.*", Here),
    ("trust.*", Here),
    ("device.*", Here),
];

fn optimizer(_: &JobSettings, value: &str) -> Became {
    match value {
        "adamw" => one("optim", "adamw_torch"),
        "sgd" => one("optim", "sgd"),
        "adafactor" => one("optim", "adafactor"),
        "lion" => one("optim", "lion_32bit"),
        "adamw-8bit" => one("optim", "adamw_bnb_8bit"),
        "schedule-free-adamw" => one("optim", "schedule_free_adamw"),
        _ => Became::Left("the optimizer has no counterpart; theirs is AdamW".to_owned()),
    }
}

fn decay(settings: &JobSettings, value: &str) -> Became {
    match value == "true"
        && !settings.has_adapter
        && settings.number("train.weight_decay") > Some(0.0)
    {
        true => Became::Left("norms and biases never decay there".to_owned()),
        false => Became::Nothing,
    }
}

fn momentum(_: &JobSettings, value: &str) -> Became {
    one("optim_args", format!("momentum={value}"))
}

fn precision(settings: &JobSettings, _: &str) -> Became {
    match settings.precision {
        "mixed-bf16" => one("bf16", true),
        "mixed-f16" => one("fp16", true),
        _ => Became::Nothing,
    }
}

fn evaluation(settings: &JobSettings, value: &str) -> Became {
    let every = settings.number("eval.every_steps").unwrap_or(0.0);
    if every == 0.0 {
        return Became::Nothing;
    }
    let (strategy, steps) =
        (("eval_strategy".to_owned(), "steps".into()), super::settings::json(value));
    Became::Settings(vec![strategy, ("eval_steps".to_owned(), steps)])
}

fn best(_: &JobSettings, value: &str) -> Became {
    if value != "true" {
        return Became::Nothing;
    }
    Became::Settings(vec![
        ("load_best_model_at_end".to_owned(), true.into()),
        ("metric_for_best_model".to_owned(), "eval_loss".into()),
        ("greater_is_better".to_owned(), false.into()),
    ])
}

fn saving(_: &JobSettings, value: &str) -> Became {
    match value {
        "0" => one("save_strategy", "no"),
        steps => Became::Settings(vec![
            ("save_strategy".to_owned(), "steps".into()),
            ("save_steps".to_owned(), super::settings::json(steps)),
        ]),
    }
}
