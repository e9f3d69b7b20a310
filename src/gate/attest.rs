//! The verdict of a gate as signed statements beside the model: an in-toto test result and a SLSA
//! verification summary (VSA). And back: which verdicts count for a model.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::decision::{Decision, Outcome, Report};
use crate::artifact::attestations::{BYTES_MAX, append};
use crate::artifact::envelope::{Bundle, IN_TOTO};
use crate::artifact::keys::SigningKey;
use crate::artifact::lineage::STATEMENT_FILE;
use crate::artifact::markup::uri;
use crate::artifact::signature::{self, STATEMENT_TYPE, attestations_of};
use crate::error::{Context, Error, Result};
use crate::files::{Digest, FileEntry, hash_tree, parse_json};
use crate::verify::{Role, Trust, vouched};

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
        "passedTests": report.names(Outcome::Passed),
        "warnedTests": report.names(Outcome::Warned),
        "failedTests": report.names(Outcome::Failed),
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
    let lineage = report.names(Outcome::Passed).iter().any(|name| name == "check:lineage");
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
/// When the files are no longer those that were judged, or the attestations cannot be written.
pub fn attest(report: &Report, directory: &Path, key: &SigningKey) -> Result<PathBuf> {
    if hash_tree(directory)? != report.files {
        return Err(Error::new("the model was changed while it was judged").at(directory));
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
    /// When it was judged, as its signer says.
    pub time: Timestamp,
    /// SHA-256 of the signer's public key.
    pub signer: String,
    /// The digest of the policy.
    pub policy: Digest,
    /// The model's numbers over all records.
    pub metrics: BTreeMap<String, f64>,
    /// SHA-256 of the line, without its end.
    pub sha256: Digest,
    /// Which line of the attestations it is, counted from 1.
    pub line: usize,
}

/// The verdicts on a model that count, in the order of their lines: the last one is the newest.
/// Lines about other files, by others, or damaged count for nothing; `verify` tells of them.
///
/// # Errors
/// When the model or its attestations cannot be read.
pub fn verdicts(artifact: &Path, trust: &Trust) -> Result<Vec<Verdict>> {
    let files = hash_tree(artifact)?;
    let Some(path) = attestations_of(artifact) else { return Ok(Vec::new()) };
    let Ok(found) = path.symlink_metadata() else { return Ok(Vec::new()) };
    if !found.is_file() || found.len() > BYTES_MAX {
        return Err(Error::new("the attestations are no regular file of a usable size").at(&path));
    }
    let text = fs::read_to_string(&path).context_at("cannot read the attestations", &path)?;
    let lines = (1..).zip(text.lines());
    Ok(lines.filter_map(|(number, line)| verdict(line, number, &files, trust)).collect())
}

fn verdict(line: &str, number: usize, files: &[FileEntry], trust: &Trust) -> Option<Verdict> {
    let bundle = Bundle::parse(line.as_bytes()).ok()?;
    let statement = parse_json(&bundle.payload).ok()?;
    let text = |path: &str| statement.pointer(path).and_then(Value::as_str);
    let ours = bundle.payload_type == IN_TOTO
        && text("/_type") == Some(STATEMENT_TYPE)
        && text("/predicateType") == Some(VSA)
        && text("/predicate/verifier/id") == Some(VERIFIER);
    if !ours || !is_about(statement["subject"].as_array()?, files) {
        return None;
    }
    let time: Timestamp = text("/predicate/timeVerified")?.parse().ok()?;
    let signer = vouched(&bundle, trust, Role::Gate, Some(time)).ok()?;
    let number_of = |value: &Value| value.as_f64().filter(|number| number.is_finite());
    let metrics = statement.pointer("/predicate/firebrand_metrics").and_then(Value::as_object);
    let metrics = metrics.into_iter().flat_map(Map::iter);
    Some(Verdict {
        passed: match text("/predicate/verificationResult")? {
            "PASSED" => true,
            "FAILED" => false,
            _ => return None,
        },
        time,
        signer,
        policy: text("/predicate/policy/digest/sha256")?.parse().ok()?,
        metrics: metrics.filter_map(|(name, it)| Some((name.clone(), number_of(it)?))).collect(),
        sha256: Digest::of(line.as_bytes()),
        line: number,
    })
}

/// Whether the subjects are exactly these files, each once.
fn is_about(subjects: &[Value], files: &[FileEntry]) -> bool {
    let stated = subjects.iter().filter_map(|subject| {
        let sha256: Digest = subject["digest"]["sha256"].as_str()?.parse().ok()?;
        Some((subject["name"].as_str()?, sha256))
    });
    let stated: BTreeMap<&str, Digest> = stated.collect();
    let here: BTreeMap<&str, Digest> =
        files.iter().map(|file| (file.path.as_str(), file.sha256)).collect();
    subjects.len() == here.len() && stated == here
}

#[cfg(test)]
#[path = "attest_tests.rs"]
mod tests;
