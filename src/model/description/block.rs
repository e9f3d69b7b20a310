//! What layers are made of: each kind of block, and what is asked of all of them.

use super::{
    AttentionDescription, DeltaNetDescription, ExpertsDescription, GatedMlpDescription,
    LayerInputDescription, LinearDescription, NormDescription, ShortConvDescription,
};

/// A block with its options. A new kind of block adds a line here and in [`crate::model::Block`].
#[derive(Debug, Clone, PartialEq)]
pub enum BlockDescription {
    /// Tokens see those before them.
    Attention(AttentionDescription),
    /// Each token by itself.
    GatedMlp(GatedMlpDescription),
    /// Each token by itself, by a few of many.
    Experts(ExpertsDescription),
    /// Each token by itself, by several blocks of one input.
    Sum(Vec<TermDescription>),
    /// Each token by itself, with what it gives the layer besides.
    LayerInput(LayerInputDescription),
    /// Tokens see a state of those before them.
    DeltaNet(DeltaNetDescription),
    /// Tokens see a few before them.
    ShortConv(ShortConvDescription),
}

impl BlockDescription {
    /// Its linear layers, in order.
    pub fn linears(&self) -> Vec<LinearDescription> {
        match self {
            Self::Attention(AttentionDescription { qkv, output, .. }) => {
                [qkv.linears(), &[*output]].concat()
            }
            Self::GatedMlp(GatedMlpDescription { gate_up, down, .. }) => {
                [gate_up.linears(), &[*down]].concat()
            }
            Self::Experts(experts) => {
                let router = experts.router;
                Some(router.scores).filter(|_| router.is_linear).into_iter().collect()
            }
            Self::Sum(terms) => terms.iter().flat_map(TermDescription::linears).collect(),
            Self::LayerInput(LayerInputDescription { gate, output, .. }) => vec![*gate, *output],
            Self::DeltaNet(net) => [net.inputs.linears(), &[net.output]].concat(),
            Self::ShortConv(conv) => [conv.inputs.linears(), &[conv.output]].concat(),
        }
    }

    /// Names and dimensions of its other tensors, which are no norms.
    pub(super) fn others(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Attention(attention) => {
                let heads = vec![attention.config.heads.queries];
                attention.sinks.map(|name| (name.to_owned(), heads)).into_iter().collect()
            }
            Self::GatedMlp(_) | Self::LayerInput(_) => Vec::new(),
            Self::Experts(experts) => experts.router.tensors(),
            Self::Sum(terms) => terms.iter().flat_map(|term| term.block.others()).collect(),
            Self::DeltaNet(net) => net.tensors(),
            Self::ShortConv(conv) => conv.convolution.tensors(),
        }
    }

    /// Its norms, in order.
    pub fn norms(&self) -> Vec<NormDescription> {
        match self {
            Self::Attention(attention) => attention.norms().collect(),
            Self::DeltaNet(net) => vec![net.norm],
            Self::Experts(of) => of.before.into_iter().chain(of.router.input).collect(),
            Self::Sum(terms) => terms.iter().flat_map(TermDescription::norms).collect(),
            _ => Vec::new(),
        }
    }

    /// Numbers of a token that tapes keep for the backward pass (counted in the code: about 8
    /// tensors of each width).
    pub(super) fn taped(&self, hidden: usize) -> usize {
        match self {
            Self::Attention(attention) => attention.taped(hidden),
            Self::GatedMlp(mlp) => 8 * hidden + 8 * mlp.width(),
            Self::Experts(experts) => experts.taped(),
            Self::Sum(terms) => terms.iter().map(|term| term.taped(hidden)).sum(),
            Self::LayerInput(input) => input.taped(hidden),
            Self::DeltaNet(net) => net.taped(hidden),
            Self::ShortConv(conv) => conv.taped(hidden),
        }
    }
}

/// One of several blocks of one input, whose outputs are added:
/// `gate(x) · after(block(before(x)))`.
#[derive(Debug, Clone, PartialEq)]
pub struct TermDescription {
    /// Of its input.
    pub before: Option<NormDescription>,
    /// What is computed, of each token by itself.
    pub block: BlockDescription,
    /// Of its output.
    pub after: Option<NormDescription>,
    /// To one number for each token, whose sigmoid its output is multiplied with.
    pub gate: Option<LinearDescription>,
}

impl TermDescription {
    /// A block without anything about it.
    pub fn plain(block: BlockDescription) -> Self {
        Self { before: None, block, after: None, gate: None }
    }

    /// Its linear layers, in order.
    pub(super) fn linears(&self) -> impl Iterator<Item = LinearDescription> {
        self.block.linears().into_iter().chain(self.gate)
    }

    /// Its norms, in order.
    pub(super) fn norms(&self) -> impl Iterator<Item = NormDescription> {
        self.before.into_iter().chain(self.block.norms()).chain(self.after)
    }

    /// Numbers of a token that tapes keep for the backward pass.
    pub(super) fn taped(&self, hidden: usize) -> usize {
        let norms = [self.before, self.after].iter().flatten().count();
        self.block.taped(hidden) + (3 * norms + 2) * hidden
    }
}

impl BlockDescription {
    /// The mixture of experts in it.
    pub fn experts(&self) -> Option<&ExpertsDescription> {
        match self {
            Self::Experts(experts) => Some(experts),
            Self::Sum(terms) => terms.iter().find_map(|term| term.block.experts()),
            _ => None,
        }
    }

    /// Paths within the decoder layer, and lengths, of numbers that files hold and nothing trains.
    pub fn buffers(&self) -> Option<(&'static str, usize)> {
        let router = self.experts()?.router;
        Some((router.choice_bias?, router.experts()))
    }
}
