//! The report in SARIF 2.1.0, which code hosts and editors show.

use serde_json::{Value, json};

use super::report::{Finding, Report, Verdict, shown};
use super::rules::RULES;
use crate::artifact::markup::uri;

/// Names in a report are relative to this.
const BASE: &str = "SCANNED";

/// One SARIF log with one run.
pub fn log(report: &Report) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": {"text": rule.about},
                "help": {"text": rule.advice},
                "defaultConfiguration": {"level": rule.severity.level()},
            })
        })
        .collect();
    let results: Vec<Value> = report.findings.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "firebrand",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "invocations": [{
                "executionSuccessful": report.verdict() != Verdict::Incomplete,
                "exitCode": report.verdict().exit_code(),
            }],
            "originalUriBaseIds": {
                (BASE): {"description": {"text": "The folder that was scanned."}},
            },
            "results": results,
        }],
    })
}

fn result(finding: &Finding) -> Value {
    let index = RULES.iter().position(|rule| rule.id == finding.rule.id);
    json!({
        "ruleId": finding.rule.id,
        "ruleIndex": index,
        "level": finding.rule.severity.level(),
        "message": {"text": format!("{}; {}", shown(&finding.detail), finding.rule.advice)},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(&finding.file), "uriBaseId": BASE},
            },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::super::rules::{FILE_NAME, PICKLE};
    use super::*;

    #[test]
    fn a_log_has_every_property_that_sarif_requires() {
        let mut report = Report::new("model".to_owned());
        report.add(&PICKLE, "a b/ü.bin", "a pickle");
        report.add(&FILE_NAME, "c:\n", "a control character");
        let log = log(&report.finish());
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        assert_eq!(run["tool"]["driver"]["name"], "firebrand");
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(rules.len(), RULES.len());
        assert!(run["invocations"][0]["executionSuccessful"].is_boolean());
        let results = run["results"].as_array().unwrap();
        assert_eq!(results.len(), 2);
        for result in results {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            assert!(
                ["none", "note", "warning", "error"].contains(&result["level"].as_str().unwrap())
            );
            assert!(!result["message"]["text"].as_str().unwrap().is_empty());
            let place = &result["locations"][0]["physicalLocation"]["artifactLocation"];
            assert!(run["originalUriBaseIds"][place["uriBaseId"].as_str().unwrap()].is_object());
        }
        let uris: Vec<&str> = results
            .iter()
            .map(|r| &r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
            .map(|uri| uri.as_str().unwrap())
            .collect();
        assert_eq!(uris, ["a%20b/%C3%BC.bin", "c%3A%0A"]);
    }

    #[test]
    fn names_of_rules_are_unique() {
        let mut ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), RULES.len());
    }
}
