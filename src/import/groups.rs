//! Groups of parameters with a learning rate of their own.

use super::draft::{Draft, TableLines};
use super::trainer::number;
use super::yaml::{YamlNode, YamlValue};
use crate::document::{quoted, value_of};
use crate::settings;

const GROUPS: &str = "a list of groups is read, each with `modules` and `lr`";

/// `lr_groups` of axolotl: parts of names, and the highest rate of what has them in its name.
///
/// # Errors
/// When they are no groups, or the run would not take one of them.
pub fn lr_groups(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let YamlValue::List(groups) = &node.value else { return Err(GROUPS.to_owned()) };
    draft.groups = groups.iter().map(group).collect::<Result<_, _>>()?;
    Ok(())
}

fn group(node: &YamlNode) -> Result<TableLines, String> {
    let names = node.get("modules").and_then(|modules| match &modules.value {
        YamlValue::List(names) if !names.is_empty() => {
            names.iter().map(YamlNode::text).collect::<Option<Vec<_>>>()
        }
        _ => None,
    });
    let rate = node.get("lr").and_then(number);
    let (names, rate) = names.zip(rate).ok_or_else(|| GROUPS.to_owned())?;
    // There they are any part of a name, here expressions that fit whole parts of a path.
    let pattern = |name: &str| quoted(&format!(".*{}.*", regex::escape(name)));
    let patterns: Vec<String> = names.into_iter().map(pattern).collect();
    let modules = format!("[{}]", patterns.join(", "));
    let group = vec![("modules", modules), ("learning_rate", format!("{rate:?}"))];
    for (key, value) in &group {
        if value_of(&settings::KEYS, &format!("train.param_groups.0.{key}"), value).is_none() {
            return Err(format!("`train.param_groups.{key}` does not take {value}"));
        }
    }
    Ok(group)
}

/// What is to be said of groups, and whether they stay, once all settings are known.
pub fn finish_groups(draft: &mut Draft) {
    if draft.groups.is_empty() {
        return;
    }
    if draft.value("lora.loraplus_lr_ratio").is_some() {
        draft.groups.clear();
        draft.remark("`lr_groups` are left out: beside `loraplus_lr_ratio` axolotl ignores them.");
        return;
    }
    draft.remark(
        "`[[train.param_groups]]` has norms, biases, embeddings, the output head and modules to \
         save whose names fit, too; `lr_groups` has none of them.",
    );
}
