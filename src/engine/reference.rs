//! The base model as the reference of objectives that compare with it: the same weights with
//! adapters off. Log-probabilities are computed in the step that needs them, on its own rows: they
//! depend on nothing but those and the base, so that a resumed run has the same bits, and data need
//! neither end nor come again.

use burn::tensor::Tensor;

use crate::data::Batch;
use crate::engine::output_rows::only_targets;
use crate::engine::{target_pairs, upload};
use crate::model::Model;
use crate::objectives::{Objective, Targets, next_token_scores};

/// The log-probability of each target of an arranged batch by the base model, in nats; none where
/// the objective needs none. At most `chunk` targets have logits at once.
pub fn reference_log_probs(
    model: &Model,
    objective: &dyn Objective,
    batch: &Batch,
    chunk: usize,
) -> Option<Vec<f64>> {
    if !objective.needs_reference() {
        return None;
    }
    Some(log_probs(model, batch, (true, objective.temperature()), chunk))
}

/// How much likelier the model finds all targets of a batch than the base model, in nats, of which
/// `reference` holds the log-probabilities.
pub fn gain(model: &Model, batch: &Batch, reference: &[f64], chunk: usize) -> f64 {
    let own = log_probs(model, batch, (false, 1.0), chunk);
    own.iter().zip(reference).map(|(own, reference)| own - reference).sum()
}

/// The log-probability of each target at a temperature, with adapters off or on.
pub fn log_probs(
    model: &Model,
    batch: &Batch,
    (adapters_off, temperature): (bool, f32),
    chunk: usize,
) -> Vec<f64> {
    let (x, pairs) = before_head(model, batch, adapters_off);
    let scores = next_token_scores(model, &x, Targets { pairs: &pairs, chunk, temperature });
    scores.into_iter().map(|(loss, _)| -loss).collect()
}

/// What leaves the layers, with rows for targets alone where those are few, and the row and token
/// of each target. With adapters that change nothing, bit for bit the same as with adapters off.
pub fn before_head(
    model: &Model,
    batch: &Batch,
    adapters_off: bool,
) -> (Tensor<2>, Vec<(u32, u32)>) {
    let (tokens, context) = upload(model, batch);
    let context = if adapters_off { context.without_adapters() } else { context };
    let mut pairs = target_pairs(batch);
    let only = only_targets(&mut pairs, batch, &context);
    let last = model.layers.len().saturating_sub(1);
    let embedded = model.embed(&tokens, &context);
    let x = model.layers.iter().enumerate().fold(embedded, |x, (index, layer)| {
        let context = only.as_ref().filter(|_| index == last).unwrap_or(&context);
        layer.forward(x, context)
    });
    (x, pairs)
}
