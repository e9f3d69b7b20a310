//! Blocks that go through each document from its beginning, and what they are made of.

use super::{JointDescription, LinearDescription, NormDescription};
use crate::ops::DeltaHeads;

/// A causal convolution of each channel by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvolutionDescription {
    /// Module path within the decoder layer.
    pub name: &'static str,
    /// How many there are.
    pub channels: usize,
    /// Tokens that it sees, that itself among them.
    pub width: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

impl ConvolutionDescription {
    /// Names and dimensions of its tensors, as files have them.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self { name, channels, width, bias } = *self;
        let mut tensors = vec![(format!("{name}.weight"), vec![channels, 1, width])];
        if bias {
            tensors.push((format!("{name}.bias"), vec![channels]));
        }
        tensors
    }
}

/// A mixer by the gated delta rule.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaNetDescription {
    /// To queries, keys and values beside each other; to what gates the output; to the strength of
    /// what is written, and to the decay, for each head of values.
    pub inputs: JointDescription<4>,
    /// From what was mixed.
    pub output: LinearDescription,
    /// Of queries, keys and values.
    pub convolution: ConvolutionDescription,
    /// Path of the logarithms of the rates of decay.
    pub a_log: &'static str,
    /// Path of what is added to the input of the decay.
    pub decay_bias: &'static str,
    /// Of each head of values before its gate.
    pub norm: NormDescription,
    /// How the rule's inputs are laid out.
    pub heads: DeltaHeads,
}

impl DeltaNetDescription {
    /// Names and dimensions of its tensors besides those of linear layers and norms.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let vector = |name: &str| (name.to_owned(), vec![self.heads.values]);
        let mut tensors = self.convolution.tensors();
        tensors.extend([vector(self.a_log), vector(self.decay_bias)]);
        tensors
    }

    /// Numbers of a token that tapes keep for the backward pass: about six tensors of the
    /// convolution for each token that it sees, and of each head a dozen rows of a chunk and as
    /// many of the other factors.
    pub fn taped(&self, hidden: usize) -> usize {
        let (heads, wide, values) = (self.heads, self.heads.wide(), self.heads.values_wide());
        let of_head = 12 * crate::ops::CHUNK + 12 * (heads.key_width + heads.value_width);
        let convolved = (6 + 4 * self.convolution.width) * wide;
        8 * hidden + convolved + 8 * values + heads.values * of_head
    }
}

/// A mixer by a short convolution between two gates.
#[derive(Debug, Clone, PartialEq)]
pub struct ShortConvDescription {
    /// To the gate before the convolution, that after it, and what is convolved.
    pub inputs: JointDescription<3>,
    /// From what was mixed.
    pub output: LinearDescription,
    /// Of what the first gate lets through.
    pub convolution: ConvolutionDescription,
}

impl ShortConvDescription {
    /// Numbers of a token that tapes keep for the backward pass.
    pub fn taped(&self, hidden: usize) -> usize {
        8 * hidden + (10 + 4 * self.convolution.width) * self.convolution.channels
    }
}
