//! How well a model predicts the judged tokens of each record.

use std::collections::BTreeMap;

use burn::tensor::Device;

use super::score::Score;
use crate::data::{Batch, Case, packed_cases};
use crate::device::{self, Failure};
use crate::engine::{MicroBatchSplit, Size, target_pairs, upload};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::objectives::{Targets, next_token_scores};

/// Judged positions of which logits exist at once.
const CHUNK: usize = 512;

/// Sum of losses, judged tokens and correct ones of each case. Sums go in the order of the tokens,
/// so they do not depend on how rows are packed but for the rounding of the forward pass.
pub fn losses(
    model: &Model,
    cases: &[Case],
    max_seq_len: usize,
    micro_batch_size: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Score>> {
    let (packed, owners) = packed_cases(cases, max_seq_len);
    let mut found: BTreeMap<usize, Score> = BTreeMap::new(); // by place among the examples
    for (batch, rows) in packed.batches(micro_batch_size) {
        let whole = micro_batch_size.max(1);
        let size = Size::of(&batch, whole, MicroBatchSplit::default(), model.computing);
        let batch = batch.padded(size.rows, size.length);
        for ((position, _), (loss, correct)) in
            target_pairs(&batch).iter().zip(scored(model, &batch)?)
        {
            let position = *position as usize;
            let document = batch.documents[position] as usize - 1;
            let place = rows[position / batch.length][document] as usize;
            if !loss.is_finite() {
                let record = owners[place];
                return Err(Error::not_finite("the model gives scores that are not finite")
                    .because(format!("the loss of {} is {loss}", cases[record].record))
                    .hint("its weights are damaged, or the training that made them diverged"));
            }
            let score = found.entry(place).or_default();
            score.loss_sum += loss;
            score.targets += 1;
            score.correct += u64::from(correct);
        }
        progress(batch.tokens_without_padding());
    }
    let mut all = vec![Score::default(); cases.len()];
    for (place, score) in found {
        let of_case = &mut all[owners[place]];
        of_case.loss_sum += score.loss_sum;
        of_case.targets += score.targets;
        of_case.correct += score.correct;
    }
    Ok(all)
}

/// The loss of each target of a batch and whether it is the likeliest; row by row where a device
/// has no memory for all rows together.
fn scored(model: &Model, batch: &Batch) -> Result<Vec<(f64, bool)>> {
    let scores = |batch: &Batch| {
        device::room_for(batch.rows)?;
        device::attempt(model.device != Device::flex(), || {
            let (tokens, context) = upload(model, batch);
            let x = model.hidden(tokens, &context);
            let pairs = target_pairs(batch);
            next_token_scores(model, &x, Targets::new(&pairs, CHUNK))
        })
    };
    let found = match scores(batch) {
        Err(Failure::Memory(_)) if batch.rows > 1 => {
            let rows = batch.split(1);
            let each: std::result::Result<Vec<_>, Failure> =
                rows.iter().map(|(_, row)| scores(row)).collect();
            each.map(|rows| rows.concat())
        }
        found => found,
    };
    found.map_err(|failure| failure.while_doing("measuring the loss"))
}
