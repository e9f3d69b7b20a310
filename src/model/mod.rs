//! Decoder models with Hugging Face names: what they are made of and how they are loaded.

mod build;
mod config;
pub mod families;
mod generate;
mod gradients;
mod layer;
mod linear;
mod parameter;

use burn::tensor::{Device, Int, Tensor};

pub use build::{Init, Loaded, WeightSource, load};
pub use config::{Facts, ModelJson};
pub use generate::{Generation, Sampling, generate};
pub use gradients::Gradients;
pub use layer::{Cache, Context, Layer, LayerCache, RmsNorm};
pub use linear::{Linear, SidePath};
pub use parameter::{Parameter, Visitor, count_learning};

use crate::ops;

/// A causal language model on plain tensors, without a tape.
pub struct Model {
    /// `model.embed_tokens`, `[vocabulary, hidden]`.
    pub embedding: Parameter<2>,
    /// `model.layers.N`.
    pub layers: Vec<Box<dyn Layer>>,
    /// `model.norm`.
    pub norm: RmsNorm,
    /// `lm_head`, `[vocabulary, hidden]`; `None` when tied to the embedding.
    pub lm_head: Option<Parameter<2>>,
    /// Sizes and names.
    pub facts: Facts,
    /// How positions turn.
    pub frequencies: ops::Frequencies,
    /// Where the tensors live.
    pub device: Device,
}

/// Path of the embedding in Hugging Face checkpoints.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Path of an untied output projection.
pub const LM_HEAD: &str = "lm_head.weight";

impl Model {
    /// The output projection `[vocabulary, hidden]` and its path.
    pub fn head(&self) -> (&'static str, &Parameter<2>) {
        match &self.lm_head {
            Some(head) => (LM_HEAD, head),
            None => (EMBEDDING, &self.embedding),
        }
    }

    /// Token numbers to `[tokens, hidden]`.
    pub fn embed(&self, tokens: Tensor<1, Int>) -> Tensor<2> {
        self.embedding.value.clone().select(0, tokens)
    }

    /// All layers without a tape: `[tokens, hidden]` in and out.
    pub fn hidden(&self, tokens: Tensor<1, Int>, context: &Context) -> Tensor<2> {
        let x = self.embed(tokens);
        self.layers.iter().fold(x, |x, layer| layer.forward(x, context, None))
    }

    /// Scores over the vocabulary for `x: [tokens, hidden]` as it leaves the layers.
    pub fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        let (_, head) = self.head();
        self.norm.forward(x).matmul(head.value.clone().transpose())
    }

    /// Calls `visitor` for every parameter, in a fixed order, adapters included.
    pub fn visit(&mut self, visitor: &mut dyn Visitor) {
        visitor.matrix(EMBEDDING, &mut self.embedding);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.visit(&format!("model.layers.{index}"), visitor);
        }
        visitor.vector("model.norm.weight", &mut self.norm.gain);
        if let Some(head) = &mut self.lm_head {
            visitor.matrix(LM_HEAD, head);
        }
    }

    /// Calls `change` for every linear layer inside the decoder layers, with its module path.
    pub fn linears(&mut self, change: &mut dyn FnMut(&str, &mut Linear)) {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.linears(&format!("model.layers.{index}"), change);
        }
    }
}
