//! Unsloth: `unsloth train --config FILE.yaml`, whose settings stand in sections; a name is in one
//! section alone.

use super::ForeignTool;
use super::draft::Action::{Key, Make, Nothing, Without};
use super::draft::{Action, Draft};
use super::recompute::recompute;
use super::trackers::{tensorboard, wandb};
use super::trainer::{
    epochs, eval_steps, in_four_bits, max_steps, number, optimizer, save_steps, scheduler,
    target_modules, warmup_ratio, warmup_steps, without_adapter,
};
use super::yaml::{YamlNode, YamlValue};
use crate::document::quoted;

/// The tool.
pub const TOOL: ForeignTool = ForeignTool {
    name: "unsloth",
    known_by: &["training"],
    sections: &["data", "training", "lora", "logging"],
    settings: &[SETTINGS],
    finish,
};

const TEXT_ALONE: &str = "the text model alone is trained";

const SETTINGS: &[(&str, Action)] = &[
    ("model", Key("model.base")),
    ("dataset", Make(hub_data)),
    ("local_dataset", Make(files)),
    ("format_type", Nothing),
    ("training_type", Make(kind)),
    ("max_seq_length", Key("data.max_seq_len")),
    ("load_in_4bit", Make(in_four_bits)),
    ("output_dir", Key("output.dir")),
    ("num_epochs", Make(length)),
    ("learning_rate", Key("train.learning_rate")),
    ("batch_size", Key("train.micro_batch_size")),
    ("gradient_accumulation_steps", Key("train.gradient_accumulation_steps")),
    ("warmup_ratio", Make(warmup_ratio)),
    ("warmup_steps", Make(warmup_steps)),
    ("max_steps", Make(max_steps)),
    ("save_steps", Make(saved)),
    ("eval_steps", Make(evaluated)),
    ("weight_decay", Key("train.weight_decay")),
    ("random_seed", Key("seed")),
    ("packing", Key("data.packing")),
    ("train_on_completions", Make(targets)),
    ("gradient_checkpointing", Make(recompute)),
    ("optim", Make(optimizer)),
    ("lr_scheduler_type", Make(scheduler)),
    ("lora_r", Key("lora.r")),
    ("lora_alpha", Key("lora.lora_alpha")),
    ("lora_dropout", Key("lora.lora_dropout")),
    ("target_modules", Make(modules)),
    ("use_rslora", Key("lora.use_rslora")),
    ("use_dora", Key("lora.use_dora")),
    ("use_loftq", Without("an adapter begins as `lora.init_lora_weights` says")),
    ("audio_type", Without(TEXT_ALONE)),
    ("audio_input", Without(TEXT_ALONE)),
    ("vision_all_linear", Without(TEXT_ALONE)),
    ("finetune_vision_layers", Nothing),
    ("finetune_language_layers", Make(only_if_off)),
    ("finetune_attention_modules", Make(only_if_off)),
    ("finetune_mlp_modules", Make(only_if_off)),
    ("enable_wandb", Make(wandb)),
    ("wandb_project", Nothing),
    ("wandb_token", Nothing), // and no secret is written down
    ("hf_token", Nothing),
    ("enable_tensorboard", Make(tensorboard)),
    ("tensorboard_dir", Nothing),
    ("log_frequency", Nothing),
    ("inference", Nothing),
];

/// What a file that does not say it has there, where that is not what is so here.
const DEFAULTS: [(&str, &str); 9] = [
    ("data.max_seq_len", "2048"),
    ("seed", "3407"),
    ("train.micro_batch_size", "2"),
    ("train.gradient_accumulation_steps", "4"),
    ("train.learning_rate", "2e-4"),
    ("train.lr_scheduler", "\"linear\""),
    ("train.optimizer", "\"adamw-8bit\""),
    ("train.weight_decay", "0.01"),
    ("data.train_on", "\"all\""),
];
const DEFAULTS_OF_ADAPTERS: [(&str, &str); 2] = [("lora.r", "64"), ("lora.lora_alpha", "16")];

fn hub_data(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let path = node.text().ok_or("it must be a text")?;
    draft.train.push(vec![("path", quoted(path))]);
    Ok(())
}

fn files(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let YamlValue::List(list) = &node.value else { return hub_data(node, draft) };
    list.iter().try_for_each(|one| hub_data(one, draft))
}

fn kind(node: &YamlNode, _: &mut Draft) -> Result<(), String> {
    match node.text().unwrap_or_default() {
        "lora" | "full" => Ok(()), // whether there is an adapter is said at the end
        _ => Err("it is `lora` or `full`".to_owned()),
    }
}

/// None where it is 0: `max_steps` decides.
fn length(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match number(node) {
        Some(0.0) => Ok(()),
        _ => epochs(node, draft),
    }
}

/// At the end alone where it is 0.
fn saved(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match number(node) {
        Some(0.0) => Ok(()),
        _ => save_steps(node, draft),
    }
}

/// Never where it is 0.
fn evaluated(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    if node.is_off() { Ok(()) } else { eval_steps(node, draft) }
}

fn targets(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let targets = if node.is_true() { "\"assistant\"" } else { "\"all\"" };
    draft.put("data.train_on", targets)
}

/// An empty text means those that are the default.
fn modules(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.text() {
        Some("") => Ok(()),
        _ => target_modules(node, draft),
    }
}

fn only_if_off(node: &YamlNode, _: &mut Draft) -> Result<(), String> {
    match node.is_true() {
        true => Ok(()),
        false => Err("`lora.target_modules` says which layers have an adapter".to_owned()),
    }
}

fn finish(root: &YamlNode, draft: &mut Draft) {
    let training = root.get("training");
    let kind = training.and_then(|training| training.get("training_type")?.text());
    draft.adapter = kind != Some("full");
    let of_adapter = if draft.adapter { &DEFAULTS_OF_ADAPTERS[..] } else { &[] };
    for (key, value) in DEFAULTS.iter().chain(of_adapter) {
        if draft.value(key).is_none() {
            // Of the program's own tables: it cannot fail.
            let _ = draft.put(key, *value);
        }
    }
    let says = |name: &str| training.is_some_and(|training| training.get(name).is_some());
    if draft.adapter && !says("load_in_4bit") {
        let _ = draft.put("model.weight_format", "\"nf4\"");
    }
    if !says("warmup_steps") && !says("warmup_ratio") {
        let _ = draft.put("train.warmup_steps", "5");
    }
    if !says("max_steps") && !says("num_epochs") {
        let _ = draft.put("train.epochs", "3");
    }
    without_adapter(draft);
}
