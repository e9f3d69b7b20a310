//! Families of models as llama.cpp knows them: names of tensors, and what becomes of their numbers.
//! Source: llama.cpp's `conversion/` and `gguf-py/gguf/tensor_mapping.py`. Each was compared with
//! llama.cpp's own texts (`tests/reference/gguf_check.py families`).

use super::own::OwnRules;
use super::{gemma4, qwen35};
use crate::error::{Error, Result};
use crate::gguf::TURNED;
use crate::model::description::{Description, NormGain};
use crate::ops::Activation;

/// Mixtures of experts that layers may have in the place of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mixture {
    /// None.
    None,
    /// Weights are a softmax.
    Softmax,
    /// Weights are sigmoids, and a number of each expert decides with them; the first layers have
    /// an MLP.
    Sigmoid,
    /// Gates have limits, and all has biases, in files in an order of their own.
    Clamped,
}

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
    /// Whether the file says in which layers positions turn something.
    pub(super) any_turning: bool,
    /// Whether attention may have sinks.
    pub(super) sinks: bool,
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
    /// Experts that layers have in the place of an MLP.
    pub(super) mixture: Mixture,
    /// Whether layers may have a short convolution in the place of attention.
    pub(super) convolutions: bool,
    /// Whether queries may be scaled by their positions.
    pub(super) scales_queries: bool,
    /// In place of the checks and keys that most have.
    pub(super) own: Option<OwnRules>,
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
    any_turning: false,
    sinks: false,
    windows: None,
    any_pattern: false,
    capped: false,
    scales_embedding: false,
    wide_scale_at: None,
    tied: None,
    yarn: true,
    mixture: Mixture::None,
    convolutions: false,
    scales_queries: false,
    own: None,
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

const GRANITE: Architecture = Architecture {
    model_types: &["granite", "granitemoehybrid"],
    name: "granite",
    multipliers: true,
    yarn: false,
    ..LLAMA
};

const LFM2: Architecture = Architecture {
    model_types: &["lfm2"],
    name: "lfm2",
    yarn: false,
    convolutions: true,
    ..HALVES
};

const QWEN35: Architecture = Architecture {
    model_types: &["qwen3_5_text", "qwen3_5"],
    name: "qwen35",
    gain: NormGain::OnePlusWeight,
    own: Some(qwen35::RULES),
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
        model_types: &["gemma4_text", "gemma4", "gemma4_unified_text", "gemma4_unified"],
        name: "gemma4",
        gain: NormGain::Weight,
        own: Some(gemma4::RULES),
        ..GEMMA2
    },
    Architecture {
        model_types: &["gpt_oss"],
        name: "gpt-oss",
        biases: true,
        sinks: true,
        windows: Some(2),
        tied: Some(false),
        mixture: Mixture::Clamped,
        ..HALVES
    },
    GRANITE,
    Architecture {
        model_types: &["granite_swa"],
        name: "granite_swa",
        windows: Some(4),
        any_pattern: true,
        any_turning: true,
        sinks: true,
        ..GRANITE
    },
    LFM2,
    Architecture { model_types: &["lfm2_moe"], name: "lfm2moe", mixture: Mixture::Sigmoid, ..LFM2 },
    LLAMA,
    Architecture { model_types: &["mistral"], ..LLAMA },
    Architecture {
        model_types: &["ministral3", "mistral3"],
        name: "mistral3",
        biases: false,
        scales_queries: true,
        ..LLAMA
    },
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
    Architecture {
        model_types: &["qwen3_moe"],
        name: "qwen3moe",
        mixture: Mixture::Softmax,
        ..HALVES
    },
    QWEN35,
    Architecture { model_types: &["qwen3_5_moe_text", "qwen3_5_moe"], name: "qwen35moe", ..QWEN35 },
    Architecture {
        model_types: &["smollm3"],
        name: "smollm3",
        biases: false,
        unturned_every: Some(4),
        yarn: false,
        ..LLAMA
    },
];

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
    let refused = match found.own {
        None => found.refused(facts),
        Some(own) => (own.refused)(facts),
    };
    match refused {
        None => Ok(found),
        Some(what) => Err(Error::export(format!(
            "models of the family `{family}` with {what} cannot be written as GGUF"
        ))),
    }
}
