//! That someone made a model again from its lineage, and what came of it: an in-toto statement
//! about its files, signed with a key in the role `reproduce`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::signature::STATEMENT_TYPE;
use crate::document::choices;
use crate::files::{Digest, FileEntry};

/// The predicate of such a statement.
pub const REPRODUCTION: &str = "urn:firebrand:predicate:reproduction:v1";
/// Who made it again: this program.
pub const REPRODUCER: &str = "urn:firebrand:reproducer:v1";

choices! {
    /// How what was made again compares with what there is.
    Outcome {
        /// Every byte of the weights, their header and all else that training decides is the same.
        SameBytes = "same-bytes",
        /// Every number is the same to the last bit, and the header names other inputs.
        SameTensors = "same-tensors",
        /// Numbers differ by no more than the rounding that was allowed.
        WithinRounding = "within-rounding",
        /// They differ by more.
        Different = "different",
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Reproduction {
    /// How it compares.
    pub outcome: Outcome,
    /// When it was finished, RFC 3339.
    pub time: String,
    /// The kind of machine that made it again.
    pub device: String,
    /// The digest of the inputs that it was made of.
    pub inputs: Digest,
    /// The greatest relative difference of a tensor that was allowed, and found.
    pub tolerance: f64,
    /// That difference; 0 where all bits are the same.
    pub difference: f64,
    /// The first step whose numbers differ, where that is known.
    pub first_step: Option<u64>,
    /// The stretch of steps that was made again; all of them without one.
    pub steps: Option<(u64, u64)>,
}

/// The statement about a model's files, as bytes to be signed.
pub fn statement(files: &[FileEntry], found: &Reproduction) -> String {
    let subjects: BTreeMap<&str, Digest> =
        files.iter().map(|file| (file.path.as_str(), file.sha256)).collect();
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(name, sha256)| json!({"name": name, "digest": {"sha256": sha256}}))
        .collect();
    let mut predicate = json!({
        "reproducer": {
            "id": REPRODUCER,
            "version": {"firebrand": env!("CARGO_PKG_VERSION")},
        },
        "finishedOn": found.time,
        "outcome": found.outcome.name(),
        "device": found.device,
        "inputs": {"digest": {"sha256": found.inputs}},
        "tolerance": found.tolerance,
        "difference": found.difference,
    });
    if let Some(step) = found.first_step {
        predicate["firstDifferingStep"] = json!(step.to_string());
    }
    if let Some((from, to)) = found.steps {
        predicate["steps"] = json!({"from": from.to_string(), "to": to.to_string()});
    }
    let mut value = json!({
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": REPRODUCTION,
        "predicate": predicate,
    });
    value.sort_all_objects();
    value.to_string()
}

/// Reads a statement that is about exactly these files and says that the whole model was made
/// again; `None` of statements of other kinds. The error says why it does not count.
pub fn read(statement: &Value, files: &[FileEntry]) -> Option<Result<Outcome, String>> {
    if statement["predicateType"] != REPRODUCTION {
        return None;
    }
    let mut subjects = BTreeMap::new();
    for subject in statement["subject"].as_array().into_iter().flatten() {
        let digest = subject["digest"]["sha256"].as_str().and_then(|text| text.parse().ok());
        subjects.insert(subject["name"].as_str().unwrap_or_default(), digest);
    }
    let ours: BTreeMap<&str, Option<Digest>> =
        files.iter().map(|file| (file.path.as_str(), Some(file.sha256))).collect();
    let predicate = &statement["predicate"];
    Some(if subjects != ours {
        Err("it is not about exactly these files".to_owned())
    } else if predicate["reproducer"]["id"] != REPRODUCER {
        Err(format!("its reproducer is not `{REPRODUCER}`"))
    } else if let Some(from) = predicate["steps"]["from"].as_str() {
        let to = predicate["steps"]["to"].as_str().unwrap_or_default();
        Err(format!("it is about steps {from} to {to} alone"))
    } else {
        let outcome = predicate["outcome"].as_str().and_then(Outcome::from_name);
        outcome.ok_or_else(|| "its `outcome` is none that this program knows".to_owned())
    })
}

/// One of the same bytes, for tests.
#[cfg(test)]
pub(crate) fn of_same_bytes() -> Reproduction {
    Reproduction {
        outcome: Outcome::SameBytes,
        time: "2026-10-20T10:02:07Z".to_owned(),
        device: "cpu linux x86_64 avx2".to_owned(),
        inputs: Digest::of(b"inputs"),
        tolerance: 1e-3,
        difference: 0.0,
        first_step: None,
        steps: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn only_the_whole_model_with_exactly_these_files_counts() {
        let entry = |name: &str, bytes: &[u8]| FileEntry {
            path: name.to_owned(),
            size: bytes.len() as u64,
            sha256: Digest::of(bytes),
        };
        let files = [entry("a", b"1"), entry("b", b"2")];
        let of = |found: &Reproduction| serde_json::from_str(&statement(&files, found)).unwrap();
        let value: Value = of(&of_same_bytes());
        assert_eq!(read(&value, &files), Some(Ok(Outcome::SameBytes)));
        let why = |value: &Value, files: &[FileEntry]| read(value, files).unwrap().unwrap_err();
        let other = [entry("a", b"1"), entry("b", b"3")];
        assert_eq!(why(&value, &files[..1]), why(&value, &other));
        let part =
            of(&Reproduction { steps: Some((2, 4)), first_step: Some(3), ..of_same_bytes() });
        assert_eq!(part["predicate"]["firstDifferingStep"], "3");
        let said = [why(&value, &other), why(&part, &files)].join("\n");
        says(
            said,
            snapbox::str![[r#"
it is not about exactly these files
it is about steps 2 to 4 alone
"#]],
        );
        let mut foreign = value.clone();
        foreign["predicateType"] = json!("https://slsa.dev/provenance/v1");
        assert_eq!(read(&foreign, &files), None);
    }
}
