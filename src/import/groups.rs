//! Groups of parameters with a learning rate of their own.

use super::draft::{Draft, TableLines, toml};
use super::trainer::number;
use super::yaml::{YamlNode, YamlValue};

/// `lr_groups` of axolotl: names of modules, and their highest rate.
pub fn lr_groups(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let groups: Option<Vec<TableLines>> = match &node.value {
        YamlValue::List(groups) => groups.iter().map(group).collect(),
        _ => None,
    };
    draft.groups = groups.ok_or("a list of groups is read, each with `modules` and `lr`")?;
    draft.remark(
        "`[[train.param_groups]]` has norms and biases of its modules, too; `lr_groups` has none.",
    );
    Ok(())
}

fn group(node: &YamlNode) -> Option<TableLines> {
    let modules = node.get("modules").filter(|it| matches!(it.value, YamlValue::List(_)))?;
    let (modules, rate) = (toml(modules)?, node.get("lr").and_then(number)?);
    Some(vec![("modules", modules), ("learning_rate", format!("{rate:?}"))])
}
