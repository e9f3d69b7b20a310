//! `[performance]` of a policy: how much slower or larger a candidate may be.

use crate::document::{Placed, Values, choices};
use crate::error::Error;
use crate::evaluation::Suite;

/// More measurements take longer than anyone waits.
pub(super) const REPEATS_MAX: u64 = 100;

choices! {
    /// What is measured of speed and memory.
    Measure {
        /// Tokens of records a second.
        TokensPerSecond = "tokens_per_second",
        /// From a question to the first token of its answer.
        FirstTokenSeconds = "first_token_seconds",
        /// The largest memory of a process that judges the model.
        Memory = "memory",
    }
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TokensPerSecond, Self::FirstTokenSeconds, Self::Memory];
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

/// What the section means for a suite; `line` is where it stands.
pub(super) fn performance(values: &Values, suite: &Suite, line: usize) -> Placed<PerformanceRule> {
    let answers = !suite.tasks.is_empty();
    let measures: Vec<Measure> = match values.optional_texts("performance.metrics") {
        None => {
            let measured = |measure: &Measure| answers || *measure != Measure::FirstTokenSeconds;
            Measure::ALL.into_iter().filter(measured).collect()
        }
        Some(names) => names.iter().filter_map(|name| Measure::from_name(name)).collect(),
    };
    if !answers && measures.contains(&Measure::FirstTokenSeconds) {
        let what = "the suite has no task, so there is no first token to wait for";
        return Err((Error::config(what), values.place("performance.metrics")));
    }
    let max_regression = values.number("performance.max_regression");
    if max_regression >= 1.0 && measures.contains(&Measure::TokensPerSecond) {
        let what = "can never matter for `tokens_per_second`, which never loses more than all";
        let error = Error::config(format!("`max_regression = {max_regression}` {what}"));
        return Err((error, values.place("performance.max_regression")));
    }
    let repeats = values.integer("performance.repeats");
    Ok(PerformanceRule { max_regression, measures, repeats, line })
}
