//! How a run is doing, from its directory: also one that another process has started.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Context, Result};
use crate::event::{EvaluationLine, StepReport, Timing};
use crate::report::RecentSteps;
use crate::train::runs::{Status, glance, is_run};

/// Entries of the history that are told, the newest.
const HISTORY_MAX: usize = 5;

/// The state of a run. Checkpoints are not checked for it.
pub(super) fn run_status(run: &Path) -> Result<Value> {
    if !is_run(run) {
        // Its settings are written once they are known to be right.
        return Ok(json!({"name": name_of(run), "path": run, "state": "starting"}));
    }
    let found = glance(run)?;
    let metrics = Metrics::read(run)?;
    let last = metrics.step.as_ref();
    let step = last.map_or(found.summary.step, |last| last.step.max(found.summary.step));
    let left = found.summary.steps.map(|steps| steps.saturating_sub(step));
    let state = serde_json::to_value(&found.summary.status).context("cannot encode the state")?;
    let failure = match &found.summary.status {
        Status::Failed { why, .. } => Some(why.clone()),
        _ => None,
    };
    let samples = found.newest.as_ref().map_or(&[][..], |state| &state.samples);
    let newest = samples.last().map(|sample| sample.step);
    let samples: Vec<_> = samples.iter().filter(|sample| Some(sample.step) == newest).collect();
    let checkpoints = found.checkpoints.iter().map(|checkpoint| {
        json!({"name": checkpoint.name, "step": checkpoint.step, "best": checkpoint.best})
    });
    let history = found.history.iter().rev().take(HISTORY_MAX).rev();
    Ok(json!({
        "name": found.summary.name,
        "path": run,
        "state": state["state"],
        "failure": failure,
        "step": step,
        "steps": found.summary.steps,
        "saved_step": found.summary.step,
        "epoch": last.map(|last| last.epoch),
        "loss": last.map(|last| last.loss),
        "learning_rate": last.map(|last| last.learning_rate),
        "grad_norm": last.map(|last| last.grad_norm),
        "tokens_per_second": metrics.recent.tokens_per_second(),
        "seconds_left": left.and_then(|left| metrics.recent.seconds_of(left)),
        "validation": metrics.evaluation,
        "best_validation": metrics.best,
        "samples": samples,
        "checkpoints": checkpoints.collect::<Vec<_>>(),
        "history": history.collect::<Vec<_>>(),
    }))
}

fn name_of(run: &Path) -> String {
    run.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The newest lines of the records of a run.
#[derive(Default)]
struct Metrics {
    step: Option<StepReport>,
    evaluation: Option<EvaluationLine>,
    best: Option<EvaluationLine>,
    recent: RecentSteps,
}

impl Metrics {
    fn read(run: &Path) -> Result<Self> {
        let mut found = Self::default();
        let mut tokens = VecDeque::new();
        for line in lines(&run.join("metrics.jsonl"))? {
            if let Ok(report) = serde_json::from_str::<StepReport>(&line) {
                tokens.push_back((report.step, report.tokens));
                if tokens.len() > RecentSteps::MAX {
                    tokens.pop_front();
                }
                found.step = Some(report);
            } else if let Ok(line) = serde_json::from_str::<EvaluationLine>(&line) {
                let better = |best: &EvaluationLine| line.eval_loss < best.eval_loss;
                if found.best.as_ref().is_none_or(better) {
                    found.best = Some(line.clone());
                }
                found.evaluation = Some(line);
            }
        }
        for line in lines(&run.join("timings.jsonl"))? {
            // A process that was killed may have left half a line.
            let Ok(timing) = serde_json::from_str::<Timing>(&line) else { continue };
            if let Some((_, tokens)) = tokens.iter().find(|(step, _)| *step == timing.step) {
                found.recent.add(*tokens, timing.step_seconds);
            }
        }
        Ok(found)
    }
}

/// The lines of a file; none of one that is not there yet.
fn lines(path: &Path) -> Result<impl Iterator<Item = String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context_at("cannot read the run's records", path),
    };
    Ok(file.into_iter().flat_map(|file| BufReader::new(file).lines().map_while(Result::ok)))
}
