//! A temperature for the probabilities of labels, fitted at the end of a run on its validation data
//! (Guo et al. 2017, "On Calibration of Modern Neural Networks"): the one with the least negative
//! log-likelihood.

use super::head::RunHead;
use super::prepare::Prepared;
use crate::artifact::score_head::Calibration;
use crate::data::Batch;
use crate::data::classified::{arranged, labels};
use crate::engine::Trainer;
use crate::error::{Error, Result};
use crate::evaluation::label_scores::{batch_scores, probabilities};
use crate::evaluation::{Draws, LabelRecord, label_statistic, reliability};
use crate::event::{Event, Observer};
use crate::files::Digest;

/// Texts are measured by temperatures of which they had no part, in so many parts.
const FOLDS: usize = 5;
/// Between which temperatures the best one is looked for, as logarithms.
const RANGE: [f64; 2] = [-4.0, 4.0];
/// So often the range is made smaller by the golden section: to less than 1e-8 of it.
const SECTIONS: usize = 40;

/// Scores of a text, and which labels it has.
type Scored = (Vec<f64>, LabelRecord);

/// Fits the temperature of a run that asks for it.
///
/// # Errors
/// When the device fails, or no validation data is left.
pub(super) fn fit(
    prepared: &mut Prepared,
    trainer: &Trainer,
    observer: &mut dyn Observer,
) -> Result<()> {
    let Some(RunHead { head, .. }) = &prepared.score_head else { return Ok(()) };
    let Some(problem) = head.problem_type.filter(|_| trainer.objective.calibrates()) else {
        return Ok(());
    };
    let (model, count) = (&trainer.model, head.labels.len());
    let mut all: Vec<Scored> = Vec::new();
    for batch in prepared.validation.iter().map(arranged) {
        let labels = labels(&batch, problem, count).into_iter().flatten();
        for (scores, label) in batch_scores(model, &batch)?.into_iter().zip(labels) {
            let record = LabelRecord {
                problem_type: problem,
                found: Vec::new(),
                wanted: label.numbers(count),
            };
            all.push((scores, record));
        }
    }
    if all.is_empty() {
        return Err(Error::data("there is no validation data to fit a temperature on"));
    }
    let temperature = best(&all.iter().collect::<Vec<_>>());
    let mut after = Vec::with_capacity(all.len());
    for (place, text) in all.iter().enumerate() {
        // Neighbours in the file may be alike.
        let others = (0..all.len()).filter(|it| it % FOLDS != place % FOLDS);
        let others: Vec<&Scored> = others.map(|it| &all[it]).collect();
        let of_others = if others.is_empty() { temperature } else { best(&others) };
        after.push(at(text, of_others));
    }
    let before: Vec<LabelRecord> = all.iter().map(|text| at(text, 1.0)).collect();
    let draws = Draws { seed: prepared.config.seed, samples: 1000, confidence: 0.95 };
    let after: Vec<&LabelRecord> = after.iter().collect();
    let error = |records: &[&LabelRecord], times: &[u32]| {
        label_statistic("calibration_error", records, times)
    };
    let interval = draws.interval(after.len(), |times| error(&after, times));
    let before: Vec<&LabelRecord> = before.iter().collect();
    let once = vec![1; all.len()];
    let found = Calibration {
        records: all.len() as u64,
        loss: [loss(&before), loss(&after)],
        calibration_error: [error(&before, &once), error(&after, &once)],
        bins: [reliability(&before), reliability(&after)],
        interval: interval.map(|it| [it.low, it.high]),
        sha256: digest(&prepared.validation),
    };
    observer.on(Event::Note(format!(
        "temperature {temperature:.4} on {} validation texts: calibration error {:.4} before, \
         {:.4} after",
        found.records, found.calibration_error[0], found.calibration_error[1]
    )));
    if let Some(of) = &mut prepared.score_head {
        of.head.temperature = temperature;
        of.calibration = Some(found);
    }
    Ok(())
}

/// A text at a temperature.
fn at((scores, label): &Scored, temperature: f64) -> LabelRecord {
    let found = probabilities(Some(label.problem_type), scores, temperature).unwrap_or_default();
    LabelRecord { found, ..label.clone() }
}

#[expect(clippy::cast_precision_loss)] // texts are far fewer
fn loss(records: &[&LabelRecord]) -> f64 {
    records.iter().map(|record| record.score().loss_sum).sum::<f64>() / records.len() as f64
}

/// The temperature with the least loss, which has a single minimum along its reciprocal.
fn best(all: &[&Scored]) -> f64 {
    let of = |log: f64| {
        let records: Vec<LabelRecord> = all.iter().map(|text| at(text, log.exp())).collect();
        loss(&records.iter().collect::<Vec<_>>())
    };
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let [mut low, mut high] = RANGE;
    for _ in 0..SECTIONS {
        let width = ratio * (high - low);
        let (left, right) = (high - width, low + width);
        if of(left) <= of(right) { high = right } else { low = left }
    }
    f64::midpoint(low, high).exp()
}

/// Of all that was fitted on.
fn digest(batches: &[Batch]) -> Digest {
    let all: String = batches.iter().map(|batch| format!("{}\n", batch.digest())).collect();
    Digest::of(all.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProblemType;

    fn texts(scale: f64) -> Vec<Scored> {
        // Seven of ten have the label that gets ln(7/3) more at the right temperature.
        let text = |number: usize| {
            let scores = vec![scale * (7.0_f64 / 3.0).ln(), 0.0];
            let wanted = if number < 7 { vec![1.0, 0.0] } else { vec![0.0, 1.0] };
            let problem_type = ProblemType::SingleLabel;
            (scores, LabelRecord { problem_type, found: Vec::new(), wanted })
        };
        (0..10).map(text).collect()
    }

    #[test]
    fn the_temperature_makes_confidence_what_is_right() {
        for scale in [0.3, 1.0, 5.0] {
            let all = texts(scale);
            let found = best(&all.iter().collect::<Vec<_>>());
            assert!((found / scale - 1.0).abs() < 1e-5, "{found} {scale}");
            let after: Vec<LabelRecord> = all.iter().map(|text| at(text, found)).collect();
            let after: Vec<&LabelRecord> = after.iter().collect();
            assert!(label_statistic("calibration_error", &after, &[1; 10]) < 1e-6);
        }
    }
}
