//! Where a decoder stands in a checkpoint: names of its modules, and of tensors in files.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Path of an untied output projection.
pub const LM_HEAD: &str = "lm_head.weight";

/// Names of a checkpoint. Tensors have the paths of their modules, as PEFT has them too, except
/// where files have other names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointNames {
    /// Path of the embedding.
    pub embedding: &'static str,
    /// Module path of the list of layers.
    pub layers: &'static str,
    /// Module path of the norm after the last layer.
    pub norm: &'static str,
    /// Beginnings of names in files, and what they are in the model: the first that fits.
    pub in_files: &'static [(&'static str, &'static str)],
    /// Modules of what else the checkpoint holds: it is not loaded, and stays as it is.
    pub others: &'static [&'static str],
    /// Layers from this one on see keys and values of earlier ones: what files hold of their own is
    /// not loaded, and stays as it is.
    pub keys_end: Option<usize>,
    /// Whether files have the embedding under the name of the output projection alone, which it is,
    /// as savers leave it that write every tensor once.
    pub as_head: bool,
}

/// What a layer without keys and values of its own has no use for.
const KEYS: [&str; 3] = ["self_attn.k_proj.", "self_attn.v_proj.", "self_attn.k_norm."];

impl CheckpointNames {
    /// Those of a decoder that is a checkpoint of its own.
    pub const USUAL: Self = Self {
        embedding: "model.embed_tokens.weight",
        layers: "model.layers",
        norm: "model.norm",
        // Files of a decoder alone, without an output projection (`Qwen3Model`), have no `model.`.
        in_files: &[
            ("layers.", "model.layers."),
            ("embed_tokens.", "model.embed_tokens."),
            ("norm.", "model.norm."),
        ],
        others: &[],
        keys_end: None,
        as_head: false,
    };

    /// Those of a decoder in a checkpoint that reads images, too. Module paths are those of
    /// transformers since 4.52; files have kept the names from before.
    pub const BESIDE_IMAGES: Self = Self {
        embedding: "model.language_model.embed_tokens.weight",
        layers: "model.language_model.layers",
        norm: "model.language_model.norm",
        in_files: &[
            ("language_model.model.", "model.language_model."),
            ("language_model.lm_head.", "lm_head."),
        ],
        others: &["vision_tower", "multi_modal_projector"],
        keys_end: None,
        as_head: false,
    };

    /// Those of a decoder in a checkpoint that holds more, where files have the names of modules.
    pub const INSIDE: Self = Self { in_files: &[], others: &[], ..Self::BESIDE_IMAGES };

    /// The same with other modules beside it.
    #[must_use]
    pub const fn beside(self, others: &'static [&'static str]) -> Self {
        Self { others, ..self }
    }

    /// Whether the decoder is all of the model that its configuration describes.
    pub fn is_whole(&self) -> bool {
        self.others.is_empty() || self.layers == Self::USUAL.layers
    }

    /// The path of a tensor in a file; none if it belongs to something else, or nothing uses it.
    pub fn path_of(&self, name: &str) -> Option<String> {
        let module = name.strip_prefix("model.").unwrap_or(name);
        let of_other =
            |other: &str| module.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'));
        if self.others.iter().any(|other| of_other(other)) {
            return None;
        }
        let renamed = self
            .in_files
            .iter()
            .find_map(|(begin, here)| name.strip_prefix(begin).map(|rest| format!("{here}{rest}")));
        let path = renamed.unwrap_or_else(|| name.to_owned());
        if self.as_head && path == LM_HEAD {
            return Some(self.embedding.to_owned());
        }
        (!self.is_unused(&path)).then_some(path)
    }

    /// Whether a path is one of keys and values that nothing sees.
    pub(super) fn is_unused(&self, path: &str) -> bool {
        let Some(end) = self.keys_end else { return false };
        let within = path.strip_prefix(self.layers).and_then(|rest| rest.strip_prefix('.'));
        let Some((layer, module)) = within.and_then(|rest| rest.split_once('.')) else {
            return false;
        };
        let beyond = layer.parse::<usize>().is_ok_and(|layer| layer >= end);
        beyond && KEYS.iter().any(|keys| module.starts_with(keys))
    }

    /// Whether files may hold more than what is loaded.
    pub fn holds_more(&self) -> bool {
        !self.others.is_empty() || self.keys_end.is_some()
    }

    /// A regular expression of the module paths of everything else, as PEFT's `exclude_modules`;
    /// none where transformers has no modules but those of the decoder.
    pub fn exclude_modules(&self) -> Option<String> {
        (!self.is_whole()).then(|| format!(r"(.*\.)?({})\..*", self.others.join("|")))
    }
}

/// A name that lives as long as the program. Each is kept once: those of numbered modules are few,
/// and the same in every layer.
pub(super) fn interned(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name = String::leak(name);
    names.insert(name);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_layers_that_see_others_are_not_loaded() {
        let names = CheckpointNames { keys_end: Some(10), ..CheckpointNames::USUAL };
        for (name, unused) in [
            ("model.layers.10.self_attn.k_proj.weight", true),
            ("model.layers.11.self_attn.v_proj.bias", true),
            ("model.layers.10.self_attn.k_norm.weight", true),
            ("model.layers.9.self_attn.k_proj.weight", false),
            ("model.layers.10.self_attn.q_proj.weight", false),
            ("model.layers.10.mlp.up_proj.weight", false),
            ("model.norm.weight", false),
        ] {
            assert_eq!(names.path_of(name).is_none(), unused, "{name}");
            assert_eq!(CheckpointNames::USUAL.path_of(name).as_deref(), Some(name));
        }
        assert!(names.holds_more() && !CheckpointNames::USUAL.holds_more());
    }
}
