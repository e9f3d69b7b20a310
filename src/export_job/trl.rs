//! TRL: a script for `SFTTrainer`, its settings in `job.json`.

use serde_json::{Map, Value as Json, json};

use super::settings::Rule::{Here, Make, Without};
use super::settings::{Became, JobSettings, Rule, json as value_of, one};
use super::{Job, JobTarget, trainer};
use crate::error::{Context, Result};

/// The target.
pub(super) const TARGET: JobTarget = JobTarget {
    name: "trl",
    settings: &[SETTINGS, trainer::SETTINGS],
    files,
    command: "accelerate launch train.py",
};

/// What of the settings is not an argument of `SFTConfig` begins so.
const PEFT: &str = "peft.";

const SETTINGS: &[(&str, Rule)] = &[
    ("model.weight_format", Make(weight_format)),
    ("lora.loraplus_lr_ratio", Without("both factors have the same rate there")),
    ("lora.use_dora", Make(|_, value| peft("use_dora", value))),
    ("lora.r", Make(|_, value| peft("r", value))),
    ("lora.lora_alpha", Make(|_, value| peft("lora_alpha", value))),
    ("lora.lora_dropout", Make(|_, value| peft("lora_dropout", value))),
    ("lora.target_modules", Make(|_, value| peft("target_modules", value))),
    ("lora.target_parameters", Make(|_, value| given("target_parameters", value))),
    ("lora.layers_to_transform", Make(|_, value| given("layers_to_transform", value))),
    ("lora.use_rslora", Make(|_, value| peft("use_rslora", value))),
    ("lora.rank_pattern", Make(|_, value| given("rank_pattern", value))),
    ("lora.alpha_pattern", Make(|_, value| given("alpha_pattern", value))),
    ("lora.modules_to_save", Make(|_, value| given("modules_to_save", value))),
    ("lora.trainable_token_indices", Make(tokens)),
    ("lora.trainable_tokens", Make(tokens)),
    ("lora.bias", Make(|_, value| peft("bias", value))),
    (
        "lora.init_lora_weights",
        Make(|_, value| match value {
            "default" => Became::Nothing,
            _ => peft("init_lora_weights", value),
        }),
    ),
    (
        "train.micro_batch_size",
        Make(|_, value| one("per_device_train_batch_size", value_of(value))),
    ),
    (
        "train.gradient_accumulation_steps",
        Make(|_, value| one("gradient_accumulation_steps", value_of(value))),
    ),
    // The script takes the rate of each step from `job.json`.
    ("train.lr_scheduler", Here),
    ("train.warmup_steps", Here),
    ("train.warmup_ratio", Here),
    ("train.min_lr_ratio", Here),
    ("train.decay_ratio", Here),
    ("train.cycles", Here),
    ("train.power", Here),
    ("train.param_groups*", Without("its trainer makes the groups; give it an optimizer by hand")),
    (
        "eval.early_stopping_patience",
        Without("add `EarlyStoppingCallback` to the script, with this patience"),
    ),
];

fn peft(name: &str, value: &str) -> Became {
    one(&format!("{PEFT}{name}"), value_of(value))
}

fn given(name: &str, value: &str) -> Became {
    match value {
        "" | "[]" | "{}" => Became::Nothing,
        _ => peft(name, value),
    }
}

/// All of them by their numbers, whichever key names them.
fn tokens(settings: &JobSettings, _: &str) -> Became {
    settings.tokens(&format!("{PEFT}trainable_token_indices"))
}

fn weight_format(_: &JobSettings, value: &str) -> Became {
    match value {
        "nf4" => one("quantization.load_in_4bit", true),
        "int8" => one("quantization.load_in_8bit", true),
        _ => Became::Nothing,
    }
}

fn files(job: &Job) -> Result<Vec<(&'static str, String)>> {
    let settings = job.settings;
    let part = |prefix: &str| -> Map<String, Json> {
        let own = job.theirs.iter().filter_map(|(name, value)| {
            Some((name.strip_prefix(prefix)?.to_owned(), value.clone()))
        });
        own.collect()
    };
    let mut arguments: Map<String, Json> =
        job.theirs.iter().filter(|(name, _)| !name.contains('.')).cloned().collect();
    for (name, value) in [
        ("output_dir", json!("out")),
        ("max_steps", json!(settings.steps)),
        ("max_length", Json::Null),
        // The rows are packed, shuffled and cut already, and stay as they are.
        ("packing", json!(false)),
        ("padding_free", json!(true)),
        ("shuffle_dataset", json!(false)),
        ("train_sampling_strategy", json!("sequential")),
        ("dataset_kwargs", json!({"skip_prepare_dataset": true})),
        ("report_to", json!("none")),
    ] {
        arguments.insert(name.to_owned(), value);
    }
    let left: Vec<Json> =
        job.left.iter().map(|(setting, why)| json!({"setting": setting, "why": why})).collect();
    let (base, revision) = &settings.base;
    let description = json!({
        "model": base,
        "revision": revision,
        "arguments": arguments,
        "peft": settings.has_adapter.then(|| part(PEFT)),
        "quantization": part("quantization."),
        "learning_rates": job.rates,
        "rows": {
            "format": job.rows.dataset,
            "train": job.rows.training(),
            "validation": job.has_validation.then(|| job.rows.validation()),
        },
        "without_counterpart": left,
    });
    let json = serde_json::to_string_pretty(&description).context("cannot encode the job")?;
    Ok(vec![("train.py", include_str!("trl_train.py").to_owned()), ("job.json", json + "\n")])
}
