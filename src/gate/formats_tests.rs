//! Tests of the forms: complete, well formed, and safe whatever the names say.

use serde_json::json;

use super::super::fixture::{Folder, evaluation, records};
use super::super::{Policy, TestNumbers};
use super::*;
use crate::files::Digest;
use crate::verify;

/// A name that tries everything.
const ODD: &str = "a<b>&\"']]>|`x`\n\u{1b}[2J@all\u{202e}";

fn report(outcomes: &[TestOutcome]) -> Report {
    let folder = Folder::new();
    let policy = folder.policy("[eval]\nPLAIN\n").unwrap();
    let policy = Policy { path: "ci/my gate.toml".into(), ..policy };
    let judged = evaluation(&records(&[2.0]), &[("lang", "fr", 2.5)]);
    let verified = verify::verify(&folder.path("none"), &verify::Trust::default());
    let test = |(number, outcome): (usize, &TestOutcome)| Test {
        line: Some(number + 3),
        numbers: Some(TestNumbers { candidate: Some(2.0), records: 4, ..TestNumbers::default() }),
        ..Test::new(TestKind::ALL[number % 5], format!("{ODD}{number}"), *outcome, ODD)
    };
    let tests = outcomes.iter().enumerate().map(test).collect();
    let mut report = Report::new(
        &policy,
        &judged,
        None,
        (&verified, crate::gate::checks::is_signed(&verified)),
        tests,
    );
    report.candidate.model.name = ODD.to_owned();
    report
}

const EVERY: [TestOutcome; 5] = [
    TestOutcome::Passed,
    TestOutcome::Warned,
    TestOutcome::Failed,
    TestOutcome::Undecided,
    TestOutcome::Skipped,
];

#[test]
fn the_table_has_a_line_for_each_test_and_the_verdict() {
    let shown = text(&report(&EVERY));
    assert_eq!(shown.lines().count(), 6);
    assert!(!shown.contains('\u{1b}'));
    assert!(shown.ends_with("REFUSED: 1 of 5 tests fail\n"), "{shown}");
    let of = |outcomes: &[TestOutcome]| text(&report(outcomes)).lines().last().unwrap().to_owned();
    assert_eq!(of(&EVERY[..1]), "PASSED: all of 1 tests hold");
    assert!(of(&EVERY[..2]).starts_with("WARNED: first release"));
    assert_eq!(of(&EVERY[3..]), "UNDECIDED: 1 of 2 tests could not be made, none fails");
}

#[test]
fn markdown_stays_a_table_and_tells_failures_first() {
    let shown = markdown(&report(&EVERY));
    let rows: Vec<&str> = shown.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 7);
    for row in &rows {
        let bars = row.replace("\\|", "").matches('|').count();
        assert_eq!(bars, 7, "{row}");
    }
    assert!(rows[2].starts_with("| ❌ |") && rows[3].starts_with("| ❔ |"), "{shown}");
    assert!(rows[2].contains("| 2.0000 |"));
    let plain = shown.replace("`", "");
    assert!(!shown.contains('\u{1b}') && !plain.contains('\u{202e}'));
    // Nobody is called, and nothing is markup, outside of code.
    assert!(escaped(&line(ODD)).chars().all(|c| !"<>|@".contains(c)), "{}", escaped(&line(ODD)));
    assert_eq!(shown.lines().next(), Some("### Gate: REFUSED"));
}

#[test]
fn junit_is_well_formed_and_counts_right() {
    let shown = junit(&report(&EVERY));
    assert!(shown.contains(
        "<testsuites name=\"firebrand gate\" tests=\"5\" failures=\"1\" errors=\"1\" skipped=\"1\">"
    ));
    assert_eq!(shown.matches("<testsuite ").count(), 5);
    assert_eq!(shown.matches("<testcase ").count(), 5);
    for (element, count) in [("failure", 1), ("error", 1), ("skipped", 1), ("system-out", 2)] {
        assert_eq!(shown.matches(&format!("<{element}")).count(), count, "{element}");
    }
    // Every element is closed in order, and text holds no markup.
    let mut open: Vec<String> = Vec::new();
    let body = shown.split_once("?>").unwrap().1;
    for part in body.split('<').skip(1) {
        let (tag, rest) = part.split_once('>').unwrap();
        assert!(!rest.contains('>') && !rest.contains('&') || rest.contains(';'), "{rest}");
        let name = tag.split_whitespace().next().unwrap().trim_end_matches('/').to_owned();
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop().as_deref(), Some(closed)),
            None if tag.ends_with('/') => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty());
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'));
}

#[test]
fn sarif_points_at_the_lines_of_the_policy() {
    let log = sarif(&report(&EVERY));
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    let levels: Vec<&str> = results.iter().map(|it| it["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["note", "error", "warning"]);
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "ci/my%20gate.toml");
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 3);
        let base = place["artifactLocation"]["uriBaseId"].as_str().unwrap();
        assert!(run["originalUriBaseIds"][base].is_object());
        assert!(!result["message"]["text"].as_str().unwrap().contains(['\u{1b}', '\n']));
    }
    assert_eq!(run["invocations"][0]["exitCode"], 1);
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    let undecided = sarif(&report(&[TestOutcome::Undecided]));
    assert_eq!(undecided["runs"][0]["invocations"][0]["executionSuccessful"], false);
}

#[test]
fn json_has_a_version_and_everything_that_was_found() {
    let json = report(&EVERY).to_json();
    assert_eq!((&json["version"], &json["decision"]), (&json!(1), &json!("REFUSED")));
    assert_eq!((&json["rubber_stamp"], &json["baseline"]), (&json!(true), &Value::Null));
    assert_eq!(json["candidate"]["metrics"]["loss"], 2.0);
    assert_eq!(json["candidate"]["slices"]["lang=fr"]["loss"], 2.5);
    let suite: Digest = json["suite"]["sha256"].as_str().unwrap().parse().unwrap();
    assert_ne!(suite, Digest::of(b"s"), "the file's digest, not the evaluation's");
    let tests = json["tests"].as_array().unwrap();
    assert_eq!(tests.len(), 5);
    assert_eq!(tests[2]["outcome"], "failed");
    assert_eq!(tests[2]["kind"], "gap");
    assert_eq!(tests[2]["numbers"]["candidate"], 2.0);
    assert_eq!(tests[2]["line"], 5);
}
