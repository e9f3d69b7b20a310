//! What a tracker is told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Context, Error, Result};
use crate::event::{Evaluation, StepReport, Timing};

/// Numbers at a step, by the names that Hugging Face's trainers give them: `train/loss`,
/// `eval/loss`.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// After how many steps.
    pub step: u64,
    /// Name and number.
    pub values: Vec<(String, f64)>,
}

impl Point {
    /// What a step reports, and what it cost.
    pub fn of_step(report: &StepReport, timing: Option<&Timing>) -> Self {
        let lines = serde_json::to_value(report).ok().zip(Some(timing.map(serde_json::to_value)));
        let (report, timing) = lines.unwrap_or_default();
        Self::of_lines(&report, timing.and_then(std::result::Result::ok).as_ref())
    }

    /// What a validation found.
    pub fn of_evaluation(found: &Evaluation) -> Self {
        let values = vec![("eval/loss".to_owned(), found.eval_loss)];
        Self { step: found.step, values }
    }

    /// The same of a line of `metrics.jsonl`, and the line of `timings.jsonl` for its step.
    fn of_lines(line: &Value, timing: Option<&Value>) -> Self {
        let step = line["step"].as_u64().unwrap_or_default();
        if let Some(loss) = line["eval_loss"].as_f64() {
            return Self { step, values: vec![("eval/loss".to_owned(), loss)] };
        }
        let empty = Map::new();
        let fields = line.as_object().unwrap_or(&empty);
        let numbers = fields.iter().filter(|(name, _)| *name != "step");
        let mut values: Vec<(String, f64)> = numbers
            .filter_map(|(name, value)| Some((format!("train/{name}"), value.as_f64()?)))
            .collect();
        if let Some(timing) = timing {
            values.extend(costs(line, timing));
        }
        Self { step, values }
    }
}

/// Speed and memory of a step.
fn costs(line: &Value, timing: &Value) -> impl Iterator<Item = (String, f64)> {
    let seconds = timing["step_seconds"].as_f64().filter(|seconds| *seconds > 0.0);
    let speed = line["tokens"].as_f64().zip(seconds).map(|(tokens, seconds)| tokens / seconds);
    let memory = timing["memory_bytes_peak"].as_f64();
    let named = [("train/tokens_per_second", speed), ("train/memory_bytes_peak", memory)];
    named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
}

/// What a run did before.
pub struct Past {
    metrics: PathBuf,
    /// By step; of a step that was done twice, the last.
    timings: BTreeMap<u64, Value>,
}

impl Past {
    /// Looks at what lies in a run directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(run: &Path) -> Result<Self> {
        let mut timings = BTreeMap::new();
        for line in lines(&run.join("timings.jsonl"))? {
            // A process that was killed may have left half a line.
            let Ok(line) = serde_json::from_str::<Value>(&line?) else { continue };
            if let Some(step) = line["step"].as_u64() {
                timings.insert(step, line);
            }
        }
        Ok(Self { metrics: run.join("metrics.jsonl"), timings })
    }

    /// Its points, in order.
    pub fn points(&self) -> impl Iterator<Item = Result<Point>> {
        let (lines, failure) = match lines(&self.metrics) {
            Ok(lines) => (Some(lines), None),
            Err(error) => (None, Some(Err(error))),
        };
        let point = |line: Result<String>| {
            let line: Value = serde_json::from_str(&line?)
                .map_err(|error| Error::run("a line is no JSON").because(error))?;
            let step = line["step"].as_u64().unwrap_or_default();
            Ok(Point::of_lines(&line, self.timings.get(&step)))
        };
        lines.into_iter().flatten().map(point).chain(failure)
    }
}

/// The lines of a file; none of one that is not there.
fn lines(path: &Path) -> Result<Box<dyn Iterator<Item = Result<String>>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Box::new(std::iter::empty()));
        }
        Err(error) => return Err(Error::run("cannot read the run's metrics").because(error)),
    };
    let path = path.to_owned();
    let lines = BufReader::new(file).lines();
    Ok(Box::new(lines.map(move |line| line.context_at("cannot read the run's metrics", &path))))
}
