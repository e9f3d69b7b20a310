//! The head that scores labels: what leaves the layers at the last token of each text, normalised,
//! times a matrix `[labels, hidden]`. There are few of them, so that losses are made of them on the
//! host, in f64; the way back is one tape.

use burn::tensor::{IndexingUpdateOp, Tensor};

use super::Targets;
use crate::model::{Gradients, Model};
use crate::ops::{GivenGradients, from_vec, host, indices, wide};

/// Scores `[labels]` of each target. `x: [tokens, hidden]` as it leaves the layers.
pub fn scores(model: &Model, x: &Tensor<2>, targets: Targets) -> Vec<Vec<f64>> {
    if targets.pairs.is_empty() {
        return Vec::new();
    }
    let rows = x.clone().select(0, places(model, targets));
    let hidden = model.head.hidden(rows);
    let scores = hidden.matmul(wide(matrix(model).value.clone()).transpose());
    let labels = scores.dims()[1];
    let numbers = host(scores);
    let rows = numbers.chunks_exact(labels).take(targets.pairs.len());
    rows.map(|row| row.iter().copied().map(f64::from).collect()).collect()
}

/// The gradient with respect to `x` of `scale` times the loss, from that of each score, row after
/// row; gradients of norm and matrix go into `sums` where they learn.
pub fn backward(
    model: &Model,
    x: &Tensor<2>,
    targets: Targets,
    (d_scores, scale): (Vec<f64>, f64),
    sums: &mut Gradients,
) -> Tensor<2> {
    let dx = Tensor::zeros(x.dims(), &model.device);
    if targets.pairs.is_empty() {
        return dx;
    }
    let places = places(model, targets);
    let (rows, labels) = (places.dims()[0], matrix(model).value.dims()[0]);
    #[expect(clippy::cast_possible_truncation)] // gradients are f32
    let mut d_scores: Vec<f32> = d_scores.into_iter().map(|d| (d * scale) as f32).collect();
    d_scores.resize(rows * labels, 0.0); // what fills up has no part in it

    let input = x.clone().select(0, places.clone()).autodiff().require_grad();
    let mut head = model.head.tracked();
    let mut weight = matrix(model).tracked();
    let scores = head.hidden(input.clone()).matmul(wide(weight.value.clone()).transpose());
    let d_scores = from_vec(d_scores, [rows, labels], &model.device);
    let mut tapes = [GivenGradients::of(scores, d_scores).backward()];
    sums.collect(&mut tapes, |visitor| {
        head.norm.visit(None, visitor);
        visitor.matrix(model.projection().path(), &mut weight);
    });
    let d_input = input.grad_remove(&mut tapes[0]).expect("the input is a leaf");
    dx.select_assign(0, places, d_input, IndexingUpdateOp::Add)
}

/// The rows of targets, filled up with the first one where sizes are to come again.
fn places(model: &Model, targets: Targets) -> Tensor<1, burn::tensor::Int> {
    let size = targets.pairs.len().next_multiple_of(model.computing.pad_multiple.max(1));
    let rows = targets.pairs.iter().map(|pair| pair.0).chain(std::iter::repeat(0)).take(size);
    indices(rows, &model.device)
}

fn matrix(model: &Model) -> &crate::model::Parameter<2> {
    let [whole] = model.projection().pieces() else {
        unreachable!("labels are fewer than a device has room for, and their scores are trained")
    };
    whole
}
