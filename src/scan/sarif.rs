//! The report in SARIF, which code hosts and editors show.

use serde_json::Value;

use super::report::{Finding, Report, Verdict, shown};
use super::rules::RULES;
use crate::artifact::sarif::{SarifLog, SarifResult, SarifRule};

/// One log with one run.
pub fn log(report: &Report) -> Value {
    let rules = RULES.iter().map(|rule| SarifRule {
        id: rule.id.to_owned(),
        about: rule.about,
        advice: Some(rule.advice),
        level: rule.severity.level(),
    });
    let log = SarifLog {
        rules: rules.collect(),
        results: report.findings.iter().map(result).collect(),
        base: ("SCANNED", "The folder that was scanned."),
        complete: report.verdict() != Verdict::Incomplete,
        exit_code: report.verdict().exit_code(),
    };
    log.to_json()
}

fn result(finding: &Finding) -> SarifResult {
    let rule = RULES.iter().position(|rule| rule.id == finding.rule.id);
    SarifResult {
        rule: rule.expect("findings are made by rules of the table"),
        level: finding.rule.severity.level(),
        message: format!("{}; {}", shown(&finding.detail), finding.rule.advice),
        file: finding.file.clone(),
        line: None,
    }
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
