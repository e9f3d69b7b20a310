//! Loss over a fixed set of batches: the mean over what the objective counts.

use crate::data::Batch;
use crate::engine::MicroBatchSplit;
use crate::engine::reference::{before_head, gain, reference_log_probs};
use crate::engine::shared_prompts::arranged;
use crate::engine::sizes::{Size, pieces};
use crate::event::Evaluation;
use crate::model::Model;
use crate::objectives::{Loss, Objective, Supervised, Targets};

/// Means over what the objective counts; `None` when the batches hold no target. At most `rows`
/// rows are computed at once, and at most `chunk` target tokens have logits.
pub fn evaluate(
    model: &Model,
    objective: &dyn Objective,
    batches: &[Batch],
    step: u64,
    (rows, chunk): (Option<usize>, usize),
) -> Option<Evaluation> {
    let base = |batch: &Batch| reference_log_probs(model, objective, batch, chunk);
    mean_loss((model, objective), batches, step, (rows, chunk), base)
}

/// What the base model makes of the targets of batches: of a model with an adapter, to be compared
/// with by others ([`evaluate_beside`]).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReferenceLogProbs(Vec<Option<Vec<f64>>>);

/// The log-probabilities of all targets by the base model of `model`, where the objective needs
/// them.
pub fn reference_of(
    model: &Model,
    objective: &dyn Objective,
    batches: &[Batch],
    chunk: usize,
) -> ReferenceLogProbs {
    let mut all = Vec::new();
    for batches in [&objective.beforehand(batches)[..], batches] {
        each_piece(model, objective, batches, None, |batch| {
            all.push(reference_log_probs(model, objective, batch, chunk));
        });
    }
    ReferenceLogProbs(all)
}

/// [`evaluate`] of a model that may not have its base within it any more, in whole batches.
pub fn evaluate_beside(
    model: &Model,
    objective: &dyn Objective,
    batches: &[Batch],
    reference: &ReferenceLogProbs,
    chunk: usize,
) -> Option<Evaluation> {
    let mut reference = reference.0.iter();
    let next = |_: &Batch| reference.next().expect("it is of the same batches").clone();
    mean_loss((model, objective), batches, 0, (None, chunk), next)
}

fn mean_loss(
    (model, objective): (&Model, &dyn Objective),
    batches: &[Batch],
    step: u64,
    (rows, chunk): (Option<usize>, usize),
    mut reference: impl FnMut(&Batch) -> Option<Vec<f64>>,
) -> Option<Evaluation> {
    let measured = objective.beforehand(batches);
    let mut gained = 0.0;
    each_piece(model, objective, &measured, rows, |batch| {
        let reference = reference(batch).unwrap_or_default();
        gained += gain(model, batch, &reference, chunk);
    });
    let known = if measured.is_empty() { None } else { objective.knowing(gained, &measured) };
    let objective = known.as_deref().unwrap_or(objective);
    let mut sums = Loss::default();
    let mut target_tokens = 0_u64;
    each_piece(model, objective, batches, rows, |batch| {
        let reference = reference(batch);
        let (x, pairs) = before_head(model, batch, false);
        let targets =
            Targets { temperature: objective.temperature(), ..Targets::new(&pairs, chunk) };
        let reference = reference.as_deref();
        let loss = objective.loss(Supervised { model, x: &x, batch, targets, reference });
        sums = std::mem::take(&mut sums).plus(loss);
        target_tokens += pairs.len() as u64;
    });
    let count: u64 = batches.iter().map(|batch| objective.count(batch)).sum();
    #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
    let means = sums.over(count as f64);
    let metrics = objective.report(&means.metrics);
    let eval_loss = means.number();
    (count > 0).then_some(Evaluation { step, eval_loss, target_tokens, metrics })
}

/// Hands on what is computed at once, as the model is to see it.
fn each_piece(
    model: &Model,
    objective: &dyn Objective,
    batches: &[Batch],
    rows: Option<usize>,
    mut with: impl FnMut(&Batch),
) {
    let whole = batches.iter().map(|batch| batch.rows).max().unwrap_or(0);
    let micro_batch_split = MicroBatchSplit { rows, ..MicroBatchSplit::default() };
    for batch in batches {
        let size = Size::of(batch, whole, micro_batch_split, model.computing);
        for piece in &pieces(batch, size, model.computing) {
            with(&arranged(model, objective, &piece.batch, true));
        }
    }
}
