//! Decoder models with Hugging Face names: what they are made of and how they are loaded.

pub mod blocks;
mod build;
mod config;
mod context;
pub mod description;
pub mod families;
#[cfg(test)]
pub(crate) mod fixture;
mod generate;
mod gradients;
mod inspect;
mod layer;
mod linear;
mod names;
mod parameter;
mod vocabulary_matrix;

use burn::tensor::{Device, FloatDType, Int, Tensor};

pub use blocks::{Block, Embedding, Head, Norm};
pub use build::{
    FrozenWeights, Init, Loaded, WeightSource, check_room, load, load_for, refuse_random,
};
pub use config::{ModelJson, TIED};
pub use context::{Dropout, OutputRows, PassContext};
pub use description::{Description, EMBEDDING, LM_HEAD};
pub use generate::{Generation, Sampling, generate, generate_all};
pub use gradients::Gradients;
pub use inspect::{Inspected, inspect};
pub use layer::{Cache, Layer, LayerCache, LayerSaved};
pub use linear::{AdapterBranch, Linear, Matrix};
pub use names::CheckpointNames;
pub use parameter::{Parameter, Visitor, count_trainable};
pub use vocabulary_matrix::{VocabularyMatrix, piece_of};

use crate::device::{Arithmetic, ComputeConfig};
use crate::error::Result;
use crate::ops;

/// A causal language model on plain tensors, without a tape.
pub struct Model {
    /// `model.embed_tokens`, `[vocabulary, hidden]`.
    pub embedding: Embedding,
    /// `model.layers.N`.
    pub layers: Vec<Layer>,
    /// `model.norm` and `lm_head`.
    pub head: Head,
    /// What it is made of.
    pub description: Description,
    /// How positions turn queries and keys: the rotations of [`Description::ropes`].
    pub frequencies: Vec<ops::Frequencies>,
    /// Where the tensors live.
    pub device: Device,
    /// How it is computed with.
    pub computing: ComputeConfig,
}

/// The format of matrices that are frozen, if it is not that of 32 bits.
fn frozen_format(device: &Device, arithmetic: Arithmetic) -> Option<FloatDType> {
    match arithmetic {
        Arithmetic::MixedBf16 => Some(FloatDType::BF16),
        Arithmetic::MixedF16 if *device != Device::flex() => Some(FloatDType::F16),
        Arithmetic::MixedF16 | Arithmetic::F32 => None,
    }
}

impl Model {
    /// Takes every weight of a description by its name.
    ///
    /// # Errors
    /// When one is missing, has another shape, or is larger than the device takes.
    pub fn build(description: Description, weights: &mut WeightSource) -> Result<Self> {
        let (table, ropes) = ([description.vocabulary, description.hidden], description.ropes());
        let matrix = weights.table(description.names.embedding, table)?;
        let embedding = Embedding { matrix, scale: description.embedding_scale };
        let layers = description.layers.iter().map(|layer| Layer::read(layer, &ropes, weights));
        let layers = layers.collect::<Result<_>>()?;
        let head = Head::read(&description, weights)?;
        let frequencies = ropes.iter().map(|(rope, width)| rope.frequencies(*width)).collect();
        let (device, computing) = (weights.device().clone(), weights.computing());
        Ok(Self { embedding, layers, head, description, frequencies, device, computing })
    }

    /// The output projection `[vocabulary, hidden]`.
    pub fn projection(&self) -> &VocabularyMatrix {
        self.head.matrix.as_ref().unwrap_or(&self.embedding.matrix)
    }

    /// Changes the arithmetic. Matrices that are frozen are kept in 16 bits from then on: half
    /// the memory, and nothing to round at each step. Not so f16 on the CPU, which computes in 32
    /// bits from rounded numbers.
    pub fn compute_in(&mut self, arithmetic: Arithmetic) {
        self.computing.arithmetic = arithmetic;
        let Some(format) = frozen_format(&self.device, arithmetic) else { return };
        let round = |weight: &mut Parameter<2>| {
            if !weight.trainable {
                weight.value = weight.value.clone().cast(format);
            }
        };
        self.linears(&mut |_, linear| {
            if let Matrix::Tensor(weight) = &mut linear.weight {
                round(weight);
            }
        });
        let matrices = self.head.matrix.iter_mut().chain([&mut self.embedding.matrix]);
        matrices.flat_map(VocabularyMatrix::pieces_mut).for_each(round);
    }

    /// All layers without a tape: token numbers to `[tokens, hidden]`.
    pub fn hidden(&self, tokens: Tensor<1, Int>, context: &PassContext) -> Tensor<2> {
        let x = self.embedding.forward(&tokens);
        self.layers.iter().fold(x, |x, layer| layer.forward(x, context))
    }

    /// Scores over the vocabulary for `x: [tokens, hidden]` as it leaves the layers.
    pub fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        self.head.scores(&self.head.hidden(x), self.projection(), self.computing)
    }

    /// Calls `visitor` for every parameter, in a fixed order, adapters included.
    pub fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.embedding.matrix.visit(visitor);
        self.layers.iter_mut().for_each(|layer| layer.visit(visitor));
        self.head.norm.visit(None, visitor);
        if let Some(matrix) = &mut self.head.matrix {
            matrix.visit(visitor);
        }
    }

    /// Calls `change` for every linear layer inside the decoder layers, with its module path.
    pub fn linears(&mut self, change: &mut dyn FnMut(&str, &mut Linear)) {
        self.layers.iter_mut().for_each(|layer| layer.linears(change));
    }
}
