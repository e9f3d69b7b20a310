//! What came of a point: read from its run directory, a line at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::child::reason;
use super::manifest::{PlannedPoint, SweepFolder};
use crate::checkpoint::newest;
use crate::evaluation::{HISTORY, Metric};
use crate::event::{EvaluationLine, StepReport};
use crate::train::runs::{Status, status};

/// Longer lines are not those of a run.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// What became of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum PointStatus {
    /// Its result is there.
    Finished,
    /// A process is at work in it.
    Running,
    /// It goes on where it stopped.
    Interrupted,
    /// It ended with an error.
    Failed {
        /// The error.
        why: String,
    },
    /// It was worse than others at this step.
    Stopped {
        /// The step.
        at: u64,
    },
    /// Nothing of it is there.
    Missing,
}

impl PointStatus {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Failed { .. } => "failed",
            Self::Stopped { .. } => "stopped",
            Self::Missing => "missing",
        }
    }

    /// Of several places, the one that counts has the least of these.
    fn rank(&self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::Running => 1,
            Self::Interrupted | Self::Stopped { .. } => 2,
            Self::Failed { .. } => 3,
            Self::Missing => 4,
        }
    }
}

/// The numbers of a point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointResult {
    /// What became of it.
    #[serde(flatten)]
    pub status: PointStatus,
    /// The last step that has metrics.
    pub step: u64,
    /// Its numbers by name.
    pub metrics: BTreeMap<String, Metric>,
    /// Its run directory.
    pub run: PathBuf,
    /// Its artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<PathBuf>,
}

impl PointResult {
    /// What came of a point in one of several folders: where most came of it.
    pub fn read(folders: &[SweepFolder], point: &PlannedPoint) -> Self {
        let found = folders.iter().map(|folder| Self::of(folder, point));
        let best = found.min_by_key(|found| (found.status.rank(), u64::MAX - found.step));
        best.expect("there is a folder")
    }

    fn of(folder: &SweepFolder, point: &PlannedPoint) -> Self {
        let run = folder.run(point);
        let status = status_of(folder, point, &run);
        let mut metrics = BTreeMap::new();
        let step = of_training(&run, &mut metrics);
        of_suite(&run, &mut metrics);
        let artifact = (status == PointStatus::Finished).then(|| run.join("artifact"));
        Self { status, step, metrics, run, artifact }
    }
}

/// What became of a point, as its folder tells it.
pub fn status_of(folder: &SweepFolder, point: &PlannedPoint, run: &Path) -> PointStatus {
    let log = || reason(&folder.log(point), 0);
    if !run.join("config.toml").is_file() {
        return match log() {
            Some(why) => PointStatus::Failed { why },
            None => PointStatus::Missing,
        };
    }
    let resumable = newest(run).is_ok_and(|all| !all.is_empty());
    match status(run, resumable) {
        Ok(Status::Finished) => PointStatus::Finished,
        Ok(Status::Running) => PointStatus::Running,
        Ok(Status::Failed { why, .. }) => PointStatus::Failed { why },
        Ok(Status::Interrupted { .. }) => PointStatus::Interrupted,
        Err(error) => PointStatus::Failed { why: error.with_causes() },
    }
}

/// Calls `each` with the lines of a file that are whole.
fn lines(path: &Path, mut each: impl FnMut(&[u8])) {
    let Ok(file) = File::open(path) else { return };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        match (read, line.pop()) {
            (Ok(1..), Some(b'\n')) => each(&line),
            _ => return,
        }
    }
}

/// A line of the metrics.
enum MetricsLine {
    Step(StepReport),
    Evaluation(EvaluationLine),
}

fn metrics_lines(run: &Path, mut each: impl FnMut(MetricsLine)) {
    lines(&run.join("metrics.jsonl"), |line| {
        if let Ok(step) = serde_json::from_slice(line) {
            each(MetricsLine::Step(step));
        } else if let Ok(evaluation) = serde_json::from_slice(line) {
            each(MetricsLine::Evaluation(evaluation));
        }
    });
}

/// The numbers of the last step and of validations; returns the last step.
fn of_training(run: &Path, metrics: &mut BTreeMap<String, Metric>) -> u64 {
    let mut last = 0;
    let mut put = |name: &str, value: f64, records: u64| {
        metrics.insert(name.to_owned(), Metric { value, records, interval: None });
    };
    let mut best: Option<(f64, u64)> = None;
    metrics_lines(run, |line| match line {
        MetricsLine::Step(step) => {
            last = step.step;
            put("loss", step.loss, step.target_tokens);
        }
        MetricsLine::Evaluation(found) => {
            put("eval_loss", found.eval_loss, found.eval_target_tokens);
            for (name, value) in found.metrics {
                put(&name, value, found.eval_target_tokens);
            }
            let better = best.is_none_or(|(least, _)| found.eval_loss < least);
            if found.step > 0 && better {
                best = Some((found.eval_loss, found.eval_target_tokens));
            }
        }
    });
    if let Some((least, tokens)) = best {
        put("best_eval_loss", least, tokens);
    }
    last
}

/// The numbers of the newest evaluation by a suite, with their intervals.
fn of_suite(run: &Path, metrics: &mut BTreeMap<String, Metric>) {
    let mut newest: BTreeMap<String, Metric> = BTreeMap::new();
    lines(&run.join(HISTORY), |line| {
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(line) else { return };
        if let Ok(found) = serde_json::from_value(json["metrics"].clone()) {
            newest = found;
        }
    });
    for (name, metric) in newest {
        // The loss of the suite has a name of its own beside that of the training.
        let name = if name == "loss" { "suite_loss".to_owned() } else { name };
        metrics.insert(name, metric);
    }
}

/// The values that a metric has at some steps: the last before each, the least of all for the best.
pub fn values_at(run: &Path, metric: &str, steps: &[u64]) -> Vec<Option<f64>> {
    let mut values: Vec<Option<f64>> = vec![None; steps.len()];
    metrics_lines(run, |line| {
        let (step, value) = match line {
            MetricsLine::Step(found) => (found.step, (metric == "loss").then_some(found.loss)),
            MetricsLine::Evaluation(found) => match metric {
                "eval_loss" | "best_eval_loss" => (found.step, Some(found.eval_loss)),
                other => (found.step, found.metrics.get(other).copied()),
            },
        };
        let Some(value) = value.filter(|_| step > 0) else { return };
        for (place, _) in steps.iter().enumerate().filter(|(_, limit)| step <= **limit) {
            let best = metric == "best_eval_loss";
            let least = values[place].filter(|before| best && *before < value);
            values[place] = Some(least.unwrap_or(value));
        }
    });
    values
}

/// Step and loss of validations, or of training steps where there are none: a curve of at most so
/// many points.
pub fn curve(run: &Path, points: usize) -> Vec<[f64; 2]> {
    let [mut training, mut validation] = [const { Vec::new() }; 2];
    #[expect(clippy::cast_precision_loss)] // step numbers, for people
    metrics_lines(run, |line| match line {
        MetricsLine::Step(step) => training.push([step.step as f64, step.loss]),
        MetricsLine::Evaluation(found) => {
            validation.push([found.step as f64, found.eval_loss]);
        }
    });
    let all = if validation.len() > 2 { validation } else { training };
    let each = all.len().div_ceil(points.max(1)).max(1);
    all.chunks(each).filter_map(|part| part.last().copied()).collect()
}
