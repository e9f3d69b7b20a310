//! What a model with a head for labels makes of texts.

use burn::tensor::Device;

use super::label_metrics::LabelRecord;
use crate::config::{ProblemType, ScoreHead};
use crate::data::classified::{TextLabel, arranged};
use crate::data::{Batch, Case, CorpusEntry, Example, PackedEntries, RecordId};
use crate::device;
use crate::engine::{MicroBatchSplit, Size, target_pairs, upload};
use crate::error::{Error, Result};
use crate::files::Digest;
use crate::model::Model;
use crate::objectives::{Targets, label_scores};

/// A text without a label, as one that has one: whatever stands behind its last token.
pub fn unlabelled(mut tokens: Vec<u32>) -> Example {
    let mut loss_mask = vec![false; tokens.len()];
    tokens.push(0);
    loss_mask.push(true);
    Example { tokens, loss_mask }
}

/// The scores of each text, whose labels stand behind it. Several are computed in a row.
///
/// # Errors
/// When the device fails, or a score is not finite.
pub fn scores(
    model: &Model,
    examples: &[Example],
    (max_seq_len, rows): (usize, usize),
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Vec<f64>>> {
    let record = RecordId { file: "".into(), line: 0 };
    let entry = |example: &Example| {
        let (record, digest) = (record.clone(), Digest::of(&[]));
        CorpusEntry { record, digest, weight: 1.0, margin: 0.0, example: example.clone() }
    };
    let entries: Vec<CorpusEntry> = examples.iter().map(entry).collect();
    let longest = entries.iter().map(|entry| entry.example.tokens.len()).max().unwrap_or(1);
    let packed = PackedEntries::new(entries, max_seq_len.max(longest));
    let mut found = vec![Vec::new(); examples.len()];
    for (batch, together) in packed.batches(rows) {
        let size = Size::of(&batch, rows.max(1), MicroBatchSplit::default(), model.computing);
        let batch = arranged(&batch.padded(size.rows, size.length));
        let pairs = target_pairs(&batch);
        let scores = batch_scores(model, &batch)?;
        for ((position, _), scores) in pairs.iter().zip(scores) {
            let position = *position as usize;
            let document = batch.documents[position] as usize - 1;
            found[together[position / batch.length][document] as usize] = scores;
        }
        progress(batch.tokens_without_padding());
    }
    Ok(found)
}

/// What a model makes of the texts of an evaluation; nothing of those whose labels were cut off.
///
/// # Errors
/// Those of [`scores`].
pub fn of_labels(
    model: &Model,
    head: &ScoreHead,
    cases: &[Case],
    rows: (usize, usize),
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Option<LabelRecord>>> {
    let Some(problem_type) = head.problem_type else { return Ok(vec![None; cases.len()]) };
    let whole = |case: &Case| case.examples.first().cloned();
    let examples: Vec<Example> = cases.iter().filter_map(whole).collect();
    let mut scores = scores(model, &examples, rows, progress)?.into_iter();
    let mut all = Vec::with_capacity(cases.len());
    for case in cases {
        let Some(example) = case.examples.first() else {
            all.push(None);
            continue;
        };
        let scores = scores.next().unwrap_or_default();
        let first = example.loss_mask.iter().position(|target| *target).unwrap_or_default();
        let label = TextLabel::of_tokens(problem_type, scores.len(), &example.tokens[first..]);
        let found = probabilities(head.problem_type, &scores, head.temperature);
        all.push(label.map(|label| LabelRecord {
            problem_type,
            wanted: label.numbers(scores.len()),
            found: found.unwrap_or(scores),
        }));
    }
    Ok(all)
}

/// The scores of each text of an arranged batch.
///
/// # Errors
/// When the device fails, or a score is not finite.
pub fn batch_scores(model: &Model, batch: &Batch) -> Result<Vec<Vec<f64>>> {
    let pairs = target_pairs(batch);
    let found = device::room_for(batch.rows).and_then(|()| {
        device::attempt(model.device != Device::flex(), || {
            let (tokens, context) = upload(model, batch);
            let x = model.hidden(tokens, &context);
            label_scores(model, &x, Targets { pairs: &pairs, chunk: usize::MAX, temperature: 1.0 })
        })
    });
    let found = found.map_err(|failure| failure.while_doing("scoring texts"))?;
    match found.iter().flatten().all(|score| score.is_finite()) {
        true => Ok(found),
        false => Err(Error::not_finite("the model gives scores that are not finite")
            .hint("its weights are damaged, or the training that made them diverged")),
    }
}

/// The probabilities of labels with these scores, divided by a temperature; none where scores are
/// numbers of their own.
pub fn probabilities(
    problem: Option<ProblemType>,
    scores: &[f64],
    temperature: f64,
) -> Option<Vec<f64>> {
    let scaled = scores.iter().map(|score| score / temperature);
    match problem? {
        ProblemType::SingleLabel => {
            let most = scaled.clone().fold(f64::NEG_INFINITY, f64::max);
            let all: Vec<f64> = scaled.map(|score| (score - most).exp()).collect();
            let sum: f64 = all.iter().sum();
            Some(all.into_iter().map(|part| part / sum).collect())
        }
        ProblemType::MultiLabel => Some(scaled.map(|score| 1.0 / (1.0 + (-score).exp())).collect()),
        ProblemType::Regression => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_moves_probabilities_and_no_decision() {
        let scores = [1.0, 3.0, -800.0];
        for temperature in [0.5, 1.0, 4.0] {
            let all = probabilities(Some(ProblemType::SingleLabel), &scores, temperature).unwrap();
            assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let wanted = 1.0 / (1.0 + (-2.0 / temperature).exp());
            assert!((all[1] - wanted).abs() < 1e-12, "{all:?}");
        }
        let each = probabilities(Some(ProblemType::MultiLabel), &[0.0, 2.0], 2.0).unwrap();
        assert_eq!(each[0], 0.5);
        assert!((each[1] - 1.0 / (1.0 + (-1.0_f64).exp())).abs() < 1e-12);
        assert_eq!(probabilities(Some(ProblemType::Regression), &scores, 1.0), None);
        assert_eq!(probabilities(None, &scores, 1.0), None);
    }
}
