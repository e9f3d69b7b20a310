//! Decoder models with Hugging Face names: what they are made of and how they are loaded.

pub mod blocks;
mod build;
mod config;
mod context;
mod dropout;
pub mod description;
pub mod families;
#[cfg(test)]
pub(crate) mod fixture;
mod generate;
mod gradients;
mod inspect;
mod layer;
mod layer_inputs;
mod linear;
mod names;
mod noise;
mod parameter;
mod sampling;
mod shared;
mod side_streams;
mod table_factors;
mod token_rows;
mod vocabulary_matrix;

use burn::tensor::{Device, FloatDType, Int, Tensor};

pub use blocks::{Block, Embedding, Head, MLP_TILE, Norm};
pub use build::{
    FrozenWeights, Init, Loaded, NewHead, Streamed, WeightSource, check_room, load, load_for,
    refuse_random,
};
pub use config::{ModelJson, TIED};
pub use context::{OutputRows, PassContext};
pub use description::{Description, EMBEDDING, SCORE};
pub use dropout::Dropout;
pub use generate::{
    Completion, Generation, TextInProgress, generate, generate_all, generate_groups, texts_at_once,
};
pub use gradients::Gradients;
pub use inspect::{Inspected, inspect, inspect_for};
pub use layer::{Cache, Layer, LayerCache, LayerSaved};
pub use layer_inputs::LayerInputs;
pub use linear::{AdapterBranch, Linear, Matrix};
pub use names::{CheckpointNames, LM_HEAD};
pub use noise::EmbeddingNoise;
pub use parameter::{Parameter, Visitor, count_trainable};
pub use sampling::{Filters, Sampling};
pub use side_streams::SideStreams;
pub use table_factors::{TableFactors, TableKind};
pub use token_rows::{TokenRows, matrix_of_token_rows, token_rows_path};
pub use vocabulary_matrix::{TABLE_ROWS_AT_ONCE, VocabularyMatrix, piece_of};

use crate::device::{Arithmetic, ComputeConfig};
use crate::error::Result;
use crate::ops;

/// A causal language model on plain tensors, without a tape.
pub struct Model {
    /// `model.embed_tokens`, `[vocabulary, hidden]`.
    pub embedding: Embedding,
    /// What layers have of inputs of their own.
    pub layer_inputs: Option<LayerInputs>,
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
fn frozen_format(on_cpu: bool, arithmetic: Arithmetic) -> Option<FloatDType> {
    match arithmetic {
        Arithmetic::MixedBf16 => Some(FloatDType::BF16),
        Arithmetic::MixedF16 if !on_cpu => Some(FloatDType::F16),
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
        let mut matrix = weights.table(description.names.embedding, table)?;
        matrix.padding = description.padding;
        let embedding = Embedding { matrix, scale: description.embedding_scale };
        let layers = description.layers.iter().map(|layer| Layer::read(layer, &ropes, weights));
        let layers = layers.collect::<Result<_>>()?;
        let layer_inputs = description.layer_inputs.as_ref();
        let layer_inputs = layer_inputs.map(|of| LayerInputs::read(of, weights)).transpose()?;
        let head = Head::read(&description, weights)?;
        let frequencies = ropes.iter().map(|(rope, width)| rope.frequencies(*width)).collect();
        let (device, computing) = (weights.device().clone(), weights.computing());
        Ok(Self {
            embedding,
            layer_inputs,
            layers,
            head,
            description,
            frequencies,
            device,
            computing,
        })
    }

    /// The output projection `[vocabulary, hidden]`, or what scores labels in its place.
    pub fn projection(&self) -> &VocabularyMatrix {
        self.head.matrix.as_ref().unwrap_or(&self.embedding.matrix)
    }

    /// Changes the arithmetic. Matrices that are frozen are kept in 16 bits from then on: half
    /// the memory, and nothing to round at each step. Not so f16 on the CPU, which computes in 32
    /// bits from rounded numbers.
    pub fn compute_in(&mut self, arithmetic: Arithmetic) {
        self.computing.arithmetic = arithmetic;
        let on_cpu = self.device == Device::flex();
        let Some(format) = frozen_format(on_cpu, arithmetic) else { return };
        self.linears(&mut |_, linear| match &mut linear.weight {
            Matrix::Tensor(weight) if !weight.trainable => {
                weight.value = weight.value.clone().cast(format);
            }
            _ => {}
        });
        let tables = self.layer_inputs.iter_mut().map(|inputs| &mut inputs.table);
        let matrices = self.head.matrix.iter_mut().chain([&mut self.embedding.matrix]);
        let matrices = matrices.chain(tables);
        matrices.for_each(|matrix| matrix.round(format));
    }

    /// Gives the embedding, and an output head of its own, so many rows in all; new ones begin as
    /// the mean of the others ([`VocabularyMatrix::extend`]). Before anything is trained.
    ///
    /// # Errors
    /// Those of [`Description::resized`].
    pub fn resize_vocabulary(&mut self, rows: usize) -> Result<()> {
        let more = rows.saturating_sub(self.description.vocabulary);
        if more == 0 {
            return Ok(());
        }
        self.description = self.description.resized(rows)?;
        let limit = self.computing.limits.rows(self.description.hidden);
        self.embedding.matrix.extend(more, limit);
        let head = self.head.matrix.iter_mut().filter(|matrix| matrix.path() == LM_HEAD);
        head.for_each(|matrix| matrix.extend(more, limit));
        Ok(())
    }

    /// Puts frozen matrices of linear layers of one input below each other on a GPU, so that one
    /// product is made of all. Nothing else changes, and later changes of a matrix only undo that.
    pub fn place_together(&mut self) {
        if self.device == Device::flex() {
            return;
        }
        let limits = self.computing.limits;
        for layer in &mut self.layers {
            let place = |layer: &mut Layer| layer.place_together(limits);
            self.device.memory_persistent_allocations(layer, place);
            // What was copied is not kept until the next layer is.
            self.device.memory_cleanup();
        }
    }

    /// What enters the first layer, `[tokens, hidden]`, and the inputs that layers have of their
    /// own, which go into the side streams of the pass.
    pub fn embed(&self, tokens: &Tensor<1, Int>, context: &PassContext) -> Tensor<2> {
        let x = context.with_noise(self.embedding.forward(tokens));
        if let Some(inputs) = &self.layer_inputs {
            inputs.forward(tokens, &x, self.embedding.matrix.learns(), context);
        }
        x
    }

    /// Adds the gradients of [`Self::embed`] for that of what entered the first layer, once all
    /// layers have handed theirs on.
    pub fn embed_backward(
        &self,
        tokens: &Tensor<1, Int>,
        d: Tensor<2>,
        context: &PassContext,
        sums: &mut Gradients,
    ) {
        let more = self.layer_inputs.as_ref().and_then(|inputs| {
            let x = context.with_noise(self.embedding.forward(tokens));
            inputs.backward(tokens, x, context, sums)
        });
        let d = more.map_or(d.clone(), |more| d + more);
        self.embedding.backward(tokens, d, sums);
    }

    /// All layers without a tape: token numbers to `[tokens, hidden]`.
    pub fn hidden(&self, tokens: Tensor<1, Int>, context: &PassContext) -> Tensor<2> {
        let x = self.embed(&tokens, context);
        self.layers.iter().fold(x, |x, layer| layer.forward(x, context))
    }

    /// Scores over the vocabulary, or over labels, for `x: [tokens, hidden]` as it leaves the
    /// layers.
    pub fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        self.head.scores(&self.head.hidden(x), self.projection(), self.computing)
    }

    /// Calls `visitor` for every parameter, in a fixed order, adapters included.
    pub fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.embedding.matrix.visit(visitor);
        if let Some(inputs) = &mut self.layer_inputs {
            inputs.visit(visitor);
        }
        self.layers.iter_mut().for_each(|layer| layer.visit(visitor));
        self.head.norm.visit(None, visitor);
        if let Some(matrix) = &mut self.head.matrix {
            matrix.visit(visitor);
        }
    }

    /// Paths and values of numbers that files hold and that nothing trains.
    pub fn buffers(&self) -> Vec<(String, Vec<f32>)> {
        let layers = self.layers.iter().zip(&self.description.layers);
        layers.flat_map(|(layer, of)| layer.buffers(of)).collect()
    }

    /// Calls `change` for every linear layer but the output projection, with its module path.
    pub fn linears(&mut self, change: &mut dyn FnMut(&str, &mut Linear)) {
        if let Some(inputs) = &mut self.layer_inputs {
            let projection = inputs.projection();
            change(projection.name, &mut projection.linear);
        }
        self.layers.iter_mut().for_each(|layer| layer.linears(change));
    }
}
