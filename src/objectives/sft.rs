//! Supervised fine-tuning: the negative log-likelihood of the target tokens, as the mean over all
//! of a step (TRL's `SFTTrainer`).

use burn::tensor::Tensor;

use super::{
    Loss, LossSum, Objective, ObjectiveEntry, Records, Scales, Supervised, next_token_backward,
    next_token_loss,
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

    fn loss(&self, batch: Supervised) -> Loss {
        let sum = next_token_loss(batch.model, batch.x, batch.targets);
        Loss { sum: LossSum::Number(sum), metrics: Vec::new() }
    }

    fn backward(&self, batch: Supervised, scale: f64, sums: &mut Gradients) -> (Loss, Tensor<2>) {
        let scale = Scales::Same(scale);
        let (sum, dx) = next_token_backward(batch.model, batch.x, batch.targets, scale, sums);
        (Loss { sum, metrics: Vec::new() }, dx)
    }
}
