//! Linear layers of one input as one product, where their matrices lie below each other on a GPU:
//! what they give lies beside each other then.

use burn::tensor::{Device, Tensor};

use super::Block;
use crate::device::DeviceLimits;
use crate::model::{Linear, Matrix, PassContext};
use crate::ops::{FrozenMatrix, LowRankFactors, low_rank_together, lying_together, project_frozen};

/// The matrix, if it is a constant of the device and there is nothing else.
fn constant(linear: &Linear) -> Option<FrozenMatrix> {
    linear.constant().filter(|_| linear.bias.is_none())
}

/// The numbers of one that is kept so.
fn numbers(linear: &Linear) -> Option<Tensor<2>> {
    match constant(linear)? {
        FrozenMatrix::Numbers(numbers) => Some(numbers),
        FrozenMatrix::Codes(_) => None,
    }
}

/// Puts the matrices of layers of one input below each other, so that they are one for a product.
/// Each layer has its own as before. Nothing is done where one is trained or not on a GPU, or all
/// are more than it takes as one; codes need no place, and are one for a product wherever they lie.
pub fn place_together(mut linears: Vec<&mut Linear>, limits: DeviceLimits) {
    let constants: Option<Vec<_>> = linears.iter().map(|linear| numbers(linear)).collect();
    let Some(parts) = constants.filter(|parts| parts.len() > 1) else { return };
    let numbers = parts.iter().map(|part| part.shape().num_elements() as u64).sum();
    if parts[0].device() == Device::flex() || !limits.holds(numbers) {
        return;
    }
    let heights: Vec<usize> = parts.iter().map(|part| part.dims()[0]).collect();
    let all = Tensor::cat(parts, 0);
    let mut first = 0;
    for (linear, height) in linears.iter_mut().zip(heights) {
        if let Matrix::Tensor(weight) = &mut linear.weight {
            weight.value = all.clone().narrow(0, first, height);
        }
        first += height;
    }
}

/// What all give for `x: [tokens, in]`, beside each other; none where it takes a product for each.
pub fn forward_together(
    linears: &[&Linear],
    x: &Tensor<2>,
    context: &PassContext,
) -> Option<Tensor<2>> {
    let parts: Vec<_> = linears.iter().map(|linear| constant(linear)).collect::<Option<_>>()?;
    let weight = lying_together(&parts)?;
    // Numbers were put together before, where they fit.
    let size = weight.dims().iter().product::<usize>() as u64;
    if !context.computing.limits.holds(size) {
        return None;
    }
    let adapters: Vec<_> = linears.iter().map(|linear| linear.adapter_in(context)).collect();
    if adapters.iter().all(Option::is_none) {
        return Some(project_frozen(x.clone(), &weight, context.computing));
    }
    let factors: Option<Vec<LowRankFactors>> =
        adapters.into_iter().map(|adapter| adapter?.factors(context)).collect();
    low_rank_together(x, &weight, &factors?, context.computing)
}

impl Block {
    /// Makes one product of linear layers of one input possible on a GPU, where outputs of all are
    /// taken as it gives them.
    pub fn place_together(&mut self, limits: DeviceLimits) {
        match self {
            Self::Attention(block) => block.place_together(limits),
            Self::GatedMlp(block) => block.place_together(limits),
            Self::Sum(block) => block.place_together(limits),
            Self::Experts(_) | Self::LayerInput(_) | Self::DeltaNet(_) | Self::ShortConv(_) => {}
        }
    }
}
