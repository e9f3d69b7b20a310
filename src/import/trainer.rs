//! Settings of transformers' `TrainingArguments`, which TRL and LLaMA-Factory share, and what all
//! tools call alike.

use super::draft::Action::{Key, Make, Nothing, Without};
use super::draft::{Action, Draft};
use super::recompute;
use super::trackers::report_to;
use super::yaml::{YamlNode, YamlValue};
use crate::document::quoted;

const ONE_DEVICE: &str = "a run uses one device";
const AUTOMATIC: &str = "kernels are chosen for the device";
const IN_CODE: &str = "no code of a model is run: the families that are known are built in";
const STEPS: &str =
    "how often is said in steps, by `eval.every_steps` and `checkpoint.every_steps`";
const BEST: &str = "checkpoints are compared by their validation loss, of which less is better";

/// Settings of `TrainingArguments`.
pub const SETTINGS: &[(&str, Action)] = &[
    ("output_dir", Key("output.dir")),
    ("run_name", Make(|node, draft| draft.take("name", node))),
    ("seed", Key("seed")),
    ("data_seed", Without("`seed` decides the order of the data, too")),
    ("do_train", Nothing),
    ("do_eval", Nothing),
    ("do_predict", Without("`firebrand eval` measures, `firebrand generate` writes")),
    ("num_train_epochs", Make(epochs)),
    ("max_steps", Make(max_steps)),
    ("per_device_train_batch_size", Key("train.micro_batch_size")),
    ("per_device_eval_batch_size", Nothing),
    ("gradient_accumulation_steps", Key("train.gradient_accumulation_steps")),
    ("auto_find_batch_size", Without("`firebrand plan` says what fits")),
    ("learning_rate", Key("train.learning_rate")),
    ("lr_scheduler_type", Make(scheduler)),
    (
        "lr_scheduler_kwargs",
        Without("`train.min_lr_ratio` and `train.decay_ratio` are its settings"),
    ),
    ("warmup_ratio", Make(warmup_ratio)),
    ("warmup_steps", Make(warmup_steps)),
    ("weight_decay", Key("train.weight_decay")),
    ("adam_beta1", Key("train.adam_beta1")),
    ("adam_beta2", Key("train.adam_beta2")),
    ("adam_epsilon", Key("train.adam_epsilon")),
    ("max_grad_norm", Key("train.max_grad_norm")),
    ("optim", Make(optimizer)),
    ("optim_args", Without("the optimizer's settings have keys of their own in `[train]`")),
    ("optim_target_modules", Without("an optimizer changes all trainable parameters")),
    ("gradient_checkpointing", Make(recompute::recompute)),
    ("gradient_checkpointing_kwargs", Nothing),
    ("bf16", Make(bf16)),
    ("fp16", Make(fp16)),
    ("tf32", Nothing),
    ("bf16_full_eval", Nothing),
    ("half_precision_backend", Nothing),
    ("torch_dtype", Make(dtype)),
    ("dtype", Make(dtype)),
    ("torch_compile", Nothing),
    ("attn_implementation", Without(AUTOMATIC)),
    ("use_liger_kernel", Nothing),
    ("eval_strategy", Make(strategy)),
    ("evaluation_strategy", Make(strategy)),
    ("eval_on_start", Nothing),
    ("eval_steps", Make(eval_steps)),
    ("save_strategy", Make(strategy)),
    ("save_steps", Make(save_steps)),
    ("save_total_limit", Make(save_total_limit)),
    ("save_only_model", Without("a checkpoint always has all that a run needs to go on")),
    ("save_safetensors", Nothing),
    ("load_best_model_at_end", Key("eval.load_best_model_at_end")),
    ("metric_for_best_model", Make(metric_for_best)),
    ("greater_is_better", Without(BEST)),
    ("early_stopping_patience", Key("eval.early_stopping_patience")),
    ("early_stopping_threshold", Key("eval.early_stopping_threshold")),
    ("logging_steps", Nothing),
    ("logging_first_step", Nothing),
    ("logging_dir", Nothing),
    ("logging_strategy", Nothing),
    ("log_level", Nothing),
    ("report_to", Make(report_to)),
    ("push_to_hub", Without("`firebrand push` uploads an artifact")),
    ("hub_model_id", Without("`firebrand push` uploads an artifact")),
    ("hub_token", Nothing), // a secret, which is not written down
    ("hub_strategy", Without("`firebrand push` uploads an artifact")),
    ("resume_from_checkpoint", Without("`firebrand train` goes on with a run directory by itself")),
    ("overwrite_output_dir", Without("`--resume never` archives what is in the run directory")),
    ("group_by_length", Without("`data.packing` fills rows, so that little is padded")),
    ("dataloader_num_workers", Nothing),
    ("dataloader_pin_memory", Nothing),
    ("dataloader_prefetch_factor", Nothing),
    ("dataloader_drop_last", Nothing),
    ("remove_unused_columns", Nothing),
    ("disable_tqdm", Nothing),
    ("label_smoothing_factor", Without("targets are not smoothed")),
    ("neftune_noise_alpha", Make(noise)),
    ("deepspeed", Without(ONE_DEVICE)),
    ("fsdp", Without(ONE_DEVICE)),
    ("fsdp_config", Without(ONE_DEVICE)),
    ("accelerator_config", Without(ONE_DEVICE)),
    ("ddp_timeout", Nothing),
    ("ddp_find_unused_parameters", Nothing),
    ("local_rank", Nothing),
    (
        "use_cpu",
        Make(|node, draft| match node.is_true() {
            true => draft.put("device.name", "\"cpu\""),
            false => Ok(()),
        }),
    ),
    ("trust_remote_code", Without(IN_CODE)),
    ("hf_use_auth_token", Nothing),
    ("strict", Nothing),
    ("debug", Nothing),
];

pub fn number(node: &YamlNode) -> Option<f64> {
    match &node.value {
        YamlValue::Number(number) => Some(*number),
        YamlValue::Text(text) => text.parse().ok(),
        _ => None,
    }
}

pub fn epochs(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match number(node) {
        Some(count) if count > 0.0 && count.fract() == 0.0 => {
            draft.put("train.epochs", format!("{count:.0}"))
        }
        _ => Err("`train.epochs` is a whole number; `train.max_steps` ends a run within an epoch"
            .to_owned()),
    }
}

pub fn max_steps(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match number(node) {
        Some(steps) if steps > 0.0 => draft.take("train.max_steps", node),
        _ => Ok(()), // epochs decide
    }
}

pub fn scheduler(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let ours = match node.text().unwrap_or_default() {
        name @ ("cosine" | "linear" | "constant") => name,
        "constant_with_warmup" => "constant",
        "cosine_with_min_lr" => "cosine",
        "warmup_stable_decay" | "wsd" => "wsd",
        "polynomial" => "polynomial",
        "inverse_sqrt" => "inverse-sqrt",
        "cosine_with_restarts" => {
            // What transformers has where `lr_scheduler_kwargs` do not say it.
            draft.put("train.cycles", "1")?;
            "cosine-with-restarts"
        }
        _ => return Err("`train.lr_scheduler` does not have this schedule".to_owned()),
    };
    draft.put("train.lr_scheduler", format!("\"{ours}\""))
}

/// A share of the steps; in its place there may be a number of steps.
pub fn warmup_ratio(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match draft.value("train.warmup_steps") {
        Some(_) => Err("`warmup_steps` decides".to_owned()),
        None => draft.take("train.warmup_ratio", node),
    }
}

pub fn warmup_steps(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match number(node) {
        Some(share) if share > 0.0 && share < 1.0 => draft.take("train.warmup_ratio", node),
        Some(steps) if steps > 0.0 => {
            draft.remove("train.warmup_ratio");
            draft.take("train.warmup_steps", node)
        }
        Some(_) => Ok(()),
        None => Err("`train.warmup_steps` is a number of steps".to_owned()),
    }
}

pub fn optimizer(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let name = node.text().unwrap_or_default().to_lowercase();
    let eight = name.contains("8bit") || name.contains("8_bit");
    let kind = match name.as_str() {
        "schedule_free_adamw" => "schedule-free-adamw",
        name if name.contains("lion") => "lion",
        name if name.contains("adafactor") => "adafactor",
        name if name.contains("muon") => "muon",
        "sgd" => "sgd",
        name if eight && (name.contains("adamw") || name.contains("adam")) => "adamw-8bit",
        name if name.contains("adamw") || name == "adam" => "adamw",
        _ => return Err("`train.optimizer` has no such rule".to_owned()),
    };
    if kind == "sgd" {
        draft.put("train.sgd_momentum", "0")?; // the default there
    }
    let narrow = kind != "adamw-8bit" && (eight || name.contains("4bit") || name.contains("fp8"));
    if narrow || name.contains("paged") {
        draft.remark(match narrow {
            true => format!("The state of the optimizer is kept in 32 bits, not as by `{name}`."),
            false => format!("The state of the optimizer is not paged, as it is by `{name}`."),
        });
    }
    draft.put("train.optimizer", format!("\"{kind}\""))
}

/// Noise on embeddings; none where it is 0.
fn noise(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match number(node) {
        Some(0.0) => Ok(()),
        _ => draft.take("train.neftune_noise_alpha", node),
    }
}

/// Records in the order of the files.
pub fn in_order(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.is_true() {
        true => draft.put("data.shuffle", "false"),
        false => Ok(()),
    }
}

pub fn bf16(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.is_true() {
        true => draft.put("train.precision", "\"mixed-bf16\""),
        false => Ok(()), // `auto` is the default here, too
    }
}

pub fn fp16(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.is_true() && draft.value("train.precision").is_none() {
        true => draft.put("train.precision", "\"mixed-f16\""),
        false => Ok(()),
    }
}

/// The number format of the weights.
fn dtype(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.text().unwrap_or_default() {
        "auto" | "bfloat16" | "float16" => Ok(()), // weights stay as the checkpoint has them
        "float32" => draft.put("train.precision", "\"f32\""),
        _ => Err("weights are read as the checkpoint has them".to_owned()),
    }
}

fn strategy(node: &YamlNode, _: &mut Draft) -> Result<(), String> {
    match node.text().unwrap_or_default() {
        "steps" | "no" | "none" => Ok(()),
        _ => Err(STEPS.to_owned()),
    }
}

fn whole(node: &YamlNode) -> Result<f64, String> {
    let steps = number(node).filter(|steps| *steps >= 1.0 && steps.fract() == 0.0);
    steps.ok_or_else(|| STEPS.to_owned())
}

pub fn eval_steps(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    whole(node)?;
    draft.take("eval.every_steps", node)
}

pub fn save_steps(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    whole(node)?;
    draft.take("checkpoint.every_steps", node)
}

/// Which number says how good a checkpoint is.
fn metric_for_best(node: &YamlNode, _: &mut Draft) -> Result<(), String> {
    match node.text() {
        Some("loss" | "eval_loss") => Ok(()),
        _ => Err(BEST.to_owned()),
    }
}

/// At least two, so that a damaged one can be passed over.
pub fn save_total_limit(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let kept = whole(node)?.max(2.0);
    draft.put("checkpoint.keep_last", format!("{kept:.0}"))
}

/// Names of linear layers, or that all get an adapter.
pub fn target_modules(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let key = "lora.target_modules";
    match &node.value {
        YamlValue::List(list) if list.len() == 1 => target_modules(&list[0], draft),
        YamlValue::Text(text) if matches!(text.as_str(), "all" | "all-linear") => {
            draft.put(key, "\"all-linear\"")
        }
        YamlValue::Text(text) if text.contains(['\\', '(', '*', '[', '|']) => {
            Err(format!("`{key}` takes names of modules, not an expression"))
        }
        YamlValue::Text(text) => draft.put(key, listed(text)),
        _ => draft.take(key, node),
    }
}

/// Texts between commas, as a list.
pub fn listed(text: &str) -> String {
    let texts: Vec<_> = text.split(',').map(|text| quoted(text.trim())).collect();
    format!("[{}]", texts.join(", "))
}

/// Weights of the base in eight bits.
pub fn in_eight_bits(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.is_true() {
        true => draft.put("model.weight_format", "\"int8\""),
        false => Ok(()),
    }
}

/// The same in four.
pub fn in_four_bits(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.is_true() {
        true => draft.put("model.weight_format", "\"nf4\""),
        false => Ok(()),
    }
}

/// What a draft without an adapter has no use for.
pub fn without_adapter(draft: &mut Draft) {
    const KEYS: [&str; 8] = [
        "lora.r",
        "lora.lora_alpha",
        "lora.lora_dropout",
        "lora.target_modules",
        "lora.target_parameters",
        "lora.use_dora",
        "lora.use_rslora",
        "model.weight_format",
    ];
    if draft.adapter || KEYS.iter().all(|key| draft.value(key).is_none()) {
        return;
    }
    KEYS.iter().for_each(|key| draft.remove(key));
    draft.remark(
        "All weights are trained, as there: settings of adapters without one mean nothing.",
    );
}

/// What compares validations has no use without any in the course of a run.
pub fn without_validation(draft: &mut Draft) {
    const KEYS: [&str; 3] = [
        "eval.load_best_model_at_end",
        "eval.early_stopping_patience",
        "eval.early_stopping_threshold",
    ];
    let patient = draft.value(KEYS[1]).is_some();
    if !patient {
        draft.remove(KEYS[2]); // it is a part of the default there
    }
    let wanted = patient || draft.value(KEYS[0]) == Some("true");
    let data = !draft.validation.is_empty() || draft.value("data.val_size").is_some();
    if !wanted || (data && draft.value("eval.every_steps").is_some()) {
        return;
    }
    KEYS.iter().for_each(|key| draft.remove(key));
    draft.remark(
        "The best checkpoint and early stopping want validation data and `eval.every_steps`: set \
         those first.",
    );
}

/// The objective of a name.
pub fn objective(name: &str, draft: &mut Draft) -> Result<(), String> {
    draft.put("train.objective", quoted(name))
}

/// How strongly the objective compares pairs.
pub fn beta(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    const KEYS: [(&str, &str); 5] = [
        ("\"cpo\"", "cpo.beta"),
        ("\"dpo\"", "dpo.beta"),
        ("\"kto\"", "kto.beta"),
        ("\"orpo\"", "orpo.beta"),
        ("\"simpo\"", "simpo.beta"),
    ];
    let objective = draft.value("train.objective").unwrap_or("\"sft\"");
    match KEYS.iter().find(|(name, _)| *name == objective) {
        Some((_, key)) => draft.take(key, node),
        None => Err("it belongs to an objective that is not taken over".to_owned()),
    }
}
