//! Where other tools report curves to: the trackers of `output.report_to`, which write files.

use super::draft::Draft;
use super::yaml::{YamlNode, YamlValue};
use crate::document::quoted;

/// Why what is told to a server has no counterpart.
pub const NOTHING_SENT: &str =
    "nothing is sent anywhere; `output.report_to` writes files that others read";

/// The names of trackers, as a list or with commas between them.
pub fn report_to(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    let names: Vec<&str> = match &node.value {
        YamlValue::List(list) => list.iter().filter_map(YamlNode::text).collect(),
        _ => node.text().unwrap_or_default().split(',').map(str::trim).collect(),
    };
    let names = names.into_iter().filter(|name| !matches!(*name, "" | "none"));
    // Those that are known are taken over whatever the others are.
    names.map(|name| report(name, draft)).fold(Ok(()), Result::and)
}

/// A tracker that is told of the run, beside those that are.
fn report(name: &str, draft: &mut Draft) -> Result<(), String> {
    const KEY: &str = "output.report_to";
    let before = draft.value(KEY).unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let mut all: Vec<String> =
        before.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if all.contains(&quoted(name)) {
        return Ok(());
    }
    all.push(quoted(name));
    draft.put(KEY, format!("[{}]", all.join(", "))).map_err(|_| NOTHING_SENT.to_owned())?;
    if name != "tensorboard" {
        draft
            .remark(format!("Nothing is sent to `{name}`: files for it are in the run directory."));
    }
    Ok(())
}

/// `true` or the name of a project, where event files are wanted.
pub fn tensorboard(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    if node.is_off() { Ok(()) } else { report("tensorboard", draft) }
}

/// The same of Weights & Biases.
pub fn wandb(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    if node.is_off() { Ok(()) } else { report("wandb", draft) }
}

/// The same of MLflow.
pub fn mlflow(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    if node.is_off() { Ok(()) } else { report("mlflow", draft) }
}

/// The same of trackio.
pub fn trackio(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    if node.is_off() { Ok(()) } else { report("trackio", draft) }
}
