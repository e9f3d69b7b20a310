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
mod parameter;
mod embedding;

use burn::tensor::{Device, FloatDType, Int, Tensor};

pub use blocks::{Block, Norm};
pub use build::{FrozenWeights, Init, Loaded, WeightSource, check_room, load, load_for};
pub use config::{ModelJson, TIED};
pub use context::{Dropout, OutputRows, PassContext};
/// Under the name that other modules know it by.
pub use description::{Description, EMBEDDING, LM_HEAD};
pub use embedding::{Embedding, piece_of};
pub use generate::{Generation, Sampling, generate, generate_all};
pub use gradients::Gradients;
pub use inspect::{Inspected, inspect};
pub use layer::{Cache, Layer, LayerCache, LayerSaved};
pub use linear::{AdapterBranch, Linear, Matrix};
pub use parameter::{Parameter, Visitor, count_trainable};

use crate::device::{Arithmetic, ComputeConfig};
use crate::error::Result;
use crate::ops;

/// A causal language model on plain tensors, without a tape.
pub struct Model {
    /// `model.embed_tokens`, `[vocabulary, hidden]`.
    pub embedding: Embedding,
    /// `model.layers.N`.
    pub layers: Vec<Layer>,
    /// `model.norm`.
    pub norm: Norm,
    /// `lm_head`, `[vocabulary, hidden]`; `None` when tied to the embedding.
    pub lm_head: Option<Embedding>,
    /// What it is made of.
    pub facts: Description,
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
    pub fn build(facts: Description, weights: &mut WeightSource) -> Result<Self> {
        let (table, ropes) = ([facts.vocabulary, facts.hidden], facts.ropes());
        let embedding = weights.table(EMBEDDING, table)?;
        let layers = facts.layers.iter().map(|layer| Layer::read(layer, &ropes, weights));
        let layers = layers.collect::<Result<_>>()?;
        let norm = Norm::read(None, &facts.norm, weights)?;
        let lm_head = if facts.tied {
            weights.ignore(LM_HEAD); // a copy: one that differs unties the model before this
            None
        } else {
            Some(weights.table(LM_HEAD, table)?)
        };
        #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
        let frequencies = ropes
            .iter()
            .map(|(rope, width)| ops::Frequencies::new(rope.theta as f32, *width, rope.scaling))
            .collect();
        let (device, computing) = (weights.device().clone(), weights.computing());
        Ok(Self { embedding, layers, norm, lm_head, facts, frequencies, device, computing })
    }

    /// The output projection `[vocabulary, hidden]`.
    pub fn head(&self) -> &Embedding {
        self.lm_head.as_ref().unwrap_or(&self.embedding)
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
        let tables = self.lm_head.iter_mut().chain([&mut self.embedding]);
        tables.flat_map(Embedding::pieces_mut).for_each(round);
    }

    /// Token numbers to `[tokens, hidden]`.
    pub fn embed(&self, tokens: Tensor<1, Int>) -> Tensor<2> {
        self.scaled(self.embedding.rows(&tokens))
    }

    /// Adds the gradient of the embedding, if it learns, for that of what [`Self::embed`] gave.
    pub fn embed_backward(&self, tokens: &Tensor<1, Int>, d: Tensor<2>, sums: &mut Gradients) {
        if self.embedding.trainable() {
            self.embedding.add_rows_gradient(sums, tokens, &self.scaled(d));
        }
    }

    fn scaled(&self, x: Tensor<2>) -> Tensor<2> {
        match self.facts.embedding_scale {
            1.0 => x,
            scale => x.mul_scalar(scale),
        }
    }

    /// All layers without a tape: `[tokens, hidden]` in and out.
    pub fn hidden(&self, tokens: Tensor<1, Int>, context: &PassContext) -> Tensor<2> {
        let x = self.embed(tokens);
        self.layers.iter().fold(x, |x, layer| layer.forward(x, context))
    }

    /// Scores over the vocabulary for `x: [tokens, hidden]` as it leaves the layers.
    pub fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        self.head().scores(&self.norm.forward(x), self.computing)
    }

    /// Calls `visitor` for every parameter, in a fixed order, adapters included.
    pub fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.embedding.visit(visitor);
        self.layers.iter_mut().for_each(|layer| layer.visit(visitor));
        visitor.vector("model.norm.weight", &mut self.norm.gain);
        if let Some(head) = &mut self.lm_head {
            head.visit(visitor);
        }
    }

    /// Calls `change` for every linear layer inside the decoder layers, with its module path.
    pub fn linears(&mut self, change: &mut dyn FnMut(&str, &mut Linear)) {
        self.layers.iter_mut().for_each(|layer| layer.linears(change));
    }
}
