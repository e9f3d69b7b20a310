//! Next-token loss on learnt positions only, a chunk of them at a time.
//!
//! Logits exist for one chunk of learnt positions, never for the prompt, and their gradient
//! `softmax(z) − onehot` is taken by hand: no tape holds a `[tokens, vocabulary]` tensor.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};

use crate::model::{Gradients, Model};
use crate::ops::{flat, host, indices};

/// The learnt positions of a micro-batch, on the host.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// Flat positions in `[rows · length]`, each at most once, and the token each must predict.
    pub pairs: &'a [(u32, u32)],
    /// Positions per chunk.
    pub chunk: usize,
}

impl Targets<'_> {
    /// Positions per chunk on this model's device: its largest tensor and product count, too.
    fn chunk_on(&self, model: &Model) -> usize {
        let facts = &model.facts;
        let limit = model.computing.limits.rows_of_product(facts.hidden, facts.vocabulary);
        self.chunk.min(limit).max(1)
    }
}

/// Σ of the negative log-likelihoods, in nats. `x: [tokens, hidden]` as it leaves the layers.
pub fn next_token_loss(model: &Model, x: &Tensor<2>, targets: Targets) -> f64 {
    targets
        .pairs
        .chunks(targets.chunk_on(model))
        .map(|pairs| {
            let chunk = Chunk::new(pairs, &model.device);
            let hidden = model.norm.forward(x.clone().select(0, chunk.positions));
            let logits = model.head().scores(&hidden, model.computing);
            summed(losses(logits, chunk.tokens).0)
        })
        .sum()
}

/// The negative log-likelihood of each token in nats, and whether it is the likeliest; in the order
/// of the targets.
pub fn next_token_scores(model: &Model, x: &Tensor<2>, targets: Targets) -> Vec<(f64, bool)> {
    let of_chunk = |pairs: &[(u32, u32)]| -> Vec<(f64, bool)> {
        let chunk = Chunk::new(pairs, &model.device);
        let hidden = model.norm.forward(x.clone().select(0, chunk.positions));
        let logits = model.head().scores(&hidden, model.computing);
        let best = logits.clone().argmax(1).into_data().convert::<i64>();
        let best: Vec<i64> = best.try_into_vec().expect("converted to i64 just before");
        let losses = host(flat(losses(logits, chunk.tokens).0));
        let judged = losses.into_iter().zip(best).zip(pairs);
        judged.map(|((loss, best), pair)| (f64::from(loss), best == i64::from(pair.1))).collect()
    };
    targets.pairs.chunks(targets.chunk_on(model)).flat_map(of_chunk).collect()
}

/// The same sum, with the gradient of `scale · Σ` with respect to `x`; gradients of the final norm
/// and the output projection go into `sums` where they learn.
pub fn next_token_backward(
    model: &Model,
    x: &Tensor<2>,
    targets: Targets,
    scale: f64,
    sums: &mut Gradients,
) -> (f64, Tensor<2>) {
    let (head, computing) = (model.head(), model.computing);
    let mut total = 0.0;
    let mut dx = Tensor::zeros(x.dims(), &model.device);
    for pairs in targets.pairs.chunks(targets.chunk_on(model)) {
        let chunk = Chunk::new(pairs, &model.device);
        let norm = model.norm.tracked();
        let input = x.clone().select(0, chunk.positions.clone()).autodiff().require_grad();
        let normed = norm.forward(input.clone()); // [chunk, hidden], on a tape of its own
        let hidden = normed.clone().inner();

        let logits = head.scores(&hidden, computing);
        let (loss, probabilities) = losses(logits, chunk.tokens.clone());
        total += summed(loss);

        // d/dz = softmax − onehot; the one-hot part is a lookup of rows of the projection.
        let probabilities = probabilities.mul_scalar(scale);
        let wanted = head.rows(&chunk.tokens).mul_scalar(scale);
        let d_hidden = head.back(&probabilities, computing) - wanted;
        if head.learns() {
            let less = hidden.clone().mul_scalar(-scale);
            let factors = (&probabilities, &hidden);
            head.add_scores_gradient(sums, factors, (&chunk.tokens, &less), computing);
        }
        let mut tape = (normed * d_hidden).backward();
        if norm.gain.learns {
            let gradient = norm.gain.value.grad_remove(&mut tape);
            sums.add("model.norm.weight", gradient.expect("the gain is a leaf"));
        }
        let d_input = input.grad_remove(&mut tape).expect("the input is a leaf");
        dx = dx.select_assign(0, chunk.positions, d_input, IndexingUpdateOp::Add);
    }
    (total, dx)
}

struct Chunk {
    positions: Tensor<1, Int>,
    tokens: Tensor<1, Int>,
}

impl Chunk {
    fn new(pairs: &[(u32, u32)], device: &Device) -> Self {
        Self {
            positions: indices(pairs.iter().map(|pair| pair.0), device),
            tokens: indices(pairs.iter().map(|pair| pair.1), device),
        }
    }
}

/// Negative log-likelihood of each token, `[chunk, 1]`, and the softmax of its logits.
fn losses(logits: Tensor<2>, tokens: Tensor<1, Int>) -> (Tensor<2>, Tensor<2>) {
    let count = tokens.dims()[0];
    let shifted = logits.clone() - logits.max_dim(1);
    let picked = shifted.clone().gather(1, tokens.reshape([count, 1]));
    let exponentials = shifted.exp();
    let sums = exponentials.clone().sum_dim(1);
    (sums.clone().log() - picked, exponentials / sums)
}

/// Summed in f64 on the host, in order: independent of chunking up to f32 rounding of each loss.
fn summed(losses: Tensor<2>) -> f64 {
    host(flat(losses)).into_iter().map(f64::from).sum()
}
