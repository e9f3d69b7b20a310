//! What a gate found, test by test, and what that comes to.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::limits::MetricLimits;
use super::policy::Policy;
use crate::evaluation::{Interval, ModelRecord, Report as Evaluation, SuiteRecord};
use crate::files::{Digest, FileEntry};

/// Version of the JSON form.
pub const VERSION: u32 = 1;

/// How one test went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TestOutcome {
    /// It holds.
    Passed,
    /// It could not be made in full, and that is no obstacle.
    Warned,
    /// It does not hold.
    Failed,
    /// It was needed and could not be made.
    Undecided,
    /// There is nothing to test.
    Skipped,
}

impl TestOutcome {
    /// What it is called on screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Warned => "warn",
            Self::Failed => "FAIL",
            Self::Undecided => "?",
            Self::Skipped => "-",
        }
    }
}

/// A number for people: four places where it is small, none where it is large.
pub fn shown(number: f64) -> String {
    if number.abs() < 1000.0 { format!("{number:.4}") } else { format!("{number:.0}") }
}

/// What is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TestKind {
    /// A number over all records.
    Metric,
    /// A number over a part of them.
    Slice,
    /// The difference between parts.
    Gap,
    /// Speed and memory.
    Performance,
    /// The checklist.
    Check,
}

impl TestKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Metric, Self::Slice, Self::Gap, Self::Performance, Self::Check];

    /// How names of such tests begin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metric => "metric",
            Self::Slice => "slice",
            Self::Gap => "gap",
            Self::Performance => "performance",
            Self::Check => "check",
        }
    }

    /// What it is about, for people.
    pub fn about(self) -> &'static str {
        match self {
            Self::Metric => "A number over all records keeps to its limits.",
            Self::Slice => "A number over a part of the records keeps to its limits.",
            Self::Gap => "The worst part is not too far from the best.",
            Self::Performance => "The model is not too much slower or larger.",
            Self::Check => "A point of the checklist holds.",
        }
    }
}

/// The numbers of a test.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TestNumbers {
    /// The candidate's number.
    pub candidate: Option<f64>,
    /// The baseline's.
    pub baseline: Option<f64>,
    /// The first less the second.
    pub delta: Option<f64>,
    /// The first over the second.
    pub ratio: Option<f64>,
    /// By how much of the baseline the candidate is worse; negative where it is better.
    pub regression: Option<f64>,
    /// Paired bootstrap interval of the regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Records that were evaluated.
    pub records: u64,
    /// What it had to keep to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<MetricLimits>,
    /// The largest gap that is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_gap: Option<f64>,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Test {
    /// What is tested.
    pub kind: TestKind,
    /// What exactly, such as `lang=fr/loss`.
    pub subject: String,
    /// How it went.
    pub outcome: TestOutcome,
    /// What was found, in a sentence.
    pub detail: String,
    /// The line in the policy that demands it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The numbers, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<TestNumbers>,
}

impl Test {
    /// A test without numbers.
    pub fn new(
        kind: TestKind,
        subject: impl Into<String>,
        outcome: TestOutcome,
        detail: impl Into<String>,
    ) -> Self {
        let (subject, detail) = (subject.into(), detail.into());
        Self { kind, subject, outcome, detail, line: None, numbers: None }
    }

    /// Its name, unique in a report.
    pub fn name(&self) -> String {
        format!("{}:{}", self.kind.name(), self.subject)
    }
}

/// What all tests come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Decision {
    /// Everything holds.
    Passed,
    /// Nothing fails, but not everything could be tested: there is nothing to compare with, or the
    /// policy lets something pass unseen.
    Warned,
    /// Something does not hold.
    Refused,
    /// Nothing fails, but something that is needed could not be tested.
    Undecided,
}

impl Decision {
    /// What the tests come to.
    pub fn of(tests: &[Test]) -> Self {
        let any = |outcome| tests.iter().any(|test| test.outcome == outcome);
        if any(TestOutcome::Failed) {
            Self::Refused
        } else if any(TestOutcome::Undecided) {
            Self::Undecided
        } else if any(TestOutcome::Warned) {
            Self::Warned
        } else {
            Self::Passed
        }
    }

    /// How the process ends.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Passed | Self::Warned => 0,
            Self::Refused => 1,
            Self::Undecided => 2,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "PASSED",
            Self::Warned => "WARNED",
            Self::Refused => "REFUSED",
            Self::Undecided => "UNDECIDED",
        })
    }
}

/// A model that was evaluated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluatedModel {
    /// As the user named it, and the files of which bytes were used.
    #[serde(flatten)]
    pub model: ModelRecord,
    /// Its numbers over all records.
    pub metrics: std::collections::BTreeMap<String, f64>,
    /// Its numbers per slice, by `property=slice`.
    pub slices: std::collections::BTreeMap<String, std::collections::BTreeMap<String, f64>>,
}

impl EvaluatedModel {
    /// What an evaluation says of its model.
    pub fn of(report: &Evaluation) -> Self {
        let plain = |metrics: &crate::evaluation::Metrics| {
            let finite = metrics.iter().filter(|(_, metric)| metric.value.is_finite());
            finite.map(|(name, metric)| (name.clone(), metric.value)).collect()
        };
        let slices = report.slices.iter().flat_map(|kind| {
            let name = |slice: &str| format!("{}={slice}", kind.by);
            kind.slices.iter().map(move |slice| (name(&slice.name), plain(&slice.metrics)))
        });
        Self {
            model: report.model.clone(),
            metrics: plain(&report.metrics),
            slices: slices.collect(),
        }
    }
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What it comes to.
    pub decision: Decision,
    /// Whether there was nothing to compare with.
    pub first_release: bool,
    /// RFC 3339.
    pub time: String,
    /// The policy's file and its digest.
    pub policy: (String, Digest),
    /// What both were evaluated on.
    pub suite: SuiteRecord,
    /// The suite's file and its digest.
    pub suite_file: (String, Digest),
    /// The candidate.
    pub candidate: EvaluatedModel,
    /// The baseline.
    pub baseline: Option<EvaluatedModel>,
    /// Every file of the candidate, as it was verified.
    pub files: Vec<FileEntry>,
    /// Whether its signature held.
    pub signed: bool,
    /// Every test.
    pub tests: Vec<Test>,
}

impl Report {
    /// Puts together what was found.
    pub fn new(
        policy: &Policy,
        candidate: &Evaluation,
        baseline: Option<&Evaluation>,
        (verified, signed): (&crate::verify::Report, bool),
        tests: Vec<Test>,
    ) -> Self {
        Self {
            decision: Decision::of(&tests),
            first_release: baseline.is_none(),
            time: format!("{:.0}", jiff::Timestamp::now()),
            policy: (policy.path.display().to_string(), policy.sha256),
            suite: candidate.suite.clone(),
            suite_file: (policy.suite.path.display().to_string(), policy.suite.sha256),
            candidate: EvaluatedModel::of(candidate),
            baseline: baseline.map(EvaluatedModel::of),
            files: verified.files.clone(),
            signed,
            tests,
        }
    }

    /// The names of the tests that went so.
    pub fn names(&self, outcome: TestOutcome) -> Vec<String> {
        self.tests.iter().filter(|test| test.outcome == outcome).map(Test::name).collect()
    }

    /// The report for machines; `rubber_stamp` says that there was nothing to compare with.
    pub fn to_json(&self) -> Value {
        let tests: Vec<Value> = self
            .tests
            .iter()
            .map(|test| {
                let mut value = serde_json::to_value(test).unwrap_or_default();
                value["name"] = json!(test.name());
                value
            })
            .collect();
        json!({
            "version": VERSION,
            "firebrand": env!("CARGO_PKG_VERSION"),
            "decision": self.decision,
            "rubber_stamp": self.first_release,
            "time": self.time,
            "policy": {"path": self.policy.0, "sha256": self.policy.1},
            "suite": {
                "name": self.suite.name,
                "path": self.suite_file.0,
                "sha256": self.suite_file.1,
                "data": self.suite.data,
                "commit": self.suite.commit,
                "truncated": self.suite.truncated,
            },
            "candidate": self.candidate,
            "baseline": self.baseline,
            "tests": tests,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_outweighs_doubt_and_doubt_outweighs_a_warning() {
        use TestOutcome::{Failed, Passed, Skipped, Undecided, Warned};
        let of = |outcomes: &[TestOutcome]| {
            let test = |outcome: &TestOutcome| Test::new(TestKind::Check, "a", *outcome, "b");
            Decision::of(&outcomes.iter().map(test).collect::<Vec<_>>())
        };
        for (outcomes, decision, code) in [
            (&[Passed, Skipped][..], Decision::Passed, 0),
            (&[Passed, Warned], Decision::Warned, 0),
            (&[Warned, Undecided, Passed], Decision::Undecided, 2),
            (&[Undecided, Failed, Warned], Decision::Refused, 1),
        ] {
            assert_eq!(of(outcomes), decision);
            assert_eq!(of(outcomes).exit_code(), code);
        }
    }
}
