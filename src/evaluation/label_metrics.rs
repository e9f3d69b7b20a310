//! How well labels are scored: the numbers that scikit-learn has under these names, the expected
//! calibration error of probabilities, and what was taken for what.

use serde::{Deserialize, Serialize};

use super::score::Score;
use crate::artifact::markup::code;
use crate::artifact::score_head::ReliabilityBin;
use crate::config::{ProblemType, ScoreHead};

/// The numbers of models that score labels, beside `loss`, `perplexity` and `accuracy`.
pub const LABEL_METRICS: [&str; 5] =
    ["f1_macro", "f1_micro", "auroc", "calibration_error", "mean_absolute_error"];
/// Bins of confidence (Guo et al. 2017, "On Calibration of Modern Neural Networks").
const BINS: u32 = 15;

/// What a model makes of a text with labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelRecord {
    /// What labels are to each other.
    pub problem_type: ProblemType,
    /// For each label: its probability, or the number that is predicted.
    pub found: Vec<f64>,
    /// For each label: 1 where the text has it, else 0; or the number that is right.
    pub wanted: Vec<f64>,
}

impl LabelRecord {
    /// The loss that such a model is trained with, and whether all is right.
    pub fn score(&self) -> Score {
        #[expect(clippy::cast_precision_loss)] // labels are few
        let count = self.found.len() as f64;
        let pairs = self.found.iter().zip(&self.wanted);
        // A probability that is 0 in f64 was wrong by more than 700 nats.
        let log = |part: f64| part.max(f64::MIN_POSITIVE).ln();
        let loss_sum = match self.problem_type {
            ProblemType::SingleLabel => pairs.map(|(found, wanted)| -wanted * log(*found)).sum(),
            ProblemType::MultiLabel => {
                let of = |(found, wanted): (&f64, &f64)| {
                    if *wanted > 0.5 { -log(*found) } else { -log(1.0 - found) }
                };
                pairs.map(of).sum::<f64>() / count
            }
            ProblemType::Regression => {
                pairs.map(|(found, wanted)| (found - wanted).powi(2)).sum::<f64>() / count
            }
        };
        let right =
            (0..self.found.len()).all(|label| self.says(label) == (self.wanted[label] > 0.5));
        Score { loss_sum, targets: 1, correct: u64::from(right) }
    }

    /// The label that is likeliest.
    fn best(&self) -> usize {
        let all = 0..self.found.len();
        let more = |a: &usize, b: &usize| self.found[*a].total_cmp(&self.found[*b]).then(b.cmp(a));
        all.max_by(more).unwrap_or_default()
    }

    /// Whether the model says that the text has a label.
    fn says(&self, label: usize) -> bool {
        match self.problem_type {
            ProblemType::SingleLabel => label == self.best(),
            _ => self.found[label] > 0.5,
        }
    }

    /// Whether a number is one of such a model.
    pub fn has(&self, metric: &str) -> bool {
        let regression = self.problem_type == ProblemType::Regression;
        match metric {
            "loss" => true,
            "mean_absolute_error" => regression,
            _ => !regression,
        }
    }
}

/// One of [`LABEL_METRICS`] of records that were drawn so often each.
pub fn statistic(metric: &str, records: &[&LabelRecord], times: &[u32]) -> f64 {
    let drawn: Vec<(&LabelRecord, f64)> = records
        .iter()
        .zip(times)
        .filter(|(_, times)| **times > 0)
        .map(|(record, times)| (*record, f64::from(*times)))
        .collect();
    let labels = drawn.first().map_or(0, |(record, _)| record.found.len());
    match metric {
        "f1_macro" => {
            // A label that neither a text has nor the model finds is not one of these records.
            let each = (0..labels).filter_map(|label| f1([counts(&drawn, label)].into_iter()));
            mean(each.map(|f1| (f1, 1.0)))
        }
        "f1_micro" => f1((0..labels).map(|label| counts(&drawn, label))).unwrap_or(f64::NAN),
        "auroc" => {
            // Of two labels, either one tells of the other.
            let single =
                drawn.first().is_some_and(|(it, _)| it.problem_type == ProblemType::SingleLabel);
            let first = if single && labels == 2 { 1 } else { 0 };
            mean((first..labels).filter_map(|label| auroc(&drawn, label)).map(|area| (area, 1.0)))
        }
        "calibration_error" => calibration_error(&drawn),
        _ => mean(drawn.iter().flat_map(|(record, times)| {
            let pairs = record.found.iter().zip(&record.wanted);
            pairs.map(move |(found, wanted)| ((found - wanted).abs(), *times))
        })),
    }
}

fn mean(all: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (sum, weight) = all.fold((0.0, 0.0), |sum, (x, times)| (sum.0 + x * times, sum.1 + times));
    sum / weight
}

/// How often a label was found rightly, found wrongly, and missed.
fn counts(drawn: &[(&LabelRecord, f64)], label: usize) -> [f64; 3] {
    let mut counts = [0.0; 3];
    for (record, times) in drawn {
        match (record.says(label), record.wanted[label] > 0.5) {
            (true, true) => counts[0] += times,
            (true, false) => counts[1] += times,
            (false, true) => counts[2] += times,
            (false, false) => {}
        }
    }
    counts
}

/// The harmonic mean of precision and recall over all counts; none where there is nothing.
fn f1(counts: impl Iterator<Item = [f64; 3]>) -> Option<f64> {
    let [right, wrong, missed] =
        counts.fold([0.0; 3], |sum, of| [sum[0] + of[0], sum[1] + of[1], sum[2] + of[2]]);
    let all = 2.0 * right + wrong + missed;
    (all > 0.0).then(|| 2.0 * right / all)
}

/// How often a text that has the label gets more than one that has it not (Mann and Whitney); none
/// where all have it, or none.
fn auroc(drawn: &[(&LabelRecord, f64)], label: usize) -> Option<f64> {
    let of = |(record, times): &(&LabelRecord, f64)| {
        (record.found[label], record.wanted[label] > 0.5, *times)
    };
    let mut all: Vec<(f64, bool, f64)> = drawn.iter().map(of).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut has_all, mut more) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let sum =
            |wanted: bool| equal.iter().filter(|it| it.1 == wanted).map(|it| it.2).sum::<f64>();
        let (has, has_not) = (sum(true), sum(false));
        more += has * (below + has_not / 2.0);
        has_all += has;
        below += has_not;
    }
    (has_all > 0.0 && below > 0.0).then(|| more / (has_all * below))
}

/// The bins of a reliability diagram that are not empty.
pub fn reliability(records: &[&LabelRecord]) -> Vec<ReliabilityBin> {
    let bins = bins_of(&records.iter().map(|record| (*record, 1.0)).collect::<Vec<_>>());
    let bin = |[count, confidence, right]: [f64; 3]| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
        let whole = count as u64;
        ReliabilityBin { count: whole, confidence: confidence / count, accuracy: right / count }
    };
    bins.into_iter().filter(|bin| bin[0] > 0.0).map(bin).collect()
}

/// The mean distance between confidence and how often it is right, in bins.
fn calibration_error(drawn: &[(&LabelRecord, f64)]) -> f64 {
    let bins = bins_of(drawn);
    let all: f64 = bins.iter().map(|bin| bin[0]).sum();
    bins.iter().map(|[_, confidence, right]| (confidence - right).abs()).sum::<f64>() / all
}

/// How many, the sum of their probabilities, and how many are right, in bins of equal width from 0
/// to 1: of the likeliest label of each text or, where a text may have several, of every label.
fn bins_of(drawn: &[(&LabelRecord, f64)]) -> Vec<[f64; 3]> {
    let mut bins = vec![[0.0_f64; 3]; BINS as usize];
    let mut add = |confidence: f64, right: bool, times: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 0 to 1
        let bin = ((confidence * f64::from(BINS)).ceil() as usize).clamp(1, BINS as usize) - 1;
        bins[bin][0] += times;
        bins[bin][1] += times * confidence;
        bins[bin][2] += if right { times } else { 0.0 };
    };
    for (record, times) in drawn {
        match record.problem_type {
            ProblemType::SingleLabel => {
                let best = record.best();
                add(record.found[best], record.wanted[best] > 0.5, *times);
            }
            _ => {
                for (found, wanted) in record.found.iter().zip(&record.wanted) {
                    add(*found, *wanted > 0.5, *times);
                }
            }
        }
    }
    bins
}

/// What was taken for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// What labels are to each other.
    pub problem_type: ProblemType,
    /// The labels.
    pub labels: Vec<String>,
    /// Where a text has one label: for each label, how many texts that have it were taken for each.
    /// Where it may have several: for each, how many texts have it not and were found so, have it
    /// not and were found to, have it and were missed, have it and were found to.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Of some records; none where there are none, or they are no labels.
    pub fn of(head: &ScoreHead, records: &[&LabelRecord]) -> Option<Self> {
        let problem = records.first()?.problem_type;
        let labels = head.labels.clone();
        let mut counts = match problem {
            ProblemType::SingleLabel => vec![vec![0; labels.len()]; labels.len()],
            ProblemType::MultiLabel => vec![vec![0; 4]; labels.len()],
            ProblemType::Regression => return None,
        };
        for record in records {
            for (label, counts) in counts.iter_mut().enumerate() {
                let has = record.wanted[label] > 0.5;
                match problem {
                    ProblemType::SingleLabel if has => counts[record.best()] += 1,
                    ProblemType::SingleLabel => {}
                    _ => counts[2 * usize::from(has) + usize::from(record.says(label))] += 1,
                }
            }
        }
        Some(Self { problem_type: problem, labels, counts })
    }
}

impl Confusion {
    /// A Markdown table, in which labels are not what steers it.
    pub fn to_markdown(&self) -> String {
        let names: Vec<String> = self.labels.iter().map(|label| code(label)).collect();
        let heads: Vec<String> = match self.problem_type {
            ProblemType::SingleLabel => names.clone(),
            _ => ["right not", "wrong", "missed", "right"].map(str::to_owned).to_vec(),
        };
        let mut out = format!("| is, found | {} |\n", heads.join(" | "));
        out += &format!("| --- |{}\n", " ---: |".repeat(heads.len()));
        for (name, row) in names.iter().zip(&self.counts) {
            let cells: Vec<String> = row.iter().map(u64::to_string).collect();
            out += &format!("| {name} | {} |\n", cells.join(" | "));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(found: &[f64], label: usize) -> LabelRecord {
        let mut wanted = vec![0.0; found.len()];
        wanted[label] = 1.0;
        LabelRecord { problem_type: ProblemType::SingleLabel, found: found.to_vec(), wanted }
    }

    fn of(metric: &str, records: &[LabelRecord]) -> f64 {
        let records: Vec<&LabelRecord> = records.iter().collect();
        statistic(metric, &records, &vec![1; records.len()])
    }

    /// The numbers of scikit-learn's `f1_score`, `roc_auc_score` (one against the rest).
    #[test]
    fn numbers_are_those_of_scikit_learn() {
        let records = [
            single(&[0.7, 0.2, 0.1], 0),
            single(&[0.1, 0.6, 0.3], 1),
            single(&[0.5, 0.3, 0.2], 1),
            single(&[0.2, 0.2, 0.6], 2),
            single(&[0.3, 0.4, 0.3], 2),
        ];
        assert!((of("f1_micro", &records) - 0.6).abs() < 1e-12);
        let wanted = (2.0 / 3.0 + 0.5 + 2.0 / 3.0) / 3.0;
        assert!((of("f1_macro", &records) - wanted).abs() < 1e-12);
        let wanted = (1.0 + 5.0 / 6.0 + (1.0 + 1.0 + 1.0 + 1.0 + 0.5 + 1.0) / 6.0) / 3.0;
        assert!((of("auroc", &records) - wanted).abs() < 1e-12);
        // Bins of 0.7, 0.6 (twice), 0.5 and 0.4; two are right where 1.2 is hoped for.
        let wanted = (0.3 + 0.8 + 0.5 + 0.4) / 5.0;
        assert!((of("calibration_error", &records) - wanted).abs() < 1e-12);
        let head = ScoreHead {
            problem_type: Some(ProblemType::SingleLabel),
            labels: ["a", "b", "c"].map(str::to_owned).to_vec(),
            ..ScoreHead::single_score()
        };
        let all: Vec<&LabelRecord> = records.iter().collect();
        let confusion = Confusion::of(&head, &all).unwrap();
        assert_eq!(confusion.counts, [[1, 0, 0], [1, 1, 0], [0, 1, 1]]);
    }

    #[test]
    fn records_that_are_drawn_twice_count_twice() {
        let records = [single(&[0.9, 0.1], 0), single(&[0.8, 0.2], 1), single(&[0.3, 0.7], 1)];
        let twice = [&records[..], &records[1..2]].concat();
        let drawn: Vec<&LabelRecord> = records.iter().collect();
        for metric in ["f1_macro", "f1_micro", "auroc", "calibration_error"] {
            let weighted = statistic(metric, &drawn, &[1, 2, 1]);
            assert!((weighted - of(metric, &twice)).abs() < 1e-12, "{metric}");
        }
        assert!(of("auroc", &records[..1]).is_nan());
    }

    #[test]
    fn several_labels_and_numbers_have_their_own() {
        let several = |found: [f64; 2], wanted: [f64; 2]| LabelRecord {
            problem_type: ProblemType::MultiLabel,
            found: found.to_vec(),
            wanted: wanted.to_vec(),
        };
        let records = [several([0.9, 0.2], [1.0, 0.0]), several([0.4, 0.6], [1.0, 1.0])];
        assert_eq!(records.each_ref().map(|record| record.score().correct), [1, 0]);
        assert!((of("f1_micro", &records) - 4.0 / 5.0).abs() < 1e-12);
        let wanted = (0.1 + 0.2 + 0.6 + 0.4) / 4.0;
        assert!((of("calibration_error", &records) - wanted).abs() < 1e-12);
        let loss = records[1].score().loss_sum;
        assert!((loss + (0.4_f64.ln() + 0.6_f64.ln()) / 2.0).abs() < 1e-12);
        let number = LabelRecord {
            problem_type: ProblemType::Regression,
            found: vec![1.0, 3.0],
            wanted: vec![2.0, 1.0],
        };
        assert_eq!((number.score().loss_sum, number.has("accuracy")), (2.5, false));
        assert_eq!(of("mean_absolute_error", &[number]), 1.5);
    }
}
