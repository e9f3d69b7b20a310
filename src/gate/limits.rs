//! Limits of a number: absolute ones, and how much worse than the baseline it may be.

use std::ops::Range;

use serde::Serialize;
use toml::Spanned;

use crate::error::{Error, nearest};
use crate::evaluation::{Suite, TaskKind};
use crate::files::Placed;

/// How much worse a number may be where nothing is said: 5 %.
pub const MAX_REGRESSION: f64 = 0.05;

/// A problem, and where in the policy it stands.

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Lower is better.
    Lower,
    /// Higher is better.
    Higher,
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
    /// Anything, what a program says; higher is better.
    Free,
}

impl MetricKind {
    /// The kind of one of a suite's metrics; `None` if it has no such metric.
    pub fn of(name: &str, suite: &Suite) -> Option<Self> {
        match name {
            "loss" => Some(Self::Loss),
            "perplexity" => Some(Self::Perplexity),
            "accuracy" => Some(Self::Share),
            _ => {
                let task = suite.tasks.iter().find(|task| task.name == name)?;
                let program = matches!(task.kind, TaskKind::Command { .. });
                Some(if program { Self::Free } else { Self::Share })
            }
        }
    }

    fn direction(self) -> Direction {
        match self {
            Self::Loss | Self::Perplexity => Direction::Lower,
            Self::Share | Self::Free => Direction::Higher,
        }
    }

    /// The smallest and the largest value.
    fn range(self) -> (f64, f64) {
        match self {
            Self::Loss => (0.0, f64::INFINITY),
            Self::Perplexity => (1.0, f64::INFINITY),
            Self::Share => (0.0, 1.0),
            Self::Free => (f64::NEG_INFINITY, f64::INFINITY),
        }
    }
}

/// Limits as a policy writes them.
#[derive(Default)]
pub(super) struct Written {
    pub direction: Option<Spanned<String>>,
    pub max_regression: Option<Spanned<f64>>,
    pub min: Option<Spanned<f64>>,
    pub max: Option<Spanned<f64>>,
    pub significant: Option<Spanned<bool>>,
    /// Whether something else is demanded as well, such as a gap.
    pub more: bool,
}

impl Written {
    /// What they mean for a kind of metric; `whole` is where the entry stands, `samples` how many
    /// data sets the suite draws for intervals.
    ///
    /// # Errors
    /// When a limit can never matter, or nothing can ever keep to it.
    pub fn understand(
        self,
        kind: MetricKind,
        samples: u64,
        whole: &Range<usize>,
    ) -> Placed<MetricLimits> {
        let mut limits = MetricLimits::usual(kind);
        if let Some(text) = &self.direction {
            limits.direction = match text.get_ref().as_str() {
                "lower" => Direction::Lower,
                "higher" => Direction::Higher,
                other => {
                    let what = format!("`direction` is `lower` or `higher`, not `{other}`");
                    return Err((Error::new(what), text.span()));
                }
            };
        }
        let (least, most) = kind.range();
        limits.min = self.min.as_ref().map(|min| bound(min, "min", least, most)).transpose()?;
        limits.max = self.max.as_ref().map(|max| bound(max, "max", most, least)).transpose()?;
        if let (Some(min), Some(max), Some(place)) = (limits.min, limits.max, &self.max)
            && min > max
        {
            return Err((Error::new("`max` is below `min`: nothing can pass"), place.span()));
        }
        if let Some(allowed) = &self.max_regression {
            limits.max_regression = regression(allowed, kind, limits.direction)?;
        }
        let relative = limits.max_regression.is_finite();
        if !relative && limits.min.is_none() && limits.max.is_none() && !self.more {
            let error = Error::new("this demands nothing: `max_regression` has no end")
                .hint("give `min` or `max`, or remove the entry");
            return Err((error, whole.clone()));
        }
        if let Some(significant) = self.significant.filter(|it| *it.get_ref()) {
            let why = match (relative, samples) {
                (false, _) => Some("means nothing without a finite `max_regression`"),
                (_, 0) => Some("needs intervals, and the suite has `bootstrap = 0`"),
                _ => None,
            };
            if let Some(why) = why {
                return Err((Error::new(format!("`significant` {why}")), significant.span()));
            }
            limits.significant = true;
        }
        Ok(limits)
    }
}

/// An absolute limit. `idle` is the end of the metric's range on its side, `far` the other one.
fn bound(value: &Spanned<f64>, name: &str, idle: f64, far: f64) -> Placed<f64> {
    let (number, span) = (*value.get_ref(), value.span());
    // Both ends are looked at from the side of the limit.
    let side = if idle <= far { 1.0 } else { -1.0 };
    let problem = if !number.is_finite() {
        Some(format!("`{name}` must be a number"))
    } else if (number - idle) * side <= 0.0 {
        Some(format!("`{name} = {number}` can never matter: the metric always keeps to it"))
    } else if (number - far) * side > 0.0 {
        Some(format!("`{name} = {number}` can never be kept: the metric does not get there"))
    } else {
        None
    };
    problem.map_or(Ok(number), |what| Err((Error::new(what), span)))
}

fn regression(value: &Spanned<f64>, kind: MetricKind, direction: Direction) -> Placed<f64> {
    let (allowed, span) = (*value.get_ref(), value.span());
    let positive = kind != MetricKind::Free;
    let problem = if allowed.is_nan() || allowed == f64::NEG_INFINITY {
        Some("`max_regression` must be a number".to_owned())
    } else if allowed == f64::INFINITY {
        None
    } else if positive && direction == Direction::Higher && allowed >= 1.0 {
        let what = "a number that cannot be negative never loses more than all";
        Some(format!("`max_regression = {allowed}` can never matter: {what}"))
    } else if positive && direction == Direction::Lower && allowed < -1.0 {
        let what = "a number that cannot be negative never gets better by more than all";
        Some(format!("`max_regression = {allowed}` can never be kept: {what}"))
    } else {
        None
    };
    match problem {
        None => Ok(allowed),
        Some(what) => Err((Error::new(what).hint("0.05 allows 5 % of the baseline"), span)),
    }
}

/// Says which names there are, and which one was probably meant.
pub(super) fn unknown<'a>(
    what: &str,
    found: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Error {
    let known: Vec<&str> = known.into_iter().collect();
    let error = Error::new(format!("there is no {what} `{found}`"));
    match (nearest(found, known.iter().copied()), known.as_slice()) {
        (Some(name), _) => error.hint(format!("did you mean `{name}`?")),
        (None, []) => error.hint("the suite has none"),
        (None, names) => error.hint(format!("there are `{}`", names.join("`, `"))),
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
