//! What the view knows of a run: events, put together.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::series::Series;
use crate::event::{Evaluation, EvaluationLine, Event, Sample, StepReport, Timing};
use crate::report::recent_steps::RecentSteps;

/// A run, as far as events have told of it.
#[derive(Debug, Default)]
pub(super) struct RunView {
    /// Its name.
    pub name: String,
    /// Steps that are done, of how many.
    pub done: u64,
    pub total: u64,
    /// What is being done now, such as `step 41`.
    pub doing: String,
    /// Curves over the steps.
    pub loss: Series,
    pub eval_loss: Series,
    pub learning_rate: Series,
    pub grad_norm: Series,
    pub tokens_per_second: Series,
    pub memory: Series,
    pub device_memory: Series,
    /// The newest step, with what it cost.
    pub last: Option<(StepReport, Timing)>,
    /// The newest validation, and the one with the best loss or reward.
    pub evaluation: Option<Evaluation>,
    pub best: Option<Evaluation>,
    /// The newest answer to each prompt.
    pub samples: Vec<Sample>,
    /// The newest checkpoint.
    pub saved: Option<u64>,
    /// What was said before the view was there.
    pub before: Vec<String>,
    recent: RecentSteps,
}

impl RunView {
    /// A run of which nothing is known but its name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Hears of the next event.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Note(text) if self.total == 0 => self.before.push(text.clone()),
            Event::Warning(text) if self.total == 0 => {
                self.before.push(format!("warning: {text}"));
            }
            Event::Fact(label, value) if self.total == 0 => {
                self.before.push(format!("{label:>12}  {value}"));
            }
            Event::Begin { done, total, timings } => {
                (self.done, self.total) = (*done, *total);
                self.read_past(timings.parent().unwrap_or(timings));
            }
            Event::Doing(what) => self.doing.clone_from(what),
            Event::Answering { prompts, done, most } => {
                self.doing = format!("{prompts} answers, {done} of at most {most} tokens");
            }
            Event::Step(report, timing) => self.step(report.clone(), timing.clone()),
            Event::Evaluation(found) => self.evaluated(found.clone()),
            Event::Sample(sample) => self.answered(sample.clone()),
            Event::Saved { step, .. } => self.saved = Some(*step),
            Event::Note(_) | Event::Warning(_) | Event::Fact(..) | Event::Begun(_) | Event::End => {
            }
        }
    }

    /// Curves of what a run that goes on has done before, as far as they can be read: the view
    /// decides nothing.
    fn read_past(&mut self, run: &Path) {
        let lines = |name: &str| {
            let file = std::fs::File::open(run.join(name)).ok();
            file.into_iter().flat_map(|file| BufReader::new(file).lines().map_while(Result::ok))
        };
        // A validation before the first step was heard of, and may be in the file, too.
        let heard = self.evaluation.take();
        (self.eval_loss, self.best) = (Series::default(), None);
        for line in lines("metrics.jsonl") {
            if let Ok(found) = serde_json::from_str::<EvaluationLine>(&line) {
                if heard.as_ref().is_none_or(|heard| found.step < heard.step) {
                    self.evaluated(found.into());
                }
            } else if let Ok(report) = serde_json::from_str::<StepReport>(&line)
                && report.step <= self.done
            {
                self.curves_of_step(&report);
            }
        }
        if let Some(heard) = heard {
            self.evaluated(heard);
        }
        // Of a step that was done twice, the last.
        let timings = lines("timings.jsonl").filter_map(|line| serde_json::from_str(&line).ok());
        let timings: BTreeMap<u64, Timing> =
            timings.map(|timing: Timing| (timing.step, timing)).collect();
        for timing in timings.range(..=self.done).map(|(_, timing)| timing) {
            self.memory_of_step(timing);
        }
    }

    fn curves_of_step(&mut self, report: &StepReport) {
        let at = place(report.step);
        self.loss.add(at, report.loss);
        self.learning_rate.add(at, report.learning_rate);
        if !report.skipped {
            self.grad_norm.add(at, report.grad_norm);
        }
    }

    fn memory_of_step(&mut self, timing: &Timing) {
        let at = place(timing.step);
        for (series, bytes) in [
            (&mut self.memory, timing.memory_bytes),
            (&mut self.device_memory, timing.device_bytes_in_use),
        ] {
            if let Some(bytes) = bytes {
                series.add(at, place(bytes));
            }
        }
    }

    fn step(&mut self, report: StepReport, timing: Timing) {
        self.done = report.step;
        self.curves_of_step(&report);
        self.memory_of_step(&timing);
        self.recent.add(report.tokens, timing.step_seconds);
        if let Some(speed) = self.speed() {
            self.tokens_per_second.add(place(report.step), speed);
        }
        self.last = Some((report, timing));
    }

    fn evaluated(&mut self, found: Evaluation) {
        self.eval_loss.add(place(found.step), found.eval_loss);
        let better = |best: &Evaluation| found.criterion() < best.criterion();
        if self.best.as_ref().is_none_or(better) {
            self.best = Some(found.clone());
        }
        self.evaluation = Some(found);
    }

    fn answered(&mut self, sample: Sample) {
        match self.samples.iter_mut().find(|known| known.prompt == sample.prompt) {
            Some(known) => *known = sample,
            None => self.samples.push(sample),
        }
    }

    /// Tokens per second over the newest steps.
    pub fn speed(&self) -> Option<f64> {
        self.recent.tokens_per_second()
    }

    /// Seconds that the steps which are left will take.
    pub fn seconds_left(&self) -> Option<f64> {
        self.recent.seconds_of(self.total.saturating_sub(self.done))
    }

    /// The share of the steps that are done.
    #[expect(clippy::cast_precision_loss)] // for display
    pub fn share(&self) -> f64 {
        if self.total == 0 { 0.0 } else { (self.done as f64 / self.total as f64).clamp(0.0, 1.0) }
    }
}

/// A count on an axis.
#[expect(clippy::cast_precision_loss)] // for display
fn place(count: u64) -> f64 {
    count as f64
}
