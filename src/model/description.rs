//! What a decoder is made of, without a number of it: blocks with their options, and the names and
//! shapes of their weights. A family makes it of `config.json`; models, estimates, adapters and
//! exports are made of it. It needs no device.

mod attention;
mod block;
mod experts;
mod gpu_memory;
pub(super) mod head;
mod in_blocks;
mod layer_inputs;
mod mixtures;
mod mlp_tiles;
mod norm;
mod pass_memory;
mod recurrent;
mod renamed;
mod router;
mod stacked;
mod stored;

pub use attention::QkvDescription;
pub use block::{BlockDescription, TermDescription};
pub use experts::{ExpertMatrix, ExpertStorage, ExpertsDescription};
pub use gpu_memory::GpuPass;
pub use layer_inputs::{LayerInputDescription, LayerInputsDescription};
pub use norm::{NormDescription, NormGain};
pub use pass_memory::{CpuPass, PassMemory, TrainedLinear};
pub use recurrent::{ConvolutionDescription, DeltaNetDescription, ShortConvDescription};
pub use router::{RouterDescription, RouterWeights};
pub use stacked::{Arrangement, StackedTensor, stack_shapes, stack_specs, stacked_numbers};
pub use stored::{StoredLayout, StoredTensor, StoredTensors, turned, whole_place};

use std::collections::{BTreeMap, BTreeSet};

use super::names::{CheckpointNames, LM_HEAD};
use crate::ops::{Activation, AttentionConfig, Frequencies, LogitConfig, QueryScale, RopeScaling};
use crate::weights::Element;
use crate::weights::ggml::TensorType;

/// Path of the embedding in most checkpoints.
pub const EMBEDDING: &str = CheckpointNames::USUAL.embedding;
/// Path of the layer that scores labels in its place.
pub const SCORE: &str = "score.weight";

/// A decoder: embedding, layers, norm, output projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// `model_type` in `config.json`.
    pub model_type: String,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Longest position seen in training.
    pub positions_max: usize,
    /// What embeddings are multiplied with.
    pub embedding_scale: f32,
    /// The token whose row of the embedding lookups do not train.
    pub padding: Option<u32>,
    /// The decoder layers, in order.
    pub layers: Vec<LayerDescription>,
    /// Inputs that each layer has of its own, if they have some.
    pub layer_inputs: Option<LayerInputsDescription>,
    /// After the last layer.
    pub norm: NormDescription,
    /// Is the output projection the embedding?
    pub tied: bool,
    /// What is done to the scores that it gives.
    pub logits: LogitConfig,
    /// How many labels are scored in place of the vocabulary, if they are ([`SCORE`]).
    pub labels: Option<usize>,
    /// Number format that `config.json` names, in which full models are written.
    pub element: Element,
    /// Names of modules, and of tensors in files.
    pub names: CheckpointNames,
    /// All weights, without buffers.
    pub parameters: u64,
    /// Every linear layer but the output projection: module path and `[out, in]`.
    pub linears: Vec<(String, [usize; 2])>,
    /// Those of them that the checkpoint has as codes, and the bytes of each.
    pub coded_linears: BTreeMap<String, u64>,
    /// Matrices of linear layers, experts and vocabularies that the checkpoint has in blocks of
    /// ggml, which may be kept so: paths of their tensors, and how many numbers each has.
    pub in_blocks: BTreeMap<String, (&'static TensorType, u64)>,
    /// What is multiplied with besides: parameters of modules that are no linear layers to PEFT.
    pub target_parameters: Vec<TargetParameter>,
}

/// A parameter that PEFT's `target_parameters` may name.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetParameter {
    /// Its path in transformers: `model.layers.0.mlp.experts.gate_up_proj`.
    pub path: String,
    /// The linear layers that it is made of, each expert's, with their `[out, in]`.
    pub linears: Vec<(String, [usize; 2])>,
    /// Whether it has three dimensions, the first of which are experts.
    pub stacked: bool,
    /// Whether its outputs for gate and up alternate.
    pub alternating: bool,
}

/// A decoder layer: `x ← x + f(x)` for each of its parts in turn.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerDescription {
    /// Its module path.
    pub path: String,
    /// What is added, in order. One of them at least mixes tokens.
    pub residuals: Vec<ResidualDescription>,
    /// Path within the layer of a buffer with a number that its output is multiplied with.
    pub scalar: Option<&'static str>,
}

/// A part of a layer: `x + multiplier · after(block(before(x)))`.
#[derive(Debug, Clone, PartialEq)]
pub struct ResidualDescription {
    /// Of the input of the block.
    pub before: Option<NormDescription>,
    /// What is computed.
    pub block: BlockDescription,
    /// Of the output of the block.
    pub after: Option<NormDescription>,
    /// What is added is multiplied with this.
    pub multiplier: f32,
}

/// A linear layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearDescription {
    /// Module path within the decoder layer.
    pub name: &'static str,
    /// `[out, in]`.
    pub dims: [usize; 2],
    /// Whether a bias is added.
    pub bias: bool,
}

/// Linear layers of one input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum JointDescription<const N: usize> {
    /// Each by itself.
    Separate([LinearDescription; N]),
    /// One whose outputs are those of all, one after the other; how many are whose.
    Fused(LinearDescription, [usize; N]),
}

impl<const N: usize> JointDescription<N> {
    /// The layers that there are.
    pub fn linears(&self) -> &[LinearDescription] {
        match self {
            Self::Separate(linears) => linears,
            Self::Fused(linear, _) => std::slice::from_ref(linear),
        }
    }

    /// How many outputs are whose.
    pub fn widths(&self) -> [usize; N] {
        match self {
            Self::Separate(linears) => linears.map(|linear| linear.dims[0]),
            Self::Fused(_, widths) => *widths,
        }
    }
}

/// How positions turn queries and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// How they are stretched.
    pub scaling: RopeScaling,
    /// So many numbers of each head are turned, the first ones; all of them where this is `None`.
    pub rotated: Option<usize>,
    /// What queries are multiplied with besides.
    pub query_scale: Option<QueryScale>,
}

impl Rope {
    /// The rotation of whole heads.
    pub fn new(theta: f64, scaling: RopeScaling) -> Self {
        Self { theta, scaling, rotated: None, query_scale: None }
    }

    /// How it turns heads of a width.
    pub fn frequencies(&self, width: usize) -> Frequencies {
        #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
        let theta = self.theta as f32;
        Frequencies::new(theta, self.rotated.unwrap_or(width), self.scaling.clone())
            .scaled(self.query_scale)
    }
}

/// Attention. Each further option is a field here and an operation in `blocks/attention.rs`.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionDescription {
    /// To queries, keys and values.
    pub qkv: QkvDescription,
    /// From what was mixed.
    pub output: LinearDescription,
    /// Norms of queries and keys before they are rotated; of each head, or of all at once if they
    /// are as wide.
    pub qk_norms: Option<[NormDescription; 2]>,
    /// Norm of each head of values.
    pub value_norm: Option<NormDescription>,
    /// Whether later layers see these keys and values, too: their number among those that are
    /// shared.
    pub shares: Option<usize>,
    /// Path of a vector with a score of nothing for each query head, which takes its share of the
    /// weights.
    pub sinks: Option<&'static str>,
    /// Whether queries have a gate of what is mixed beside them, in each head.
    pub gated: bool,
    /// Heads, scale and window.
    pub config: AttentionConfig,
    /// None where positions turn nothing.
    pub rope: Option<Rope>,
}

/// An MLP with a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct GatedMlpDescription {
    /// To the gate, and to what it lets through.
    pub gate_up: JointDescription<2>,
    /// Back to the width of the residual stream.
    pub down: LinearDescription,
    /// What is done to the gate.
    pub activation: Activation,
}

impl LinearDescription {
    /// A linear layer `[out, in]`.
    pub fn new(name: &'static str, dims: [usize; 2], bias: bool) -> Self {
        Self { name, dims, bias }
    }
}

impl NormDescription {
    /// Names, within what it is part of, and dimensions of its weights.
    pub(super) fn weights(&self) -> Option<(String, Vec<usize>)> {
        (self.gain != NormGain::One).then(|| (self.gain_path(), vec![self.width]))
    }
}

impl GatedMlpDescription {
    /// Numbers that the gate lets through.
    pub fn width(&self) -> usize {
        self.gate_up.widths()[0]
    }
}

impl LayerDescription {
    /// Numbers of a token that tapes keep for the backward pass.
    pub fn taped(&self, hidden: usize) -> usize {
        let of_residual = self.residuals.iter().map(|residual| {
            let after = if residual.after.is_some() { hidden } else { 0 };
            3 * after + residual.block.taped(hidden)
        });
        of_residual.sum()
    }

    /// Names and dimensions of its weights.
    fn weights(&self) -> Vec<(String, Vec<usize>)> {
        let path = |name: &str, part: &str| format!("{}.{name}.{part}", self.path);
        let mut tensors = Vec::new();
        for residual in &self.residuals {
            for linear in residual.block.linears() {
                tensors.push((path(linear.name, "weight"), linear.dims.to_vec()));
                if linear.bias {
                    tensors.push((path(linear.name, "bias"), vec![linear.dims[0]]));
                }
            }
            let norms = residual.before.into_iter().chain(residual.block.norms());
            let norms = norms.chain(residual.after);
            let of_norms = norms.flat_map(|norm| norm.weights());
            tensors.extend(of_norms.map(|(name, dims)| (format!("{}.{name}", self.path), dims)));
            let experts = residual.block.experts().into_iter();
            tensors.extend(experts.flat_map(|experts| experts.tensors(&self.path)));
            let others = residual.block.others().into_iter();
            tensors.extend(others.map(|(name, dims)| (format!("{}.{name}", self.path), dims)));
        }
        tensors
    }

    fn attention(&self) -> impl Iterator<Item = &AttentionDescription> {
        self.residuals.iter().filter_map(|residual| match &residual.block {
            BlockDescription::Attention(attention) => Some(attention),
            _ => None,
        })
    }
}

impl Description {
    /// Every tensor that the files hold, with its dimensions.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = self.weights();
        tensors.extend(self.buffers().map(|(name, count)| (name, vec![count])));
        tensors
    }

    /// Paths of numbers that the files hold and that nothing trains, and how many they are.
    pub fn buffers(&self) -> impl Iterator<Item = (String, usize)> {
        self.layers.iter().flat_map(|layer| {
            let of_blocks = layer.residuals.iter().filter_map(|part| part.block.buffers());
            let scalar = layer.scalar.map(|name| (name, 1));
            of_blocks.chain(scalar).map(|(name, count)| (format!("{}.{name}", layer.path), count))
        })
    }

    /// Paths of what gives tokens their experts.
    pub fn routers(&self) -> impl Iterator<Item = String> {
        self.layers.iter().flat_map(|layer| {
            let experts = layer.residuals.iter().filter_map(|part| part.block.experts());
            experts.map(|of| format!("{}.{}", layer.path, of.router.scores.name))
        })
    }

    /// Takes the output projection for the embedding that it is, where files have that alone, by
    /// the names of all that they have.
    pub fn fit_names<'a>(&mut self, in_files: impl Iterator<Item = &'a str>) {
        let paths: BTreeSet<_> = in_files.filter_map(|name| self.names.path_of(name)).collect();
        let alone = paths.contains(LM_HEAD) && !paths.contains(self.names.embedding);
        self.names.as_head = self.tied && alone;
    }

    /// Every weight, with its dimensions.
    pub fn weights(&self) -> Vec<(String, Vec<usize>)> {
        let table = vec![self.vocabulary, self.hidden];
        let mut tensors = vec![(self.names.embedding.to_owned(), table)];
        tensors.extend(self.norm.weights());
        if let Some((path, rows)) = self.own_head() {
            tensors.push((path.to_owned(), vec![rows, self.hidden]));
        }
        if let Some(inputs) = &self.layer_inputs {
            tensors.extend(inputs.weights());
        }
        tensors.extend(self.layers.iter().flat_map(LayerDescription::weights));
        tensors
    }

    /// Counts the weights and lists the linear layers, once all else is there. None if there are
    /// more weights than `most`.
    pub fn counted(mut self, most: u128) -> Result<Self, u128> {
        let size = |dims: &[usize]| dims.iter().map(|size| *size as u128).product::<u128>();
        let count = self.weights().iter().map(|(_, dims)| size(dims)).sum::<u128>();
        // Codes stand for more numbers than they are.
        let codes = self.coded();
        let count = count + u128::from(codes.0.saturating_sub(codes.1));
        if count > most {
            return Err(count);
        }
        self.parameters = u64::try_from(count).map_err(|_| count)?;
        self.linears = self.all_linears();
        let experts = self.experts().map(|(layer, experts)| experts.targets(layer));
        self.target_parameters = experts.flatten().collect();
        Ok(self)
    }

    fn all_linears(&self) -> Vec<(String, [usize; 2])> {
        let of_layer = |layer: &LayerDescription| -> Vec<_> {
            let linears = layer.residuals.iter().flat_map(|residual| residual.block.linears());
            linears.map(|linear| (format!("{}.{}", layer.path, linear.name), linear.dims)).collect()
        };
        let projection = self.layer_inputs.map(|inputs| inputs.projection);
        let outside = projection.map(|linear| (linear.name.to_owned(), linear.dims));
        outside.into_iter().chain(self.layers.iter().flat_map(of_layer)).collect()
    }

    /// The different rotations of its layers, with the width of the heads that they turn.
    pub fn ropes(&self) -> Vec<(Rope, usize)> {
        let mut ropes = Vec::new();
        for attention in self.layers.iter().flat_map(LayerDescription::attention) {
            let width = attention.config.heads.width;
            let rope = attention.rope.clone().map(|rope| (rope, width));
            ropes.extend(rope.filter(|rope| !ropes.contains(rope)));
        }
        ropes
    }

    /// Numbers of a token that go through the layers beside the residual stream: their own inputs,
    /// and keys and values that are shared.
    pub fn beside_stream(&self) -> usize {
        let attention = self.layers.iter().flat_map(LayerDescription::attention);
        let shared = attention.filter(|attention| attention.shares.is_some());
        let shared = shared.map(|attention| 2 * attention.config.key_width()).sum::<usize>();
        shared + self.layer_inputs.map_or(0, |inputs| inputs.projection.dims[0])
    }
}
