//! LLaMA-Factory: `llamafactory-cli train FILE.yaml`.

use super::ForeignTool;
use super::draft::Action::{Key, Make, Nothing, Without};
use super::draft::{Action, Draft};
use super::trainer::{self, listed, target_modules, without_adapter};
use super::yaml::{YamlNode, YamlValue};
use crate::document::quoted;

/// The tool.
pub const TOOL: ForeignTool = ForeignTool {
    name: "llama-factory",
    known_by: &["finetuning_type", "stage", "cutoff_len", "template"],
    sections: &[],
    settings: &[SETTINGS, trainer::SETTINGS],
    finish,
};

const TEMPLATE: &str =
    "the model's own chat template is used; `data.chat_template` names a Jinja file";
const METHOD: &str = "full training and LoRA are the methods, and `train.objective` names the loss";
const OPTIMIZER: &str = "`train.optimizer` has no such rule";
const IMAGES: &str = "text alone is trained on";
const SERVING: &str = "of serving and exporting: `firebrand generate`, `merge` and `export`";

const SETTINGS: &[(&str, Action)] = &[
    ("model_name_or_path", Key("model.base")),
    ("model_revision", Key("model.revision")),
    (
        "train_from_scratch",
        Make(|node, draft| match node.is_true() {
            true => draft.put("model.init", "\"random\""),
            false => Ok(()),
        }),
    ),
    ("adapter_name_or_path", Key("model.adapter")),
    ("add_tokens", Make(|node, draft| added(node, draft, "model.add_tokens"))),
    ("add_special_tokens", Make(|node, draft| added(node, draft, "model.add_special_tokens"))),
    ("resize_vocab", Nothing), // where it is needed
    ("stage", Make(stage)),
    ("finetuning_type", Make(method)),
    (
        "pref_loss",
        Make(|node, draft| match node.text() {
            Some("sigmoid") => Ok(()), // DPO, as the stage says
            Some(name) => trainer::objective(name, draft),
            None => Err(METHOD.to_owned()),
        }),
    ),
    ("pref_beta", Make(trainer::beta)),
    ("lora_rank", Key("lora.r")),
    ("lora_alpha", Key("lora.lora_alpha")),
    ("lora_dropout", Key("lora.lora_dropout")),
    ("lora_target", Make(target_modules)),
    ("use_dora", Key("lora.use_dora")),
    ("use_rslora", Key("lora.use_rslora")),
    ("additional_target", Key("lora.modules_to_save")),
    ("loraplus_lr_ratio", Key("lora.loraplus_lr_ratio")),
    (
        "pissa_init",
        Make(|node, draft| match node.is_true() {
            true => draft.put("lora.init_lora_weights", "\"pissa\""),
            false => Ok(()),
        }),
    ),
    ("pissa_iter", Nothing),
    ("pissa_convert", Nothing),
    ("oft_block_size", Without(METHOD)),
    ("oft_target", Without(METHOD)),
    ("freeze_trainable_layers", Without(METHOD)),
    ("freeze_trainable_modules", Without(METHOD)),
    ("use_llama_pro", Without(METHOD)),
    ("mixture_of_depths", Without(METHOD)),
    ("use_asft_loss", Without(METHOD)),
    ("asft_alpha", Without(METHOD)),
    ("use_dft_loss", Without(METHOD)),
    ("use_eaft_loss", Without(METHOD)),
    ("use_galore", Without(OPTIMIZER)),
    ("galore_layerwise", Without(OPTIMIZER)),
    ("galore_target", Without(OPTIMIZER)),
    ("galore_rank", Without(OPTIMIZER)),
    ("galore_scale", Without(OPTIMIZER)),
    ("use_apollo", Without(OPTIMIZER)),
    ("use_adam_mini", Without(OPTIMIZER)),
    ("use_badam", Without(OPTIMIZER)),
    (
        "use_muon",
        Make(|node, draft| match node.is_true() {
            true => draft.put("train.optimizer", "\"muon\""),
            false => Ok(()),
        }),
    ),
    (
        "quantization_bit",
        Make(|node, draft| match trainer::number(node) {
            Some(8.0) => draft.put("model.weight_format", "\"int8\""),
            Some(4.0) => draft.put("model.weight_format", "\"nf4\""),
            _ => Err("`model.weight_format` is in 16, 8 or 4 bits".to_owned()),
        }),
    ),
    ("quantization_method", Nothing),
    ("double_quantization", Nothing),
    ("dataset", Make(|node, draft| sets(node, draft, false))),
    ("eval_dataset", Make(|node, draft| sets(node, draft, true))),
    ("dataset_dir", Without("`data.train.path` takes files and names on the hub")),
    ("tokenized_path", Nothing),
    ("template", Without(TEMPLATE)),
    ("enable_thinking", Without("`data.template_args` gives the chat template what it asks for")),
    ("cutoff_len", Key("data.max_seq_len")),
    ("packing", Key("data.packing")),
    ("neat_packing", Key("data.packing")),
    ("val_size", Key("data.val_size")),
    ("max_samples", Without("all records are trained on; `train.max_steps` ends a run")),
    ("mix_strategy", Without("`weight` of a data set says how often its records come")),
    ("interleave_probs", Without("`weight` of a data set says how often its records come")),
    ("streaming", Nothing),
    (
        "train_on_prompt",
        Make(|node, draft| match node.is_true() {
            true => draft.put("data.train_on", "\"all\""),
            false => Ok(()),
        }),
    ),
    (
        "mask_history",
        Make(|node, draft| match node.is_true() {
            true => draft.put("data.train_on", "\"last_turn\""),
            false => Ok(()),
        }),
    ),
    (
        "disable_shuffling",
        Make(|node, draft| match node.is_true() {
            true => draft.put("data.shuffle", "false"),
            false => Ok(()),
        }),
    ),
    ("overwrite_cache", Nothing),
    ("preprocessing_num_workers", Nothing),
    ("preprocessing_batch_size", Nothing),
    (
        "disable_gradient_checkpointing",
        Make(|node, draft| match node.is_true() {
            true => draft.put("train.recompute", "\"none\""),
            false => Ok(()),
        }),
    ),
    ("pure_bf16", Make(trainer::bf16)),
    ("flash_attn", Nothing),
    ("enable_liger_kernel", Nothing),
    ("use_unsloth", Nothing),
    ("upcast_layernorm", Nothing),
    ("plot_loss", Nothing),
    ("print_param_status", Nothing),
    ("freeze_vision_tower", Nothing),
    ("freeze_multi_modal_projector", Nothing),
    ("freeze_language_model", Without(IMAGES)),
    ("image_max_pixels", Without(IMAGES)),
    ("video_max_pixels", Without(IMAGES)),
    ("predict_with_generate", Without("`firebrand eval` measures, `firebrand generate` writes")),
    ("max_new_tokens", Key("eval.max_tokens")),
    ("infer_backend", Without(SERVING)),
    ("export_dir", Without(SERVING)),
    ("export_size", Without(SERVING)),
    ("export_device", Without(SERVING)),
    ("export_legacy_format", Without(SERVING)),
    ("export_quantization_bit", Without(SERVING)),
    ("export_quantization_dataset", Without(SERVING)),
    ("use_swanlab", Without("nothing is sent anywhere")),
    ("ray_num_workers", Without("a run uses one device")),
    ("use_kt", Without("a run uses one device")),
    ("kt_config", Without("a run uses one device")),
];

/// Tokens between commas.
fn added(node: &YamlNode, draft: &mut Draft, key: &'static str) -> Result<(), String> {
    let text = node.text().ok_or_else(|| format!("`{key}` takes texts"))?;
    draft.put(key, listed(text))
}

fn stage(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.text() {
        Some("sft") => Ok(()),
        Some("pt") => draft.put("data.train_on", "\"all\""),
        // Which loss of pairs it is, `pref_loss` may say after this.
        Some(name @ ("dpo" | "kto")) => trainer::objective(name, draft),
        _ => Err(METHOD.to_owned()),
    }
}

fn method(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    draft.adapter = node.text() == Some("lora");
    match node.text() {
        Some("lora" | "full") => Ok(()),
        _ => Err(METHOD.to_owned()),
    }
}

/// Names of `dataset_info.json`, and files or names on the hub.
fn sets(node: &YamlNode, draft: &mut Draft, validation: bool) -> Result<(), String> {
    let names: Vec<&str> = match &node.value {
        YamlValue::Text(text) => text.split(',').map(str::trim).collect(),
        YamlValue::List(list) => list.iter().filter_map(YamlNode::text).collect(),
        _ => return Err("data sets are named by texts".to_owned()),
    };
    let mut elsewhere = Vec::new();
    for name in names {
        let is_path = name.contains(['/', '.']);
        if !is_path {
            elsewhere.push(name);
        }
        let set = vec![("path", quoted(name))];
        if validation { draft.validation.push(set) } else { draft.train.push(set) }
    }
    if !elsewhere.is_empty() {
        let names = elsewhere.join("`, `");
        draft.remark(format!(
            "`{names}`: names of `dataset_info.json`; `path` takes the file or hub name there."
        ));
    }
    Ok(())
}

fn finish(root: &YamlNode, draft: &mut Draft) {
    let silent = root.get("lora_alpha").is_none();
    let rank = root.get("lora_rank").and_then(trainer::number).unwrap_or(8.0);
    if draft.adapter && silent {
        // The defaults there: a rank of 8, and twice the rank.
        drop(draft.put("lora.r", format!("{rank:.0}")));
        drop(draft.put("lora.lora_alpha", format!("{:.0}", 2.0 * rank)));
    }
    if draft.value("train.recompute").is_none() {
        drop(draft.put("train.recompute", "\"layers\"")); // the default there
    }
    without_adapter(draft);
}
