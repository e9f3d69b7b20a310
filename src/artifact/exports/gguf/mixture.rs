//! Which type each tensor of a file has whose numbers are in K-quants: the few that errors count
//! most in have more bits. As `llama_tensor_get_type_impl` in llama.cpp's `llama-quant.cpp` decides
//! it where no importance matrix is given (`tests/reference/gguf_check.py mixtures` compares).

use std::collections::BTreeSet;

use super::architecture::Architecture;
use super::blocks::{BlockFormat, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
use super::numbers::NumberFormat;
use super::shape::first;
use crate::error::Result;
use crate::model::Description;
use crate::weights::Element;

/// Tensors of two dimensions that stay as they are: small ones, whose errors would be everywhere.
const NOT_QUANTISED: [&str; 5] =
    ["_norm.weight", "ffn_gate_inp.weight", "per_layer_model_proj", "ssm_conv1d", "shortconv.conv"];
/// Projections to values: alone, and joined with those to queries and keys.
const VALUES: [&str; 2] = ["attn_v.weight", "attn_qkv.weight"];
/// So many experts make the projections of attention, which they share, small beside them.
const FEW_EXPERTS: usize = 8;
/// Decoder layers of the models that llama.cpp knows as those of 70 billion parameters.
const LAYERS_OF_70B: usize = 80;

/// A mixture of types, as files are named for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMixture {
    /// `Q4_K_M`
    Q4KM,
    /// `Q5_K_M`
    Q5KM,
    /// `Q6_K`, nearly everywhere.
    Q6K,
}

impl FileMixture {
    /// The type of most tensors.
    fn usual(self) -> &'static BlockFormat {
        match self {
            Self::Q4KM => &Q4_K,
            Self::Q5KM => &Q5_K,
            Self::Q6K => &Q6_K,
        }
    }
}

/// The mixture for a model.
#[derive(Debug)]
pub struct Mixture {
    file: FileMixture,
    /// Decoder layers of the model, and those of them that have projections to values.
    layers: usize,
    of_values: Vec<usize>,
    /// Those with a matrix down from the MLP.
    of_down: Vec<usize>,
    /// Whether the embedding is the output projection, too.
    tied: bool,
    experts: usize,
    is_70b: bool,
}

impl Mixture {
    /// That of a model.
    ///
    /// # Errors
    /// When llama.cpp has no place for one of its tensors.
    pub fn new(
        file: FileMixture,
        architecture: &Architecture,
        facts: &Description,
    ) -> Result<Self> {
        let mut names = BTreeSet::new();
        for (path, _) in architecture.needed(facts) {
            names.extend(architecture.targets(&path, facts)?.into_iter().map(|of| of.name));
        }
        let experts = facts.experts().next().map_or(0, |(_, experts)| experts.count);
        let heads = first(facts).config.heads;
        let layers = facts.layers.len();
        let is_70b = is_70b(architecture.name, layers, [heads.queries, heads.kv_heads]);
        Ok(Self::of_names(file, &names, (layers, experts, is_70b)))
    }

    /// That of a file with tensors of these names.
    fn of_names(
        file: FileMixture,
        names: &BTreeSet<String>,
        (layers, experts, is_70b): (usize, usize, bool),
    ) -> Self {
        let layers_with = |parts: &[&str]| {
            let having = names.iter().filter(|name| parts.iter().any(|part| name.contains(part)));
            let layers: BTreeSet<usize> = having.filter_map(|name| layer_of(name)).collect();
            layers.into_iter().collect::<Vec<_>>()
        };
        Self {
            file,
            layers,
            of_values: layers_with(&VALUES),
            of_down: layers_with(&["ffn_down.weight"]),
            tied: !names.contains("output.weight"),
            experts,
            is_70b,
        }
    }

    /// How a tensor of this name in the file is written, with rows of so many numbers.
    pub fn format(&self, name: &str, width: usize) -> NumberFormat {
        if !name.ends_with(".weight") || NOT_QUANTISED.iter().any(|part| name.contains(part)) {
            return NumberFormat::Plain(Element::F32);
        }
        let wanted = NumberFormat::Blocks(self.wanted(name, width));
        if wanted.fits(width) {
            return wanted;
        }
        // Of about the same size, with smaller blocks.
        let smaller = match wanted.kind() {
            kind if kind == Q4_K.kind => &Q5_0,
            kind if kind == Q5_K.kind => &Q5_1,
            _ => &Q8_0,
        };
        let smaller = NumberFormat::Blocks(smaller);
        if smaller.fits(width) { smaller } else { NumberFormat::Plain(Element::F16) }
    }

    /// Whether rows of so many numbers are not whole blocks of the mixture, as those of a tensor
    /// are that is written so.
    pub fn falls_back(&self, format: NumberFormat, width: usize) -> bool {
        let exact = format == NumberFormat::Plain(Element::F32);
        !exact && !width.is_multiple_of(self.file.usual().block)
    }

    fn wanted(&self, name: &str, width: usize) -> &'static BlockFormat {
        let usual = self.file.usual();
        let is_embedding = matches!(name, "token_embd.weight" | "per_layer_token_embd.weight");
        if name == "output.weight" || is_embedding && self.tied {
            return if width.is_multiple_of(usual.block) { &Q6_K } else { &Q8_0 };
        }
        if VALUES.iter().any(|part| name.contains(part)) {
            return self.of_values(name);
        }
        if name.contains("attn_k.weight") && self.experts == FEW_EXPERTS {
            return &Q8_0;
        }
        if name.contains("attn_output.weight")
            && self.experts == FEW_EXPERTS
            && self.file == FileMixture::Q4KM
        {
            return &Q5_K;
        }
        if name.contains("ffn_down") && self.has_more_bits(self.place_of_down(name)) {
            return &Q6_K;
        }
        usual
    }

    fn of_values(&self, name: &str) -> &'static BlockFormat {
        if self.experts == FEW_EXPERTS {
            return &Q8_0;
        }
        let place = self.of_values.iter().position(|layer| Some(*layer) == layer_of(name));
        match self.file {
            _ if self.has_more_bits(place.map(|place| (place, self.of_values.len()))) => &Q6_K,
            // Eight heads of queries share these.
            FileMixture::Q4KM if self.is_70b => &Q5_K,
            file => file.usual(),
        }
    }

    /// Which matrix down it is of how many: of mixtures of experts, by layers.
    fn place_of_down(&self, name: &str) -> Option<(usize, usize)> {
        let layer = layer_of(name)?;
        let place = match self.experts {
            0..2 => self.of_down.iter().position(|one| *one == layer)?,
            _ => layer,
        };
        Some((place, self.layers))
    }

    /// Whether the tensor at a place among so many has more bits than most: the first and the last
    /// eighth, and every third between them.
    fn has_more_bits(&self, place: Option<(usize, usize)>) -> bool {
        let mixed = self.file != FileMixture::Q6K;
        place.is_some_and(|(place, count)| {
            let eighth = count / 8;
            mixed && (place < eighth || place >= 7 * count / 8 || (place - eighth) % 3 == 2)
        })
    }
}

/// The decoder layer that a tensor of the file is of.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// Whether llama.cpp takes a model for one of 70 billion parameters.
fn is_70b(architecture: &str, layers: usize, [queries, kv_heads]: [usize; 2]) -> bool {
    let of_family = match architecture {
        "llama" => queries != kv_heads,
        name => name == "qwen2",
    };
    of_family && layers == LAYERS_OF_70B
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::ggml::TensorType;

    /// Types that `llama_model_quantize` gives (`tests/reference/gguf_quantised.py`).
    #[test]
    fn every_tensor_has_the_type_that_llama_cpp_gives_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/gguf_quantised.json");
        let text = std::fs::read_to_string(path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let models = json["models"].as_object().unwrap();
        assert!(models.len() > 5);
        for (name, model) in models {
            let size =
                |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap()).unwrap();
            let types = model["types"].as_object().unwrap();
            let all: Vec<(&str, &str)> = types
                .iter()
                .flat_map(|(kinds, names)| {
                    names.as_str().unwrap().split(' ').map(|name| (name, kinds.as_str()))
                })
                .collect();
            let names = all.iter().map(|(name, _)| (*name).to_owned()).collect();
            let (layers, experts) = (size(&model["layers"]), size(&model["experts"]));
            let heads = [0, 1].map(|part| size(&model["heads"][part]));
            let is_70b = is_70b(model["architecture"].as_str().unwrap(), layers, heads);
            for (which, file) in
                [FileMixture::Q4KM, FileMixture::Q5KM, FileMixture::Q6K].into_iter().enumerate()
            {
                let mixture = Mixture::of_names(file, &names, (layers, experts, is_70b));
                for (tensor, kinds) in &all {
                    let format = mixture.format(tensor, size(&model["width"]));
                    let found = TensorType::find(format.kind()).unwrap().name;
                    let wanted = kinds.split(' ').nth(which).unwrap();
                    assert_eq!(found, wanted, "{tensor} of {name} in {file:?}");
                }
            }
        }
    }
}
