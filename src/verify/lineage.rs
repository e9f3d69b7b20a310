//! Does the lineage tell of this model: inputs, statement, weights and files must agree.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::files::Allowed;
use super::files::{Files, Metadata, names, read_hashed};
use super::report::{Check, Report, Verdict};
use crate::artifact::lineage::{INPUTS_FILE, INPUTS_KEY, PREDICATE_TYPE};
use crate::artifact::parent::STATEMENT_FILE;
use crate::artifact::provenance;
use crate::artifact::signature::STATEMENT_TYPE;
use crate::error::Result;
use crate::files::{self, Digest, FileEntry};
use crate::hub;

/// The largest lineage file that is read.
const MAX_BYTES: u64 = 64 << 20;
const CHECKS: [Check; 3] = [Check::LineageInputs, Check::LineageStatement, Check::LineageSubjects];

/// Checks the lineage against the files and against what the weights say of themselves.
pub(super) fn check(
    directory: &Path,
    files: &Files,
    metadata: &Metadata,
    allowed: Allowed,
    report: &mut Report,
) {
    let (inputs, statement) = match (files.get(INPUTS_FILE), files.get(STATEMENT_FILE)) {
        (None, None) => {
            for check in CHECKS {
                report.skip(check, "the model carries no lineage");
            }
            return;
        }
        (Some(inputs), Some(statement)) => (inputs, statement),
        (inputs, _) => {
            let missing = if inputs.is_none() { INPUTS_FILE } else { STATEMENT_FILE };
            let detail = format!("`{missing}` is missing beside the other lineage file");
            report.fail(Check::LineageStatement, Verdict::Tampered, detail, "");
            return;
        }
    };
    check_inputs(inputs.sha256, metadata, report);
    let read = |entry: &FileEntry| -> Result<Vec<u8>> { read_hashed(directory, entry, MAX_BYTES) };
    match (read(inputs), read(statement)) {
        (Ok(inputs), Ok(statement)) => {
            check_statement((&inputs, &statement), (files, metadata), allowed, report)
        }
        (Err(error), _) | (_, Err(error)) => report.error(Check::LineageStatement, &error),
    }
}

/// When the lineage says that the model was finished, or the provenance beside it; `None` if
/// neither says it.
pub(super) fn finished_here(directory: &Path, files: &Files) -> Option<Timestamp> {
    let bytes = read_hashed(directory, files.get(STATEMENT_FILE)?, MAX_BYTES).ok()?;
    let statement = files::parse_json(&bytes).ok()?;
    finished(&statement).or_else(|| finished(&provenance::beside(directory, &statement)?))
}

/// When a provenance statement says that the work was finished.
pub(super) fn finished(statement: &Value) -> Option<Timestamp> {
    statement["predicate"]["runDetails"]["metadata"]["finishedOn"].as_str()?.parse().ok()
}

fn check_inputs(inputs: Digest, metadata: &Metadata, report: &mut Report) {
    let named: Vec<_> = metadata
        .iter()
        .filter_map(|(file, metadata)| Some((file.as_str(), metadata.get(INPUTS_KEY)?)))
        .collect();
    let others: Vec<_> = named
        .iter()
        .filter(|(_, digest)| **digest != inputs.to_string())
        .map(|(file, _)| *file)
        .collect();
    if named.is_empty() {
        report.skip(Check::LineageInputs, "the weights do not name their inputs");
    } else if others.is_empty() {
        let detail = format!("{} is named by {} weights files", inputs.short(), named.len());
        report.pass(Check::LineageInputs, detail);
    } else {
        let detail = format!("{} were made from other inputs", names(others));
        report.fail(Check::LineageInputs, Verdict::Tampered, detail, "");
    }
}

fn check_statement(
    (inputs, statement): (&[u8], &[u8]),
    (files, metadata): (&Files, &Metadata),
    allowed: Allowed,
    report: &mut Report,
) {
    let parsed =
        files::parse_json(inputs).map_err(|error| error.at(INPUTS_FILE)).and_then(|inputs| {
            let statement = files::parse_json(statement);
            Ok((inputs, statement.map_err(|error| error.at(STATEMENT_FILE))?))
        });
    let (inputs, statement) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let detail = super::report::describe(&error);
            return report.fail(Check::LineageStatement, Verdict::Tampered, detail, "");
        }
    };
    let problem = if statement["_type"] != STATEMENT_TYPE {
        Some(format!("`_type` is not `{STATEMENT_TYPE}`"))
    } else if statement["predicateType"] != PREDICATE_TYPE {
        Some(format!("`predicateType` is not `{PREDICATE_TYPE}`"))
    } else if statement["predicate"]["buildDefinition"] != inputs {
        Some(format!("its `buildDefinition` is not `{INPUTS_FILE}`"))
    } else {
        None
    };
    match problem {
        Some(detail) => report.fail(Check::LineageStatement, Verdict::Tampered, detail, ""),
        None => report.pass(Check::LineageStatement, "SLSA provenance v1 of these inputs"),
    }
    match check_subjects(&statement["subject"], files, metadata, allowed) {
        Ok(count) => report.pass(Check::LineageSubjects, format!("{count} files as stated")),
        Err(detail) => report.fail(Check::LineageSubjects, Verdict::Tampered, detail, ""),
    }
}

/// Every file that the statement is about must lie here, and it must be about all the weights.
fn check_subjects(
    subjects: &Value,
    files: &Files,
    metadata: &Metadata,
    allowed: Allowed,
) -> Result<usize, String> {
    let subjects = subjects.as_array().ok_or("`subject` is not a list")?;
    let mut stated = BTreeSet::new();
    let mut wrong = Vec::new();
    for subject in subjects {
        let name = subject["name"].as_str().ok_or("a subject has no name")?;
        let digest = subject["digest"]["sha256"].as_str().and_then(|text| text.parse().ok());
        if !stated.insert(name) {
            return Err(format!("`{name}` is stated twice"));
        }
        let here = files.get(name).map(|file| file.sha256);
        let not_fetched = here.is_none() && allowed.not_fetched && !hub::is_essential(name);
        if digest.is_none() || (here != digest && !not_fetched) {
            wrong.push(name);
        }
    }
    if !wrong.is_empty() {
        return Err(format!("the statement is about other files: {}", names(wrong)));
    }
    // A note may be added to a model and signed again; weights may not.
    let unstated: Vec<_> =
        metadata.keys().map(String::as_str).filter(|path| !stated.contains(path)).collect();
    if !unstated.is_empty() {
        return Err(format!("the statement does not know {}", names(unstated)));
    }
    Ok(stated.len())
}
