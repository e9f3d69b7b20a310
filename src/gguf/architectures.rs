//! Families of models as llama.cpp names them: what their metadata says as a `config.json`, and
//! their tensors by Hugging Face names. An entry is a line of [`ARCHITECTURES`].
//!
//! Source: `convert_hf_to_gguf.py` and `gguf-py/gguf/tensor_mapping.py` of llama.cpp, backwards.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::facts::{Facts, ROPE_FREQS, ROPE_LONG, ROPE_SHORT};
use super::families::{
    gemma2, gemma3, granite, lfm2, llama, olmo, phi3, qwen2, qwen3, qwen3_moe, smollm3,
};
use super::file::GgufTensor;
use super::metadata::Metadata;
use super::names::{TURNED, from_gguf, last_norm};

/// An architecture.
pub struct GgufArchitecture {
    /// `general.architecture`, which its keys begin with.
    name: &'static str,
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// Whether rows of queries and keys lie as llama.cpp rotates them: neighbours, not halves.
    turned: bool,
    /// What it says besides what all say.
    more: fn(&Facts, &mut Map<String, Value>) -> Result<(), String>,
}

/// All that can be read.
const ARCHITECTURES: [GgufArchitecture; 11] = [
    GgufArchitecture { name: "gemma2", model_type: "gemma2", more: gemma2, ..HALVES },
    GgufArchitecture { name: "gemma3", model_type: "gemma3_text", more: gemma3, ..HALVES },
    GgufArchitecture { name: "granite", model_type: "granite", more: granite, ..LLAMA },
    GgufArchitecture { name: "lfm2", model_type: "lfm2", more: lfm2, ..HALVES },
    LLAMA,
    GgufArchitecture { name: "olmo2", model_type: "olmo3", more: olmo, ..HALVES },
    GgufArchitecture { name: "phi3", model_type: "phi3", more: phi3, ..HALVES },
    GgufArchitecture { name: "qwen2", model_type: "qwen2", more: qwen2, ..HALVES },
    GgufArchitecture { name: "qwen3", model_type: "qwen3", more: qwen3, ..HALVES },
    GgufArchitecture { name: "qwen3moe", model_type: "qwen3_moe", more: qwen3_moe, ..HALVES },
    GgufArchitecture { name: "smollm3", model_type: "smollm3", more: smollm3, ..LLAMA },
];

const LLAMA: GgufArchitecture =
    GgufArchitecture { name: "llama", model_type: "llama", turned: true, more: llama };
const HALVES: GgufArchitecture = GgufArchitecture { turned: false, ..LLAMA };

/// What becomes of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorTarget {
    /// Its name in a checkpoint of Hugging Face.
    pub name: String,
    /// Width of the heads whose rows are turned back, if they are.
    pub turned: Option<usize>,
    /// Whether one is taken away.
    pub minus_one: bool,
    /// Which of the matrices it is that are one tensor in the file, and how many these are.
    pub part: Option<[usize; 2]>,
    /// Whether a convolution of each channel by itself gets the one input that it has.
    pub convolution: bool,
}

/// What the matrices of all experts are called, and one of them.
const OF_EXPERTS: [(&str, &str); 3] =
    [("ffn_gate_exps", "gate_proj"), ("ffn_up_exps", "up_proj"), ("ffn_down_exps", "down_proj")];

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
            "lfm2" => facts.largest("attention.head_count_kv")?,
            _ => facts.optional("attention.head_count_kv")?,
        };
        let groups = groups.unwrap_or(heads);
        let tokens = metadata.list("tokenizer.ggml.tokens")?.unwrap_or_default().len() as u64;
        let mut config = json!({
            "model_type": self.model_type,
            "hidden_size": hidden,
            "num_hidden_layers": facts.size("block_count")?,
            "intermediate_size": facts.size("feed_forward_length")?,
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
        facts.scaling(map)?;
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

    /// What becomes of a tensor of a model with this `config.json`: one tensor, or one for each
    /// expert.
    ///
    /// # Errors
    /// When it is not known.
    pub fn targets(&self, name: &str, config: &Value) -> Result<Vec<TensorTarget>, String> {
        let minus_one = self.gain_is_one_more() && name.ends_with("norm.weight");
        let whole = |name: String| TensorTarget {
            name,
            turned: None,
            minus_one,
            part: None,
            convolution: false,
        };
        let last_norm = format!("{}.weight", last_norm(self.name));
        let known = match name {
            "token_embd.weight" => Some("model.embed_tokens.weight"),
            "output.weight" => Some("lm_head.weight"),
            _ if name == last_norm && self.name == "lfm2" => Some("model.embedding_norm.weight"),
            _ if name == last_norm => Some("model.norm.weight"),
            _ => None,
        };
        if let Some(known) = known {
            return Ok(vec![whole(known.to_owned())]);
        }
        let found = (|| {
            let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
            let layer: u64 = layer.parse().ok()?;
            let (module, part) = rest.rsplit_once('.')?;
            if !matches!(part, "weight" | "bias")
                || layer >= config["num_hidden_layers"].as_u64()?
            {
                return None;
            }
            let of_experts = OF_EXPERTS.iter().find(|(theirs, _)| *theirs == module);
            if let Some((_, ours)) = of_experts.filter(|_| part == "weight") {
                let count = usize::try_from(config["num_experts"].as_u64()?).ok()?;
                let expert = |number| {
                    let module = format!("model.layers.{layer}.mlp.experts.{number}");
                    let part = Some([number, count]);
                    TensorTarget { part, ..whole(format!("{module}.{ours}.weight")) }
                };
                return Some((0..count).map(expert).collect());
            }
            let ours = from_gguf(self.name, module)?;
            let turned = match self.turned && TURNED.contains(&ours) {
                true => Some(usize::try_from(config["head_dim"].as_u64()?).ok()?),
                false => None,
            };
            let convolution = ours == "conv.conv" && part == "weight";
            let name = format!("model.layers.{layer}.{ours}.{part}");
            Some(vec![TensorTarget { turned, convolution, ..whole(name) }])
        })();
        found.ok_or_else(|| format!("models of its architecture have no tensor `{name}`"))
    }

    /// Whether files have one more than the weights of norms.
    fn gain_is_one_more(&self) -> bool {
        matches!(self.name, "gemma2" | "gemma3")
    }
}
