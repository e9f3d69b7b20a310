//! What was found when a model in use was evaluated again, added to what is attested of it.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::drift::Drift;
use crate::artifact::attestations::{self, BYTES_MAX};
use crate::artifact::envelope::{Bundle, IN_TOTO};
use crate::artifact::keys::SigningKey;
use crate::artifact::signature::{STATEMENT_TYPE, attestations_of};
use crate::error::{Context, Error, Result};
use crate::evaluation::SuiteRecord;
use crate::files::FileEntry;

/// The predicate of a test's result.
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// The statement that a model, file by file, drifted on some data: in-toto's test result, with the
/// numbers as annotations of what was evaluated.
pub fn statement(files: &[FileEntry], suite: &SuiteRecord, drifts: &[Drift]) -> Value {
    let subjects: Vec<Value> = files
        .iter()
        .map(|file| json!({"name": file.path, "digest": {"sha256": file.sha256}}))
        .collect();
    let named = |beyond: bool| -> Vec<String> {
        let of = drifts.iter().filter(|drift| drift.beyond == beyond);
        of.map(|drift| format!("drift/{}", drift.metric)).collect()
    };
    let numbers: serde_json::Map<String, Value> = drifts
        .iter()
        .map(|drift| {
            let Drift { baseline, value, worse, limit, .. } = drift;
            let numbers =
                json!({"baseline": baseline, "value": value, "worse": worse, "limit": limit});
            (drift.metric.clone(), numbers)
        })
        .collect();
    let mut configuration = vec![json!({
        "name": suite.path,
        "digest": {"sha256": suite.sha256},
        "annotations": {"suite": suite.name, "commit": suite.commit, "drift": numbers},
    })];
    configuration.extend(suite.data.iter().map(|data| {
        let mut data_file = json!({
            "name": data.file.path, "digest": {"sha256": data.file.sha256},
        });
        if let Some(uri) = &data.uri {
            data_file["uri"] = json!(uri);
        }
        data_file
    }));
    let failed = named(true);
    json!({
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": TEST_RESULT,
        "predicate": {
            "result": if failed.is_empty() { "PASSED" } else { "FAILED" },
            "configuration": configuration,
            "passedTests": named(false),
            "failedTests": failed,
        },
    })
}

/// Signs a statement and adds it to what is attested of a model, unless it says so already.
pub fn add(directory: &Path, statement: &Value, key: &SigningKey) -> Result<()> {
    let bundle = Bundle::sign(IN_TOTO, statement.to_string().into_bytes(), key)?;
    let said = |text: String| {
        let known = |line: &str| Bundle::parse(line.as_bytes()).ok();
        text.lines().filter_map(known).any(|known| known.payload == bundle.payload)
    };
    match attestations_of(directory) {
        Some(path) if path.is_file() && said(read(&path)?) => Ok(()),
        _ => attestations::append(directory, &[bundle]).map(drop),
    }
}

/// The attestations beside a model.
pub(super) fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    crate::files::open_unlinked(path)?
        .take(BYTES_MAX + 1)
        .read_to_string(&mut text)
        .context_at("cannot read the attestations", path)?;
    if text.len() as u64 > BYTES_MAX {
        let what = format!("attestations of more than {BYTES_MAX} bytes are refused");
        return Err(Error::channel(what).at(path));
    }
    Ok(text)
}
