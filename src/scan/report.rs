//! What a scan found, and what that comes to.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::rules::{Rule, Severity, UNREAD};

/// How many findings one scan reports; a hostile folder may have any number.
const MAX_FINDINGS: usize = 10_000;
/// How many findings of one rule one file may have.
const MAX_EACH: usize = 10;
/// How much of a text from a file is shown.
const MAX_SHOWN: usize = 300;

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// By which rule.
    pub rule: &'static Rule,
    /// In which file, relative to what was scanned.
    pub file: String,
    /// What exactly, in a sentence.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { id, severity, advice, .. } = self.rule;
        let (file, detail) = (shown(&self.file), shown(&self.detail));
        write!(f, "{:<7}  {id:<18}  {file}: {detail}; {advice}", severity.name())
    }
}

/// What all findings come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything was looked at, and nothing is dangerous.
    Clean,
    /// Something is dangerous.
    Dangerous,
    /// Nothing dangerous was seen, but not everything could be looked at.
    Incomplete,
}

impl Verdict {
    /// How the process ends.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Dangerous => 1,
            Self::Incomplete => 2,
        }
    }
}

/// The whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What was scanned, as the user named it.
    pub path: String,
    /// How many files were looked at.
    pub files: u64,
    /// Everything that was found, worst first.
    pub findings: Vec<Finding>,
    /// How many more findings there were.
    pub left_out: u64,
    /// How often each rule was found in each file.
    counts: BTreeMap<(&'static str, String), usize>,
    /// Whether a finding that is left out was dangerous.
    dangerous: bool,
}

impl Report {
    pub(super) fn new(path: String) -> Self {
        Self { path, ..Self::default() }
    }

    /// Something was found.
    pub(super) fn add(&mut self, rule: &'static Rule, file: &str, detail: impl Into<String>) {
        self.dangerous |= rule.severity == Severity::Danger;
        let count = self.counts.entry((rule.id, file.to_owned())).or_default();
        *count += 1;
        if *count > MAX_EACH || self.findings.len() >= MAX_FINDINGS {
            self.left_out += 1;
            return;
        }
        self.findings.push(Finding { rule, file: file.to_owned(), detail: detail.into() });
    }

    /// Something could not be looked into.
    pub(super) fn unread(&mut self, file: &str, why: impl fmt::Display) {
        self.add(&UNREAD, file, why.to_string());
    }

    /// Puts the findings in the order in which they are shown.
    pub(super) fn finish(mut self) -> Self {
        self.findings.sort_by(|a, b| {
            let key = |f: &Finding| (std::cmp::Reverse(f.rule.severity), f.file.clone());
            key(a).cmp(&key(b))
        });
        self
    }

    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        if self.dangerous {
            Verdict::Dangerous
        } else if self.counts.keys().any(|(rule, _)| *rule == UNREAD.id) {
            Verdict::Incomplete
        } else {
            Verdict::Clean
        }
    }

    /// How many findings of a severity are reported.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.rule.severity == severity).count()
    }

    /// The verdict in a line.
    pub fn summary(&self) -> String {
        let verdict = match self.verdict() {
            Verdict::Clean => "nothing dangerous",
            Verdict::Dangerous => "DANGEROUS",
            Verdict::Incomplete => "could not look at everything",
        };
        let some =
            |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let mut counts = vec![some(usize::try_from(self.files).unwrap_or(usize::MAX), "file")];
        for severity in [Severity::Danger, Severity::Warning, Severity::Note] {
            counts.push(some(self.count(severity), severity.name()));
        }
        if self.left_out > 0 {
            counts.push(format!("{} more of the same", self.left_out));
        }
        format!("{verdict}: {}", counts.join(", "))
    }

    /// The report for programs.
    pub fn to_json(&self) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "severity": finding.rule.severity,
                    "rule": finding.rule.id,
                    "file": finding.file,
                    "detail": shown(&finding.detail),
                    "advice": finding.rule.advice,
                })
            })
            .collect();
        json!({
            "path": self.path,
            "verdict": self.verdict(),
            "files": self.files,
            "left_out": self.left_out,
            "findings": findings,
        })
    }
}

/// Text from outside on one line: control characters and those that hide or turn text are escaped.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN {
            out.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that turn the direction of text or take no room.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{61c}' | '\u{ad}' | '\u{e0000}'..='\u{e007f}')
}
