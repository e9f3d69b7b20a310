//! Has a model in use become worse than it was when it passed the gate? What may change by how much
//! stands in a small file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::drift_keys::{Direction, KEYS, MAX_DRIFT, OnDrift, duration};
use crate::document::{Document, Value};
use crate::error::{Error, Result, nearest};
use crate::evaluation::{LABEL_METRICS, Metrics, Suite};

/// Relative to less than this, nothing can be said.
const ZERO: f64 = 1e-12;

/// What is looked at, and what follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    limits: MetricLimits,
    directions: BTreeMap<String, Direction>,
    /// What is done about drift.
    pub on_drift: OnDrift,
    /// How long to wait between two rounds, if the file says so.
    pub every: Option<Duration>,
}

/// How much worse a number may be, relative to what it was.
#[derive(Debug, Clone, PartialEq)]
enum MetricLimits {
    /// Every number that the pointer and the new report have.
    All(f64),
    /// These numbers, which must be there.
    Each(BTreeMap<String, f64>),
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limits: MetricLimits::All(MAX_DRIFT),
            directions: BTreeMap::new(),
            on_drift: OnDrift::Rollback,
            every: None,
        }
    }
}

impl Policy {
    /// Reads a policy; its metrics must be those of a suite.
    ///
    /// # Errors
    /// All problems at once with line and column, when it is none.
    pub fn read(path: &Path, suite: &Suite) -> Result<Self> {
        let document = Document::read(&KEYS, path)?;
        let values = &document.values;
        let mut findings = document.findings();
        let mut known = vec!["loss", "perplexity", "accuracy"];
        known.extend(LABEL_METRICS);
        known.extend(suite.tasks.iter().map(|task| task.name.as_str()));
        let mut must_be_measured = |names: &mut dyn Iterator<Item = &String>, key: &str| {
            for name in names.filter(|name| !known.contains(&name.as_str())) {
                let error = Error::config(format!("the evaluation measures no `{name}`"));
                let hint = match nearest(name, known.iter().copied()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("it measures `{}`", known.join("`, `")),
                };
                findings.report((error.hint(hint), values.place(key)));
            }
        };
        let limits = match values.get("watch.max_drift") {
            Some(Value::Numbers(limits)) => {
                must_be_measured(&mut limits.keys(), "watch.max_drift");
                MetricLimits::Each(limits.clone())
            }
            _ => MetricLimits::All(values.number("watch.max_drift")),
        };
        let directions = values.pairs("watch.direction").unwrap_or_default();
        must_be_measured(&mut directions.keys(), "watch.direction");
        if let MetricLimits::Each(limits) = &limits {
            for name in directions.keys().filter(|name| !limits.contains_key(*name)) {
                let error = Error::config(format!("`max_drift` does not name `{name}`"));
                findings.report((error, values.place("watch.direction")));
            }
        }
        findings.finish()?;
        let direction = |(name, text): (String, String)| Some((name, Direction::from_name(&text)?));
        let every = values.optional_text("watch.every");
        Ok(Self {
            limits,
            directions: directions.into_iter().filter_map(direction).collect(),
            on_drift: values.choice("watch.on_drift", OnDrift::from_name),
            every: every.map(|text| duration(&text)).transpose()?,
        })
    }

    fn direction(&self, metric: &str) -> Direction {
        match (self.directions.get(metric), metric) {
            (Some(direction), _) => *direction,
            (None, "loss" | "perplexity" | "calibration_error" | "mean_absolute_error") => {
                Direction::Lower
            }
            (None, _) => Direction::Higher,
        }
    }

    /// Compares new numbers with those of the verdict.
    ///
    /// # Errors
    /// When there is nothing to compare, or a number that the policy names is missing.
    pub fn compare(&self, before: &BTreeMap<String, f64>, now: &Metrics) -> Result<Vec<Drift>> {
        let limits: BTreeMap<&str, f64> = match &self.limits {
            MetricLimits::All(limit) => before
                .keys()
                .filter(|name| now.contains_key(*name))
                .map(|name| (name.as_str(), *limit))
                .collect(),
            MetricLimits::Each(limits) => {
                limits.iter().map(|(name, it)| (name.as_str(), *it)).collect()
            }
        };
        if limits.is_empty() {
            let names = |names: Vec<&String>| match names.as_slice() {
                [] => "none".to_owned(),
                names => format!("{names:?}").replace(['[', ']'], "").replace('"', "`"),
            };
            return Err(Error::evaluation(
                "the model's verdict and the evaluation have no metric in common",
            )
            .because(format!("the verdict has {}", names(before.keys().collect())))
            .because(format!("the evaluation has {}", names(now.keys().collect()))));
        }
        limits.into_iter().map(|(name, limit)| self.drift(name, limit, before, now)).collect()
    }

    fn drift(
        &self,
        metric: &str,
        limit: f64,
        before: &BTreeMap<String, f64>,
        now: &Metrics,
    ) -> Result<Drift> {
        let lacks = |who: &str| Error::evaluation(format!("{who} has no `{metric}`"));
        let baseline = *before.get(metric).ok_or_else(|| lacks("the model's verdict"))?;
        let value = now.get(metric).ok_or_else(|| lacks("the evaluation"))?.value;
        let change = match self.direction(metric) {
            Direction::Lower => value - baseline,
            Direction::Higher => baseline - value,
        };
        let worse = if !value.is_finite() {
            f64::INFINITY // no number at all is as bad as can be
        } else if change <= 0.0 {
            -(change.abs() / baseline.abs().max(ZERO))
        } else if baseline.abs() < ZERO {
            return Err(Error::evaluation(format!("`{metric}` was 0 and is {value} now"))
                .because("a change relative to 0 is not defined")
                .hint("leave it out of `max_drift`"));
        } else {
            change / baseline.abs()
        };
        let metric = metric.to_owned();
        Ok(Drift { metric, baseline, value, worse, limit, beyond: worse > limit })
    }
}

/// What became of one number.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// Its name.
    pub metric: String,
    /// When the model passed the gate.
    pub baseline: f64,
    /// Now.
    pub value: f64,
    /// How much worse that is, relative to what it was; less than 0 if it is better.
    pub worse: f64,
    /// How much worse it may be.
    pub limit: f64,
    /// It is too much.
    pub beyond: bool,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, baseline, value, worse, limit, beyond } = self;
        let (percent, limit) = (worse * 100.0, limit * 100.0);
        let how = match (percent < 0.0, beyond) {
            (true, _) => format!("{:.1} % better", -percent),
            (false, false) => format!("{percent:.1} % worse, {limit} % allowed"),
            (false, true) => format!("{percent:.1} % worse, only {limit} % allowed"),
        };
        write!(f, "{metric} {baseline:.4} -> {value:.4}: {how}")
    }
}

#[cfg(test)]
#[path = "drift_tests.rs"]
mod tests;
