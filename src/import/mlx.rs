//! MLX LM: `mlx_lm.lora --config FILE.yaml`.

use super::ForeignTool;
use super::draft::Action::{Key, Make, Nothing, Without};
use super::draft::{Action, Draft};
use super::recompute::recompute;
use super::trackers::{NOTHING_SENT, report_to, wandb};
use super::trainer::{number, optimizer, without_adapter};
use super::yaml::{YamlNode, YamlValue};
use crate::document::quoted;

/// The tool.
pub const TOOL: ForeignTool = ForeignTool {
    name: "mlx",
    known_by: &["iters", "fine_tune_type", "lora_parameters", "steps_per_eval", "hf_dataset"],
    sections: &[],
    settings: &[SETTINGS],
    finish,
};

const SETTINGS: &[(&str, Action)] = &[
    ("model", Key("model.base")),
    ("train", Nothing),
    ("fine_tune_type", Make(kind)),
    ("training_mode", Make(mode)),
    ("train_mode", Make(mode)),
    ("optimizer", Make(optimizer)),
    ("optimizer_config", Make(of_optimizers)), // of the one that is used, at the end
    ("data", Make(data)),
    ("hf_dataset", Make(hub_data)),
    ("mask_prompt", Make(mask_prompt)),
    ("seed", Key("seed")),
    ("num_layers", Make(layers)),
    ("lora_layers", Make(layers)),
    ("batch_size", Key("train.micro_batch_size")),
    ("iters", Make(|_, _| Ok(()))), // with the steps of accumulation, at the end
    ("epochs", Key("train.epochs")),
    ("val_batches", Nothing),
    ("learning_rate", Key("train.learning_rate")),
    ("lr_schedule", Make(schedule)),
    ("steps_per_report", Nothing),
    ("steps_per_eval", Make(|_, _| Ok(()))),
    ("save_every", Make(|_, _| Ok(()))),
    ("resume_adapter_file", Without("a run goes on by itself, with all of its state")),
    ("adapter_path", Key("output.dir")),
    ("test", Without("`firebrand eval` measures")),
    ("test_batches", Nothing),
    ("max_seq_length", Key("data.max_seq_len")),
    ("grad_checkpoint", Make(recompute)),
    ("grad_accumulation_steps", Key("train.gradient_accumulation_steps")),
    ("clear_cache_threshold", Nothing),
    ("lora_parameters", Make(adapter)),
    ("report_to", Make(report_to)),
    ("wandb", Make(wandb)), // the name of a project
    ("project_name", Without(NOTHING_SENT)),
    ("config", Nothing),
    ("trust_remote_code", Without("no code of a model is run: known families are built in")),
];

fn kind(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.text().unwrap_or_default() {
        "lora" | "full" => Ok(()), // whether there is an adapter is said at the end
        "dora" => draft.put("lora.use_dora", "true"),
        _ => Err("it is `lora`, `dora` or `full`".to_owned()),
    }
}

fn mode(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.text().unwrap_or_default() {
        "normal" | "sft" => Ok(()),
        "dpo" => draft.put("train.objective", "\"dpo\""),
        "orpo" => draft.put("train.objective", "\"orpo\""),
        _ => Err("`train.objective` says what is learned".to_owned()),
    }
}

/// The last layers only, of which this tool names each.
fn layers(node: &YamlNode, _: &mut Draft) -> Result<(), String> {
    match number(node) {
        Some(count) if count < 0.0 => Ok(()),
        _ => Err("adapters stand beside all layers; `lora.layers_to_transform` names the numbers \
                  of those that are to have one, which are the last so many there"
            .to_owned()),
    }
}

/// A folder with files of these names, or a data set of the hub.
fn data(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let text = node.text().ok_or("it must be a text")?;
    let is_hub = text.matches('/').count() == 1 && !text.starts_with(['.', '/', '~']);
    if is_hub && !std::path::Path::new(text).is_dir() {
        draft.train.push(vec![("path", quoted(text))]);
        draft.validation.push(vec![("path", quoted(text)), ("split", quoted("valid"))]);
        return Ok(());
    }
    let file = |name: &str| quoted(&format!("{}/{name}.jsonl", text.trim_end_matches('/')));
    draft.train.push(vec![("path", file("train"))]);
    draft.validation.push(vec![("path", file("valid"))]);
    Ok(())
}

/// A data set of the hub with its splits and columns.
fn hub_data(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let all: Vec<&YamlNode> = match &node.value {
        YamlValue::List(list) => list.iter().collect(),
        _ => vec![node],
    };
    for one in all {
        let text = |key: &str| one.get(key).and_then(YamlNode::text);
        let path = text("path").or_else(|| text("name")).ok_or("it must have a path")?;
        let set = |split: &str| vec![("path", quoted(path)), ("split", quoted(split))];
        draft.train.push(set(text("train_split").unwrap_or("train")));
        if let Some(split) = text("valid_split") {
            draft.validation.push(set(split));
        }
        let columns = [
            ("prompt_feature", "prompt"),
            ("completion_feature", "completion"),
            ("text_feature", "text"),
            ("chat_feature", "messages"),
            ("chosen_feature", "chosen"),
            ("rejected_feature", "rejected"),
        ];
        let renamed = columns.into_iter().filter_map(|(theirs, ours)| Some((ours, text(theirs)?)));
        let renamed = renamed.filter(|(ours, column)| ours != column);
        let renamed: Vec<_> =
            renamed.map(|(ours, column)| format!("{ours} = {}", quoted(column))).collect();
        if !renamed.is_empty() {
            draft.put("data.columns", format!("{{ {} }}", renamed.join(", ")))?;
        }
    }
    Ok(())
}

fn mask_prompt(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let targets = if node.is_true() { "\"assistant\"" } else { "\"all\"" };
    draft.put("data.train_on", targets)
}

fn of_optimizers(node: &YamlNode, _: &mut Draft) -> Result<(), String> {
    match node.value {
        YamlValue::Map(_) => Ok(()),
        _ => Err("it must have the names of optimizers".to_owned()),
    }
}

/// Settings of the optimizer that is used; those of others may stand beside them.
fn optimizer_settings(root: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let name = root.get("optimizer").and_then(YamlNode::text).unwrap_or("adam").to_lowercase();
    let Some(settings) = root.get("optimizer_config").and_then(|all| all.get(&name)) else {
        return Ok(());
    };
    for (theirs, ours) in [("weight_decay", "train.weight_decay"), ("eps", "train.adam_epsilon")] {
        if let Some(value) = settings.get(theirs) {
            draft.take(ours, value)?;
        }
    }
    if let Some(YamlNode { value: YamlValue::List(betas), .. }) = settings.get("betas")
        && let [one, two] = &betas[..]
    {
        draft.take("train.adam_beta1", one)?;
        draft.take("train.adam_beta2", two)?;
    }
    Ok(())
}

/// Rank, scale and modules; there the scale is not divided by the rank.
fn adapter(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let rank = node.get("rank").and_then(number).unwrap_or(8.0);
    let scale = node.get("scale").or_else(|| node.get("alpha")).and_then(number).unwrap_or(20.0);
    draft.put("lora.r", format!("{rank:.0}"))?;
    let alpha = scale * rank;
    let alpha = if alpha.fract() == 0.0 { format!("{alpha:.0}") } else { format!("{alpha:?}") };
    draft.put("lora.lora_alpha", alpha)?;
    if let Some(dropout) = node.get("dropout") {
        draft.take("lora.lora_dropout", dropout)?;
    }
    if let Some(YamlNode { value: YamlValue::List(keys), .. }) = node.get("keys") {
        // `self_attn.q_proj`, of which the last part is the module.
        let names = keys.iter().filter_map(YamlNode::text);
        let names = names.map(|name| quoted(name.rsplit('.').next().unwrap_or(name)));
        draft.put("lora.target_modules", format!("[{}]", names.collect::<Vec<_>>().join(", ")))?;
    }
    Ok(())
}

/// A decay from one rate to another, after a warm-up.
fn schedule(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    // Where among the arguments the rate at the end is, after the rate at the beginning.
    let (name, end) = match node.get("name").and_then(YamlNode::text).unwrap_or_default() {
        "cosine_decay" => ("cosine", 2),
        "linear_schedule" => ("linear", 1),
        _ => return Err("`train.lr_scheduler` does not have this schedule".to_owned()),
    };
    draft.put("train.lr_scheduler", format!("\"{name}\""))?;
    if let Some(warmup) = node.get("warmup").filter(|node| number(node) > Some(0.0)) {
        draft.take("train.warmup_steps", warmup)?;
    }
    let Some(YamlNode { value: YamlValue::List(list), .. }) = node.get("arguments") else {
        return Ok(());
    };
    let rate = |place: usize| list.get(place).and_then(number);
    let Some(first) = rate(0) else { return Ok(()) };
    draft.put("train.learning_rate", format!("{first:?}"))?;
    match rate(end).filter(|end| first > 0.0 && *end <= first) {
        // Without what the division of decimals adds.
        Some(end) => {
            draft.put("train.min_lr_ratio", format!("{}", (end / first * 1e9).round() / 1e9))
        }
        None => Ok(()),
    }
}

/// Steps there are micro-batches, here updates.
fn finish(root: &YamlNode, draft: &mut Draft) {
    let accumulated = root.get("grad_accumulation_steps").and_then(number).unwrap_or(1.0).max(1.0);
    for (theirs, ours) in [
        ("iters", "train.max_steps"),
        ("steps_per_eval", "eval.every_steps"),
        ("save_every", "checkpoint.every_steps"),
    ] {
        let steps = root.get(theirs).and_then(number).map(|steps| (steps / accumulated).round());
        if let Some(steps) = steps.filter(|steps| *steps >= 1.0)
            && let Err(why) = draft.put(ours, format!("{steps:.0}"))
        {
            draft.remark(format!("{theirs}: {why}."));
        }
    }
    if let Err(why) = optimizer_settings(root, draft) {
        draft.remark(format!("optimizer_config: {why}."));
    }
    if accumulated > 1.0 {
        draft.remark("Steps are updates here, and micro-batches there: they were divided.");
    }
    draft.adapter = root.get("fine_tune_type").and_then(YamlNode::text) != Some("full");
    without_adapter(draft);
}
