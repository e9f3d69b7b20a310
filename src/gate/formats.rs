//! The verdict for people and for CI: a table, Markdown, JUnit's XML, SARIF 2.1.0.

use std::fmt::Write as _;

use serde_json::Value;

use super::decision::{Decision, Report, Test, TestKind, TestOutcome, shown};
use crate::artifact::markup::{code, escaped, is_invisible, xml};
use crate::artifact::sarif::{SarifLog, SarifResult, SarifRule};
use crate::error::printable;

/// A text on one line, safe for a terminal, and with nothing in it that nobody sees.
fn line(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text).replace(['\n', '\t'], " ").chars() {
        if is_invisible(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// The first sentence of every form.
fn headline(report: &Report) -> String {
    let count = |outcome| report.tests.iter().filter(|test| test.outcome == outcome).count();
    let (failed, open) = (count(TestOutcome::Failed), count(TestOutcome::Undecided));
    let all = report.tests.len();
    match report.decision {
        Decision::Passed => format!("all of {all} tests hold"),
        Decision::Warned if report.first_release => {
            format!("first release: nothing to compare with, and what {all} tests could see holds")
        }
        Decision::Warned => format!("what {all} tests could see holds"),
        Decision::Refused => format!("{failed} of {all} tests fail"),
        Decision::Undecided => format!("{open} of {all} tests could not be made, none fails"),
    }
}

/// A line for each test, and the verdict in the last one.
pub fn text(report: &Report) -> String {
    let names: Vec<String> = report.tests.iter().map(|test| line(&test.name())).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(40);
    let mut out = String::new();
    for (test, name) in report.tests.iter().zip(&names) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<4}  {name:<width$}  {}", test.outcome.word(), line(&test.detail));
    }
    let _ = writeln!(out, "{}: {}", report.decision, headline(report));
    out
}

/// A table for a comment on a pull request; what does not hold comes first.
pub fn markdown(report: &Report) -> String {
    let mut out = format!("### Gate: {}\n\n{}", report.decision, headline(report));
    let against = report.baseline.as_ref().map_or("no baseline".to_owned(), |baseline| {
        format!("baseline {}", code(&baseline.model.name))
    });
    let candidate = code(&report.candidate.model.name);
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        ".\n\nCandidate {candidate}, {against}, policy {}, suite {}.\n",
        code(&report.policy.0),
        code(&report.suite_file.0)
    );
    out += "| | test | candidate | baseline | records | what was found |\n";
    out += "|---|---|---:|---:|---:|---|\n";
    let rank = |test: &&Test| match test.outcome {
        TestOutcome::Failed => 0,
        TestOutcome::Undecided => 1,
        TestOutcome::Warned => 2,
        TestOutcome::Passed => 3,
        TestOutcome::Skipped => 4,
    };
    let mut tests: Vec<&Test> = report.tests.iter().collect();
    tests.sort_by_key(rank);
    for test in tests {
        let mark = match test.outcome {
            TestOutcome::Failed => "❌",
            TestOutcome::Undecided => "❔",
            TestOutcome::Warned => "⚠️",
            TestOutcome::Passed => "✅",
            TestOutcome::Skipped => "–",
        };
        let numbers = test.numbers.clone().unwrap_or_default();
        let number = |it: Option<f64>| it.map_or(String::new(), shown);
        let records = if numbers.records > 0 { numbers.records.to_string() } else { String::new() };
        let _ = writeln!(
            out,
            "| {mark} | {} | {} | {} | {records} | {} |",
            code(&test.name()),
            number(numbers.candidate),
            number(numbers.baseline),
            escaped(&line(&test.detail))
        );
    }
    out
}

/// JUnit's XML: a suite for each kind of test.
pub fn junit(report: &Report) -> String {
    let count = |tests: &[&Test], outcome: TestOutcome| {
        tests.iter().filter(|test| test.outcome == outcome).count()
    };
    let counts = |tests: &[&Test]| {
        format!(
            "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\"",
            tests.len(),
            count(tests, TestOutcome::Failed),
            count(tests, TestOutcome::Undecided),
            count(tests, TestOutcome::Skipped)
        )
    };
    let all: Vec<&Test> = report.tests.iter().collect();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _ = writeln!(out, "<testsuites name=\"firebrand gate\" {}>", counts(&all));
    for kind in TestKind::ALL {
        let tests: Vec<&Test> = all.iter().copied().filter(|test| test.kind == kind).collect();
        if tests.is_empty() {
            continue;
        }
        let name = kind.name();
        let time = xml(&report.time);
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" {} timestamp=\"{}\">",
            counts(&tests),
            time.trim_end_matches('Z')
        );
        for test in tests {
            let (subject, detail) = (xml(&test.subject), xml(&test.detail));
            let _ = write!(out, "    <testcase classname=\"gate.{name}\" name=\"{subject}\"");
            let _ = match test.outcome {
                TestOutcome::Failed => {
                    writeln!(out, "><failure message=\"{detail}\">{detail}</failure></testcase>")
                }
                TestOutcome::Undecided => {
                    writeln!(out, "><error message=\"{detail}\">{detail}</error></testcase>")
                }
                TestOutcome::Skipped => {
                    writeln!(out, "><skipped message=\"{detail}\"/></testcase>")
                }
                TestOutcome::Passed | TestOutcome::Warned => {
                    writeln!(out, "><system-out>{detail}</system-out></testcase>")
                }
            };
        }
        out += "  </testsuite>\n";
    }
    out += "</testsuites>\n";
    out
}

/// One SARIF log; results lie at the policy's lines that demand them.
pub fn sarif(report: &Report) -> Value {
    let rules = TestKind::ALL.iter().map(|kind| SarifRule {
        id: format!("gate/{}", kind.name()),
        about: kind.about(),
        advice: None,
        level: "error",
    });
    let told = report.tests.iter().filter_map(|test| Some((test, level(test.outcome)?)));
    let log = SarifLog {
        rules: rules.collect(),
        results: told.filter_map(|(test, level)| result(report, test, level)).collect(),
        base: ("WORKING_FOLDER", "The folder in which the gate was run."),
        complete: report.decision != Decision::Undecided,
        exit_code: report.decision.exit_code(),
    };
    log.to_json()
}

/// How loud an outcome is; what holds is not told.
fn level(outcome: TestOutcome) -> Option<&'static str> {
    match outcome {
        TestOutcome::Failed => Some("error"),
        TestOutcome::Undecided => Some("warning"),
        TestOutcome::Warned => Some("note"),
        TestOutcome::Passed | TestOutcome::Skipped => None,
    }
}

fn result(report: &Report, test: &Test, level: &'static str) -> Option<SarifResult> {
    Some(SarifResult {
        rule: TestKind::ALL.iter().position(|kind| *kind == test.kind)?,
        level,
        message: format!("{}: {}", line(&test.name()), line(&test.detail)),
        file: report.policy.0.clone(),
        line: Some(test.line.unwrap_or(1)),
    })
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod tests;
