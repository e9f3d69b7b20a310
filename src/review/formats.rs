//! A review for people and for code hosts: lines, JSON, SARIF 2.1.0, and a comment in Markdown.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{CHECKS, Finding, Review};
use crate::artifact::markup::{code, escaped, is_invisible};
use crate::artifact::sarif::{SarifLog, SarifResult, SarifRule};
use crate::error::printable;
use crate::gate::TestOutcome;

/// The first line of a comment, by which the next one finds what it replaces.
const MARKER: &str = "<!-- firebrand review -->";
/// Version of the JSON form.
const VERSION: u32 = 1;

/// A text on one line, safe for a terminal, and with nothing in it that nobody sees.
fn line(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text).replace(['\n', '\t'], " ").chars() {
        if is_invisible(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

fn verdict(review: &Review) -> &'static str {
    match review.outcome() {
        TestOutcome::Failed => "FAILED",
        TestOutcome::Undecided => "UNDECIDED",
        _ => "PASSED",
    }
}

/// The first sentence of every form.
fn headline(review: &Review) -> String {
    let all = review.findings.len();
    let (failed, open) = (review.count(TestOutcome::Failed), review.count(TestOutcome::Undecided));
    match (review.subjects, review.outcome()) {
        (0, _) => "the change touches no configuration of a run, no policy and no suite".to_owned(),
        (_, TestOutcome::Failed) if open > 0 => {
            format!("{failed} of {all} checks fail, {open} cannot be judged")
        }
        (_, TestOutcome::Failed) => format!("{failed} of {all} checks fail"),
        (_, TestOutcome::Undecided) => {
            format!("{open} of {all} checks cannot be judged, none fails")
        }
        _ => format!("all of {all} checks hold"),
    }
}

/// Lines for each check, and the verdict in the last one.
pub fn text(review: &Review) -> String {
    let width = CHECKS.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for finding in &review.findings {
        let (word, name) = (finding.outcome.word(), finding.name());
        let (subject, detail) = (line(&finding.subject), line(&finding.detail));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{word:<4}  {name:<width$}  {subject}: {detail}");
        if let Some(advice) = &finding.advice {
            let _ = writeln!(out, "      {:width$}  {}", "", line(advice));
        }
    }
    let _ = writeln!(out, "{}: {}", verdict(review), headline(review));
    out
}

/// The review for machines.
pub fn json(review: &Review) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "check": finding.name(),
            "subject": finding.subject,
            "file": finding.place.0,
            "line": finding.place.1,
            "outcome": finding.outcome,
            "detail": finding.detail,
            "advice": finding.advice,
        })
    };
    json!({
        "version": VERSION,
        "firebrand": env!("CARGO_PKG_VERSION"),
        "decision": review.outcome(),
        "base": {"name": review.base, "commit": review.commit},
        "subjects": review.subjects,
        "note": review.note,
        "findings": review.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

/// One SARIF log; what holds is not told.
pub fn sarif(review: &Review) -> Value {
    let rules = CHECKS.iter().map(|check| SarifRule {
        id: format!("review/{}", check.name),
        about: check.about,
        advice: None,
        level: "error",
    });
    let result = |finding: &Finding| {
        let level = match finding.outcome {
            TestOutcome::Failed => "error",
            TestOutcome::Undecided => "warning",
            _ => return None,
        };
        let advice = finding.advice.as_ref().map(|advice| format!("; {advice}"));
        let text = format!("{}{}", finding.detail, advice.unwrap_or_default());
        Some(SarifResult {
            rule: finding.check,
            level,
            message: line(&text),
            file: finding.place.0.clone(),
            line: finding.place.1.or(Some(1)),
        })
    };
    let log = SarifLog {
        rules: rules.collect(),
        results: review.findings.iter().filter_map(result).collect(),
        base: ("WORKING_FOLDER", "The folder in which the review was run."),
        complete: review.outcome() != TestOutcome::Undecided,
        exit_code: review.exit_code(),
    };
    log.to_json()
}

/// A comment for a pull request; what does not hold comes first.
pub fn comment(review: &Review) -> String {
    let mut out = format!("{MARKER}\n### Review: {}\n\n{}.\n", verdict(review), headline(review));
    let commit = review.commit.get(..12).unwrap_or(&review.commit);
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\nCompared with {} ({}).", code(&review.base), code(commit));
    if let Some(note) = &review.note {
        let _ = writeln!(out, "\n{}.", escaped(&line(note)));
    }
    if review.findings.is_empty() {
        return out;
    }
    out += "\n| | check | file | what was found | what to do |\n|---|---|---|---|---|\n";
    let mut findings: Vec<&Finding> = review.findings.iter().collect();
    findings.sort_by_key(|finding| match finding.outcome {
        TestOutcome::Failed => 0,
        TestOutcome::Undecided => 1,
        _ => 2,
    });
    for finding in findings {
        let mark = match finding.outcome {
            TestOutcome::Failed => "❌",
            TestOutcome::Undecided => "❔",
            _ => "✅",
        };
        let _ = writeln!(
            out,
            "| {mark} | {} | {} | {} | {} |",
            code(finding.name()),
            code(&finding.subject),
            escaped(&line(&finding.detail)),
            escaped(&line(finding.advice.as_deref().unwrap_or_default()))
        );
    }
    out
}
