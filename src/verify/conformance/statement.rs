//! The signed statement, also of the first version, which lists files as subjects.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::artifact::signature::{PREDICATE_TYPE, STATEMENT_TYPE, root_digest};
use crate::files::{self, Digest};

/// The predicate of version 0.2.
const OLD_PREDICATE_TYPE: &str = "https://model_signing/Digests/v0.1";

/// What was signed.
pub(super) struct Manifest {
    /// The digest of each file.
    pub files: BTreeMap<String, Digest>,
    /// What was left out.
    pub ignored: BTreeSet<String>,
    /// Version 0.2 wrote it.
    pub old: bool,
}

/// Reads a payload.
pub(super) fn parse(payload: &[u8]) -> Result<Manifest, String> {
    let statement = files::parse_json(payload).map_err(|error| error.with_causes())?;
    if statement["_type"] != STATEMENT_TYPE {
        return Err(format!("`_type` is not `{STATEMENT_TYPE}`"));
    }
    let subjects = statement["subject"].as_array().ok_or("there is no subject")?;
    match statement["predicateType"].as_str() {
        Some(PREDICATE_TYPE) => current(subjects, &statement["predicate"]),
        Some(OLD_PREDICATE_TYPE) => old(subjects),
        _ => Err("`predicateType` is not that of a model's signature".to_owned()),
    }
}

fn current(subjects: &[Value], predicate: &Value) -> Result<Manifest, String> {
    let [subject] = subjects else {
        return Err("there is not exactly one subject".to_owned());
    };
    let serialization = &predicate["serialization"];
    for (key, wanted) in [("method", "files"), ("hash_type", "sha256")] {
        if serialization[key] != wanted {
            return Err(format!("`{key}` is not `{wanted}`"));
        }
    }
    if !serialization["allow_symlinks"].is_boolean() {
        return Err("`allow_symlinks` is missing".to_owned());
    }
    let mut manifest = Manifest { files: BTreeMap::new(), ignored: BTreeSet::new(), old: false };
    if let Some(paths) = serialization.get("ignore_paths") {
        for path in paths.as_array().ok_or("`ignore_paths` is not a list")? {
            let path = path.as_str().ok_or("an ignored path is not text")?;
            manifest.ignored.insert(path.to_owned());
        }
    }
    let mut digests = Vec::new();
    for resource in predicate["resources"].as_array().ok_or("there are no resources")? {
        if resource["algorithm"] != "sha256" {
            return Err("`algorithm` is not `sha256`".to_owned());
        }
        let digest = digest(&resource["digest"])?;
        digests.push(digest);
        add(&mut manifest, &resource["name"], digest)?;
    }
    if digest(&subject["digest"]["sha256"])? != root_digest(digests.iter()) {
        return Err("the root digest does not follow from the listed files".to_owned());
    }
    not_empty(manifest)
}

fn old(subjects: &[Value]) -> Result<Manifest, String> {
    let mut manifest = Manifest { files: BTreeMap::new(), ignored: BTreeSet::new(), old: true };
    for subject in subjects {
        let algorithm = &subject["annotations"]["actual_hash_algorithm"];
        if !algorithm.is_null() && algorithm != "file-sha256" {
            return Err(format!("the hash {algorithm} is not supported"));
        }
        add(&mut manifest, &subject["name"], digest(&subject["digest"]["sha256"])?)?;
    }
    not_empty(manifest)
}

fn add(manifest: &mut Manifest, name: &Value, digest: Digest) -> Result<(), String> {
    let name = name.as_str().ok_or("a file has no name")?;
    match manifest.files.insert(name.to_owned(), digest) {
        None => Ok(()),
        Some(_) => Err(format!("the file `{name}` is listed twice")),
    }
}

fn not_empty(manifest: Manifest) -> Result<Manifest, String> {
    if manifest.files.is_empty() {
        return Err("no file is listed".to_owned());
    }
    Ok(manifest)
}

fn digest(value: &Value) -> Result<Digest, String> {
    let digest = value.as_str().and_then(|text| text.parse().ok());
    digest.ok_or_else(|| format!("{value} is not a lower-case SHA-256 digest"))
}
