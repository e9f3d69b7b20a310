//! Families of models as llama.cpp names them: what their metadata says as a `config.json`, and
//! their tensors by Hugging Face names. An entry is a line of [`ARCHITECTURES`].
//!
//! Source: `convert_hf_to_gguf.py` and `gguf-py/gguf/tensor_mapping.py` of llama.cpp, backwards.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::file::GgufTensor;
use super::metadata::Metadata;
use super::names::{LAYER, TURNED};

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
const ARCHITECTURES: [GgufArchitecture; 6] = [
    GgufArchitecture { name: "llama", model_type: "llama", turned: true, more: llama },
    GgufArchitecture { name: "qwen2", model_type: "qwen2", turned: false, more: qwen2 },
    GgufArchitecture { name: "qwen3", model_type: "qwen3", turned: false, more: qwen3 },
    GgufArchitecture { name: "phi3", model_type: "phi3", turned: false, more: phi3 },
    GgufArchitecture { name: "smollm3", model_type: "smollm3", turned: true, more: smollm3 },
    GgufArchitecture { name: "granite", model_type: "granite", turned: true, more: granite },
];

/// What Llama 3 divides its frequencies by.
const ROPE_FREQS: &str = "rope_freqs.weight";
const ROPE_LONG: &str = "rope_factors_long.weight";
const ROPE_SHORT: &str = "rope_factors_short.weight";

/// What becomes of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorTarget {
    /// Its name in a checkpoint of Hugging Face.
    pub name: String,
    /// Width of the heads whose rows are turned back, if they are.
    pub turned: Option<usize>,
}

/// What is known of a model.
pub struct Facts<'a> {
    metadata: &'a Metadata,
    tensors: &'a BTreeMap<String, GgufTensor>,
    /// Divisors of the rotary frequencies, by the names of their tensors.
    factors: BTreeMap<&'static str, Vec<f32>>,
    name: &'static str,
    head: u64,
}

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
        let groups = facts.optional("attention.head_count_kv")?.unwrap_or(heads);
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
        (self.more)(&facts, map)?;
        facts.scaling(map)?;
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

    /// What becomes of a tensor of a model with this `config.json`.
    ///
    /// # Errors
    /// When it is not known.
    pub fn target(&self, name: &str, config: &Value) -> Result<TensorTarget, String> {
        let plain = |name: &str| Ok(TensorTarget { name: name.to_owned(), turned: None });
        match name {
            "token_embd.weight" => return plain("model.embed_tokens.weight"),
            "output_norm.weight" => return plain("model.norm.weight"),
            "output.weight" => return plain("lm_head.weight"),
            _ => {}
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
            // Phi-3 has gate and up in one.
            let wanted = |(ours, theirs): &&(&str, &str)| {
                let fused = *ours == "mlp.gate_up_proj";
                *theirs == module && (module != "ffn_up" || fused == (self.name == "phi3"))
            };
            let (ours, _) = LAYER.iter().find(wanted)?;
            let turned = match self.turned && TURNED.contains(ours) {
                true => Some(usize::try_from(config["head_dim"].as_u64()?).ok()?),
                false => None,
            };
            Some(TensorTarget { name: format!("model.layers.{layer}.{ours}.{part}"), turned })
        })();
        found.ok_or_else(|| format!("models of its architecture have no tensor `{name}`"))
    }
}

impl Facts<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn size(&self, key: &str) -> Result<u64, String> {
        self.optional(key)?.ok_or_else(|| format!("it has no `{}`", self.key(key)))
    }

    /// A size; one that each layer has of its own where they are all the same.
    fn optional(&self, key: &str) -> Result<Option<u64>, String> {
        let key = self.key(key);
        let Some(items) = self.metadata.get(&key).and_then(|value| value.list()) else {
            return self.metadata.integer(&key);
        };
        let first = items.first().and_then(|item| item.integer());
        match items.iter().all(|item| item.integer() == first) {
            true => Ok(first),
            false => Err(format!("`{key}` differs between layers")),
        }
    }

    fn number(&self, key: &str) -> Result<f64, String> {
        self.optional_number(key)?.ok_or_else(|| format!("it has no `{}`", self.key(key)))
    }

    fn optional_number(&self, key: &str) -> Result<Option<f64>, String> {
        let number = self.metadata.number(&self.key(key))?;
        // The file has an f32: 1e-5 and not 0.000009999999747.
        #[expect(clippy::cast_possible_truncation)]
        let shortest = |number: f64| (number as f32).to_string().parse().unwrap_or(number);
        Ok(number.map(shortest))
    }

    fn rows(&self, tensor: &str) -> Option<u64> {
        self.tensors.get(tensor)?.shape.first().map(|rows| *rows as u64)
    }

    fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// How positions are stretched.
    fn scaling(&self, config: &mut Map<String, Value>) -> Result<(), String> {
        let kind = self.metadata.text(&self.key("rope.scaling.type"))?.unwrap_or("none");
        let factor = self.optional_number("rope.scaling.factor")?;
        let original = self.optional("rope.scaling.original_context_length")?;
        let attention = self.optional_number("rope.scaling.attn_factor")?;
        let factors = |name: &str| self.factors.get(name);
        let scaling = match (kind, factors(ROPE_FREQS), factors(ROPE_LONG), factors(ROPE_SHORT)) {
            ("none", None, None, None) => return Ok(()),
            ("linear", None, None, None) => json!({
                "rope_type": "linear", "factor": factor.ok_or("it has no `rope.scaling.factor`")?,
            }),
            ("none", Some(factors), None, None) => self.llama3(factors, config),
            ("none" | "longrope", None, Some(long), Some(short)) => {
                let original =
                    original.unwrap_or(config["max_position_embeddings"].as_u64().unwrap_or(0));
                config.insert("original_max_position_embeddings".to_owned(), original.into());
                let mut scaling = json!({
                    "rope_type": "longrope", "long_factor": long, "short_factor": short,
                    "original_max_position_embeddings": original,
                });
                if let Some(attention) = attention {
                    scaling["attention_factor"] = attention.into();
                }
                scaling
            }
            (kind, ..) => return Err(format!("its positions are stretched by `{kind}`")),
        };
        config.insert("rope_scaling".to_owned(), scaling);
        Ok(())
    }

    /// The file has what frequencies are divided by, and not how that was worked out. Where it is
    /// as in one of the models that there are, that is said; elsewhere it is a list, whatever the
    /// length of a text is.
    fn llama3(&self, factors: &[f32], config: &Map<String, Value>) -> Value {
        let theta = config["rope_theta"].as_f64().unwrap_or(1.0);
        let pairs = factors.len().max(1);
        for factor in [8.0, 32.0] {
            let expected = (0..pairs).map(|pair| {
                #[expect(clippy::cast_precision_loss)] // heads are small
                let exponent = pair as f64 / pairs as f64;
                let wavelength = 2.0 * std::f64::consts::PI * theta.powf(exponent);
                let smooth = (8192.0 / wavelength - 1.0) / 3.0;
                match smooth {
                    ..=0.0 => factor,
                    1.0.. => 1.0,
                    _ => 1.0 / ((1.0 - smooth) / factor + smooth),
                }
            });
            let near = |(one, other): (f64, &f32)| (one - f64::from(*other)).abs() < 1e-4 * one;
            if expected.zip(factors).all(near) {
                return json!({
                    "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
                });
            }
        }
        let positions = config["max_position_embeddings"].clone();
        json!({
            "rope_type": "longrope", "long_factor": factors, "short_factor": factors,
            "original_max_position_embeddings": positions, "attention_factor": 1.0,
        })
    }
}

fn set(config: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    config.insert(key.to_owned(), value.into());
}

fn llama(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    if facts.optional("expert_count")?.unwrap_or(0) > 0 {
        return Err("it is a mixture of experts".to_owned());
    }
    set(config, "attention_bias", facts.has("blk.0.attn_q.bias"));
    set(config, "mlp_bias", facts.has("blk.0.ffn_up.bias"));
    Ok(())
}

#[expect(clippy::unnecessary_wraps)] // a line of the table
fn qwen2(_: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    set(config, "use_sliding_window", false);
    Ok(())
}

#[expect(clippy::unnecessary_wraps)]
fn qwen3(_: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    set(config, "use_sliding_window", false);
    set(config, "attention_bias", false);
    Ok(())
}

fn phi3(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    let rotated = facts.optional("rope.dimension_count")?.unwrap_or(facts.head);
    if rotated != facts.head {
        #[expect(clippy::cast_precision_loss)] // heads are small
        set(config, "partial_rotary_factor", rotated as f64 / facts.head as f64);
    }
    let window = facts.optional("attention.sliding_window")?.filter(|window| *window > 0);
    set(config, "sliding_window", window.map_or(Value::Null, Value::from));
    config.remove("head_dim");
    Ok(())
}

#[expect(clippy::unnecessary_wraps)]
fn smollm3(_: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    set(config, "no_rope_layer_interval", 4);
    Ok(())
}

fn granite(facts: &Facts, config: &mut Map<String, Value>) -> Result<(), String> {
    set(config, "attention_bias", facts.has("blk.0.attn_q.bias"));
    set(config, "mlp_bias", facts.has("blk.0.ffn_up.bias"));
    for (theirs, ours) in [
        ("attention.scale", "attention_multiplier"),
        ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"),
        ("logit_scale", "logits_scaling"),
    ] {
        set(config, ours, facts.number(theirs)?);
    }
    Ok(())
}
