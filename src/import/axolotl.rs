//! axolotl: `axolotl train FILE.yml`.

use super::ForeignTool;
use super::draft::Action::{Key, Make, Nothing, Without};
use super::draft::{Action, DataSet, Draft};
use super::groups::{finish_groups, lr_groups};
use super::recompute;
use super::trackers::{self, NOTHING_SENT};
use super::trainer::{self, in_eight_bits, in_four_bits, target_modules, without_adapter};
use super::yaml::{YamlNode, YamlValue};
use crate::document::quoted;

/// The tool.
pub const TOOL: ForeignTool = ForeignTool {
    name: "axolotl",
    known_by: &["base_model"],
    sections: &[],
    settings: &[SETTINGS, trainer::SETTINGS],
    finish,
};

const TEMPLATE: &str =
    "the model's own chat template is used; `data.chat_template` names a Jinja file";
const TOKENS: &str = "tokens are those of the model's tokenizer";
const OF_BASE: &str = "it is read beside the base model's weights";
const QUANTISED: &str =
    "`model.weight_format` says in which format the weights of the base are kept";
const ONE_DEVICE: &str = "a run uses one device";
const PER_EPOCH: &str = "`eval.every_steps` and `checkpoint.every_steps` count steps";

const SETTINGS: &[(&str, Action)] = &[
    ("base_model", Key("model.base")),
    ("revision_of_model", Key("model.revision")),
    ("base_model_config", Without(OF_BASE)),
    ("tokenizer_config", Without(OF_BASE)),
    ("model_type", Nothing),
    ("tokenizer_type", Nothing),
    ("processor_type", Nothing),
    ("tokenizer_use_fast", Nothing),
    ("tokenizer_legacy", Nothing),
    ("tokenizer_use_mistral_common", Without(TOKENS)),
    ("special_tokens", Make(special_tokens)),
    ("tokens", Key("model.add_tokens")),
    ("added_tokens_overrides", Without(TOKENS)),
    ("resize_token_embeddings_to_32x", Without(TOKENS)),
    ("eot_tokens", Without("turns end as the chat template and the model's settings say")),
    ("overrides_of_model_config", Without(OF_BASE)),
    ("model_config", Without(OF_BASE)),
    (
        "reinit_weights",
        Make(|node, draft| match node.is_true() {
            true => draft.put("model.init", "\"random\""),
            false => Ok(()),
        }),
    ),
    ("adapter", Make(adapter)),
    ("lora_r", Key("lora.r")),
    ("lora_alpha", Key("lora.lora_alpha")),
    ("lora_dropout", Key("lora.lora_dropout")),
    ("lora_target_modules", Make(target_modules)),
    ("lora_target_parameters", Key("lora.target_parameters")),
    (
        "lora_target_linear",
        Make(|node, draft| match node.is_true() {
            true => draft.put("lora.target_modules", "\"all-linear\""),
            false => Ok(()),
        }),
    ),
    ("peft_use_dora", Key("lora.use_dora")),
    ("peft_use_rslora", Key("lora.use_rslora")),
    ("loraplus_lr_ratio", Key("lora.loraplus_lr_ratio")),
    (
        "peft_init_lora_weights",
        Make(|node, draft| match node.text() {
            Some(name @ ("gaussian" | "pissa" | "olora")) => {
                draft.put("lora.init_lora_weights", format!("\"{name}\""))
            }
            None if node.is_true() => Ok(()),
            _ => Err("factors begin as `default`, `gaussian`, `pissa` or `olora`".to_owned()),
        }),
    ),
    ("lora_modules_to_save", Key("lora.modules_to_save")),
    ("peft_trainable_token_indices", Make(token_indices)),
    ("lora_fan_in_fan_out", Without("no family that is known has transposed weights")),
    ("lora_model_dir", Key("model.adapter")),
    ("lora_mlp_kernel", Nothing),
    ("lora_qkv_kernel", Nothing),
    ("lora_o_kernel", Nothing),
    ("load_in_8bit", Make(in_eight_bits)),
    ("load_in_4bit", Make(in_four_bits)),
    ("gptq", Without(QUANTISED)),
    ("quantize_moe_experts", Without(QUANTISED)),
    ("model_quantization_config", Without(QUANTISED)),
    ("qat", Without("weights are not trained for a shorter number format")),
    ("sequence_len", Key("data.max_seq_len")),
    (
        "excess_length_strategy",
        Make(|node, draft| match node.text() {
            Some("drop") => draft.put("data.overlong", "\"drop\""),
            Some("truncate") => draft.put("data.overlong", "\"truncate\""),
            _ => Err("`data.overlong` is `truncate`, `drop` or `error`".to_owned()),
        }),
    ),
    ("sample_packing", Key("data.packing")),
    ("eval_sample_packing", Without("validation rows are packed as `data.packing` says")),
    ("pad_to_sequence_len", Nothing),
    ("sample_packing_sequentially", Without("`data.shuffle` decides the order")),
    ("group_by_length", Without("`data.packing` fills rows, so that little is padded")),
    ("curriculum_sampling", Make(trainer::in_order)),
    ("shuffle_merged_datasets", Key("data.shuffle")),
    ("val_set_size", Key("data.val_size")),
    ("datasets", Make(|node, draft| sets(node, draft, false))),
    ("pretraining_dataset", Make(|node, draft| sets(node, draft, false))),
    ("test_datasets", Make(|node, draft| sets(node, draft, true))),
    ("dataset_exact_deduplication", Key("data.deduplicate")),
    ("dataset_prepared_path", Nothing),
    ("dataset_processes", Nothing),
    ("dataset_num_proc", Nothing),
    ("skip_prepare_dataset", Nothing),
    ("push_dataset_to_hub", Without("data sets are not uploaded")),
    ("streaming", Nothing),
    (
        "train_on_inputs",
        Make(|node, draft| match node.is_true() {
            true => draft.put("data.train_on", "\"all\""),
            false => draft.put("data.train_on", "\"assistant\""),
        }),
    ),
    (
        "chat_template",
        Make(|node, _| match node.text() {
            Some("tokenizer_default") => Ok(()),
            _ => Err(TEMPLATE.to_owned()),
        }),
    ),
    ("chat_template_jinja", Without("`data.chat_template` names a Jinja file: put the text there")),
    ("micro_batch_size", Key("train.micro_batch_size")),
    ("eval_batch_size", Nothing),
    (
        "batch_size",
        Without("a step has `train.micro_batch_size` · `train.gradient_accumulation_steps` rows"),
    ),
    ("num_epochs", Make(trainer::epochs)),
    ("learning_rate", Key("train.learning_rate")),
    ("lr", Key("train.learning_rate")),
    ("lr_groups", Make(lr_groups)),
    ("lr_scheduler", Make(trainer::scheduler)),
    ("cosine_min_lr_ratio", Key("train.min_lr_ratio")),
    ("optimizer", Make(trainer::optimizer)),
    ("adam_eps", Key("train.adam_epsilon")),
    ("gradient_checkpointing", Make(recompute::recompute)),
    ("activation_offloading", Make(recompute::activation_offloading)),
    ("tiled_mlp", Make(recompute::tiled_mlp)),
    ("float16", Make(trainer::fp16)),
    ("bfloat16", Make(trainer::bf16)),
    ("evals_per_epoch", Without(PER_EPOCH)),
    ("saves_per_epoch", Without(PER_EPOCH)),
    ("eval_max_new_tokens", Key("eval.max_tokens")),
    ("eval_table_size", Without("`eval.prompts` are answered before and after training")),
    ("rl", Make(objective)),
    ("orpo_alpha", Key("orpo.beta")),
    ("rl_beta", Make(trainer::beta)),
    (
        "wandb_name",
        Make(|node, draft| match node.text().filter(|text| !text.is_empty()) {
            Some(text) => draft.put("name", quoted(text)),
            None => Ok(()),
        }),
    ),
    // A project switches it on, also without `use_wandb`; so do those of the others.
    ("wandb_project", Make(trackers::wandb)),
    ("wandb_entity", Without(NOTHING_SENT)),
    ("wandb_watch", Without(NOTHING_SENT)),
    ("wandb_log_model", Without(NOTHING_SENT)),
    ("wandb_run_id", Without(NOTHING_SENT)),
    ("use_wandb", Make(trackers::wandb)),
    ("use_tensorboard", Make(trackers::tensorboard)),
    ("use_swanlab", Without(NOTHING_SENT)),
    ("swanlab_project", Without(NOTHING_SENT)),
    ("use_trackio", Make(trackers::trackio)),
    ("trackio_project_name", Make(trackers::trackio)),
    ("trackio_run_name", Without(NOTHING_SENT)),
    ("trackio_space_id", Without(NOTHING_SENT)),
    ("use_mlflow", Make(trackers::mlflow)),
    ("mlflow_experiment_name", Make(trackers::mlflow)),
    ("mlflow_tracking_uri", Without(NOTHING_SENT)),
    ("auto_resume_from_checkpoints", Nothing),
    ("loss_watchdog_threshold", Without("a run goes on whatever its loss is; NaN ends it")),
    ("loss_watchdog_patience", Without("a run goes on whatever its loss is; NaN ends it")),
    ("unfrozen_parameters", Without("full training changes all parameters, an adapter its own")),
    ("plugins", Nothing),
    ("flash_attention", Nothing),
    ("flash_optimum", Nothing),
    ("xformers_attention", Nothing),
    ("sdp_attention", Nothing),
    ("flash_attn_cross_entropy", Nothing),
    ("flash_attn_rms_norm", Nothing),
    ("flash_attn_fuse_mlp", Nothing),
    ("liger_rms_norm", Nothing),
    ("liger_rms_norm_gated", Nothing),
    ("liger_layer_norm", Nothing),
    ("liger_rope", Nothing),
    ("liger_glu_activation", Nothing),
    ("liger_fused_linear_cross_entropy", Nothing),
    ("cut_cross_entropy", Nothing),
    ("use_kernels", Nothing),
    ("use_scattermoe", Nothing),
    ("use_sonicmoe", Nothing),
    ("experts_implementation", Nothing),
    ("low_cpu_mem_usage", Nothing),
    ("device_map", Without(ONE_DEVICE)),
    ("fsdp_version", Without(ONE_DEVICE)),
    ("dp_shard_size", Without(ONE_DEVICE)),
    ("dp_replicate_size", Without(ONE_DEVICE)),
    ("tensor_parallel_size", Without(ONE_DEVICE)),
    ("context_parallel_size", Without(ONE_DEVICE)),
    ("expert_parallel_size", Without(ONE_DEVICE)),
];

/// Those that are added; the others are of the tokenizer.
fn special_tokens(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let YamlValue::Map(all) = &node.value else { return Err(TOKENS.to_owned()) };
    let added = node.get("additional_special_tokens");
    added.map_or(Ok(()), |list| draft.take("model.add_special_tokens", list))?;
    if all.len() > usize::from(added.is_some()) { Err(TOKENS.to_owned()) } else { Ok(()) }
}

/// Tokens of the input embedding: a list, or one under the name of that module.
fn token_indices(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let key = "lora.trainable_token_indices";
    let list = match &node.value {
        YamlValue::Map(modules) => match modules.as_slice() {
            [(name, list)] if !name.ends_with("lm_head") => list,
            _ => return Err(format!("`{key}` means rows of the input embedding alone")),
        },
        _ => node,
    };
    let numbers: Option<Vec<f64>> = match &list.value {
        YamlValue::List(tokens) => tokens.iter().map(trainer::number).collect(),
        _ => None,
    };
    let mut numbers = numbers.ok_or_else(|| format!("`{key}` takes a list of numbers"))?;
    numbers.sort_by(f64::total_cmp);
    let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
    draft.put(key, format!("[{}]", numbers.join(", ")))
}

fn adapter(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    draft.adapter = matches!(node.text(), Some("lora" | "qlora"));
    match node.text() {
        // In which format the base is kept, `load_in_4bit` says.
        Some("lora" | "qlora" | "") | None => Ok(()),
        Some(_) => Err("adapters are LoRA and its kinds (`[lora]`)".to_owned()),
    }
}

fn objective(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    trainer::objective(node.text().unwrap_or_default(), draft)
}

/// Data sets: a list, one by itself, or the name of one.
fn sets(node: &YamlNode, draft: &mut Draft, validation: bool) -> Result<(), String> {
    let all = match &node.value {
        YamlValue::List(list) => list.iter().collect(),
        _ => vec![node],
    };
    let mut reasons = Vec::new();
    for one in all {
        let (set, mut whys) = data_set(one)?;
        reasons.append(&mut whys);
        if validation { draft.validation.push(set) } else { draft.train.push(set) }
    }
    match reasons.is_empty() {
        true => Ok(()),
        false => Err(reasons.join("; ")),
    }
}

/// Keys of a data set that are looked at.
const OF_SET: [&str; 15] = [
    "path",
    "data_files",
    "type",
    "name",
    "split",
    "revision",
    "field_messages",
    "field",
    "message_property_mappings",
    "ds_type",
    "trust_remote_code",
    "conversation",
    "message_field_role",
    "message_field_content",
    "roles",
];
/// Kinds of local files, which stand in place of a path.
const KINDS: [&str; 6] = ["json", "jsonl", "csv", "parquet", "text", "arrow"];

/// A data set, and what of it was left.
fn data_set(node: &YamlNode) -> Result<(DataSet, Vec<String>), String> {
    let mut left = Vec::new();
    if let Some(path) = node.text() {
        return Ok((vec![("path", quoted(path))], left));
    }
    let mut set = files(node, &mut left)?;
    let format = format(node, &mut left);
    if let Some(format) = format {
        set.push(("format", quoted(format)));
    }
    let text = |key: &str| node.get(key).and_then(YamlNode::text);
    for (theirs, ours) in [("name", "subset"), ("split", "split"), ("revision", "revision")] {
        let Some(value) = text(theirs) else { continue };
        match value.contains('[') {
            false => set.push((ours, quoted(value))),
            true => left.push(format!("a slice such as `{value}` of a split is not taken")),
        }
    }
    let columns = columns(node, format);
    if !columns.is_empty() {
        set.push(("columns", format!("{{ {} }}", columns.join(", "))));
    }
    if let YamlValue::Map(entries) = &node.value {
        let others = entries.iter().filter(|(key, of)| !OF_SET.contains(&&**key) && !of.is_off());
        left.extend(others.map(|(key, _)| format!("`{key}` of a data set is not known here")));
    }
    Ok((set, left))
}

/// Where the records are.
fn files(node: &YamlNode, left: &mut Vec<String>) -> Result<DataSet, String> {
    let path = node.get("path").and_then(YamlNode::text).ok_or("a data set has no `path`")?;
    let files: Vec<&str> = match node.get("data_files").map(|node| &node.value) {
        Some(YamlValue::List(list)) => list.iter().filter_map(YamlNode::text).collect(),
        Some(YamlValue::Text(file)) => vec![file],
        _ => Vec::new(),
    };
    match (KINDS.contains(&path), files.split_first()) {
        (true, Some((first, others))) => {
            if !others.is_empty() {
                let others = others.join(", ");
                left.push(format!("the other files, {others}, want a `[[data.train]]` each"));
            }
            Ok(vec![("path", quoted(first))])
        }
        (false, Some(_)) => {
            let files: Vec<_> = files.iter().map(|file| quoted(file)).collect();
            Ok(vec![("path", quoted(path)), ("files", format!("[{}]", files.join(", ")))])
        }
        (_, None) => Ok(vec![("path", quoted(path))]),
    }
}

/// The shape of the records.
fn format(node: &YamlNode, left: &mut Vec<String>) -> Option<&'static str> {
    let kind = node.get("type").and_then(YamlNode::text).unwrap_or_default();
    let kind = kind.split([':', '.']).next().unwrap_or_default();
    let property = |key: &str| {
        let mappings = node.get("message_property_mappings");
        mappings.and_then(|map| map.get(key)).and_then(YamlNode::text)
    };
    let from_value = property("role") == Some("from") && property("content") == Some("value");
    match kind {
        "alpaca" => Some("alpaca"),
        "sharegpt" => Some("sharegpt"),
        "chat_template" if from_value => Some("sharegpt"),
        "chat_template" => Some("messages"),
        "completion" | "pretrain" => Some("text"),
        "" => None,
        other => {
            left.push(format!("`{other}` is not a shape of records here; `auto` looks at them"));
            None
        }
    }
}

/// Other names of columns, in TOML.
fn columns(node: &YamlNode, format: Option<&str>) -> Vec<String> {
    let text = |key: &str| node.get(key).and_then(YamlNode::text);
    let mut columns = Vec::new();
    match (text("field_messages"), format) {
        (Some("messages"), Some("messages")) | (Some("conversations"), Some("sharegpt")) => {}
        (Some(field), Some("sharegpt")) => columns.push(("conversations", field)),
        (Some(field), _) => columns.push(("messages", field)),
        (None, _) => {}
    }
    if let (Some(field), Some("text")) = (text("field"), format) {
        columns.push(("text", field));
    }
    columns.iter().map(|(ours, theirs)| format!("{ours} = {}", quoted(theirs))).collect()
}

fn finish(_: &YamlNode, draft: &mut Draft) {
    without_adapter(draft);
    finish_groups(draft);
}
