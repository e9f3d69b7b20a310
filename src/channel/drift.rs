//! Has a model in use become worse than it was when it passed the gate? What may change by how much
//! stands in a small file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::error::{Error, Result, nearest};
use crate::evaluation::{Metrics, Suite};
use crate::files::{Placed, TomlText};

/// A policy has some lines.
const BYTES_MAX: u64 = 1 << 20;
/// How much worse a number may be, relative to what it was.
const MAX_DRIFT: f64 = 0.05;
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

/// Which numbers are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The lower ones.
    Lower,
    /// The higher ones.
    Higher,
}

/// What is done about drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDrift {
    /// The channel goes back to the last good model.
    Rollback,
    /// It is told, and that is all.
    Report,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    watch: Watch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Watch {
    max_drift: Option<Spanned<Given>>,
    #[serde(default)]
    direction: BTreeMap<Spanned<String>, Direction>,
    on_drift: Option<OnDrift>,
    every: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a number, or a number for each metric")]
enum Given {
    One(f64),
    Each(BTreeMap<String, f64>),
}

impl Policy {
    /// Reads a policy; its metrics must be those of a suite.
    ///
    /// # Errors
    /// With line and column, when it is none.
    pub fn read(path: &Path, suite: &Suite) -> Result<Self> {
        let text = TomlText::read(path, "the policy", BYTES_MAX)?;
        let document: Document = text.parse()?;
        Self::of(document.watch, suite).map_err(|(error, span)| text.place(error, span))
    }

    fn of(watch: Watch, suite: &Suite) -> Placed<Self> {
        let mut known = vec!["loss", "perplexity", "accuracy"];
        known.extend(suite.tasks.iter().map(|task| task.name.as_str()));
        let measured = |name: &str, span: &Range<usize>| {
            if known.contains(&name) {
                return Ok(());
            }
            let error = Error::new(format!("the evaluation measures no `{name}`"));
            let hint = match nearest(name, known.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("it measures `{}`", known.join("`, `")),
            };
            Err((error.hint(hint), span.clone()))
        };
        let fits = |limit: f64, span: &Range<usize>| {
            if limit.is_finite() && limit >= 0.0 {
                return Ok(());
            }
            Err((Error::new("`max_drift` is a part of one, such as 0.05"), span.clone()))
        };
        let limits = match watch.max_drift.map(|given| (given.span(), given.into_inner())) {
            None => MetricLimits::All(MAX_DRIFT),
            Some((span, Given::One(limit))) => {
                fits(limit, &span)?;
                MetricLimits::All(limit)
            }
            Some((span, Given::Each(limits))) => {
                if limits.is_empty() {
                    return Err((Error::new("`max_drift` names no metric"), span));
                }
                for (name, limit) in &limits {
                    measured(name, &span)?;
                    fits(*limit, &span)?;
                }
                MetricLimits::Each(limits)
            }
        };
        let mut directions = BTreeMap::new();
        for (name, direction) in watch.direction {
            measured(name.get_ref(), &name.span())?;
            if let MetricLimits::Each(limits) = &limits
                && !limits.contains_key(name.get_ref())
            {
                let what = format!("`max_drift` does not name `{}`", name.get_ref());
                return Err((Error::new(what), name.span()));
            }
            directions.insert(name.into_inner(), direction);
        }
        let every =
            watch.every.map(|text| duration(text.get_ref()).map_err(|error| (error, text.span())));
        Ok(Self {
            limits,
            directions,
            on_drift: watch.on_drift.unwrap_or(OnDrift::Rollback),
            every: every.transpose()?,
        })
    }

    fn direction(&self, metric: &str) -> Direction {
        match (self.directions.get(metric), metric) {
            (Some(direction), _) => *direction,
            (None, "loss" | "perplexity") => Direction::Lower,
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
                [] => "nothing".to_owned(),
                names => format!("{names:?}").replace(['[', ']', '"'], ""),
            };
            return Err(Error::new("the model's verdict and the evaluation share no number")
                .because(format!("the verdict measured {}", names(before.keys().collect())))
                .because(format!("the evaluation measures {}", names(now.keys().collect()))));
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
        let lacks = |who: &str| Error::new(format!("{who} has no `{metric}`"));
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
            return Err(Error::new(format!("`{metric}` was 0 and is {value} now"))
                .because("relative to nothing, no change can be told")
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

/// A time such as `90s`, `30m`, `1h` or `1d`.
pub fn duration(text: &str) -> Result<Duration> {
    let wrong =
        || Error::new(format!("`{text}` is no time")).hint("such as `90s`, `30m`, `1h` or `1d`");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(wrong()),
    };
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = number.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    if number == 0 {
        return Err(wrong());
    }
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
#[path = "drift_tests.rs"]
mod tests;
