//! Loss over a fixed set of batches: the mean over what the objective counts.

use crate::data::Batch;
use crate::engine::sizes::{Size, pieces};
use crate::engine::{MicroBatchSplit, target_pairs, upload};
use crate::event::Evaluation;
use crate::model::Model;
use crate::objectives::{Objective, Supervised, Targets};

/// Mean loss over what the objective counts; `None` when the batches hold no target. At most `rows`
/// rows are computed at once, and at most `chunk` target tokens have logits.
pub fn evaluate(
    model: &Model,
    objective: &dyn Objective,
    batches: &[Batch],
    step: u64,
    (rows, chunk): (Option<usize>, usize),
) -> Option<Evaluation> {
    let mut sum = 0.0;
    let mut target_tokens = 0_u64;
    let mut add = |batch: &Batch| {
        let batch = &*objective.arrange(batch);
        let (tokens, context) = upload(model, batch);
        let x = model.hidden(tokens, &context);
        let pairs = target_pairs(batch);
        let targets = Targets { pairs: &pairs, chunk };
        sum += objective.loss(Supervised { model, x: &x, batch, targets });
        target_tokens += pairs.len() as u64;
    };
    let whole = batches.iter().map(|batch| batch.rows).max().unwrap_or(0);
    let micro_batch_split = MicroBatchSplit { rows, ..MicroBatchSplit::default() };
    for batch in batches {
        let size = Size::of(batch, whole, micro_batch_split, model.computing);
        pieces(batch, size, model.computing).iter().for_each(|piece| add(&piece.batch));
    }
    let count: u64 = batches.iter().map(|batch| objective.count(batch)).sum();
    #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
    let mean = sum / count as f64;
    (count > 0).then_some(Evaluation { step, eval_loss: mean, target_tokens })
}
