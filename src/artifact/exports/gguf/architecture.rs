//! Families of models as llama.cpp knows them: names of tensors, keys, and how rows are laid out.
//! Source: llama.cpp's `convert_hf_to_gguf.py` and `gguf-py/gguf/tensor_mapping.py`. Each was
//! compared with llama.cpp's own texts (`tests/reference/gguf_check.py families`).

use super::file::Keys;
use crate::error::{Error, Result};
use crate::gguf::{LAYER, TURNED};
use crate::model::description::{
    AttentionDescription, BlockDescription, Description, GatedMlpDescription, LayerDescription,
    NormGain, ResidualDescription, Rope,
};
use crate::model::{EMBEDDING, LM_HEAD};
use crate::ops::{AttentionConfig, RopeScaling};

/// Names inside a decoder layer: ours, llama.cpp's.
type Names = &'static [(&'static str, &'static str)];

/// A family.
pub struct Architecture {
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// `general.architecture`, which is also what its keys begin with.
    pub name: &'static str,
    /// Names of its layers.
    layer: Names,
    /// Layers whose rows are turned: llama.cpp rotates neighbours there, transformers halves.
    turned: &'static [&'static str],
    /// Whether linear layers may have biases.
    biases: bool,
    /// Whether embeddings, what is added, and scores of both kinds may have multipliers.
    multipliers: bool,
    /// Positions turn nothing in every layer of this number, where llama.cpp knows such layers.
    unturned_every: Option<usize>,
}

const LLAMA: Architecture = Architecture {
    model_type: "llama",
    name: "llama",
    layer: LAYER,
    turned: TURNED,
    biases: true,
    multipliers: false,
    unturned_every: None,
};

/// All families that can be written.
pub static ARCHITECTURES: &[Architecture] = &[
    Architecture { model_type: "granite", name: "granite", multipliers: true, ..LLAMA },
    LLAMA,
    Architecture { model_type: "mistral", ..LLAMA },
    Architecture { model_type: "phi3", name: "phi3", turned: &[], biases: false, ..LLAMA },
    Architecture { model_type: "qwen2", name: "qwen2", turned: &[], ..LLAMA },
    Architecture { model_type: "qwen3", name: "qwen3", turned: &[], biases: false, ..LLAMA },
    Architecture {
        model_type: "smollm3",
        name: "smollm3",
        biases: false,
        unturned_every: Some(4),
        ..LLAMA
    },
];

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
    match found.refused(facts) {
        None => Ok(found),
        Some(what) => Err(Error::export(format!(
            "models of the family `{}` with {what} cannot be written as GGUF",
            facts.model_type
        ))),
    }
}

/// Attention and MLP of a layer of the usual kind: one of each behind a norm.
fn blocks(layer: &LayerDescription) -> Option<(&AttentionDescription, &GatedMlpDescription)> {
    let plain = |part: &ResidualDescription| {
        let weight = part.before.is_some_and(|norm| norm.gain == NormGain::Weight);
        weight && part.after.is_none()
    };
    match layer.residuals.as_slice() {
        [a, b] if plain(a) && plain(b) && a.multiplier == b.multiplier => {
            match (&a.block, &b.block) {
                (BlockDescription::Attention(attention), BlockDescription::GatedMlp(mlp)) => {
                    Some((attention, mlp))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Those of the first layer of a model that [`find`] let through, and the rotation of the model.
fn parts(facts: &Description) -> (&AttentionDescription, &Rope, &GatedMlpDescription) {
    let all = || facts.layers.iter().filter_map(blocks);
    let (attention, mlp) = all().next().expect("others were refused");
    let rope = all().find_map(|(attention, _)| attention.rope.as_ref());
    (attention, rope.expect("others were refused"), mlp)
}

/// Width of a head.
pub fn head_width(facts: &Description) -> usize {
    parts(facts).0.config.heads.width
}

/// A window that ends within the contexts of a model, if it has one.
fn window(facts: &Description, attention: &AttentionDescription) -> Option<usize> {
    attention.config.window.filter(|window| *window < facts.positions_max)
}

impl Architecture {
    /// What of a model llama.cpp would not compute, if there is something.
    fn refused(&self, facts: &Description) -> Option<&'static str> {
        let all: Option<Vec<_>> = facts.layers.iter().map(blocks).collect();
        let Some(all) = all else { return Some("layers of another kind") };
        let (first, mlp) = *all.first()?;
        let rope = all.iter().find_map(|(attention, _)| attention.rope.clone());
        let same = |(attention, other): &(&AttentionDescription, &GatedMlpDescription)| {
            let attention = AttentionDescription { rope: None, ..(*attention).clone() };
            attention == AttentionDescription { rope: None, ..first.clone() } && *other == mlp
        };
        let turns = |index: usize| match self.unturned_every {
            Some(interval) => !(index + 1).is_multiple_of(interval),
            None => true,
        };
        let mut ropes = all.iter().enumerate();
        let usual = AttentionConfig::of(first.config.heads);
        let multiplier = |part: &ResidualDescription| part.multiplier != 1.0;
        let multiplied = facts.embedding_scale != 1.0
            || facts.logits.scale != 1.0
            || first.config.scale != usual.scale
            || facts.layers.iter().flat_map(|layer| &layer.residuals).any(multiplier);
        let biased = |layer: &LayerDescription| {
            layer.residuals.iter().any(|part| part.block.linears().iter().any(|of| of.bias))
        };
        let Some(rope) = rope else { return Some("no rotation of positions") };
        let wrong: &[(bool, &str)] = &[
            (!all.iter().all(same), "layers of several kinds"),
            (window(facts, first).is_some(), "a sliding window"),
            (first.sinks.is_some(), "sinks of attention"),
            (first.config.soft_cap.is_some(), "a cap of scores"),
            (facts.logits.soft_cap.is_some(), "a cap of scores"),
            (multiplied && !self.multipliers, "multipliers"),
            (facts.layers.iter().any(biased) && !self.biases, "biases"),
            (
                !ropes.all(|(index, (attention, _))| {
                    attention.rope == turns(index).then(|| rope.clone())
                }),
                "another rotation in some layers",
            ),
            (!self.rotates(&rope), "such a rotation of positions"),
        ];
        wrong.iter().find_map(|(wrong, what)| wrong.then_some(*what))
    }

    /// Whether llama.cpp rotates so.
    fn rotates(&self, rope: &Rope) -> bool {
        let known = match rope.scaling {
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => true,
            RopeScaling::LongRope { .. } => self.name == "phi3",
            _ => false,
        };
        known && rope.query_scale.is_none() && (rope.rotated.is_none() || self.name == "phi3")
    }

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
        let mut number = |key: &str, size: usize| {
            let size =
                u32::try_from(size).map_err(|_| Error::export(format!("`{key}` is too large")))?;
            keys.number(&name(key), size);
            Ok::<_, Error>(())
        };
        for (key, size) in [
            ("vocab_size", facts.vocabulary),
            ("context_length", facts.positions_max),
            ("embedding_length", facts.hidden),
            ("block_count", facts.layers.len()),
            ("feed_forward_length", mlp.width()),
            ("attention.head_count", heads.queries),
            ("attention.head_count_kv", heads.kv_heads),
            ("attention.key_length", heads.width),
            ("attention.value_length", heads.width),
            ("rope.dimension_count", rope.rotated.unwrap_or(heads.width)),
        ] {
            number(key, size)?;
        }
        if self.name == "phi3" {
            // It must be there; zero says that there is none.
            number("attention.sliding_window", attention.config.window.unwrap_or(0))?;
        }
        if let RopeScaling::LongRope { original, .. } = &rope.scaling {
            number("rope.scaling.original_context_length", *original as usize)?;
        }
        #[expect(clippy::cast_possible_truncation)] // the file has f32, and so has llama.cpp
        for (key, value) in [
            ("attention.layer_norm_rms_epsilon", facts.norm.epsilon as f32),
            ("rope.freq_base", rope.theta as f32),
        ] {
            keys.fraction(&name(key), value);
        }
        if self.multipliers {
            let residual = facts.layers[0].residuals[0].multiplier;
            keys.fraction(&name("attention.scale"), attention.config.scale);
            keys.fraction(&name("embedding_scale"), facts.embedding_scale);
            keys.fraction(&name("residual_scale"), residual);
            keys.fraction(&name("logit_scale"), 1.0 / facts.logits.scale);
        }
        match &rope.scaling {
            RopeScaling::Linear { factor } => {
                keys.text(&name("rope.scaling.type"), "linear");
                keys.fraction(&name("rope.scaling.factor"), *factor);
            }
            RopeScaling::LongRope { attention_factor, .. } => {
                keys.fraction(&name("rope.scaling.attn_factor"), *attention_factor);
            }
            _ => {}
        }
        Ok(())
    }

    /// Divisors of the rotary frequencies, where they are not all the same, by the names of their
    /// tensors.
    pub fn rope_factors(&self, facts: &Description) -> Vec<(&'static str, Vec<f32>)> {
        let (rope, width) = (parts(facts).1, head_width(facts));
        match &rope.scaling {
            // As the model does.
            RopeScaling::Llama3 { .. } => {
                vec![("rope_freqs.weight", rope.frequencies(width).stretches(0))]
            }
            RopeScaling::LongRope { short, long, .. } => vec![
                ("rope_factors_long.weight", long.clone()),
                ("rope_factors_short.weight", short.clone()),
            ],
            _ => Vec::new(),
        }
    }
}
