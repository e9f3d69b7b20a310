//! Limits of a number: absolute ones, and how much worse than the baseline it may be.

use serde::Serialize;

use crate::document::{Placed, Values, choices};
use crate::error::{Error, nearest};
use crate::evaluation::Suite;
use crate::scorers::ScorerKind;

/// How much worse a number may be where nothing is said: 5 %.
pub const MAX_REGRESSION: f64 = 0.05;

choices! {
    /// Which way is better.
    Direction {
        /// Lower is better.
        Lower = "lower",
        /// Higher is better.
        Higher = "higher",
    }
}

impl Serialize for Direction {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What a number must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MetricLimits {
    /// Which way is better.
    pub direction: Direction,
    /// How much worse than the baseline it may be, relative to the baseline's size; infinite where
    /// that does not matter.
    #[serde(serialize_with = "finite")]
    pub max_regression: f64,
    /// It must be at least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// It must be at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// It is too much worse only if the whole bootstrap interval is.
    pub significant: bool,
}

/// JSON has no infinity: no limit is null.
fn finite<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    value.is_finite().then_some(*value).serialize(serializer)
}

impl MetricLimits {
    /// Those of a metric of which nothing is said.
    pub fn usual(kind: MetricKind) -> Self {
        Self {
            direction: kind.direction(),
            max_regression: MAX_REGRESSION,
            min: None,
            max: None,
            significant: false,
        }
    }

    /// By how much of the baseline's size the candidate is worse; negative where it is better.
    pub fn regression(&self, candidate: f64, baseline: f64) -> f64 {
        let worse = match self.direction {
            Direction::Lower => candidate - baseline,
            Direction::Higher => baseline - candidate,
        };
        worse / baseline.abs()
    }
}

/// Between which numbers a metric lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// From 0 on, lower is better.
    Loss,
    /// From 1 on, lower is better.
    Perplexity,
    /// From 0 to 1, higher is better.
    Share,
    /// From 0 to 1, lower is better.
    ErrorShare,
    /// Anything, what a program says; higher is better.
    Free,
}

impl MetricKind {
    /// The kind of one of a suite's metrics; `None` if it has no such metric.
    pub fn of(name: &str, suite: &Suite) -> Option<Self> {
        match name {
            "loss" | "mean_absolute_error" => Some(Self::Loss),
            "perplexity" => Some(Self::Perplexity),
            "calibration_error" => Some(Self::ErrorShare),
            "accuracy" | "f1_macro" | "f1_micro" | "auroc" => Some(Self::Share),
            _ => {
                let task = suite.tasks.iter().find(|task| task.name == name)?;
                let program = matches!(task.scorer.kind, ScorerKind::Command { .. });
                Some(if program { Self::Free } else { Self::Share })
            }
        }
    }

    fn direction(self) -> Direction {
        match self {
            Self::Loss | Self::Perplexity | Self::ErrorShare => Direction::Lower,
            Self::Share | Self::Free => Direction::Higher,
        }
    }

    /// The smallest and the largest value.
    fn range(self) -> (f64, f64) {
        match self {
            Self::Loss => (0.0, f64::INFINITY),
            Self::Perplexity => (1.0, f64::INFINITY),
            Self::Share | Self::ErrorShare => (0.0, 1.0),
            Self::Free => (f64::NEG_INFINITY, f64::INFINITY),
        }
    }
}

impl MetricLimits {
    /// What an entry of a policy means for a kind of metric; `samples` is how many data sets the
    /// suite draws for intervals, `more` whether something else is demanded as well, such as a gap.
    ///
    /// # Errors
    /// When a limit can never matter, or nothing can ever keep to it.
    pub(super) fn read(entry: &Values, kind: MetricKind, samples: u64, more: bool) -> Placed<Self> {
        let mut limits = Self::usual(kind);
        if let Some(name) = entry.optional_text("direction") {
            limits.direction = Direction::from_name(&name).unwrap_or(limits.direction);
        }
        let (least, most) = kind.range();
        limits.min = bound(entry, "min", least, most)?;
        limits.max = bound(entry, "max", most, least)?;
        if let (Some(min), Some(max)) = (limits.min, limits.max)
            && min > max
        {
            let error = Error::config("`max` is below `min`: nothing can pass");
            return Err((error, entry.place("max")));
        }
        limits.max_regression = regression(entry, kind, limits.direction)?;
        let relative = limits.max_regression.is_finite();
        if !relative && limits.min.is_none() && limits.max.is_none() && !more {
            let error = Error::config("the entry sets no limit: `max_regression` is `inf`")
                .hint("give `min` or `max`, or remove the entry");
            return Err((error, entry.place("max_regression")));
        }
        limits.significant = entry.boolean("significant");
        let why = match (limits.significant, relative, samples) {
            (true, false, _) => "means nothing without a finite `max_regression`",
            (true, _, 0) => "needs intervals, and the suite has `bootstrap = 0`",
            _ => return Ok(limits),
        };
        Err((Error::config(format!("`significant` {why}")), entry.place("significant")))
    }
}

/// An absolute limit. `idle` is the end of the metric's range on its side, `far` the other one.
fn bound(entry: &Values, name: &str, idle: f64, far: f64) -> Placed<Option<f64>> {
    let Some(number) = entry.optional_number(name) else { return Ok(None) };
    // Both ends are looked at from the side of the limit.
    let side = if idle <= far { 1.0 } else { -1.0 };
    let what = if (number - idle) * side <= 0.0 {
        format!("`{name} = {number}` can never matter: every value of the metric is within it")
    } else if (number - far) * side > 0.0 {
        format!("`{name} = {number}` can never be met: no value of the metric is within it")
    } else {
        return Ok(Some(number));
    };
    Err((Error::config(what), entry.place(name)))
}

fn regression(entry: &Values, kind: MetricKind, direction: Direction) -> Placed<f64> {
    let allowed = entry.number("max_regression");
    let positive = kind != MetricKind::Free;
    let why = if allowed.is_infinite() {
        return Ok(allowed);
    } else if positive && direction == Direction::Higher && allowed >= 1.0 {
        "can never matter: a number that cannot be negative never loses more than all"
    } else if positive && direction == Direction::Lower && allowed < -1.0 {
        "can never be met: a number that cannot be negative never improves by more than all"
    } else {
        return Ok(allowed);
    };
    let error = Error::config(format!("`max_regression = {allowed}` {why}"));
    Err((error.hint("0.05 allows 5 % of the baseline"), entry.place("max_regression")))
}

/// Says which names there are, and which one was probably meant.
pub(super) fn unknown<'a>(
    what: &str,
    found: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Error {
    let known: Vec<&str> = known.into_iter().collect();
    let error = Error::config(format!("there is no {what} `{found}`"));
    match (nearest(found, known.iter().copied()), known.as_slice()) {
        (Some(name), _) => error.hint(format!("did you mean `{name}`?")),
        (None, []) => error.hint("the suite has none"),
        (None, names) => error.hint(format!("there are `{}`", names.join("`, `"))),
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
