//! What is computed again to save memory, and where what is kept for that is meanwhile.

use super::draft::Draft;
use super::yaml::YamlNode;

/// `true`, or a way of doing it.
pub fn recompute(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    if matches!(node.text(), Some("offload" | "offload_disk")) {
        return activation_offloading(node, draft);
    }
    match node.is_off() {
        true => draft.put("train.recompute", "\"none\""),
        false => draft.put("train.recompute", "\"layers\""),
    }
}

/// On disk wherever it is computed: host memory is another one beside a GPU alone. Here it is of
/// layers that are computed again.
pub fn activation_offloading(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match (node.is_off(), node.is_true(), node.text()) {
        (true, ..) => Ok(()),
        (_, true, _) | (.., Some("disk" | "legacy" | "offload" | "offload_disk")) => {
            draft.put("train.recompute", "\"layers\"")?;
            draft.put("train.activation_offload", "\"disk\"")
        }
        _ => Err("`train.activation_offload` is `none`, `host` or `disk`".to_owned()),
    }
}

/// There it is of layers that are computed again, too.
pub fn tiled_mlp(node: &YamlNode, draft: &mut Draft) -> Result<(), String> {
    match node.is_true() {
        true => {
            draft.put("train.recompute", "\"layers\"")?;
            draft.put("train.tiled_mlp", "true")
        }
        false => Ok(()),
    }
}
