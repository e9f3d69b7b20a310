//! What decoders are made of. A block computes `y` from `x` and keeps what the gradient of `x` for
//! that of `y` needs; it is made of operations, in two forms: of tensor operations for any device,
//! on a tape where the gradient is not taken by hand, and of the kernels of the CPU, which hand
//! factors of products from one to the next.

mod activity;
mod attention;
mod cache;
mod convolution;
mod delta_net;
mod embedding;
mod experts;
mod gated_mlp;
mod head;
mod joint;
mod layer_input;
mod linear;
mod decode;
mod norm;
mod short_conv;
mod sum;
mod together;

use burn::tensor::{Gradients as Tape, Tensor};

pub use activity::{BlockActivity, ChosenExperts, LayerHeads, PathKind};
pub use attention::{
    Attention, AttentionOnCpu, HeadActivity, HeadWeights, KeyValueCache, SavedAttention,
    TapedAttention, decode_attention,
};
pub use cache::{BlockCache, RecurrentCache};
pub use convolution::{Convolution, ConvolutionOnCpu};
pub use decode::{decode, decodes};
pub use delta_net::{DeltaNet, DeltaNetOnCpu, SavedDeltaNet};
pub use embedding::Embedding;
pub use experts::{Experts, ExpertsOnCpu, SavedExperts};
pub use gated_mlp::{GatedMlp, GatedMlpOnCpu, MLP_TILE, SavedGatedMlp};
pub use head::{CapSlopes, Head};
pub use joint::{JointLinear, JointNarrow, JointOnCpu};
pub use layer_input::{LayerInput, LayerInputOnCpu, SavedLayerInput};
pub use linear::NamedLinear;
pub use norm::{Norm, NormOnCpu};
pub use short_conv::{SavedShortConv, ShortConv, ShortConvOnCpu};
pub use sum::{SavedTerm, Sum, SumOnCpu};
pub use together::{forward_together, place_together};

use crate::error::Result;
use crate::model::description::{BlockDescription, Rope};
use crate::model::{PassContext, Visitor, WeightSource};
use crate::ops::Branch;
use crate::ops::cpu::{AsLhs, Left, PathGradients};

/// What the kernels of the CPU are given besides an input.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// First token and length of each document.
    pub documents: &'a [(usize, usize)],
    /// How they go on in several ways.
    pub branches: &'a [Branch],
    /// Tokens whose output is wanted, each once: the output has a row for each of them then, and so
    /// has its gradient. All tokens' where this is `None`.
    pub wanted: Option<&'a [u32]>,
}

/// The weights of a block. A new kind adds a line to each of these tables.
pub enum Block {
    /// Tokens see those before them.
    Attention(Attention),
    /// Each token by itself.
    GatedMlp(GatedMlp),
    /// Each token by itself, by a few of many.
    Experts(Experts),
    /// Each token by itself, by several blocks.
    Sum(Sum),
    /// Each token by itself, with an input that the layer has of its own.
    LayerInput(LayerInput),
    /// Tokens see a state of those before them.
    DeltaNet(DeltaNet),
    /// Tokens see a few before them.
    ShortConv(ShortConv),
}

impl Block {
    /// Takes its weights, under the module path of the layer; `ropes` are those of the model.
    pub fn read(
        path: &str,
        description: &BlockDescription,
        ropes: &[(Rope, usize)],
        weights: &mut WeightSource,
    ) -> Result<Self> {
        Ok(match description {
            BlockDescription::Attention(of) => {
                Self::Attention(Attention::read(path, of, ropes, weights)?)
            }
            BlockDescription::GatedMlp(of) => Self::GatedMlp(GatedMlp::read(path, of, weights)?),
            BlockDescription::Experts(of) => Self::Experts(Experts::read(path, of, weights)?),
            BlockDescription::Sum(terms) => Self::Sum(Sum::read(path, terms, ropes, weights)?),
            BlockDescription::LayerInput(of) => {
                Self::LayerInput(LayerInput::read(path, of, weights)?)
            }
            BlockDescription::DeltaNet(of) => Self::DeltaNet(DeltaNet::read(path, of, weights)?),
            BlockDescription::ShortConv(of) => Self::ShortConv(ShortConv::read(path, of, weights)?),
        })
    }

    /// Whether tokens see others.
    pub fn mixes(&self) -> bool {
        match self {
            Self::Attention(_) | Self::DeltaNet(_) | Self::ShortConv(_) => true,
            Self::GatedMlp(_) | Self::Experts(_) | Self::Sum(_) | Self::LayerInput(_) => false,
        }
    }

    /// Whether all that it does with its input is to multiply it.
    pub fn takes_factor(&self) -> bool {
        matches!(self, Self::Attention(_) | Self::GatedMlp(_))
    }

    /// Its linear layers, in order.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        match self {
            Self::Attention(block) => block.linears(),
            Self::GatedMlp(block) => block.linears(),
            Self::Experts(block) => block.linears(),
            Self::Sum(block) => block.linears(),
            Self::LayerInput(block) => block.linears(),
            Self::DeltaNet(block) => block.linears(),
            Self::ShortConv(block) => block.linears(),
        }
    }

    /// Visits its norms and what it has of other vectors; `path` is that of the layer.
    pub fn visit_norms(&mut self, path: &str, visitor: &mut dyn Visitor) {
        match self {
            Self::Attention(block) => block.visit_norms(path, visitor),
            Self::GatedMlp(_) | Self::LayerInput(_) => {}
            Self::Experts(block) => block.visit_norms(path, visitor),
            Self::Sum(block) => block.visit_norms(path, visitor),
            Self::DeltaNet(block) => block.visit_norms(path, visitor),
            Self::ShortConv(block) => block.visit_norms(path, visitor),
        }
    }

    /// What its router chooses by besides scores, which nothing trains.
    pub fn choice_bias(&self) -> Option<&[f32]> {
        match self {
            Self::Experts(block) => block.choice_bias(),
            Self::Sum(block) => block.choice_bias(),
            _ => None,
        }
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        match self {
            Self::Attention(block) => Self::Attention(block.tracked()),
            Self::GatedMlp(block) => Self::GatedMlp(block.tracked()),
            Self::Experts(block) => Self::Experts(block.tracked()),
            Self::Sum(block) => Self::Sum(block.tracked()),
            Self::LayerInput(block) => Self::LayerInput(block.tracked()),
            Self::DeltaNet(block) => Self::DeltaNet(block.tracked()),
            Self::ShortConv(block) => Self::ShortConv(block.tracked()),
        }
    }

    /// `[tokens, hidden]` in and out, on plain tensors. Rows come out for the tokens that are
    /// wanted where the block is the one that picks them. A cache keeps what [`Self::next`] needs.
    pub fn forward(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
        cache: Option<&mut BlockCache>,
    ) -> Tensor<2> {
        match self {
            Self::Attention(block) => {
                block.forward(x, (context, picks), cache.map(|cache| &mut cache.key_values))
            }
            Self::GatedMlp(block) => block.forward(x, context),
            Self::Experts(block) => block.forward(x, context),
            Self::Sum(block) => block.forward(x, context),
            Self::LayerInput(block) => block.forward(x, context),
            Self::DeltaNet(block) => {
                block.forward(x, (context, picks), cache.map(|cache| &mut cache.recurrent))
            }
            Self::ShortConv(block) => {
                block.forward(x, (context, picks), cache.map(|cache| &mut cache.recurrent))
            }
        }
    }

    /// The same for one more token of each of several texts, `x: [texts, hidden]`.
    pub fn next(
        &self,
        x: Tensor<2>,
        context: &PassContext,
        caches: &mut [&mut BlockCache],
    ) -> Tensor<2> {
        let caches = caches.iter_mut();
        match self {
            Self::Attention(block) => {
                let caches = caches.map(|cache| &mut cache.key_values);
                block.next(x, context, &mut caches.collect::<Vec<_>>())
            }
            Self::GatedMlp(block) => block.forward(x, context),
            Self::Experts(block) => block.forward(x, context),
            Self::Sum(block) => block.forward(x, context),
            Self::LayerInput(block) => block.forward(x, context),
            Self::DeltaNet(block) => {
                let caches = caches.map(|cache| &mut cache.recurrent);
                block.next(x, context, &mut caches.collect::<Vec<_>>())
            }
            Self::ShortConv(block) => {
                let caches = caches.map(|cache| &mut cache.recurrent);
                block.next(x, context, &mut caches.collect::<Vec<_>>())
            }
        }
    }

    /// The same as tensor operations that one tape follows through all of it, for all tokens.
    pub fn composed(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        match self {
            Self::Attention(block) => block.composed(x, context),
            Self::GatedMlp(block) => block.forward(x, context),
            Self::Experts(block) => block.forward(x, context),
            Self::Sum(block) => block.forward(x, context),
            Self::LayerInput(block) => block.forward(x, context),
            Self::DeltaNet(block) => block.forward(x, (context, false), None),
            Self::ShortConv(block) => block.forward(x, (context, false), None),
        }
    }

    /// The same for `x` on a tape, with what [`Self::back`] needs.
    pub fn taped(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
    ) -> (Tensor<2>, TapedBlock) {
        match self {
            Self::Attention(block) => {
                let (y, taped) = block.taped(x, (context, picks));
                (y, TapedBlock::Attention(taped))
            }
            Self::LayerInput(block) => {
                let (y, input) = block.taped(x, context);
                (y, TapedBlock::LayerInput(input))
            }
            _ => (self.forward(x, (context, picks), None), TapedBlock::Whole),
        }
    }

    /// Goes back from the tape of the output to that of the input, which is the last one then.
    pub fn back(
        &self,
        taped: TapedBlock,
        (context, picks): (&PassContext, bool),
        tapes: &mut Vec<Tape>,
    ) {
        match (self, taped) {
            (Self::Attention(block), TapedBlock::Attention(taped)) => {
                block.back(taped, (context, picks), tapes);
            }
            (Self::LayerInput(block), TapedBlock::LayerInput(input)) => {
                block.back(&input, context, tapes.last_mut().expect("that of the output"));
            }
            (_, TapedBlock::Whole) => {}
            _ => unreachable!("what is handed back is what the block gave"),
        }
    }

    /// As the kernels of the CPU know it; none on other devices, or if something in it is of a kind
    /// that they do not know.
    pub fn on_cpu<'a>(&self, context: &'a PassContext) -> Option<BlockOnCpu<'a>> {
        match self {
            Self::Attention(block) => block.on_cpu(context).map(BlockOnCpu::Attention),
            Self::GatedMlp(block) => block.on_cpu(context).map(BlockOnCpu::GatedMlp),
            Self::Experts(block) => block.on_cpu(context).map(BlockOnCpu::Experts),
            Self::Sum(block) => block.on_cpu(context).map(BlockOnCpu::Sum),
            Self::LayerInput(block) => block.on_cpu(context).map(BlockOnCpu::LayerInput),
            Self::DeltaNet(block) => block.on_cpu(context).map(BlockOnCpu::DeltaNet),
            Self::ShortConv(block) => block.on_cpu(context).map(BlockOnCpu::ShortConv),
        }
    }
}

/// What the gradient of a block needs that was computed on a tape.
pub enum TapedBlock {
    /// One tape from the input to the output.
    Whole,
    /// The same, with the layer's own input as another leaf.
    LayerInput(Tensor<2>),
    /// One tape before what is mixed by hand, and one after it.
    Attention(TapedAttention),
}

/// A block for the kernels of the CPU.
pub enum BlockOnCpu<'a> {
    /// Tokens see those before them.
    Attention(AttentionOnCpu),
    /// Each token by itself.
    GatedMlp(GatedMlpOnCpu),
    /// Each token by itself, by a few of many.
    Experts(ExpertsOnCpu),
    /// Each token by itself, by several blocks.
    Sum(SumOnCpu<'a>),
    /// Each token by itself, with an input that the layer has of its own.
    LayerInput(LayerInputOnCpu<'a>),
    /// Tokens see a state of those before them.
    DeltaNet(DeltaNetOnCpu),
    /// Tokens see a few before them.
    ShortConv(ShortConvOnCpu),
}

/// What its backward pass needs.
pub enum SavedBlock<F: AsLhs> {
    /// Of attention.
    Attention(SavedAttention<F>),
    /// Of an MLP.
    GatedMlp(SavedGatedMlp<F>),
    /// Of a mixture of experts.
    Experts(SavedExperts<F>),
    /// Of each term of a sum.
    Sum(Vec<SavedTerm<F>>),
    /// Of the layer's own input.
    LayerInput(SavedLayerInput<F>),
    /// Of a mixer by the gated delta rule.
    DeltaNet(SavedDeltaNet<F>),
    /// Of a short convolution.
    ShortConv(SavedShortConv<F>),
}

impl BlockOnCpu<'_> {
    /// Adds what it gives for `x: [tokens, hidden]` to a target, a row for each token that is
    /// wanted.
    pub fn forward<F: AsLhs>(
        &self,
        x: Left<F>,
        target: &mut [f32],
        setting: Setting,
    ) -> SavedBlock<F> {
        match self {
            Self::Attention(block) => SavedBlock::Attention(block.forward(x, target, setting)),
            Self::GatedMlp(block) => SavedBlock::GatedMlp(block.forward(x, target)),
            Self::Experts(block) => SavedBlock::Experts(block.forward(&x, target)),
            Self::Sum(block) => SavedBlock::Sum(block.forward(&x, target, setting)),
            Self::LayerInput(block) => SavedBlock::LayerInput(block.forward(x, target)),
            Self::DeltaNet(block) => SavedBlock::DeltaNet(block.forward(x, target, setting)),
            Self::ShortConv(block) => SavedBlock::ShortConv(block.forward(x, target, setting)),
        }
    }

    /// Whether what it saves is what [`Self::keep`] needs; states of recurrent blocks are made in
    /// the other form.
    pub fn keeps_caches(&self) -> bool {
        !matches!(self, Self::DeltaNet(_) | Self::ShortConv(_))
    }

    /// Keeps what the next token sees of a prompt.
    pub fn keep<F: AsLhs>(&self, saved: &SavedBlock<F>, cache: &mut BlockCache) {
        if let (Self::Attention(block), SavedBlock::Attention(saved)) = (self, saved) {
            block.keep(saved, &mut cache.key_values);
        }
    }

    /// The gradient of the input from that of what was added; `x` makes the input again.
    pub fn backward<F: AsLhs>(
        &self,
        saved: SavedBlock<F>,
        d: &[f32],
        x: impl FnOnce() -> Left<F>,
        setting: Setting,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        match (self, saved) {
            (Self::Attention(block), SavedBlock::Attention(saved)) => {
                block.backward(saved, d, x, setting, gradients)
            }
            (Self::GatedMlp(block), SavedBlock::GatedMlp(saved)) => {
                block.backward(saved, d, x, gradients)
            }
            (Self::Experts(block), SavedBlock::Experts(saved)) => {
                block.backward(saved, d, x, gradients)
            }
            (Self::Sum(block), SavedBlock::Sum(saved)) => {
                block.backward(saved, d, x, setting, gradients)
            }
            (Self::LayerInput(block), SavedBlock::LayerInput(saved)) => {
                block.backward(saved, d, x, gradients)
            }
            (Self::DeltaNet(block), SavedBlock::DeltaNet(saved)) => {
                block.backward(saved, d, x, setting, gradients)
            }
            (Self::ShortConv(block), SavedBlock::ShortConv(saved)) => {
                block.backward(saved, d, x, setting, gradients)
            }
            _ => unreachable!("what is handed back is what the block gave"),
        }
    }
}
