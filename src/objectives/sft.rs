//! Supervised fine-tuning: the negative log-likelihood of the target tokens, as the mean over all
//! of a step (TRL's `SFTTrainer`). Where records have weights (`data.sample_weight`), each loss is
//! multiplied with that of its record; what it is divided by stays the number of target tokens, so
//! that a weight means the same in every batch.

use burn::tensor::Tensor;

use super::{
    Loss, LossSum, Objective, ObjectiveEntry, Records, Scales, Supervised, next_token_backward,
    next_token_loss, next_token_scores,
};
use crate::data::Batch;
use crate::model::Gradients;

pub(super) const ENTRY: ObjectiveEntry =
    ObjectiveEntry { name: "sft", section: None, records: Records::Any, build: |_| Box::new(Sft) };

#[derive(Debug)]
struct Sft;

impl Objective for Sft {
    fn count(&self, batch: &Batch) -> u64 {
        batch.targets.len() as u64
    }

    fn weighs_tokens(&self) -> bool {
        true
    }

    fn loss(&self, batch: Supervised) -> Loss {
        let weights = &batch.batch.weights;
        let sum = match weights.is_empty() {
            true => next_token_loss(batch.model, batch.x, batch.targets),
            false => weighted(batch, weights),
        };
        Loss { sum: LossSum::Number(sum), metrics: Vec::new() }
    }

    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>) {
        let weights = &batch.batch.weights;
        if !weights.is_empty() {
            let sum = LossSum::Number(weighted(batch, weights));
            #[expect(clippy::cast_possible_truncation)] // gradients are f32
            let scaled = |weight: &f32| (f64::from(*weight) * scale) as f32;
            let scales: Vec<f32> = weights.iter().map(scaled).collect();
            let scales = Scales::Each(&scales);
            let (_, dx) = next_token_backward(batch.model, batch.x, batch.targets, scales, sums);
            return (Loss { sum, metrics: Vec::new() }, dx);
        }
        let scale = Scales::Same(scale);
        let (sum, dx) = next_token_backward(batch.model, batch.x, batch.targets, scale, sums);
        (Loss { sum, metrics: Vec::new() }, dx)
    }
}

/// The sum of the losses of targets, each times its weight.
fn weighted(batch: Supervised, weights: &[f32]) -> f64 {
    let scores = next_token_scores(batch.model, batch.x, batch.targets);
    scores.iter().zip(weights).map(|((loss, _), weight)| loss * f64::from(*weight)).sum()
}
