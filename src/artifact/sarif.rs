//! Findings in SARIF 2.1.0, which code hosts and editors show (OASIS, 27 March 2020).

use serde_json::{Value, json};

use super::markup::uri;

/// A kind of finding.
#[derive(Debug, Clone)]
pub struct SarifRule {
    /// Its name, which never changes.
    pub id: String,
    /// What it is about, in a sentence.
    pub about: &'static str,
    /// What to do about it.
    pub advice: Option<&'static str>,
    /// How loud it is unless a result says otherwise.
    pub level: &'static str,
}

/// Something that was found.
#[derive(Debug, Clone)]
pub struct SarifResult {
    /// The place of its rule among those of the log.
    pub rule: usize,
    /// `error`, `warning` or `note`.
    pub level: &'static str,
    /// What was found; made harmless by the caller.
    pub message: String,
    /// The file, relative to the base of the log.
    pub file: String,
    /// The line, counted from 1.
    pub line: Option<usize>,
}

/// One log with one run.
#[derive(Debug, Clone)]
pub struct SarifLog {
    /// Every rule that there is.
    pub rules: Vec<SarifRule>,
    /// What was found.
    pub results: Vec<SarifResult>,
    /// What files are relative to: a name, and what it is.
    pub base: (&'static str, &'static str),
    /// Whether everything was looked at.
    pub complete: bool,
    /// How the program ends.
    pub exit_code: u8,
}

impl SarifLog {
    /// The log.
    pub fn to_json(&self) -> Value {
        let (base, about) = self.base;
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "firebrand",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": self.rules.iter().map(SarifRule::to_json).collect::<Vec<_>>(),
                }},
                "invocations": [{
                    "executionSuccessful": self.complete,
                    "exitCode": self.exit_code,
                }],
                "originalUriBaseIds": {(base): {"description": {"text": about}}},
                "results": self.results.iter().map(|it| self.result(it)).collect::<Vec<_>>(),
            }],
        })
    }

    fn result(&self, result: &SarifResult) -> Value {
        let file = json!({"uri": uri(&result.file), "uriBaseId": self.base.0});
        let mut place = json!({"artifactLocation": file});
        if let Some(line) = result.line {
            place["region"] = json!({"startLine": line});
        }
        json!({
            "ruleId": self.rules[result.rule].id,
            "ruleIndex": result.rule,
            "level": result.level,
            "message": {"text": result.message},
            "locations": [{"physicalLocation": place}],
        })
    }
}

impl SarifRule {
    fn to_json(&self) -> Value {
        let mut rule = json!({"id": self.id, "shortDescription": {"text": self.about}});
        if let Some(advice) = self.advice {
            rule["help"] = json!({"text": advice});
        }
        rule["defaultConfiguration"] = json!({"level": self.level});
        rule
    }
}
