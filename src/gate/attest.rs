//! The verdict of a gate as signed statements beside the model: an in-toto test result and a SLSA
//! verification summary (VSA). And back: which verdicts count for a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::decision::{Decision, Report, TestOutcome};
use crate::artifact::attestations::append;
use crate::artifact::envelope::{Bundle, IN_TOTO};
use crate::artifact::keys::SigningKey;
use crate::artifact::markup::uri;
use crate::artifact::parent::STATEMENT_FILE;
use crate::artifact::signature::{self, STATEMENT_TYPE};
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry, parse_json};
use crate::verify::{Role, Trust, who_signed};

/// The predicate of a test result.
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
/// The predicate of a verification summary.
pub const VSA: &str = "https://slsa.dev/verification_summary/v1";
/// Who verifies: this program's gate.
pub const VERIFIER: &str = "urn:firebrand:verifier:gate:v1";

/// The two statements about a model, as bytes to be signed.
pub fn statements(report: &Report) -> [String; 2] {
    let subjects: BTreeMap<&str, Digest> =
        report.files.iter().map(|file| (file.path.as_str(), file.sha256)).collect();
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(name, sha256)| json!({"name": name, "digest": {"sha256": sha256}}))
        .collect();
    let statement = |kind: &str, predicate: Value| {
        let mut value = json!({
            "_type": STATEMENT_TYPE,
            "subject": subjects,
            "predicateType": kind,
            "predicate": predicate,
        });
        value.sort_all_objects();
        value.to_string()
    };
    [statement(TEST_RESULT, test_result(report)), statement(VSA, summary(report))]
}

fn descriptor(name: &str, sha256: Digest, role: &str) -> Value {
    json!({"name": name, "digest": {"sha256": sha256}, "annotations": {"role": role}})
}

fn test_result(report: &Report) -> Value {
    let mut configuration = vec![
        descriptor(&report.policy.0, report.policy.1, "policy"),
        descriptor(&report.suite_file.0, report.suite_file.1, "suite"),
    ];
    for data in &report.suite.data {
        let mut entry = descriptor(&data.file.path, data.file.sha256, "data");
        if let Some(address) = &data.uri {
            entry["uri"] = json!(address);
        }
        configuration.push(entry);
    }
    if let Some(baseline) = &report.baseline {
        configuration.push(descriptor(&baseline.model.name, baseline.model.sha256, "baseline"));
    }
    json!({
        "result": match report.decision {
            Decision::Passed => "PASSED",
            Decision::Warned => "WARNED",
            Decision::Refused | Decision::Undecided => "FAILED",
        },
        "configuration": configuration,
        "passedTests": report.names(TestOutcome::Passed),
        "warnedTests": report.names(TestOutcome::Warned),
        "failedTests": report.names(TestOutcome::Failed),
    })
}

fn summary(report: &Report) -> Value {
    let passed = matches!(report.decision, Decision::Passed | Decision::Warned);
    let own = |name: &str| report.files.iter().find(|file| file.path == name);
    let inputs: Vec<Value> = [STATEMENT_FILE, signature::FILE]
        .into_iter()
        .filter_map(own)
        .map(|file| json!({"uri": file.path, "digest": {"sha256": file.sha256}}))
        .collect();
    let lineage = report.names(TestOutcome::Passed).iter().any(|name| name == "check:lineage");
    let level = match (passed, lineage && report.signed) {
        (false, _) => "FAILED",
        // The builder is the user's own machine: no more than that can be said.
        (true, true) => "SLSA_BUILD_LEVEL_1",
        (true, false) => "SLSA_BUILD_LEVEL_0",
    };
    json!({
        "verifier": {
            "id": VERIFIER,
            "version": {"firebrand": env!("CARGO_PKG_VERSION")},
        },
        "timeVerified": report.time,
        "resourceUri": format!("urn:firebrand:model:sha256:{}", root(&report.files)),
        "policy": {"uri": uri(&report.policy.0), "digest": {"sha256": report.policy.1}},
        "inputAttestations": inputs,
        "verificationResult": if passed { "PASSED" } else { "FAILED" },
        "verifiedLevels": [level],
        "slsaVersion": "1.0",
        "firebrand_metrics": report.candidate.metrics,
        "firebrand_slices": report.candidate.slices,
    })
}

/// The digest over all digests, as the model's signature has it.
fn root(files: &[FileEntry]) -> Digest {
    let signed = files.iter().filter(|file| !signature::is_ignored(&file.path));
    signature::root_digest(signed.map(|file| &file.sha256))
}

/// Signs the verdict and adds it to the model's attestations; returns their file.
///
/// # Errors
/// When the files are no longer those that were evaluated, or the attestations cannot be written.
pub fn attest(report: &Report, directory: &Path, key: &SigningKey) -> Result<PathBuf> {
    let mut files = signature::hash_model(directory)?;
    files.retain(|file| report.files.contains(file) || !signature::is_leftover(&file.path));
    if files != report.files {
        return Err(Error::changed("the model was changed while it was evaluated").at(directory));
    }
    let sign = |text: String| Bundle::sign(IN_TOTO, text.into_bytes(), key);
    let [result, summary] = statements(report);
    append(directory, &[sign(result)?, sign(summary)?])
}

/// Why a verdict signed with a key would not count for someone; `None` if it would.
pub fn objection(key: &SigningKey, trust: &Trust) -> Option<String> {
    let name = key.name();
    match trust.find(key.public().hint()) {
        None => Some(format!("{name} is none that you trust")),
        Some(known) => trust
            .objection(&known.limits, Some(Role::Gate), None)
            .map(|why| format!("{name} {why}")),
    }
}

/// A verdict that counts: about exactly the files of a model, by someone who may give it.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether the model may be used.
    pub passed: bool,
    /// When it was evaluated, as its signer says.
    pub time: Timestamp,
    /// SHA-256 of the signer's public key.
    pub signer: String,
    /// Who gave it, in short.
    pub by: String,
    /// The policy, as it was named.
    pub policy: String,
    /// Its digest, where it is told.
    pub policy_sha256: Option<Digest>,
    /// The model's numbers over all records.
    pub metrics: BTreeMap<String, f64>,
    /// SHA-256 of the line, without its end.
    pub sha256: Digest,
    /// Which line of the attestations it is, counted from 1.
    pub line: usize,
}

/// Reads one line of what is attested of a model with these files. `None` is what is no
/// verification summary, and what `verify` refuses anyway; an error is why one does not count.
pub fn verdict(
    line: &str,
    number: usize,
    files: &[FileEntry],
    trust: &Trust,
) -> Option<Result<Verdict, String>> {
    let bundle = Bundle::parse(line.as_bytes()).ok()?;
    if bundle.payload_type != IN_TOTO {
        return None;
    }
    let statement = parse_json(&bundle.payload).ok()?;
    if statement["predicateType"] != VSA {
        return None;
    }
    let predicate = &statement["predicate"];
    let stated = predicate["timeVerified"].as_str().and_then(|text| text.parse().ok());
    let signed = who_signed(&bundle, trust, Role::Gate, stated);
    if let Some(why) = signed.objection {
        return Some(Err(why));
    }
    Some(read(&statement, files).map(|(time, passed)| Verdict {
        passed,
        time,
        signer: signed.signer.hint,
        by: signed.name,
        policy: predicate["policy"]["uri"].as_str().unwrap_or_default().to_owned(),
        policy_sha256:
            predicate["policy"]["digest"]["sha256"].as_str().and_then(|text| text.parse().ok()),
        metrics: numbers(&predicate["firebrand_metrics"]),
        sha256: Digest::of(line.as_bytes()),
        line: number,
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
#[path = "attest_tests.rs"]
mod tests;
