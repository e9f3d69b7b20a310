//! Families of models as llama.cpp knows them: names of tensors, and what becomes of their numbers.
//! Source: llama.cpp's `conversion/` and `gguf-py/gguf/tensor_mapping.py`. Each was compared with
//! llama.cpp's own texts (`tests/reference/gguf_check.py families`).

use crate::error::{Error, Result};
use crate::gguf::{TURNED, last_norm, to_gguf};
use crate::model::LM_HEAD;
use crate::model::description::{Description, NormGain};
use crate::ops::Activation;

/// A family.
pub struct Architecture {
    /// `model_type` in `config.json`.
    model_types: &'static [&'static str],
    /// `general.architecture`, which is also what its keys begin with.
    pub name: &'static str,
    /// Layers whose rows are turned: llama.cpp rotates neighbours there, transformers halves.
    pub(super) turned: &'static [&'static str],
    /// Whether norms stand before attention and MLP, and whether after them.
    pub(super) norms: [bool; 2],
    /// What norms multiply with; files have what it is, and not one less.
    pub(super) gain: NormGain,
    pub(super) activation: Activation,
    /// Whether linear layers may have biases.
    pub(super) biases: bool,
    /// Whether embeddings, what is added, and scores of both kinds may have multipliers.
    pub(super) multipliers: bool,
    /// Positions turn nothing in every layer of this number, where llama.cpp knows such layers.
    pub(super) unturned_every: Option<usize>,
    /// Where layers have windows: in all but every so many, unless the file says it.
    pub(super) windows: Option<usize>,
    /// Whether that pattern may be another one.
    pub(super) any_pattern: bool,
    /// Whether scores of attention and of the vocabulary have caps.
    pub(super) capped: bool,
    /// Whether embeddings are multiplied with the root of their width.
    pub(super) scales_embedding: bool,
    /// Models of so many layers divide scores by the root of the hidden width over the heads.
    pub(super) wide_scale_at: Option<usize>,
    /// Whether the output projection is the embedding, where llama.cpp knows only one of both.
    pub(super) tied: Option<bool>,
    /// Whether positions may be stretched by yarn.
    pub(super) yarn: bool,
    /// Whether layers have experts in the place of an MLP.
    pub(super) experts: bool,
    /// Whether layers may have a short convolution in the place of attention.
    pub(super) convolutions: bool,
}

const LLAMA: Architecture = Architecture {
    model_types: &["llama"],
    name: "llama",
    turned: TURNED,
    norms: [true, false],
    gain: NormGain::Weight,
    activation: Activation::Silu,
    biases: true,
    multipliers: false,
    unturned_every: None,
    windows: None,
    any_pattern: false,
    capped: false,
    scales_embedding: false,
    wide_scale_at: None,
    tied: None,
    yarn: true,
    experts: false,
    convolutions: false,
};

/// Of which llama.cpp rotates halves, and which have no biases.
const HALVES: Architecture = Architecture { turned: &[], biases: false, ..LLAMA };

const GEMMA2: Architecture = Architecture {
    model_types: &["gemma2"],
    name: "gemma2",
    norms: [true, true],
    gain: NormGain::OnePlusWeight,
    activation: Activation::GeluTanh,
    windows: Some(2),
    capped: true,
    scales_embedding: true,
    wide_scale_at: Some(46),
    tied: Some(true),
    yarn: false,
    ..HALVES
};

/// All families that can be written.
pub static ARCHITECTURES: &[Architecture] = &[
    GEMMA2,
    Architecture {
        model_types: &["gemma3_text", "gemma3"],
        name: "gemma3",
        windows: Some(6),
        any_pattern: true,
        capped: false,
        wide_scale_at: Some(62),
        ..GEMMA2
    },
    Architecture {
        model_types: &["granite"],
        name: "granite",
        multipliers: true,
        yarn: false,
        ..LLAMA
    },
    Architecture {
        model_types: &["lfm2"],
        name: "lfm2",
        yarn: false,
        convolutions: true,
        ..HALVES
    },
    LLAMA,
    Architecture { model_types: &["mistral"], ..LLAMA },
    Architecture {
        model_types: &["olmo2", "olmo3"],
        name: "olmo2",
        norms: [false, true],
        windows: Some(4),
        any_pattern: true,
        tied: Some(false),
        ..HALVES
    },
    Architecture { model_types: &["phi3"], name: "phi3", yarn: false, ..HALVES },
    Architecture { model_types: &["qwen2"], name: "qwen2", biases: true, ..HALVES },
    Architecture { model_types: &["qwen3"], name: "qwen3", ..HALVES },
    Architecture { model_types: &["qwen3_moe"], name: "qwen3moe", experts: true, ..HALVES },
    Architecture {
        model_types: &["smollm3"],
        name: "smollm3",
        biases: false,
        unturned_every: Some(4),
        yarn: false,
        ..LLAMA
    },
];

/// What is done to the numbers of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorChange {
    /// Nothing.
    None,
    /// The rows of each head are turned.
    Turned,
    /// One is added.
    PlusOne,
}

/// What becomes of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name in the file.
    pub name: String,
    /// What is done to it.
    pub change: TensorChange,
    /// Which of several it is that are one tensor in the file, and how many these are.
    pub part: Option<[usize; 2]>,
    /// Whether it is written in 32 bits, whatever was asked for: llama.cpp reads it so.
    pub exact: bool,
}

/// Modules whose numbers are few and count much: convolutions, and routers.
const EXACT: [&str; 2] = ["conv.conv", "mlp.gate"];
/// Matrices of an expert, and what all of a layer are in the file.
const OF_EXPERTS: [(&str, &str); 3] =
    [("gate_proj", "ffn_gate_exps"), ("up_proj", "ffn_up_exps"), ("down_proj", "ffn_down_exps")];

/// The family of a model.
///
/// # Errors
/// Says which families there are, or what of the model the format has no key for here.
pub fn find(facts: &Description) -> Result<&'static Architecture> {
    let found = ARCHITECTURES.iter().find(|one| one.model_types.contains(&&*facts.model_type));
    let family = &facts.model_type;
    let found = found.ok_or_else(|| {
        let known: Vec<_> = ARCHITECTURES.iter().flat_map(|one| one.model_types).copied().collect();
        Error::export(format!("models of the family `{family}` cannot be written as GGUF"))
            .hint(format!("supported: `{}`", known.join("`, `")))
            .hint("`firebrand merge` writes safetensors, which llama.cpp's own converter reads")
    })?;
    match found.refused(facts) {
        None => Ok(found),
        Some(what) => Err(Error::export(format!(
            "models of the family `{family}` with {what} cannot be written as GGUF"
        ))),
    }
}

impl Architecture {
    /// What becomes of a tensor of this path; `None` for one that is left out: an output projection
    /// that is the embedding, and buffers that the configuration determines.
    pub fn target(&self, path: &str, facts: &Description) -> Result<Option<Target>> {
        let plus_one = self.gain == NormGain::OnePlusWeight && path.ends_with("norm.weight");
        let change = if plus_one { TensorChange::PlusOne } else { TensorChange::None };
        let target = |name: String| Target { name, change, part: None, exact: false };
        let whole = |name: &str| Ok(Some(target(format!("{name}.weight"))));
        if path == facts.names.embedding {
            return whole("token_embd");
        }
        if path.strip_suffix(".weight") == Some(facts.names.norm) {
            return whole(last_norm(self.name));
        }
        match path {
            LM_HEAD if facts.tied => return Ok(None),
            LM_HEAD => return whole("output"),
            _ if path.ends_with(".rotary_emb.inv_freq") => return Ok(None),
            _ => {}
        }
        let found = (|| {
            let within = path.strip_prefix(facts.names.layers)?.strip_prefix('.')?;
            let (layer, rest) = within.split_once('.')?;
            let layer: usize = layer.parse().ok().filter(|layer| *layer < facts.layers.len())?;
            let (module, part) = rest.rsplit_once('.')?;
            if !matches!(part, "weight" | "bias") {
                return None;
            }
            if let Some(expert) = module.strip_prefix("mlp.experts.").filter(|_| self.experts) {
                let (number, matrix) = expert.split_once('.')?;
                let (_, theirs) = OF_EXPERTS.iter().find(|(ours, _)| *ours == matrix)?;
                let count = facts.experts().next()?.1.count;
                let number = number.parse().ok().filter(|number| *number < count)?;
                let part = Some([number, count]);
                return Some(Target { part, ..target(format!("blk.{layer}.{theirs}.weight")) });
            }
            let theirs = to_gguf(self.name, module)?;
            let turned = self.turned.contains(&module);
            let change = if turned { TensorChange::Turned } else { change };
            let exact = EXACT.contains(&module);
            Some(Target { change, exact, ..target(format!("blk.{layer}.{theirs}.{part}")) })
        })();
        match found {
            Some(target) => Ok(Some(target)),
            None => Err(Error::export(format!("llama.cpp has no place for the tensor `{path}`"))),
        }
    }

    /// Paths of all tensors that a model must have, with their shapes.
    pub fn needed(&self, facts: &Description) -> Vec<(String, Vec<usize>)> {
        let written = |path: &str| matches!(self.target(path, facts), Ok(Some(_)));
        facts.tensors().into_iter().filter(|(path, _)| written(path)).collect()
    }
}
