//! `[performance]` of a policy: how much slower or larger a candidate may be.

use serde::Deserialize;
use toml::Spanned;

use super::limits::{MAX_REGRESSION, unknown};
use crate::error::Error;
use crate::evaluation::Suite;
use crate::files::Placed;

/// More measurements take longer than anyone waits.
const REPEATS_MAX: u64 = 100;

/// What is measured of speed and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Tokens of records a second.
    TokensPerSecond,
    /// From a question to the first token of its answer.
    FirstTokenSeconds,
    /// The largest memory of a process that judges the model.
    Memory,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TokensPerSecond, Self::FirstTokenSeconds, Self::Memory];

    /// As a policy calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokensPerSecond => "tokens_per_second",
            Self::FirstTokenSeconds => "first_token_seconds",
            Self::Memory => "memory",
        }
    }
}

/// How much slower or larger a candidate may be.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformanceRule {
    /// Relative to the baseline.
    pub max_regression: f64,
    /// What is measured.
    pub measures: Vec<Measure>,
    /// How often each model is measured; medians are compared.
    pub repeats: u64,
    /// The line in the policy.
    pub line: usize,
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PerformanceEntry {
    max_regression: Option<Spanned<f64>>,
    metrics: Option<Spanned<Vec<Spanned<String>>>>,
    repeats: Option<Spanned<u64>>,
}

/// What the section means for a suite; `line` is where it stands.
pub(super) fn performance(
    entry: PerformanceEntry,
    suite: &Suite,
    line: usize,
) -> Placed<PerformanceRule> {
    let answers = !suite.tasks.is_empty();
    let measures = match entry.metrics {
        None => {
            let measured = |measure: &Measure| answers || *measure != Measure::FirstTokenSeconds;
            Measure::ALL.into_iter().filter(measured).collect()
        }
        Some(list) => {
            let (span, list) = (list.span(), list.into_inner());
            let measures: Vec<Measure> =
                list.iter().map(|name| measure(name, answers)).collect::<Placed<_>>()?;
            if measures.is_empty() {
                return Err((Error::new("`metrics` is empty: nothing is measured"), span));
            }
            measures
        }
    };
    let allowed = entry.max_regression.unwrap_or_else(|| Spanned::new(0..0, MAX_REGRESSION));
    let (max_regression, span) = (*allowed.get_ref(), allowed.span());
    if !max_regression.is_finite() {
        return Err((Error::new("`max_regression` must be a number"), span));
    }
    if max_regression >= 1.0 && measures.contains(&Measure::TokensPerSecond) {
        let what = "can never matter for `tokens_per_second`, which never loses more than all";
        return Err((Error::new(format!("`max_regression = {max_regression}` {what}")), span));
    }
    let repeats = entry.repeats.unwrap_or_else(|| Spanned::new(0..0, 3));
    if !(1..=REPEATS_MAX).contains(repeats.get_ref()) {
        let error = Error::new(format!("`repeats` must be from 1 to {REPEATS_MAX}"));
        return Err((error, repeats.span()));
    }
    Ok(PerformanceRule { max_regression, measures, repeats: repeats.into_inner(), line })
}

fn measure(name: &Spanned<String>, answers: bool) -> Placed<Measure> {
    let found = Measure::ALL.into_iter().find(|measure| measure.name() == name.get_ref());
    let error = match found {
        None => unknown("metric of performance", name.get_ref(), Measure::ALL.map(Measure::name)),
        Some(Measure::FirstTokenSeconds) if !answers => {
            Error::new("the suite has no task, so there is no first token to wait for")
        }
        Some(measure) => return Ok(measure),
    };
    Err((error, name.span()))
}
