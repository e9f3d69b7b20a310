//! Names of the parameters of adapters in files: PEFT's.

use super::{ADAPTERS, AdapterKind};

/// What PEFT puts before the path of a parameter of an adapter in files.
const PEFT_PREFIX: &str = "base_model.model.";

/// Whether a path in a model is that of a parameter of an adapter, of whatever kind.
pub fn is_adapter(path: &str) -> bool {
    let names = ADAPTERS.iter().flat_map(|kind| kind.parameters());
    names.into_iter().any(|name| {
        path.strip_suffix(name).is_some_and(|layer| layer.ends_with('.') && layer.len() > 1)
    })
}

/// The name of a parameter in files: PEFT's for adapters, the path itself for others.
pub fn file_name_of(path: &str) -> String {
    if is_adapter(path) { format!("{PEFT_PREFIX}{path}") } else { path.to_owned() }
}

/// The name in the files of an adapter of anything that is trained with it.
pub fn adapter_file_name(path: &str) -> String {
    format!("{PEFT_PREFIX}{path}")
}

/// The name in files of a parameter of the adapter beside `layer`.
pub fn file_name(layer: &str, parameter: &str) -> String {
    format!("{PEFT_PREFIX}{layer}.{parameter}")
}

/// The layer beside which the tensor of a file belongs, if it is one of `kind`.
pub fn layer_of<'a>(kind: &dyn AdapterKind, name: &'a str) -> Option<&'a str> {
    let path = name.strip_prefix(PEFT_PREFIX)?;
    kind.parameters().iter().find_map(|own| path.strip_suffix(own)?.strip_suffix('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_files_are_pefts() {
        let layer = "model.layers.0.self_attn.q_proj";
        for kind in ADAPTERS {
            for parameter in kind.parameters() {
                let name = format!("base_model.model.{layer}.{parameter}");
                assert_eq!(file_name(layer, parameter), name);
                assert_eq!(file_name_of(&format!("{layer}.{parameter}")), name);
                assert_eq!(layer_of(*kind, &name), Some(layer));
                assert_eq!(layer_of(*kind, &format!("{layer}.{parameter}")), None);
                assert!(!is_adapter(parameter) && !is_adapter(&format!("x{parameter}")));
            }
        }
        let weight = format!("{layer}.weight");
        assert_eq!(file_name_of(&weight), weight);
    }
}
