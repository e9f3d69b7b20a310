//! Families of models as llama.cpp names them: what their metadata says as a `config.json`, and
//! their tensors by Hugging Face names. An entry is a line of [`ARCHITECTURES`].
//!
//! Source: `convert_hf_to_gguf.py` and `gguf-py/gguf/tensor_mapping.py` of llama.cpp, backwards.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::facts::{Facts, ROPE_FREQS, ROPE_LONG, ROPE_SHORT};
use super::families::{
    gemma2, gemma3, gpt_oss, granite, granite_swa, lfm2, lfm2_moe, llama, mistral3, olmo, phi3,
    qwen2, qwen3, qwen3_moe, smollm3,
};
use super::file::GgufTensor;
use super::gemma4::gemma4;
use super::metadata::Metadata;
use super::qwen35::{qwen35, qwen35_moe};

/// An architecture.
pub struct GgufArchitecture {
    /// `general.architecture`, which its keys begin with.
    pub(super) name: &'static str,
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// Whether rows of queries and keys lie as llama.cpp rotates them: neighbours, not halves.
    pub(super) turned: bool,
    /// What it says besides what all say.
    more: fn(&Facts, &mut Map<String, Value>) -> Result<(), String>,
}

/// All that can be read.
const ARCHITECTURES: [GgufArchitecture; 18] = [
    GgufArchitecture { name: "gemma2", model_type: "gemma2", more: gemma2, ..HALVES },
    GgufArchitecture { name: "gemma3", model_type: "gemma3_text", more: gemma3, ..HALVES },
    GgufArchitecture { name: "gemma4", model_type: "gemma4_text", more: gemma4, ..HALVES },
    GgufArchitecture { name: "gpt-oss", model_type: "gpt_oss", more: gpt_oss, ..HALVES },
    GgufArchitecture { name: "granite", model_type: "granite", more: granite, ..LLAMA },
    GgufArchitecture { name: "granite_swa", model_type: "granite_swa", more: granite_swa, ..LLAMA },
    GgufArchitecture { name: "lfm2", model_type: "lfm2", more: lfm2, ..HALVES },
    GgufArchitecture { name: "lfm2moe", model_type: "lfm2_moe", more: lfm2_moe, ..HALVES },
    LLAMA,
    GgufArchitecture { name: "mistral3", model_type: "ministral3", more: mistral3, ..LLAMA },
    GgufArchitecture { name: "olmo2", model_type: "olmo3", more: olmo, ..HALVES },
    GgufArchitecture { name: "phi3", model_type: "phi3", more: phi3, ..HALVES },
    GgufArchitecture { name: "qwen2", model_type: "qwen2", more: qwen2, ..HALVES },
    GgufArchitecture { name: "qwen3", model_type: "qwen3", more: qwen3, ..HALVES },
    GgufArchitecture { name: "qwen35", model_type: "qwen3_5_text", more: qwen35, ..HALVES },
    GgufArchitecture {
        name: "qwen35moe",
        model_type: "qwen3_5_moe_text",
        more: qwen35_moe,
        ..HALVES
    },
    GgufArchitecture { name: "qwen3moe", model_type: "qwen3_moe", more: qwen3_moe, ..HALVES },
    GgufArchitecture { name: "smollm3", model_type: "smollm3", more: smollm3, ..LLAMA },
];

const LLAMA: GgufArchitecture =
    GgufArchitecture { name: "llama", model_type: "llama", turned: true, more: llama };
const HALVES: GgufArchitecture = GgufArchitecture { turned: false, ..LLAMA };

impl GgufArchitecture {
    /// That of a file.
    ///
    /// # Errors
    /// When it has none that is known.
    pub fn of(metadata: &Metadata) -> Result<&'static Self, String> {
        let name = metadata.text("general.architecture")?.unwrap_or_default();
        ARCHITECTURES.iter().find(|one| one.name == name).ok_or_else(|| {
            let known = ARCHITECTURES.map(|one| one.name).join("`, `");
            format!("its architecture is `{name}`; those that can be read are `{known}`")
        })
    }

    /// Its `config.json`; `factors` are the numbers of the tensors that [`Self::FACTORS`] names.
    ///
    /// # Errors
    /// When a key is missing, no such value, or asks for what is not understood.
    pub fn config(
        &'static self,
        metadata: &Metadata,
        tensors: &BTreeMap<String, GgufTensor>,
        factors: BTreeMap<&'static str, Vec<f32>>,
    ) -> Result<Value, String> {
        let mut facts = Facts { metadata, tensors, factors, name: self.name, head: 0 };
        let (hidden, heads) =
            (facts.size("embedding_length")?, facts.size("attention.head_count")?);
        facts.head = match facts.optional("attention.key_length")? {
            Some(width) => width,
            None => hidden / heads.max(1),
        };
        let value = facts.optional("attention.value_length")?.unwrap_or(facts.head);
        if value != facts.head {
            return Err(format!("its values have heads of {value}, its keys of {}", facts.head));
        }
        let groups = match self.name {
            "lfm2" | "lfm2moe" => facts.largest("attention.head_count_kv")?,
            // Those of both kinds of layers are looked at later.
            "gemma4" => match facts.layers("attention.head_count_kv") {
                Some(groups) => groups.into_iter().min(),
                None => facts.optional("attention.head_count_kv")?,
            },
            _ => facts.optional("attention.head_count_kv")?,
        };
        let groups = groups.unwrap_or(heads);
        let tokens = metadata.list("tokenizer.ggml.tokens")?.unwrap_or_default().len() as u64;
        let mut config = json!({
            "model_type": self.model_type,
            "hidden_size": hidden,
            "num_hidden_layers": facts.depth()?,
            "intermediate_size": facts.narrowest("feed_forward_length")?,
            "num_attention_heads": heads,
            "num_key_value_heads": groups,
            "head_dim": facts.head,
            "max_position_embeddings": facts.size("context_length")?,
            "rms_norm_eps": facts.number("attention.layer_norm_rms_epsilon")?,
            "rope_theta": facts.optional_number("rope.freq_base")?.unwrap_or(10_000.0),
            "vocab_size": facts.rows("token_embd.weight").unwrap_or(tokens),
            "tie_word_embeddings": !tensors.contains_key("output.weight"),
            "hidden_act": "silu",
        });
        let said = facts.optional("vocab_size")?;
        let rows = config["vocab_size"].as_u64();
        if said.is_some() && said != rows {
            let rows = rows.unwrap_or_default();
            return Err(format!("it says of {said:?} tokens, and has {rows} rows of embeddings"));
        }
        let map = config.as_object_mut().expect("it is an object");
        if self.name != "gemma4" {
            facts.scaling(map)?;
        }
        (self.more)(&facts, map)?;
        // How it was made, and what llama.cpp works out by itself.
        for key in ["rope.dimension_count", "attention.causal", "rope.scaling.finetuned"] {
            metadata.get(&format!("{}.{key}", self.name));
        }
        if let Some(key) = metadata.ignored(&format!("{}.", self.name)) {
            return Err(format!("its key `{key}` is not understood"));
        }
        Ok(config)
    }

    /// Tensors that are settings.
    pub const FACTORS: [&'static str; 3] = [ROPE_FREQS, ROPE_LONG, ROPE_SHORT];
}
