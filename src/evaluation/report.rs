//! What came of an evaluation: numbers, per slice and per record, and what they are of.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::bootstrap::{Draws, Interval};
use super::label_metrics::{self, Confusion, LABEL_METRICS, LabelRecord};
use super::score::Score;
use super::slices::Slices;
use crate::artifact::markup::code;
use crate::config::ScoreHead;
use crate::data::CorpusFile;
use crate::error::{Context, Result};
use crate::files::{Digest, FileEntry, NewFile};

/// Every evaluation of a run, a line each, in its folder.
pub const HISTORY: &str = "evaluations.jsonl";
/// Version of the form; results in the cache of another version are made again.
pub const VERSION: u32 = 1;

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// File and line.
    pub id: String,
    /// The record's digest.
    pub sha256: Digest,
    /// Its tokens.
    pub tokens: u64,
    /// How well it was predicted.
    #[serde(flatten)]
    pub score: Score,
    /// How good its answers are, by task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, f64>,
    /// What a model that scores labels makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelRecord>,
}

/// A number, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The number.
    pub value: f64,
    /// Of so many records.
    pub records: u64,
    /// Bootstrap interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
}

/// Numbers by name: `loss`, `perplexity`, `accuracy`, those of labels, and the tasks.
pub type Metrics = BTreeMap<String, Metric>;

/// The slices by one property, in their order; one without records has no metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceReport {
    /// By what.
    pub by: String,
    /// Name, records and numbers of each.
    pub slices: Vec<Slice>,
}

/// One slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Its name.
    pub name: String,
    /// Records in it.
    pub records: u64,
    /// Its numbers.
    pub metrics: Metrics,
    /// Which labels were taken for which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
}

/// What was evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// As the user named it.
    pub name: String,
    /// Over everything below and how text becomes tokens.
    pub sha256: Digest,
    /// The files of which bytes were used.
    pub files: Vec<FileEntry>,
}

/// On what it was evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteRecord {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: String,
    /// Over the file, the data, schemas, and the version of this program.
    pub sha256: Digest,
    /// The data files that were read.
    pub data: Vec<CorpusFile>,
    /// The commit of a hub that they are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Records of which the end was cut off.
    pub truncated: u64,
}

/// How fast it went, where it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// The device's name.
    pub device: String,
    /// Backend, machine and instructions: numbers of different ones are not compared.
    pub class: String,
    /// Tokens of records a second.
    pub tokens_per_second: f64,
    /// New tokens a second, all answers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_tokens_per_second: Option<f64>,
    /// From a question to the first token of its answer, the median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_seconds: Option<f64>,
    /// The largest memory of the process so far, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_peak: Option<u64>,
}

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// What was evaluated.
    pub model: ModelRecord,
    /// On what.
    pub suite: SuiteRecord,
    /// The numbers.
    pub metrics: Metrics,
    /// Which labels were taken for which, where the model scores labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// The numbers per slice.
    pub slices: Vec<SliceReport>,
    /// How fast it went when it was measured.
    pub performance: Performance,
    /// Every record, in the order of the files.
    pub records: Vec<Record>,
}

/// A statistic of records that were drawn so often each.
pub fn statistic(metric: &str, records: &[&Record], times: &[u32]) -> f64 {
    let drawn = records.iter().zip(times).filter(|(_, times)| **times > 0);
    if ["loss", "perplexity", "accuracy"].contains(&metric) {
        let mut sums = (0.0, 0.0, 0.0);
        for (record, times) in drawn {
            let times = f64::from(*times);
            #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
            let (targets, correct) = (record.score.targets as f64, record.score.correct as f64);
            sums.0 += times * record.score.loss_sum;
            sums.1 += times * targets;
            sums.2 += times * correct;
        }
        let (loss, targets, correct) = sums;
        return match metric {
            "loss" => loss / targets,
            "perplexity" => (loss / targets).exp(),
            _ => correct / targets,
        };
    }
    if LABEL_METRICS.contains(&metric) {
        let of = drawn.filter_map(|(record, times)| Some((record.label.as_ref()?, *times)));
        let (labels, times): (Vec<&LabelRecord>, Vec<u32>) = of.unzip();
        return label_metrics::statistic(metric, &labels, &times);
    }
    let mut sums = (0.0, 0.0);
    for (record, times) in drawn {
        if let Some(score) = record.tasks.get(metric) {
            sums.0 += f64::from(*times) * score;
            sums.1 += f64::from(*times);
        }
    }
    sums.0 / sums.1
}

/// The records that a metric is of.
pub fn judged<'a>(metric: &str, records: impl Iterator<Item = &'a Record>) -> Vec<&'a Record> {
    let of_tokens = ["loss", "perplexity", "accuracy"].contains(&metric);
    records
        .filter(|record| match (&record.label, of_tokens) {
            (Some(label), _) => label.has(metric),
            (None, true) => record.score.targets > 0,
            (None, false) => record.tasks.contains_key(metric),
        })
        .collect()
}

/// All numbers of some records.
pub fn metrics(records: &[&Record], tasks: &[String], draws: &Draws) -> Metrics {
    let names = ["loss", "perplexity", "accuracy"].into_iter().map(str::to_owned);
    let mut metrics = Metrics::new();
    let of_labels = LABEL_METRICS.into_iter().map(str::to_owned);
    for name in names.chain(of_labels).chain(tasks.iter().cloned()) {
        let of = judged(&name, records.iter().copied());
        if of.is_empty() {
            continue;
        }
        let value = statistic(&name, &of, &vec![1; of.len()]);
        if value.is_nan() {
            continue; // of a single label there is no area under a curve
        }
        let interval = draws.interval(of.len(), |times| statistic(&name, &of, times));
        metrics.insert(name, Metric { value, records: of.len() as u64, interval });
    }
    metrics
}

/// The numbers per slice.
pub fn sliced(
    slices: &[Slices],
    records: &[Record],
    (tasks, head): (&[String], Option<&ScoreHead>),
    draws: &Draws,
) -> Vec<SliceReport> {
    let of_slice = |slices: &Slices, place: usize| {
        let inside = records.iter().zip(&slices.of).filter(|(_, of)| **of == Some(place));
        let inside: Vec<&Record> = inside.map(|(record, _)| record).collect();
        Slice {
            name: slices.names[place].clone(),
            records: inside.len() as u64,
            metrics: metrics(&inside, tasks, draws),
            confusion: head.and_then(|head| confusion(head, &inside)),
        }
    };
    let report = |slices: &Slices| SliceReport {
        by: slices.by.clone(),
        slices: (0..slices.names.len()).map(|place| of_slice(slices, place)).collect(),
    };
    slices.iter().map(report).collect()
}

/// What was taken for what among some records.
pub fn confusion(head: &ScoreHead, records: &[&Record]) -> Option<Confusion> {
    let labels: Vec<&LabelRecord> = records.iter().filter_map(|it| it.label.as_ref()).collect();
    Confusion::of(head, &labels)
}

impl Report {
    /// Adds a line about it to the history of evaluations in the folder of a run.
    pub fn note(&self, run: &Path) -> Result<()> {
        let line = json!({
            "time": jiff::Timestamp::now().to_string(),
            "suite": {"name": self.suite.name, "sha256": self.suite.sha256},
            "model": self.model.sha256,
            "metrics": self.metrics,
            "slices": self.slices,
            "performance": self.performance,
        });
        let path = run.join(HISTORY);
        let mut file = NewFile::append(&path).context_at("cannot note the result", &path)?;
        file.write_all(format!("{line}\n").as_bytes()).context_at("cannot note the result", &path)
    }

    /// A slice by property and name.
    pub fn slice(&self, by: &str, name: &str) -> Option<&Slice> {
        let of_kind = self.slices.iter().find(|slices| slices.by == by)?;
        of_kind.slices.iter().find(|slice| slice.name == name)
    }

    /// A Markdown table: everything, then each slice.
    pub fn to_markdown(&self) -> String {
        let names: Vec<&String> = self.metrics.keys().collect();
        let shown = |metrics: &Metrics| -> Vec<String> {
            names.iter().map(|name| metrics.get(*name).map_or("–".to_owned(), cell)).collect()
        };
        let mut out = String::new();
        let mut line = |first: &str, records: &str, cells: Vec<String>| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "| {first} | {records} | {} |", cells.join(" | "));
        };
        line("", "records", names.iter().map(|name| (*name).clone()).collect());
        line("---", "---:", names.iter().map(|_| "---:".to_owned()).collect());
        line("all", &self.records.len().to_string(), shown(&self.metrics));
        for slices in &self.slices {
            for slice in &slices.slices {
                let first = format!("{} = {}", slices.by, code(&slice.name));
                line(&first, &slice.records.to_string(), shown(&slice.metrics));
            }
        }
        if let Some(confusion) = &self.confusion {
            let _ = write!(out, "\n{}", confusion.to_markdown());
        }
        out
    }
}

fn cell(metric: &Metric) -> String {
    match metric.interval {
        Some(Interval { low, high }) => format!("{:.4} ({low:.4} … {high:.4})", metric.value),
        None => format!("{:.4}", metric.value),
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
