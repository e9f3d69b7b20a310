//! The statements of `<model>.sigstore.jsonl` beside a model: signed by trusted keys, about these
//! files?

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::files::{Files, names};
use super::lineage::finished;
use super::report::{Check, Report, Verdict, describe};
use super::signer;
use super::trust::Trust;
use super::trusted_keys_table::Role;
use crate::artifact::attestations::BYTES_MAX;
use crate::artifact::envelope::{Bundle, Defect, IN_TOTO};
use crate::artifact::lineage::PREDICATE_TYPE;
use crate::artifact::signature::{STATEMENT_TYPE, attestations_of};
use crate::error::{Context, Error};
use crate::files::{self, Digest};

/// Checks every line, where there is such a file; says nothing where there is none.
pub(super) fn check(directory: &Path, files: &Files, trust: &Trust, report: &mut Report) {
    let Some(path) = attestations_of(directory) else { return };
    let Ok(metadata) = path.symlink_metadata() else { return };
    let found = if !metadata.is_file() {
        Err(Error::signature("the attestations are not a regular file").at(&path))
    } else if metadata.len() > BYTES_MAX {
        Err(Error::signature(format!("the file has more than {BYTES_MAX} bytes")).at(&path))
    } else {
        fs::read_to_string(&path).context_at("cannot read the attestations", &path)
    };
    let text = match found {
        Ok(text) => text,
        Err(error) => return report.error(Check::Attestation, &error),
    };
    if text.is_empty() {
        return report.fail(Check::Attestation, Verdict::Tampered, "the file is empty", "");
    }
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        match check_line(line, files, trust) {
            Ok(detail) => report.pass(Check::Attestation, format!("line {number}: {detail}")),
            Err((Verdict::CouldNotCheck, why)) => {
                report.stuck(Check::Attestation, format!("line {number}: {why}"));
            }
            Err((verdict, why)) => {
                report.fail(Check::Attestation, verdict, format!("line {number}: {why}"), "");
            }
        }
    }
}

fn check_line(line: &str, files: &Files, trust: &Trust) -> Result<String, (Verdict, String)> {
    let tampered = |why: String| (Verdict::Tampered, why);
    let bundle = Bundle::parse(line.as_bytes()).map_err(|defect| match defect {
        Defect::Unsigned => tampered("the envelope holds no signature".to_owned()),
        Defect::Unsupported(why) => {
            (Verdict::CouldNotCheck, format!("{why}, which cannot be checked yet"))
        }
        Defect::Malformed(why) => tampered(why),
    })?;
    if bundle.payload_type != IN_TOTO {
        return Err(tampered(format!("`payloadType` is not `{IN_TOTO}`")));
    }
    // A bent statement is told as such whoever signed it.
    let statement = files::parse_json(&bundle.payload).map_err(|e| tampered(describe(&e)))?;
    let predicate = check_statement(&statement).map_err(tampered)?;
    let count = check_subjects(&statement["subject"], files).map_err(tampered)?;
    // How a model was made is for those to say who may sign models.
    let role = (predicate == PREDICATE_TYPE).then_some(Role::Train);
    let judged = signer::judge(&bundle, trust, role, finished(&statement));
    match (judged.signed, judged.objection) {
        (None, _) => {
            let why = format!("signed by the {}, which you do not trust", judged.name);
            Err((Verdict::Untrusted, why))
        }
        (Some(false), _) => {
            Err(tampered(format!("the {} did not sign this statement", judged.short)))
        }
        (_, Some(why)) => Err((Verdict::Untrusted, format!("the {} {why}", judged.short))),
        (_, None) => Ok(format!("{predicate}, {count} files as stated, by {}", judged.short)),
    }
}

fn check_statement(statement: &Value) -> Result<&str, String> {
    let map = statement.as_object().ok_or("the statement is not an object")?;
    let known = ["_type", "subject", "predicateType", "predicate"];
    if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("the statement has the unknown key `{key}`"));
    }
    if statement["_type"] != STATEMENT_TYPE {
        return Err(format!("`_type` is not `{STATEMENT_TYPE}`"));
    }
    if !statement["predicate"].is_object() {
        return Err("`predicate` is not an object".to_owned());
    }
    statement["predicateType"].as_str().ok_or_else(|| "`predicateType` is missing".to_owned())
}

/// Every file that the statement is about must lie here as it says.
fn check_subjects(subjects: &Value, files: &Files) -> Result<usize, String> {
    let subjects = subjects.as_array().ok_or("`subject` is not a list")?;
    let mut stated = BTreeSet::new();
    let mut wrong = Vec::new();
    for subject in subjects {
        let name = subject["name"].as_str().ok_or("a subject has no name")?;
        let digest = subject["digest"]["sha256"].as_str();
        let digest: Option<Digest> = digest.and_then(|text| text.parse().ok());
        if !stated.insert(name) {
            return Err(format!("`{name}` is stated twice"));
        }
        if digest.is_none() || files.get(name).map(|file| file.sha256) != digest {
            wrong.push(name);
        }
    }
    if stated.is_empty() {
        return Err("the statement is about no file".to_owned());
    }
    if !wrong.is_empty() {
        return Err(format!("the statement is about other files: {}", names(wrong)));
    }
    Ok(stated.len())
}
