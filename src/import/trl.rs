//! TRL: `trl sft --config FILE.yaml`, and scripts with `TrlParser`.

use super::ForeignTool;
use super::draft::Action::{Key, Make, Nothing, Without};
use super::draft::{Action, Draft};
use super::recompute;
use super::trainer::{self, in_eight_bits, in_four_bits, target_modules, without_adapter};
use super::yaml::{YamlNode, YamlValue};
use crate::document::quoted;

/// The tool.
pub const TOOL: ForeignTool = ForeignTool {
    name: "trl",
    known_by: &["model_name_or_path", "dataset_name"],
    sections: &[],
    settings: &[SETTINGS, trainer::SETTINGS],
    finish,
};

const QUANTISED: &str =
    "`model.weight_format` says in which format the weights of the base are kept";
const OBJECTIVE: &str = "which objective it is, the command says there: `train.objective` here";

const SETTINGS: &[(&str, Action)] = &[
    ("model_name_or_path", Key("model.base")),
    ("model_revision", Key("model.revision")),
    ("dataset_name", Make(|node, draft| put_set(node, draft, "path"))),
    ("dataset_config", Make(|node, draft| put_set(node, draft, "subset"))),
    ("dataset_train_split", Make(|node, draft| put_set(node, draft, "split"))),
    ("dataset_test_split", Nothing),
    ("dataset_text_field", Make(text_field)),
    ("datasets", Make(sets)),
    ("dataset_num_proc", Nothing),
    ("dataset_streaming", Nothing),
    ("dataset_kwargs", Without("records are read as their shape says")),
    ("max_length", Key("data.max_seq_len")),
    ("max_seq_length", Key("data.max_seq_len")),
    ("max_prompt_length", Without("`data.max_seq_len` is that of prompt and answer")),
    ("max_completion_length", Without("`data.max_seq_len` is that of prompt and answer")),
    ("packing", Key("data.packing")),
    ("packing_strategy", Nothing),
    ("padding_free", Nothing),
    ("eval_packing", Nothing),
    (
        "assistant_only_loss",
        Make(|node, draft| match node.is_true() {
            true => draft.put("data.train_on", "\"assistant\""),
            false => draft.put("data.train_on", "\"all\""),
        }),
    ),
    (
        "completion_only_loss",
        Make(|node, draft| match node.is_true() {
            true => draft.put("data.train_on", "\"assistant\""),
            false => draft.put("data.train_on", "\"all\""),
        }),
    ),
    ("chat_template_path", Key("data.chat_template")),
    ("eos_token", Without("turns end as the chat template and the model's settings say")),
    ("pad_token", Nothing),
    (
        "use_peft",
        Make(|node, draft| {
            draft.adapter = node.is_true();
            Ok(())
        }),
    ),
    ("lora_r", Key("lora.r")),
    ("lora_alpha", Key("lora.lora_alpha")),
    ("lora_dropout", Key("lora.lora_dropout")),
    ("lora_target_modules", Make(target_modules)),
    ("lora_target_parameters", Key("lora.target_parameters")),
    ("lora_modules_to_save", Key("lora.modules_to_save")),
    ("lora_task_type", Nothing),
    ("use_rslora", Key("lora.use_rslora")),
    ("use_dora", Key("lora.use_dora")),
    ("load_in_8bit", Make(in_eight_bits)),
    ("load_in_4bit", Make(in_four_bits)),
    ("bnb_4bit_quant_type", Without(QUANTISED)),
    ("use_bnb_nested_quant", Without(QUANTISED)),
    (
        "loss_type",
        Make(|node, _| match node.text() {
            Some("nll") => Ok(()),
            _ => Err("the loss is the negative log-likelihood of the target tokens".to_owned()),
        }),
    ),
    ("beta", Without(OBJECTIVE)),
    ("reward_model_name_or_path", Without(OBJECTIVE)),
    ("num_generations", Without(OBJECTIVE)),
    ("activation_offloading", Make(recompute::activation_offloading)),
];

/// The one data set that the settings name.
fn put_set(node: &YamlNode, draft: &mut Draft, key: &'static str) -> Result<(), String> {
    let text = node.text().ok_or("it must be a text")?;
    if draft.train.is_empty() {
        draft.train.push(Vec::new());
    }
    let set = &mut draft.train[0];
    let at = if key == "path" { 0 } else { set.len() };
    set.insert(at, (key, quoted(text)));
    Ok(())
}

fn text_field(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let field = node.text().ok_or("it must be a text")?;
    match field {
        "text" => Ok(()),
        _ => draft.put("data.columns", format!("{{ text = {} }}", quoted(field))),
    }
}

/// Data sets that are mixed (`TrlParser`'s `datasets`).
fn sets(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let YamlValue::List(list) = &node.value else { return Err("it must be a list".to_owned()) };
    for one in list {
        let mut set = Vec::new();
        for (theirs, ours) in [("path", "path"), ("name", "subset"), ("split", "split")] {
            if let Some(value) = one.get(theirs).and_then(YamlNode::text) {
                set.push((ours, quoted(value)));
            }
        }
        draft.train.push(set);
    }
    Ok(())
}

fn finish(_: &YamlNode, draft: &mut Draft) {
    without_adapter(draft);
}
