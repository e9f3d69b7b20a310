//! Families of models as llama.cpp knows them: names of tensors, keys, and how rows are laid out.
//! Source: llama.cpp's `convert_hf_to_gguf.py` and `gguf-py/gguf/tensor_mapping.py`.

use super::file::Keys;
use crate::error::{Error, Result};
use crate::model::description::{AttentionDescription, Description, GatedMlpDescription, Rope};
use crate::model::{EMBEDDING, LM_HEAD};
use crate::ops::{Frequencies, RopeScaling};

/// A family.
pub struct Architecture {
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// `general.architecture`, which is also what its keys begin with.
    pub name: &'static str,
    /// Names inside a decoder layer: ours, llama.cpp's.
    layer: &'static [(&'static str, &'static str)],
    /// Layers whose rows are turned: llama.cpp rotates neighbours, transformers halves.
    turned: &'static [&'static str],
}

/// All families that can be written.
pub static ARCHITECTURES: &[Architecture] = &[Architecture {
    model_type: "llama",
    name: "llama",
    layer: &[
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ],
    turned: &["self_attn.q_proj", "self_attn.k_proj"],
}];

/// What becomes of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in the file.
    pub name: String,
    /// Whether the rows of each head are turned.
    pub turned: bool,
}

/// The family of a model.
///
/// # Errors
/// Says which families there are, or what of the model the format has no key for here.
pub fn find(facts: &Description) -> Result<&'static Architecture> {
    let found = ARCHITECTURES.iter().find(|one| one.model_type == facts.model_type);
    let found = found.ok_or_else(|| {
        let known: Vec<_> = ARCHITECTURES.iter().map(|one| one.model_type).collect();
        Error::export(format!(
            "models of the family `{}` cannot be written as GGUF",
            facts.model_type
        ))
        .hint(format!("supported: `{}`", known.join("`, `")))
    })?;
    let refused =
        |what: &str| Err(Error::export(format!("models with {what} cannot be written as GGUF")));
    match facts.uniform() {
        None => refused("layers of several kinds"),
        Some((attention, _)) if attention.config.window.is_some() => refused("a sliding window"),
        Some((attention, _)) if attention.rope.is_none() => refused("no rotation of positions"),
        Some(_) => Ok(found),
    }
}

/// Attention, rotation and MLP of every layer of a model that [`find`] let through.
fn parts(facts: &Description) -> (&AttentionDescription, Rope, &GatedMlpDescription) {
    let (attention, mlp) = facts.uniform().expect("others were refused");
    (attention, attention.rope.expect("others were refused"), mlp)
}

/// Width of a head.
pub fn head_width(facts: &Description) -> usize {
    parts(facts).0.config.heads.width
}

impl Architecture {
    /// What becomes of a tensor; `None` for one that is left out: an output projection that is the
    /// embedding, and buffers that the configuration determines.
    pub fn target(&self, name: &str, facts: &Description) -> Result<Option<Target>> {
        let plain = |name: &str| Ok(Some(Target { name: name.to_owned(), turned: false }));
        match name {
            EMBEDDING => return plain("token_embd.weight"),
            "model.norm.weight" => return plain("output_norm.weight"),
            LM_HEAD if facts.tied => return Ok(None),
            LM_HEAD => return plain("output.weight"),
            _ if name.ends_with(".rotary_emb.inv_freq") => return Ok(None),
            _ => {}
        }
        let found = (|| {
            let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
            let layer: usize = layer.parse().ok().filter(|layer| *layer < facts.layers.len())?;
            let (module, part) = rest.rsplit_once('.')?;
            if !matches!(part, "weight" | "bias") {
                return None;
            }
            let (module, theirs) = self.layer.iter().find(|(ours, _)| *ours == module)?;
            let turned = self.turned.contains(module);
            Some(Target { name: format!("blk.{layer}.{theirs}.{part}"), turned })
        })();
        match found {
            Some(target) => Ok(Some(target)),
            None => Err(Error::export(format!("llama.cpp has no place for the tensor `{name}`"))),
        }
    }

    /// Names, as the file has them, of all tensors that a model must have, with their shapes.
    pub fn needed(&self, facts: &Description) -> Vec<(String, Vec<usize>)> {
        let target = |(name, dims): (String, Vec<usize>)| {
            Some((self.target(&name, facts).ok().flatten()?.name, dims))
        };
        facts.tensors().into_iter().filter_map(target).collect()
    }

    /// Sizes and constants of the model.
    pub fn write_keys(&self, facts: &Description, keys: &mut Keys) -> Result<()> {
        let name = |key: &str| format!("{}.{key}", self.name);
        let (attention, rope, mlp) = parts(facts);
        let heads = attention.config.heads;
        for (key, size) in [
            ("vocab_size", facts.vocabulary),
            ("context_length", facts.positions_max),
            ("embedding_length", facts.hidden),
            ("block_count", facts.layers.len()),
            ("feed_forward_length", mlp.gate.dims[0]),
            ("attention.head_count", heads.queries),
            ("attention.head_count_kv", heads.kv_heads),
            ("attention.key_length", heads.width),
            ("attention.value_length", heads.width),
            ("rope.dimension_count", heads.width),
        ] {
            let size =
                u32::try_from(size).map_err(|_| Error::export(format!("`{key}` is too large")))?;
            keys.number(&name(key), size);
        }
        #[expect(clippy::cast_possible_truncation)] // the file has f32, and so has llama.cpp
        for (key, value) in [
            ("attention.layer_norm_rms_epsilon", facts.norm.epsilon),
            ("rope.freq_base", rope.theta),
        ] {
            keys.fraction(&name(key), value as f32);
        }
        if let RopeScaling::Linear { factor } = rope.scaling {
            keys.text(&name("rope.scaling.type"), "linear");
            keys.fraction(&name("rope.scaling.factor"), factor);
        }
        Ok(())
    }

    /// `rope_freqs.weight`: divisors of the rotary frequencies, where they are not all the same.
    pub fn rope_factors(&self, facts: &Description) -> Option<Vec<f32>> {
        let (Rope { theta, scaling }, width) = (parts(facts).1, head_width(facts));
        matches!(scaling, RopeScaling::Llama3 { .. })
            .then(|| Frequencies::stretches(theta as f32, width, scaling)) // as the model does
    }
}

/// Turns the rows of whole heads from two halves to neighbours: row `i` of the first half and row
/// `i` of the second come to lie beside each other.
pub fn turn(values: &[f32], head_width: usize, width: usize) -> Vec<f32> {
    let half = head_width / 2;
    let mut turned = vec![0.0; values.len()];
    let heads = values.chunks_exact(head_width * width);
    for (head, out) in heads.zip(turned.chunks_exact_mut(head_width * width)) {
        for row in 0..half {
            for part in 0..2 {
                let from = (part * half + row) * width;
                let to = (2 * row + part) * width;
                out[to..to + width].copy_from_slice(&head[from..from + width]);
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_neighbours_in_every_head() {
        // Two heads of four rows of one number.
        let rows = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
        assert_eq!(turn(&rows, 4, 1), [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0]);
        // One head of two rows of two numbers stays as it is.
        assert_eq!(turn(&[1.0, 2.0, 3.0, 4.0], 2, 2), [1.0, 2.0, 3.0, 4.0]);
    }
}
