//! Is the candidate slower or larger than the baseline? Each is measured in processes of its own,
//! in turn, so that neither finds memory or caches that the other has warmed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::decision::{Test, TestKind, TestNumbers, TestOutcome, shown};
use super::limits::{Direction, MetricLimits};
use super::performance_config::{Measure, PerformanceRule};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::evaluation::{Performance, Report as Evaluation, Watcher};
use crate::files::parse_json;

/// How a model is measured once more.
pub struct Meter {
    /// This program.
    pub program: PathBuf,
    /// The suite.
    pub suite: PathBuf,
    /// What the user asked for: `auto`, `cpu` or `gpu`.
    pub device: String,
    /// Nothing from the network.
    pub offline: bool,
}

impl Meter {
    /// Judges a model in a process of its own; its numbers must be those of `expected`.
    fn measure(&self, model: &str, expected: &Evaluation) -> Result<Performance> {
        let mut command = Command::new(&self.program);
        command.args(["eval", model, "--config"]).arg(&self.suite);
        command.args(["--json", "--fresh", "--quiet", "--unnoted", "--device", &self.device]);
        if self.offline {
            command.arg("--offline");
        }
        command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
        let what = "cannot measure how fast the model is";
        let output = command.output().context_at(what, &self.program)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().next().unwrap_or("nothing was said");
            return Err(Error::gate(what).because(format!("{}: {first}", output.status)));
        }
        let value = parse_json(&output.stdout)
            .map_err(|error| Error::gate(what).because(error.into_what()));
        let report: Evaluation =
            serde_json::from_value(value?).context_code(ErrorCode::Evaluation, what)?;
        if report.model.sha256 != expected.model.sha256 {
            return Err(Error::changed("the model was changed while it was measured").at(model));
        }
        Ok(report.performance)
    }
}

/// Measures both models as often as the rule says, in turn: the candidate's numbers, and the
/// baseline's.
pub fn measure(
    rule: &PerformanceRule,
    meter: &Meter,
    (candidate, baseline): ((&Path, &Evaluation), (&str, &Evaluation)),
    watcher: &dyn Watcher,
) -> Result<(Vec<Performance>, Vec<Performance>)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    watcher.begin("speed", 2 * rule.repeats);
    let name = candidate.0.to_string_lossy();
    for _ in 0..rule.repeats {
        theirs.push(meter.measure(baseline.0, baseline.1)?);
        watcher.advance(1);
        ours.push(meter.measure(&name, candidate.1)?);
        watcher.advance(1);
    }
    watcher.end();
    Ok((ours, theirs))
}

/// Tests what was measured; `None` of a baseline means that there is none.
pub fn tests(
    rule: &PerformanceRule,
    measured: Option<(&[Performance], &[Performance])>,
) -> Vec<Test> {
    rule.measures.iter().map(|measure| test(rule, *measure, measured)).collect()
}

fn test(
    rule: &PerformanceRule,
    measure: Measure,
    measured: Option<(&[Performance], &[Performance])>,
) -> Test {
    let direction = match measure {
        Measure::TokensPerSecond => Direction::Higher,
        Measure::FirstTokenSeconds | Measure::Memory => Direction::Lower,
    };
    let max_regression = rule.max_regression;
    let limits =
        MetricLimits { direction, max_regression, min: None, max: None, significant: false };
    let mut numbers = TestNumbers { limits: Some(limits), ..TestNumbers::default() };
    let (outcome, detail) = match measured {
        None => (TestOutcome::Warned, "there is no baseline to compare with".to_owned()),
        Some((ours, theirs)) => match comparable(ours, theirs) {
            Err(why) => (TestOutcome::Undecided, why),
            Ok(()) => {
                let (candidate, baseline) = (median(measure, ours), median(measure, theirs));
                (numbers.candidate, numbers.baseline) = (candidate, baseline);
                judge(&limits, &mut numbers, ours.len())
            }
        },
    };
    Test {
        line: Some(rule.line),
        numbers: Some(numbers),
        ..Test::new(TestKind::Performance, measure.name(), outcome, detail)
    }
}

/// Numbers of different machines say nothing about models.
fn comparable(ours: &[Performance], theirs: &[Performance]) -> std::result::Result<(), String> {
    let place = |it: &Performance| (it.class.clone(), it.device.clone());
    let mut all = ours.iter().chain(theirs).map(place);
    let Some(first) = all.next() else { return Err("nothing was measured".to_owned()) };
    match all.find(|other| *other != first) {
        None => Ok(()),
        Some(other) => Err(format!(
            "incomparable: measured on {} ({}) and on {} ({})",
            first.1, first.0, other.1, other.0
        )),
    }
}

fn value(measure: Measure, of: &Performance) -> Option<f64> {
    match measure {
        Measure::TokensPerSecond => Some(of.tokens_per_second),
        Measure::FirstTokenSeconds => of.first_token_seconds,
        #[expect(clippy::cast_precision_loss)] // bytes of memory stay below 2^53
        Measure::Memory => of.memory_bytes_peak.map(|bytes| bytes as f64),
    }
}

/// The middle one; of an even number the mean of the middle two.
fn median(measure: Measure, all: &[Performance]) -> Option<f64> {
    let values: Option<Vec<f64>> = all.iter().map(|it| value(measure, it)).collect();
    let mut values = values.filter(|values| !values.is_empty())?;
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    Some(match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    })
}

fn judge(
    limits: &MetricLimits,
    numbers: &mut TestNumbers,
    repeats: usize,
) -> (TestOutcome, String) {
    let (Some(candidate), Some(baseline)) = (numbers.candidate, numbers.baseline) else {
        return (TestOutcome::Undecided, "this system does not tell".to_owned());
    };
    let regression = limits.regression(candidate, baseline);
    numbers.delta = Some(candidate - baseline);
    numbers.ratio = Some(candidate / baseline);
    numbers.regression = Some(regression);
    let word = if regression > 0.0 { "worse" } else { "better" };
    let detail = format!(
        "{}, baseline {} (medians of {repeats}): {:.2} % {word}, {:.1} % allowed",
        shown(candidate),
        shown(baseline),
        100.0 * regression.abs(),
        100.0 * limits.max_regression
    );
    let fits = regression <= limits.max_regression; // never true for what is no number
    (if fits { TestOutcome::Passed } else { TestOutcome::Failed }, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    fn performance(speed: f64, first: Option<f64>, memory: u64, device: &str) -> Performance {
        Performance {
            device: device.to_owned(),
            class: "flex linux".to_owned(),
            tokens_per_second: speed,
            answer_tokens_per_second: None,
            first_token_seconds: first,
            memory_bytes_peak: Some(memory),
        }
    }

    fn rule() -> PerformanceRule {
        let measures = Measure::ALL.into();
        PerformanceRule { max_regression: 0.1, measures, repeats: 3, line: 4 }
    }

    #[test]
    fn medians_are_compared_so_that_one_odd_measurement_decides_nothing() {
        let of = |speeds: [f64; 3], memory| -> Vec<Performance> {
            speeds.map(|speed| performance(speed, Some(1.0 / speed), memory, "CPU")).into()
        };
        let base = of([100.0, 101.0, 99.0], 1000);
        for (ours, expected) in [
            (of([95.0, 1.0, 96.0], 1050), [TestOutcome::Passed; 3]),
            (of([89.0, 200.0, 80.0], 1101), [TestOutcome::Failed; 3]),
            (
                of([200.0, 300.0, 1.0], 1101),
                [TestOutcome::Passed, TestOutcome::Passed, TestOutcome::Failed],
            ),
        ] {
            let found = tests(&rule(), Some((&ours, &base)));
            let outcomes: Vec<TestOutcome> = found.iter().map(|test| test.outcome).collect();
            assert_eq!(outcomes, expected, "{found:?}");
        }
        let even = [1.0, 4.0, 2.0, 3.0].map(|speed| performance(speed, None, 1, "CPU"));
        assert_eq!(median(Measure::TokensPerSecond, &even), Some(2.5));
        assert_eq!(median(Measure::FirstTokenSeconds, &even), None);
    }

    #[test]
    fn other_machines_are_incomparable_and_no_number_is_no_pass() {
        let one = [performance(100.0, Some(0.1), 10, "CPU, 2 threads")];
        let other = [performance(100.0, Some(0.1), 10, "CPU, 4 threads")];
        for test in tests(&rule(), Some((&one, &other))) {
            assert_eq!(test.outcome, TestOutcome::Undecided);
            assert!(test.detail.contains("incomparable") && test.detail.contains("4 threads"));
        }
        let class = [Performance { class: "wgpu".to_owned(), ..one[0].clone() }];
        assert_eq!(tests(&rule(), Some((&one, &class)))[0].outcome, TestOutcome::Undecided);
        assert_eq!(tests(&rule(), None)[0].outcome, TestOutcome::Warned);
        let none = [performance(f64::NAN, None, 10, "CPU, 2 threads")];
        let found = tests(&rule(), Some((&none, &one)));
        assert_eq!(found[0].outcome, TestOutcome::Failed);
        assert_eq!(found[1].outcome, TestOutcome::Undecided);
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_what_it_said() {
        let meter = Meter {
            program: "/nonexistent/firebrand".into(),
            suite: "eval.toml".into(),
            device: "cpu".to_owned(),
            offline: true,
        };
        let expected: Evaluation = super::super::fixture::evaluation(&[], &[]);
        says(
            meter.measure("m", &expected).unwrap_err(),
            snapbox::str![[r#"
error[file]: cannot measure how fast the model is
  at /nonexistent/firebrand
  because No such file or directory (os error 2)
"#]],
        );
    }
}
