//! Several blocks of one input, whose outputs are added.

use super::{BlockDescription, ExpertsDescription, LinearDescription, NormDescription};

/// One of them: `gate(x) · after(block(before(x)))`.
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

    /// Numbers of a token that are kept for the backward pass: by the kernels of the CPU, and in
    /// tapes.
    pub(super) fn kept(&self, hidden: usize) -> [usize; 2] {
        let ([by_kernels, taped], about) = (self.block.kept(hidden), [self.before, self.after]);
        let norms = about.iter().flatten().count();
        let output = if self.after.is_some() || self.gate.is_some() { hidden } else { 0 };
        [by_kernels + output, taped + (3 * norms + 2) * hidden]
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
