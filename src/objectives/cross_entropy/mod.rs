//! Next-token loss on target positions only, a chunk of them at a time.
//!
//! Logits exist for one chunk of target positions, never for the prompt, and their gradient
//! `softmax(z) − onehot` is taken by hand: no tape holds a `[tokens, vocabulary]` tensor.

use std::borrow::Cow;
use std::cell::OnceCell;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};

use crate::model::blocks::CapSlopes;
use crate::model::{Description, Gradients, Model};
use crate::ops::{GivenGradients, LogitConfig, counts, flat, from_vec, host, indices};

mod by_teacher;
mod on_cpu;
#[cfg(feature = "gpu")]
mod on_gpu;

pub use by_teacher::{divergence, divergence_backward, top_tokens};

/// The target positions of a micro-batch, on the host.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// Flat positions in `[rows · length]`, each at most once, and the token each must predict.
    pub pairs: &'a [(u32, u32)],
    /// Positions per chunk.
    pub chunk: usize,
    /// What scores are divided by: 1, but where probabilities are those of sampling at another
    /// temperature.
    pub temperature: f32,
}

impl<'a> Targets<'a> {
    /// At a temperature of 1.
    pub fn new(pairs: &'a [(u32, u32)], chunk: usize) -> Self {
        Self { pairs, chunk, temperature: 1.0 }
    }

    /// What is done to scores of a head.
    fn logits(&self, of: LogitConfig) -> LogitConfig {
        LogitConfig { scale: of.scale / self.temperature, ..of }
    }

    /// Scores over the vocabulary for rows as they leave the layers.
    fn scores(&self, model: &Model, x: Tensor<2>) -> Tensor<2> {
        let hidden = model.head.hidden(x);
        let hidden = match self.temperature == 1.0 {
            true => hidden,
            false => hidden.div_scalar(self.temperature),
        };
        model.head.scores(&hidden, model.projection(), model.computing)
    }

    /// The chunks on this model's device: its largest tensor and product count, too.
    fn chunks(&self, model: &Model) -> impl Iterator<Item = Chunk<'a>> {
        let Description { hidden, .. } = model.description;
        let limit = model.computing.limits.rows_of_product(hidden, model.description.outputs());
        let most = self.chunk.min(limit).max(1);
        let (pad_multiple, device) = (model.computing.pad_multiple, model.device.clone());
        let chunk = move |pairs| Chunk::new(pairs, pad_multiple, most, &device);
        self.pairs.chunks(most).map(chunk)
    }
}

/// What the gradient of the loss of each target is multiplied with.
#[derive(Debug, Clone, Copy)]
pub enum Scales<'a> {
    /// The same for all of them.
    Same(f64),
    /// One for each, in their order.
    Each(&'a [f32]),
}

impl<'a> Scales<'a> {
    /// Those of `count` targets from a first one on.
    #[expect(clippy::cast_possible_truncation)] // gradients are f32
    fn numbers(self, first: usize, count: usize) -> Cow<'a, [f32]> {
        match self {
            Self::Same(scale) => vec![scale as f32; count].into(),
            Self::Each(scales) => scales[first..][..count].into(),
        }
    }
}

/// A sum of losses, in nats. On the CPU it is a number; elsewhere it is left on the device, so that
/// the host need not wait for it.
#[derive(Debug, Clone)]
pub enum LossSum {
    /// Summed in f64, in order.
    Number(f64),
    /// One number, summed in f32.
    OnDevice(Tensor<1>),
}

impl Default for LossSum {
    fn default() -> Self {
        Self::Number(0.0)
    }
}

impl LossSum {
    /// Both together. All sums of a device are of one kind, but for those of nothing.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => Self::Number(a + b),
            (Self::OnDevice(a), Self::OnDevice(b)) => {
                counts("KernelBinop", &a, (12, 1));
                Self::OnDevice(a + b)
            }
            // A number is that of no chunk at all.
            (Self::OnDevice(sum), Self::Number(_)) | (Self::Number(_), Self::OnDevice(sum)) => {
                Self::OnDevice(sum)
            }
        }
    }

    /// The sum times a factor.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        match self {
            Self::Number(sum) => Self::Number(sum * factor),
            Self::OnDevice(sum) => {
                counts("KernelScalarBinop", &sum, (8, 1));
                Self::OnDevice(sum.mul_scalar(factor))
            }
        }
    }

    /// The number; of a sum on a device, when it is there.
    pub fn number(self) -> f64 {
        match self {
            Self::Number(sum) => sum,
            Self::OnDevice(sum) => f64::from(host(sum)[0]),
        }
    }
}

/// Σ of the negative log-likelihoods, in nats. `x: [tokens, hidden]` as it leaves the layers.
pub fn next_token_loss(model: &Model, x: &Tensor<2>, targets: Targets) -> f64 {
    if let Some(head) = on_cpu::head(model, x, targets) {
        return head.losses(targets).into_iter().map(|(loss, _)| loss).sum();
    }
    let sums = targets.chunks(model).map(|chunk| {
        let logits = targets.scores(model, x.clone().select(0, chunk.positions));
        let losses = host(flat(losses(logits, chunk.tokens).0));
        summed(&losses[..chunk.pairs.len()])
    });
    sums.sum()
}

/// The negative log-likelihood of each token in nats, and whether it is the likeliest; in the order
/// of the targets.
pub fn next_token_scores(model: &Model, x: &Tensor<2>, targets: Targets) -> Vec<(f64, bool)> {
    if let Some(head) = on_cpu::head(model, x, targets) {
        return head.losses(targets);
    }
    let of_chunk = |chunk: Chunk| -> Vec<(f64, bool)> {
        let logits = targets.scores(model, x.clone().select(0, chunk.positions));
        let best = logits.clone().argmax(1).into_data().convert::<i64>();
        let best: Vec<i64> = best.try_into_vec().expect("converted to i64 just before");
        let losses = host(flat(losses(logits, chunk.tokens).0));
        let judged = losses.into_iter().zip(best).zip(chunk.pairs);
        judged.map(|((loss, best), pair)| (f64::from(loss), best == i64::from(pair.1))).collect()
    };
    targets.chunks(model).flat_map(of_chunk).collect()
}

/// The same sum, with the gradient of `Σ scale · loss` with respect to `x`; gradients of the final
/// norm and the output projection go into `sums` where they learn.
pub fn next_token_backward(
    model: &Model,
    x: &Tensor<2>,
    targets: Targets,
    scales: Scales,
    sums: &mut Gradients,
) -> (LossSum, Tensor<2>) {
    if let Some(head) = on_cpu::head(model, x, targets) {
        return head.backward(targets, scales, sums);
    }
    #[cfg(feature = "gpu")]
    if on_gpu::takes(model, x) {
        return on_gpu::backward(model, x, targets, scales, sums);
    }
    let (matrix, computing) = (model.projection(), model.computing);
    let mut total = LossSum::default();
    let mut dx = Tensor::zeros(x.dims(), &model.device);
    let mut first = 0;
    for chunk in targets.chunks(model) {
        let scale = chunk.scale(scales, first, &model.device);
        first += chunk.pairs.len();
        let mut head = model.head.tracked();
        head.config = targets.logits(head.config);
        let input = x.clone().select(0, chunk.positions.clone()).autodiff().require_grad();
        let normed = head.hidden(input.clone()); // [chunk, hidden], on a tape of its own
        let hidden = normed.clone().inner();

        let logits = head.scores(&hidden, matrix, computing);
        let slopes = head.cap_slopes(&logits, &chunk.tokens);
        let (loss, probabilities) = losses(logits, chunk.tokens.clone());
        total = total.plus(chunk.sum(loss));

        // d/dz = softmax − onehot; the one-hot part is a lookup of rows of the projection.
        let mut d_logits = scale.times(probabilities);
        let (mut wanted, mut less) = (matrix.rows(&chunk.tokens), hidden.clone());
        if let Some(CapSlopes { all, of_targets }) = slopes {
            d_logits = d_logits * all;
            (wanted, less) = (wanted * of_targets.clone(), less * of_targets);
        }
        let wanted = scale.times(wanted);
        let d_hidden = chunk.only_targets(matrix.back(&d_logits, computing) - wanted);
        if matrix.learns() {
            let (hidden, less) = (chunk.only_targets(hidden), chunk.only_targets(less));
            let less = scale.times(less).neg();
            let factors = (&d_logits, &hidden);
            matrix.add_scores_gradient(sums, factors, (&chunk.tokens, &less), computing);
        }
        let mut tapes = [GivenGradients::of(normed, d_hidden).backward()];
        sums.collect(&mut tapes, |visitor| head.norm.visit(None, visitor));
        let d_input = input.grad_remove(&mut tapes[0]).expect("the input is a leaf");
        dx = dx.select_assign(0, chunk.positions, d_input, IndexingUpdateOp::Add);
    }
    (total, dx)
}

struct Chunk<'a> {
    pairs: &'a [(u32, u32)],
    /// Those of the pairs, and zeros that fill up.
    positions: Tensor<1, Int>,
    tokens: Tensor<1, Int>,
    /// Whether they are filled up to sizes that come again.
    pads: bool,
    /// `[chunk, 1]`: 1 for a target and 0 for what fills up; made when it is wanted.
    targets: OnceCell<Tensor<2>>,
}

impl<'a> Chunk<'a> {
    /// Filled up to a multiple of `pad_multiple`, but to no more than `most`.
    fn new(pairs: &'a [(u32, u32)], pad_multiple: usize, most: usize, device: &Device) -> Self {
        let size = pairs.len().next_multiple_of(pad_multiple.max(1)).min(most);
        let filled = |number: fn(&(u32, u32)) -> u32| {
            let all = pairs.iter().map(number).chain(std::iter::repeat(0)).take(size);
            indices(all, device)
        };
        let (pads, targets) = (pad_multiple > 1, OnceCell::new());
        let (positions, tokens) = (filled(|pair| pair.0), filled(|pair| pair.1));
        Self { pairs, positions, tokens, pads, targets }
    }

    /// What its rows are multiplied with: the scales from a first target on.
    fn scale(&self, scales: Scales, first: usize, device: &Device) -> ChunkScale {
        match scales {
            Scales::Same(scale) => ChunkScale::Number(scale),
            Scales::Each(_) => {
                let size = self.positions.dims()[0];
                let mut numbers = scales.numbers(first, self.pairs.len()).into_owned();
                numbers.resize(size, 0.0);
                ChunkScale::Rows(from_vec(numbers, [size, 1], device))
            }
        }
    }

    /// The same rows, those that fill up zero.
    fn only_targets(&self, rows: Tensor<2>) -> Tensor<2> {
        if !self.pads {
            return rows;
        }
        let targets = self.targets.get_or_init(|| {
            let size = self.positions.dims()[0];
            let mut targets = vec![0.0; size];
            targets[..self.pairs.len()].fill(1.0);
            from_vec(targets, [size, 1], &rows.device())
        });
        rows * targets.clone()
    }

    /// The sum of losses `[chunk, 1]`.
    fn sum(&self, losses: Tensor<2>) -> LossSum {
        if losses.device() == Device::flex() {
            return LossSum::Number(summed(&host(flat(losses))[..self.pairs.len()]));
        }
        LossSum::OnDevice(self.only_targets(losses).sum())
    }
}

/// What rows of a chunk are multiplied with.
enum ChunkScale {
    Number(f64),
    /// `[chunk, 1]`.
    Rows(Tensor<2>),
}

impl ChunkScale {
    fn times(&self, rows: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Number(scale) => rows.mul_scalar(*scale),
            Self::Rows(scales) => rows * scales.clone(),
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
fn summed(losses: &[f32]) -> f64 {
    losses.iter().copied().map(f64::from).sum()
}
