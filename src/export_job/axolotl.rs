//! axolotl: a pre-tokenised data set and `axolotl.yml`.

use serde_json::{Value as Json, json};

use super::settings::Rule::{Here, Is, Make, Without};
use super::settings::{Became, JobSettings, Rule, json as value_of, one};
use super::{Job, JobTarget, trainer};
use crate::error::Result;

/// The target.
pub(super) const TARGET: JobTarget = JobTarget {
    name: "axolotl",
    settings: &[SETTINGS, trainer::SETTINGS],
    files,
    command: "axolotl train axolotl.yml",
};

const SETTINGS: &[(&str, Rule)] = &[
    ("model.weight_format", Make(weight_format)),
    ("lora.r", Is("lora_r")),
    ("lora.lora_alpha", Is("lora_alpha")),
    ("lora.lora_dropout", Is("lora_dropout")),
    (
        "lora.target_modules",
        Make(|_, value| match value {
            "all-linear" => one("lora_target_linear", true),
            _ => one("lora_target_modules", value_of(value)),
        }),
    ),
    ("lora.target_parameters", Make(|_, value| list("lora_target_parameters", value))),
    ("lora.layers_to_transform", Make(|_, value| list("peft_layers_to_transform", value))),
    ("lora.use_dora", Is("peft_use_dora")),
    ("lora.use_rslora", Is("peft_use_rslora")),
    ("lora.rank_pattern", Without("all layers have the same rank there")),
    ("lora.alpha_pattern", Without("all layers have the same alpha there")),
    (
        "lora.loraplus_lr_ratio",
        Make(|_, value| match value {
            "1" | "1.0" => Became::Nothing,
            _ => one("loraplus_lr_ratio", value_of(value)),
        }),
    ),
    ("lora.modules_to_save", Make(|_, value| list("lora_modules_to_save", value))),
    ("lora.trainable_token_indices", Make(tokens)),
    ("lora.trainable_tokens", Make(tokens)),
    ("lora.bias", Without("biases stay as they are there")),
    (
        "lora.init_lora_weights",
        Make(|_, value| match value {
            "default" => Became::Nothing,
            _ => one("peft_init_lora_weights", value),
        }),
    ),
    // A row at a time, so that documents are told apart by their positions alone.
    ("train.micro_batch_size", Make(|_, _| one("micro_batch_size", 1))),
    (
        "train.gradient_accumulation_steps",
        Make(|settings, _| one("gradient_accumulation_steps", settings.rows)),
    ),
    ("train.lr_scheduler", Make(scheduler)),
    ("train.warmup_steps", Is("warmup_steps")),
    ("train.warmup_ratio", Is("warmup_ratio")),
    ("train.min_lr_ratio", Make(least_rate)),
    ("train.decay_ratio", Here), // with the scheduler
    ("train.cycles", Here),
    ("train.power", Here),
    (
        "train.param_groups*",
        Without(
            "`lr_groups` fit any part of a name, leave out embeddings, norms and biases, and have \
             the run's weight decay: write them by hand",
        ),
    ),
    ("eval.early_stopping_patience", Is("early_stopping_patience")),
];

fn list(name: &str, value: &str) -> Became {
    match value {
        "" | "[]" => Became::Nothing,
        _ => one(name, value_of(value)),
    }
}

/// All of them by their numbers, whichever key names them.
fn tokens(settings: &JobSettings, _: &str) -> Became {
    settings.tokens("peft_trainable_token_indices")
}

fn weight_format(_: &JobSettings, value: &str) -> Became {
    match value {
        "nf4" => Became::Settings(vec![("load_in_4bit".to_owned(), true.into())]),
        "int8" => Became::Settings(vec![("load_in_8bit".to_owned(), true.into())]),
        _ => Became::Nothing,
    }
}

fn scheduler(settings: &JobSettings, value: &str) -> Became {
    let named = |name: &str, kwargs: Option<Json>| {
        let mut found = vec![("lr_scheduler".to_owned(), name.into())];
        found.extend(kwargs.map(|kwargs| ("lr_scheduler_kwargs".to_owned(), kwargs)));
        Became::Settings(found)
    };
    match value {
        "constant" => named("constant_with_warmup", None),
        "linear" | "cosine" => named(value, None),
        "cosine-with-restarts" => named(
            "cosine_with_restarts",
            Some(json!({"num_cycles": settings.json("train.cycles")})),
        ),
        "polynomial" => named("polynomial", Some(json!({"power": settings.json("train.power")}))),
        "inverse-sqrt" => named("inverse_sqrt", None),
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        // a share of a step count
        "wsd" => {
            let share = settings.number("train.decay_ratio").unwrap_or(0.0);
            let decay = (settings.steps as f64 * share).round() as u64;
            named("warmup_stable_decay", Some(json!({"num_decay_steps": decay})))
        }
        _ => Became::Left("the schedule has no counterpart".to_owned()),
    }
}

fn least_rate(settings: &JobSettings, value: &str) -> Became {
    match (value.parse::<f64>(), settings.get("train.lr_scheduler")) {
        (Ok(0.0), _) => Became::Nothing,
        (_, Some("cosine")) => one("cosine_min_lr_ratio", value_of(value)),
        _ => Became::Left("only the cosine schedule has a least rate there".to_owned()),
    }
}

fn files(job: &Job) -> Result<Vec<(&'static str, String)>> {
    let settings = job.settings;
    let kind = job.rows.dataset;
    let data = |path: String| json!([{"path": path, "ds_type": kind, "type": null}]);
    let mut all: Vec<(String, Json)> = vec![("base_model".to_owned(), json!(settings.base.0))];
    all.extend(settings.base.1.as_ref().map(|it| ("revision_of_model".to_owned(), json!(it))));
    all.push(("datasets".to_owned(), data(job.rows.training())));
    if job.has_validation {
        all.push(("test_datasets".to_owned(), data(job.rows.validation())));
    }
    let quantised = settings.get("model.weight_format") == Some("nf4");
    if settings.has_adapter {
        all.push(("adapter".to_owned(), json!(if quantised { "qlora" } else { "lora" })));
    }
    for (name, value) in [
        ("output_dir", json!("out")),
        ("max_steps", json!(settings.steps)),
        ("sequence_len", settings.json("data.max_seq_len")),
        // The rows are packed, shuffled and cut already, and stay as they are.
        ("sample_packing", json!(false)),
        ("pad_to_sequence_len", json!(false)),
        ("shuffle_merged_datasets", json!(false)),
        ("curriculum_sampling", json!(true)),
        ("dataset_exact_deduplication", json!(false)),
        ("excess_length_strategy", json!("raise")),
        ("flash_attention", json!(true)),
    ] {
        all.push((name.to_owned(), value));
    }
    all.extend(job.theirs.iter().cloned());
    let mut text = String::from(
        "# A job of Firebrand for axolotl: `axolotl train axolotl.yml` in this folder.\n",
    );
    text += &format!(
        "# `{}` has the rows of the whole run, tokenised and packed, in their order.\n",
        job.rows.training()
    );
    for (setting, why) in &job.left {
        text += &format!("# without a counterpart: {setting}: {why}\n");
    }
    for (name, value) in all {
        // JSON is YAML.
        text += &format!("{name}: {value}\n");
    }
    Ok(vec![("axolotl.yml", text)])
}
