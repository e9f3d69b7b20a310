//! Curves of a run in the formats of other programs, written while it trains. Each is a file here
//! and a line in the table.
//!
//! What is told is what `metrics.jsonl` and `timings.jsonl` hold, so that a run that goes on begins
//! the files of its trackers anew from those two: steps that were lost with a process are not in
//! them twice. A tracker that cannot write is told once, and training goes on without it.

mod crc;
mod csv;
mod mlflow;
mod point;
mod prometheus;
mod protobuf;
mod tensorboard;
mod trackio;
mod wandb;

use std::path::Path;

use crate::config::RunConfig;
use crate::document::Effect;
use crate::document::key::{DefaultValue, Key, OwnedKeys, ValueKind};
use crate::error::{Error, Result};
use crate::event::Event;

use point::{Past, Point};

/// Every tracker.
pub const TRACKERS: &[&dyn TrackerEntry] = &[
    &tensorboard::Entry,
    &csv::Entry,
    &prometheus::Entry,
    &mlflow::Entry,
    &wandb::Entry,
    &trackio::Entry,
];

/// A line of the table.
pub trait TrackerEntry: Sync {
    /// Its name in `output.report_to`.
    fn name(&self) -> &'static str;

    /// Where it writes in a run directory, for people.
    fn place(&self) -> &'static str;

    /// Begins its files anew in a run directory.
    ///
    /// # Errors
    /// When they cannot be written.
    fn begin(&self, run: &Path) -> Result<Box<dyn Tracker>>;
}

/// A tracker at work.
pub trait Tracker {
    /// Takes the next point of the curves.
    ///
    /// # Errors
    /// When it cannot be written.
    fn add(&mut self, point: &Point) -> Result<()>;

    /// Sees to it that what was taken can be read by others.
    ///
    /// # Errors
    /// When it cannot be written.
    fn flush(&mut self) -> Result<()>;

    /// Nothing more comes: the run has made its last step, or is to go on later.
    ///
    /// # Errors
    /// When that cannot be written.
    fn end(&mut self, _finished: bool) -> Result<()> {
        self.flush()
    }
}

const NAMES: [&str; TRACKERS.len()] =
    ["tensorboard", "csv", "prometheus", "mlflow", "wandb", "trackio"];

const KEYS: &[Key] = &[Key::new(
    "output.report_to",
    ValueKind::Choices(&NAMES),
    DefaultValue::Absent("`metrics.jsonl`, `timings.jsonl` and `report.html` alone"),
    "Curves in the formats of other programs, in the run directory: `tensorboard` writes event \
     files into `tensorboard/`, `csv` a table, `metrics.csv`, `prometheus` the newest numbers in \
     its text format, `metrics.prom`, `mlflow` a file store, `mlruns/`, `wandb` a run of Weights & \
     Biases that `wandb sync` uploads, `wandb/`, `trackio` what `TRACKIO_DIR=RUN/trackio trackio \
     show` shows. Nothing is sent.",
)
.example("[\"tensorboard\"]")
.effect(Effect::Aside)
.silent_default()
.names(&[("axolotl", "use_tensorboard")])];

/// The key that chooses trackers.
pub fn keys() -> Vec<OwnedKeys> {
    vec![OwnedKeys::within("output", "output.sbom", KEYS)]
}

/// The trackers that a config chooses, in the order of the table.
pub fn chosen(config: &RunConfig) -> Vec<&'static dyn TrackerEntry> {
    let names = config.owned.optional_texts("output.report_to").unwrap_or_default();
    TRACKERS.iter().copied().filter(|entry| names.iter().any(|name| name == entry.name())).collect()
}

/// The trackers of a run: they are told what happens, and what to say of them comes back.
#[derive(Default)]
pub struct Trackers {
    chosen: Vec<&'static dyn TrackerEntry>,
    at_work: Vec<(&'static str, Box<dyn Tracker>)>,
    /// Steps that were made, of how many.
    steps: [u64; 2],
}

impl Trackers {
    /// Those that a config chooses.
    pub fn new(config: &RunConfig) -> Self {
        Self { chosen: chosen(config), ..Self::default() }
    }

    /// Where those that were chosen write in a run directory.
    pub fn places(&self) -> Vec<&'static str> {
        self.chosen.iter().map(|entry| entry.place()).collect()
    }

    /// Tells them; returns warnings.
    pub fn on(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::Begin { done, total, timings } => {
                self.steps = [*done, *total];
                self.begin(timings.parent().unwrap_or(timings))
            }
            Event::Step(report, timing) => {
                self.steps[0] = report.step;
                self.each(|tracker| tracker.add(&Point::of_step(report, Some(timing))))
            }
            Event::Evaluation(found) => self.each(|tracker| {
                tracker.add(&Point::of_evaluation(found)).and_then(|()| tracker.flush())
            }),
            // The last validation comes after the end of the loop.
            Event::Saved { .. } | Event::End => self.each(|tracker| tracker.flush()),
            _ => Vec::new(),
        }
    }

    /// Tells them that nothing more comes; returns warnings.
    pub fn finish(&mut self) -> Vec<String> {
        let finished = self.steps[0] >= self.steps[1];
        let warnings = self.each(|tracker| tracker.end(finished));
        self.at_work.clear();
        warnings
    }

    fn begin(&mut self, run: &Path) -> Vec<String> {
        self.at_work.clear();
        if self.chosen.is_empty() {
            return Vec::new();
        }
        let past = match Past::read(run) {
            Ok(past) => past,
            Err(error) => return vec![warning("trackers", error)],
        };
        let mut warnings = Vec::new();
        for entry in &self.chosen {
            let begun = entry.begin(run).and_then(|mut tracker| {
                past.points().try_for_each(|point| tracker.add(&point?))?;
                tracker.flush()?;
                Ok(tracker)
            });
            match begun {
                Ok(tracker) => self.at_work.push((entry.name(), tracker)),
                Err(error) => warnings.push(warning(entry.name(), error)),
            }
        }
        warnings
    }

    /// Has each do something; one that cannot is left out from then on.
    fn each(&mut self, mut act: impl FnMut(&mut dyn Tracker) -> Result<()>) -> Vec<String> {
        let mut warnings = Vec::new();
        self.at_work.retain_mut(|(name, tracker)| match act(tracker.as_mut()) {
            Ok(()) => true,
            Err(error) => {
                warnings.push(warning(name, error));
                false
            }
        });
        warnings
    }
}

fn warning(name: &str, error: Error) -> String {
    format!("nothing more is reported to `{name}`: {}", error.with_causes())
}

#[cfg(test)]
#[path = "trackers_tests.rs"]
mod tests;
