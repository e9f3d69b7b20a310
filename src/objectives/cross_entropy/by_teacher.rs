//! Losses between two distributions over the vocabulary: a teacher's, of which the likeliest tokens
//! are known and what all others have together, and the model's.
//!
//! The others are one outcome more. What a loss is of the probabilities of these outcomes has a
//! gradient by every score: `q·(h − Σ q·h)`, where `q` is the probability that the model gives a
//! token, and `h` the derivative of the loss by that of its outcome. So the host computes with the
//! outcomes alone, and the device does the rest.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};
use rayon::prelude::*;

use super::{Chunk, Scales, Targets};
use crate::data::TeacherTop;
use crate::model::blocks::CapSlopes;
use crate::model::{Gradients, Model};
use crate::ops::{GivenGradients, flat, from_vec, host, indices};

/// The least log-probability of what a teacher does not name: about that of f32's least number.
const LEAST: f32 = -100.0;

/// The loss of two distributions, as log-probabilities of the same outcomes, of the teacher and of
/// the model; with its derivative by each probability of the model, up to a number that is the same
/// for all.
pub type Divergence<'a> = &'a (dyn Fn(&[f64], &[f64]) -> (f64, Vec<f64>) + Sync);

/// The `count` likeliest tokens at each target, of the first `vocabulary` ones; those that come
/// first where several are equally likely.
pub fn top_tokens(
    model: &Model,
    x: &Tensor<2>,
    targets: Targets,
    (count, vocabulary): (usize, usize),
) -> Vec<TeacherTop> {
    let of_chunk = |chunk: Chunk| -> Vec<TeacherTop> {
        let scores = targets.scores(model, x.clone().select(0, chunk.positions));
        let width = scores.dims()[1];
        let scores = host(flat(scores));
        let rows = scores.par_chunks(width).take(chunk.pairs.len());
        rows.map(|row| top_of(&row[..vocabulary.min(width)], count)).collect()
    };
    targets.chunks(model).flat_map(of_chunk).collect()
}

/// The likeliest tokens of these scores.
fn top_of(scores: &[f32], count: usize) -> TeacherTop {
    let count = count.clamp(1, scores.len());
    let mut order: Vec<u32> = (0..).take(scores.len()).collect();
    let score = |token: u32| scores[token as usize];
    let before = |a: &u32, b: &u32| score(*b).total_cmp(&score(*a)).then(a.cmp(b));
    if count < order.len() {
        order.select_nth_unstable_by(count - 1, before);
    }
    let (top, others) = order.split_at_mut(count);
    top.sort_unstable_by(before);
    others.sort_unstable(); // so that sums have an order of their own
    let most = f64::from(score(top[0]));
    let sum = |tokens: &[u32]| -> f64 {
        tokens.iter().map(|token| (f64::from(score(*token)) - most).exp()).sum()
    };
    let rest = sum(others);
    let total = most + (sum(top) + rest).ln();
    #[expect(clippy::cast_possible_truncation)] // scores are f32
    let log = |number: f64| (number - total) as f32;
    let likeliest = top.iter().map(|token| (*token, log(f64::from(score(*token))))).collect();
    TeacherTop { likeliest, rest: log(most + rest.ln()).max(LEAST) }
}

/// The loss of each target.
pub fn divergence(
    model: &Model,
    x: &Tensor<2>,
    targets: Targets,
    teacher: &[TeacherTop],
    of: Divergence,
) -> Vec<f64> {
    let mut first = 0;
    let of_chunk = |chunk: Chunk| -> Vec<f64> {
        let teacher = &teacher[first..][..chunk.pairs.len()];
        first += chunk.pairs.len();
        let scores = targets.scores(model, x.clone().select(0, chunk.positions));
        let outcomes = Outcomes::new(scores, teacher, &model.device);
        outcomes.losses(teacher, of).into_iter().map(|(loss, _)| loss).collect()
    };
    targets.chunks(model).flat_map(of_chunk).collect()
}

/// The same, with the gradient of the sum of each times its scale with respect to `x`; gradients of
/// the final norm and the output projection go into `sums` where they learn.
pub fn divergence_backward(
    model: &Model,
    x: &Tensor<2>,
    targets: Targets,
    (teacher, of): (&[TeacherTop], Divergence),
    scales: Scales,
    sums: &mut Gradients,
) -> (Vec<f64>, Tensor<2>) {
    let (matrix, computing) = (model.projection(), model.computing);
    let mut losses = Vec::with_capacity(teacher.len());
    let mut dx = Tensor::zeros(x.dims(), &model.device);
    for chunk in targets.chunks(model) {
        let (first, count) = (losses.len(), chunk.pairs.len());
        let (teacher, scales) = (&teacher[first..][..count], scales.numbers(first, count));
        let mut head = model.head.tracked();
        head.config = targets.logits(head.config);
        let input = x.clone().select(0, chunk.positions.clone()).autodiff().require_grad();
        let normed = head.hidden(input.clone()); // [chunk, hidden], on a tape of its own
        let hidden = normed.clone().inner();
        let scores = head.scores(&hidden, matrix, computing);
        let slopes = head.cap_slopes(&scores, &chunk.tokens);
        let outcomes = Outcomes::new(scores, teacher, &model.device);
        let found = outcomes.losses(teacher, of);
        losses.extend(found.iter().map(|(loss, _)| *loss));
        let mut d_scores = outcomes.gradient(&found, &scales);
        if let Some(CapSlopes { all, .. }) = slopes {
            d_scores = d_scores * all;
        }
        let d_hidden = chunk.only_targets(matrix.back(&d_scores, computing));
        if matrix.learns() {
            let hidden = chunk.only_targets(hidden);
            let nothing = hidden.zeros_like();
            let factors = (&d_scores, &hidden);
            matrix.add_scores_gradient(sums, factors, (&chunk.tokens, &nothing), computing);
        }
        let mut tapes = [GivenGradients::of(normed, d_hidden).backward()];
        sums.collect(&mut tapes, |visitor| head.norm.visit(None, visitor));
        let d_input = input.grad_remove(&mut tapes[0]).expect("the input is a leaf");
        dx = dx.select_assign(0, chunk.positions, d_input, IndexingUpdateOp::Add);
    }
    (losses, dx)
}

/// What the model makes of the outcomes of a chunk.
struct Outcomes {
    device: Device,
    /// The tokens that are named, `[chunk, count]`.
    tokens: Tensor<2, Int>,
    /// `exp(score − largest)`, `[chunk, vocabulary]`, and their sums, `[chunk, 1]`.
    exponentials: Tensor<2>,
    sums: Tensor<2>,
    /// The log-probabilities of the outcomes of each target: tokens, and what others have together
    /// where there are others.
    log_probs: Vec<Vec<f64>>,
    /// How many tokens are named.
    count: usize,
}

impl Outcomes {
    fn new(scores: Tensor<2>, teacher: &[TeacherTop], device: &Device) -> Self {
        let [rows, vocabulary] = scores.dims();
        let count = teacher.first().map_or(1, |top| top.likeliest.len());
        let named = teacher.iter().flat_map(|top| top.likeliest.iter().map(|(token, _)| *token));
        let filled = (teacher.len()..rows).flat_map(|_| (0..).take(count));
        let tokens = indices(named.chain(filled), device).reshape([rows, count]);
        let shifted = scores.clone() - scores.max_dim(1);
        let exponentials = shifted.clone().exp();
        let sums = exponentials.clone().sum_dim(1);
        let picked = exponentials.clone().gather(1, tokens.clone());
        // Exactly nothing is left of those that are named.
        let others = exponentials.clone();
        let others = others.scatter(1, tokens.clone(), picked.neg(), IndexingUpdateOp::Add);
        let others = host(flat(others.sum_dim(1)));
        let picked = host(flat(shifted.gather(1, tokens.clone())));
        let of_rows = host(flat(sums.clone()));
        let rows = picked.chunks_exact(count).zip(of_rows.iter().zip(&others));
        let log_probs = rows.take(teacher.len()).map(|(picked, (sum, others))| {
            let total = f64::from(*sum).ln();
            let named = picked.iter().map(|shifted| f64::from(*shifted) - total);
            let others = f64::from(others.max(f32::MIN_POSITIVE)).ln() - total;
            named.chain((count < vocabulary).then_some(others)).collect()
        });
        let log_probs = log_probs.collect();
        Self { device: device.clone(), tokens, exponentials, sums, log_probs, count }
    }

    /// Losses with their derivatives.
    fn losses(&self, teacher: &[TeacherTop], of: Divergence) -> Vec<(f64, Vec<f64>)> {
        let both = self.log_probs.par_iter().zip(teacher);
        both.map(|(own, top)| {
            let named = top.likeliest.iter().map(|(_, log_prob)| f64::from(*log_prob));
            let wanted: Vec<f64> = named.chain([f64::from(top.rest)]).take(own.len()).collect();
            of(&wanted, own)
        })
        .collect()
    }

    /// The gradient of the scores, `[chunk, vocabulary]`.
    #[expect(clippy::cast_possible_truncation)] // gradients are f32
    fn gradient(self, found: &[(f64, Vec<f64>)], scales: &[f32]) -> Tensor<2> {
        let [rows, _] = self.exponentials.dims();
        let (mut of_all, mut of_named) = (vec![0.0; rows], vec![0.0; rows * self.count]);
        for (row, ((own, (_, slopes)), scale)) in
            self.log_probs.iter().zip(found).zip(scales).enumerate()
        {
            let scale = f64::from(*scale);
            let mean: f64 = own.iter().zip(slopes).map(|(log, slope)| log.exp() * slope).sum();
            let of_others = slopes.get(self.count).copied().unwrap_or(mean);
            of_all[row] = (scale * (of_others - mean)) as f32;
            let named = of_named[row * self.count..][..self.count].iter_mut();
            for (target, (log, slope)) in named.zip(own.iter().zip(slopes)) {
                *target = (scale * log.exp() * (slope - of_others)) as f32;
            }
        }
        let of_all: Tensor<2> = from_vec(of_all, [rows, 1], &self.device);
        let of_named = from_vec(of_named, [rows, self.count], &self.device);
        let d_scores = self.exponentials * (of_all / self.sums);
        d_scores.scatter(1, self.tokens, of_named, IndexingUpdateOp::Add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_tokens_are_named_and_the_rest_is_the_rest() {
        let top = top_of(&[1.0, 3.0, 2.0, 3.0, -50.0], 3);
        let named: Vec<u32> = top.likeliest.iter().map(|(token, _)| *token).collect();
        assert_eq!(named, [1, 3, 2]);
        let all: f64 = top.likeliest.iter().map(|(_, log)| f64::from(*log).exp()).sum();
        assert!((all + f64::from(top.rest).exp() - 1.0).abs() < 1e-6);
        let rest = (1.0_f64.exp()) / (1.0_f64.exp() + 2.0 * 3.0_f64.exp() + 2.0_f64.exp());
        assert!((f64::from(top.rest).exp() - rest).abs() < 1e-6);
        // Of all tokens there is no rest.
        assert_eq!(top_of(&[0.5, 0.25], 9).rest, LEAST);
        assert_eq!(top_of(&[0.5, 0.25], 9).likeliest.len(), 2);
    }
}
