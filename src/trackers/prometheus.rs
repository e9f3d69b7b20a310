//! The newest numbers of a run for Prometheus, in its text format (version 0.0.4): a file that is
//! replaced whole, for the textfile collector of `node_exporter` or whoever serves it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::point::Point;
use super::{Tracker, TrackerEntry};
use crate::error::Result;
use crate::files::write_atomic;

const FILE: &str = "metrics.prom";
/// Between two files while steps are made: scrapers ask no more often.
const INTERVAL: Duration = Duration::from_secs(5);

pub struct Entry;

impl TrackerEntry for Entry {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn place(&self) -> &'static str {
        FILE
    }

    fn begin(&self, run: &Path) -> Result<Box<dyn Tracker>> {
        let name = run.file_name().map(|name| name.to_string_lossy().into_owned());
        let run_label = label(&name.unwrap_or_default());
        let mut gauges = Gauges {
            path: run.join(FILE),
            run_label,
            step: 0,
            values: BTreeMap::new(),
            written: None,
        };
        gauges.flush()?;
        Ok(Box::new(gauges))
    }
}

struct Gauges {
    path: PathBuf,
    /// The name of the run as the value of a label.
    run_label: String,
    step: u64,
    /// By the name of the metric, with the name that it has elsewhere.
    values: BTreeMap<String, (String, f64)>,
    written: Option<Instant>,
}

impl Gauges {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, of: &str, value: String| {
            let labels = format!("{{run=\"{}\"}}", self.run_label);
            let help = format!("# HELP {name} {of}\n# TYPE {name} gauge\n");
            writeln!(text, "{help}{name}{labels} {value}").expect("writing into a string");
        };
        add("firebrand_step", "Steps that are done.", self.step.to_string());
        for (name, (of, value)) in &self.values {
            add(name, &format!("The newest {of} of the run."), number(*value));
        }
        text
    }
}

/// A number as the format has it.
fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => value.to_string(),
    }
}

/// The value of a label.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A name that a metric may have.
fn metric(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("firebrand_{}", name.chars().map(letter).collect::<String>())
}

impl Tracker for Gauges {
    fn add(&mut self, point: &Point) -> Result<()> {
        self.step = self.step.max(point.step);
        for (name, value) in &point.values {
            let shown: String = name.chars().filter(|c| !c.is_control() && *c != '\\').collect();
            self.values.insert(metric(name), (shown, *value));
        }
        match self.written.is_some_and(|written| written.elapsed() < INTERVAL) {
            true => Ok(()),
            false => self.flush(),
        }
    }

    fn flush(&mut self) -> Result<()> {
        write_atomic(&self.path, self.text().as_bytes())?;
        self.written = Some(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn the_newest_numbers_stand_under_names_that_prometheus_takes() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("a \"run\"");
        std::fs::create_dir(&run).unwrap();
        let mut tracker = Entry.begin(&run).unwrap();
        let point = |step, values: &[(&str, f64)]| Point {
            step,
            values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        };
        tracker.add(&point(1, &[("train/loss", 2.5), ("train/rewards/a-b/mean", 1.0)])).unwrap();
        tracker.add(&point(2, &[("train/loss", f64::INFINITY)])).unwrap();
        tracker.add(&point(2, &[("eval/loss", 1e-7)])).unwrap();
        tracker.flush().unwrap();
        says(
            std::fs::read_to_string(run.join(FILE)).unwrap(),
            snapbox::str![[r#"
# HELP firebrand_step Steps that are done.
# TYPE firebrand_step gauge
firebrand_step{run="a \"run\""} 2
# HELP firebrand_eval_loss The newest eval/loss of the run.
# TYPE firebrand_eval_loss gauge
firebrand_eval_loss{run="a \"run\""} [NUMBER]
# HELP firebrand_train_loss The newest train/loss of the run.
# TYPE firebrand_train_loss gauge
firebrand_train_loss{run="a \"run\""} +Inf
# HELP firebrand_train_rewards_a_b_mean The newest train/rewards/a-b/mean of the run.
# TYPE firebrand_train_rewards_a_b_mean gauge
firebrand_train_rewards_a_b_mean{run="a \"run\""} 1

"#]],
        );
    }
}
