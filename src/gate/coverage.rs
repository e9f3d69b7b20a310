//! Does the evaluation go through what the training goes through? What it does not exercise of the
//! model, it says nothing of.

use std::sync::Arc;

use super::coverage_config::CoverageRule;
use super::decision::{Test, TestKind, TestNumbers, TestOutcome};
use super::limits::{Direction, MetricLimits};
use crate::coverage::{Coverage, diff, measure, percent};
use crate::error::Result;
use crate::evaluation::{Report as Evaluation, Subject, Suite, Watcher};
use crate::hub::Supply;

/// What the suite exercises of a model, if it is the one that the training was measured on.
///
/// # Errors
/// When the model cannot be run.
pub fn of_suite(
    rule: &CoverageRule,
    (subject, report): (&Subject, &Evaluation),
    suite: &Suite,
    (supply, on_cpu): (&Arc<Supply>, bool),
    watcher: &dyn Watcher,
) -> Result<Option<Coverage>> {
    if !on_cpu || report.model.sha256 != rule.training.model.sha256 {
        return Ok(None);
    }
    let thresholds = (rule.training.thresholds, None);
    let measured = measure(subject, suite, supply, thresholds, watcher)?;
    Ok(Some(measured.coverage))
}

/// Tests what the suite exercises; none where it could not be measured.
///
/// # Errors
/// When the results cannot be compared.
pub fn test(rule: &CoverageRule, found: Option<&Coverage>, on_cpu: bool) -> Result<Test> {
    let test = |outcome, detail: String| Test {
        line: Some(rule.line),
        ..Test::new(TestKind::Check, "coverage", outcome, detail)
    };
    let Some(found) = found else {
        let why = match on_cpu {
            true => format!(
                "`{}` is of another model than the candidate and the baseline",
                rule.path.display()
            ),
            false => "coverage is measured on the CPU only: use `--device cpu`".to_owned(),
        };
        return Ok(test(TestOutcome::Undecided, why));
    };
    let compared = diff(&rule.training, found)?;
    let of_all = compared.all.b_of_a();
    if of_all.total == 0 {
        let why = "the training data exercises nothing that is counted";
        return Ok(test(TestOutcome::Undecided, why.to_owned()));
    }
    let parts: Vec<String> = compared
        .totals
        .iter()
        .map(|(name, counts)| format!("{name} {}", percent(&counts.b_of_a())))
        .collect();
    let detail = format!(
        "the evaluation exercises {} of what the training exercises ({} of {} paths: {}); at least \
         {:.1} % is demanded",
        percent(&of_all),
        of_all.covered,
        of_all.total,
        parts.join(", "),
        100.0 * rule.min_share
    );
    let share = crate::coverage::share(&of_all);
    let outcome = if share >= rule.min_share { TestOutcome::Passed } else { TestOutcome::Failed };
    let limits = MetricLimits {
        direction: Direction::Higher,
        max_regression: f64::INFINITY,
        min: Some(rule.min_share),
        max: None,
        significant: false,
    };
    let numbers = TestNumbers {
        candidate: Some(share),
        records: found.data.records,
        limits: Some(limits),
        ..TestNumbers::default()
    };
    Ok(Test { numbers: Some(numbers), ..test(outcome, detail) })
}
