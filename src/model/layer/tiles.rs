//! Parts of a layer by tensor operations. An MLP may be computed a tile of tokens at a time, as
//! Arctic Long Sequence Training has it (Bekman et al. 2025, "TiledMLP"): then only its input is
//! kept, and the backward pass computes each tile again.

use burn::tensor::Tensor;

use super::{Layer, Residual, TapedResidual};
use crate::model::blocks::Block;
use crate::model::{Gradients, PassContext};

/// The forward pass of a part.
pub enum TapedPart {
    /// On a tape.
    Whole(TapedResidual),
    /// The input of one that is computed again, a tile at a time.
    Tiles(Tensor<2>),
}

impl Residual {
    /// First token and count of each tile, where it is computed in tiles.
    fn tiles(&self, x: &Tensor<2>, context: &PassContext) -> Option<Vec<(usize, usize)>> {
        match self.block {
            Block::GatedMlp(_) => context.mlp_tiles(x.dims()[0]),
            _ => None,
        }
    }

    /// What leaves the part, where it is computed in tiles.
    pub(super) fn forward_tiles(&self, x: &Tensor<2>, context: &PassContext) -> Option<Tensor<2>> {
        let one = |(first, count): (usize, usize)| {
            let context = context.of_tokens(first, count);
            self.forward_whole(x.clone().narrow(0, first, count), (&context, false), None)
        };
        Some(Tensor::cat(self.tiles(x, context)?.into_iter().map(one).collect(), 0))
    }
}

impl TapedPart {
    /// Its backward pass: the gradient of the input from that of the output.
    pub(super) fn backward(
        self,
        residual: &Residual,
        path: &str,
        (context, picks): (&PassContext, bool),
        d: Tensor<2>,
        sums: &mut Gradients,
    ) -> Tensor<2> {
        let x = match self {
            Self::Whole(taped) => return taped.backward(path, (context, picks), d, sums),
            Self::Tiles(x) => x,
        };
        let mut one = |(first, count): (usize, usize)| {
            let context = context.of_tokens(first, count);
            let [x, d] = [&x, &d].map(|whole| whole.clone().narrow(0, first, count));
            let (_, taped) = residual.taped(x, (&context, false));
            taped.backward(path, (&context, false), d, sums)
        };
        let tiles = residual.tiles(&x, context).expect("the forward pass had tiles");
        Tensor::cat(tiles.into_iter().map(&mut one).collect(), 0)
    }
}

impl Layer {
    /// What leaves the layer before it is scaled, and what the backward pass needs. What leaves a
    /// last part in tiles is left out unless the output is wanted.
    pub(super) fn taped(
        &self,
        x: Tensor<2>,
        context: &PassContext,
        output: bool,
    ) -> (Tensor<2>, Vec<TapedPart>) {
        let (mut x, mut parts) = (x, Vec::with_capacity(self.residuals.len()));
        for (number, (residual, picks)) in self.parts().enumerate() {
            if residual.tiles(&x, context).is_none() {
                let (y, taped) = residual.taped(x, (context, picks));
                x = y;
                parts.push(TapedPart::Whole(taped));
                continue;
            }
            parts.push(TapedPart::Tiles(x.clone()));
            if output || number + 1 < self.residuals.len() {
                x = residual.forward(x, (context, picks), None);
            }
        }
        (x, parts)
    }
}
