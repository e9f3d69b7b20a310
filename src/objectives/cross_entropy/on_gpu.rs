//! The loss by kernels of a GPU: scores of a chunk, one pass to the losses and the gradient of the
//! scores, and back. The output projection is a constant, but for rows of tokens that are trained.

use burn::tensor::Tensor;

use super::{ChunkScale, LossSum, Scales, Targets};
use crate::model::{Gradients, Model};
use crate::ops::{GivenGradients, counts, gpu, rows_of};

/// Gradients of scores stay below this in 16 bits; what is above is multiplied afterwards.
const SCALE_MAX: f64 = 1024.0;

/// Whether these kernels are what `x` is for.
pub(super) fn takes(model: &Model, x: &Tensor<2>) -> bool {
    let matrix = model.projection();
    gpu::holds(x) && !matrix.trainable() && matrix.factors.is_none()
}

/// The sum of the losses of targets, with the gradient of the sum of each times its scale with
/// respect to `x`.
pub(super) fn backward(
    model: &Model,
    x: &Tensor<2>,
    targets: Targets,
    scales: Scales,
    sums: &mut Gradients,
) -> (LossSum, Tensor<2>) {
    let (matrix, computing) = (model.projection(), model.computing);
    // What the gradients of scores are multiplied with, and what those of the hidden states are.
    let (within, rest) = match scales {
        Scales::Same(scale) => {
            let rest = (scale.abs() / SCALE_MAX).max(1.0);
            (scale / rest, (rest > 1.0).then_some(rest))
        }
        Scales::Each(_) => (SCALE_MAX, Some(1.0 / SCALE_MAX)),
    };
    #[expect(clippy::cast_possible_truncation)] // gradients are f32
    let within = within as f32;
    let mut total = LossSum::default();
    let mut dx = Tensor::zeros(x.dims(), &model.device);
    counts("FullKernel", &dx, (4, 0));
    let mut first = 0;
    for chunk in targets.chunks(model) {
        let count = chunk.pairs.len();
        let rows = chunk.scale(scales, first, &model.device);
        first += count;
        let mut head = model.head.tracked();
        head.config = targets.logits(head.config);
        let input = rows_of(x.clone(), &chunk.positions).autodiff().require_grad();
        let normed = head.hidden(input.clone());
        let logits = matrix.scores(&normed.clone().inner(), computing);
        let how = (count, within, head.config.soft_cap);
        let format = computing.arithmetic.factors();
        let (losses, d_logits) = gpu::losses(logits, &chunk.tokens, how, format);
        total = total.plus(LossSum::OnDevice(losses));
        let mut d_hidden = matrix.back(&d_logits, computing);
        if let ChunkScale::Rows(_) = rows {
            d_hidden = rows.times(d_hidden);
        }
        if let Some(rest) = rest {
            counts("KernelScalarBinop", &d_hidden, (8, 1));
            d_hidden = d_hidden.mul_scalar(rest);
        }
        if let Some(trained) = matrix.token_rows() {
            let mut d = trained.scores(&d_logits).mul_scalar(rest.unwrap_or(1.0));
            if let ChunkScale::Rows(_) = rows {
                d = rows.times(d);
            }
            trained.add_scores_gradient(sums, (d, &normed.clone().inner()), None);
        }
        let mut tapes = [GivenGradients::of(normed, d_hidden).backward()];
        sums.collect(&mut tapes, |visitor| head.norm.visit(None, visitor));
        let d_input = input.grad_remove(&mut tapes[0]).expect("the input is a leaf");
        dx = gpu::placed(dx, d_input, &chunk.positions, count);
    }
    (total, dx)
}
