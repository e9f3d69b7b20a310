//! What the gate said of a model: the verification summaries (SLSA VSA) beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use crate::artifact::envelope::{Bundle, IN_TOTO};
use crate::artifact::signature::{STATEMENT_TYPE, attestations_of};
use crate::error::{Context, Error, Result};
use crate::files::{Digest, FileEntry, parse_json};
use crate::verify::{Role, Trust, who_signed};

/// The predicate of a verification summary.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/verification_summary/v1";
/// The verifier whose summaries are verdicts.
pub const VERIFIER: &str = "urn:firebrand:verifier:gate:v1";
/// The largest file of attestations that is read, as in `verify`.
const BYTES_MAX: u64 = 64 << 20;

/// A verdict that counts: about exactly these files, by a key that may judge.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// When it was given.
    pub time: Timestamp,
    /// Passed, or failed.
    pub passed: bool,
    /// What was measured.
    pub metrics: BTreeMap<String, f64>,
    /// The policy, as the gate names it.
    pub policy: String,
    /// Of the line that holds it.
    pub sha256: Digest,
    /// Who gave it, in short.
    pub by: String,
}

/// The verdicts on a model, and those that do not count.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// Those that count, from the oldest to the newest.
    pub valid: Vec<Verdict>,
    /// Line and reason of the others.
    pub others: Vec<String>,
}

impl Verdicts {
    /// Reads those beside a model of which the files were checked just now.
    ///
    /// # Errors
    /// When there is a file of attestations and it cannot be read.
    pub fn read(directory: &Path, files: &[FileEntry], trust: &Trust) -> Result<Self> {
        let mut verdicts = Self::default();
        let Some(path) = attestations_of(directory) else { return Ok(verdicts) };
        let mut text = String::new();
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(verdicts),
            file => file
                .and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text))
                .context_at("cannot read the attestations", &path)?,
        };
        if text.len() as u64 > BYTES_MAX {
            let what = format!("attestations of more than {BYTES_MAX} bytes are refused");
            return Err(Error::new(what).at(path));
        }
        for (index, line) in text.lines().enumerate() {
            match verdict(line, files, trust) {
                Some(Ok(verdict)) => verdicts.valid.push(verdict),
                Some(Err(why)) => verdicts.others.push(format!("line {}: {why}", index + 1)),
                None => {}
            }
        }
        // Of two of the same time the one that was written later is the newer one.
        verdicts.valid.sort_by_key(|verdict| verdict.time);
        Ok(verdicts)
    }

    /// The one that counts.
    pub fn newest(&self) -> Option<&Verdict> {
        self.valid.last()
    }

    /// The newest verdict, which must have passed the model after `since`.
    ///
    /// # Errors
    /// Refuses a model without a verdict, one that failed, and one that was taken back since.
    pub fn passed(&self, directory: &Path, since: Option<Timestamp>) -> Result<&Verdict> {
        let refused = |what: &str| Error::refused(what).at(directory);
        let Some(newest) = self.newest() else {
            let error = refused("the gate has given no verdict on exactly these files");
            let error = self.others.iter().take(5).fold(error, |error, why| error.because(why));
            return Err(error.hint(format!(
                "`firebrand gate --policy gate.toml --candidate {}` gives one; its key needs the \
                 role `gate`",
                directory.display()
            )));
        };
        let time = newest.time;
        if !newest.passed {
            return Err(refused("the gate's newest verdict on this model is that it failed")
                .because(format!("it was given at {time:.0} by the {}", newest.by)));
        }
        // Pointers tell seconds.
        if let Some(since) = since.filter(|since| time.as_second() <= since.as_second()) {
            return Err(refused("this model was taken back after the gate had passed it")
                .because(format!("the verdict is of {time:.0}, the rollback of {since:.0}"))
                .hint("let the gate judge it again, on data of today"));
        }
        Ok(newest)
    }
}

/// `None` for what is no verification summary, and for what `verify` refuses anyway.
fn verdict(line: &str, files: &[FileEntry], trust: &Trust) -> Option<Result<Verdict, String>> {
    let bundle = Bundle::parse(line.as_bytes()).ok()?;
    if bundle.payload_type != IN_TOTO {
        return None;
    }
    let statement = parse_json(&bundle.payload).ok()?;
    if statement["predicateType"] != PREDICATE_TYPE {
        return None;
    }
    let signed = who_signed(&bundle, trust, Role::Gate);
    if let Some(why) = signed.objection {
        return Some(Err(why));
    }
    Some(read(&statement, files).map(|(time, passed)| {
        let predicate = &statement["predicate"];
        Verdict {
            time,
            passed,
            metrics: numbers(&predicate["firebrand_metrics"]),
            policy: predicate["policy"]["uri"].as_str().unwrap_or_default().to_owned(),
            sha256: Digest::of(line.as_bytes()),
            by: signed.name,
        }
    }))
}

/// Time and result of a statement about exactly these files.
fn read(statement: &Value, files: &[FileEntry]) -> Result<(Timestamp, bool), String> {
    if statement["_type"] != STATEMENT_TYPE {
        return Err(format!("`_type` is not `{STATEMENT_TYPE}`"));
    }
    let mut subjects = BTreeMap::new();
    for subject in statement["subject"].as_array().into_iter().flatten() {
        let name = subject["name"].as_str().unwrap_or_default();
        let digest: Option<Digest> =
            subject["digest"]["sha256"].as_str().and_then(|text| text.parse().ok());
        if subjects.insert(name, digest).is_some() {
            return Err(format!("it names `{name}` twice"));
        }
    }
    let ours: BTreeMap<&str, Option<Digest>> =
        files.iter().map(|file| (file.path.as_str(), Some(file.sha256))).collect();
    if subjects != ours {
        return Err("it is not about exactly these files".to_owned());
    }
    let predicate = &statement["predicate"];
    if predicate["verifier"]["id"] != VERIFIER {
        return Err(format!("its verifier is not `{VERIFIER}`"));
    }
    let time = predicate["timeVerified"].as_str().and_then(|text| text.parse().ok());
    let time = time.ok_or("`timeVerified` is no time of RFC 3339")?;
    match predicate["verificationResult"].as_str() {
        Some("PASSED") => Ok((time, true)),
        Some("FAILED") => Ok((time, false)),
        _ => Err("`verificationResult` is neither `PASSED` nor `FAILED`".to_owned()),
    }
}

fn numbers(value: &Value) -> BTreeMap<String, f64> {
    let members = value.as_object().into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
