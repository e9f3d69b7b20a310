//! What was found when a model in use was judged again, added to what is attested of it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::drift::Drift;
use crate::artifact::envelope::{Bundle, IN_TOTO};
use crate::artifact::keys::SigningKey;
use crate::artifact::signature::{STATEMENT_TYPE, attestations_of};
use crate::error::{Context, Error, Result};
use crate::evaluation::SuiteRecord;
use crate::files::{FileEntry, folder_of, write_atomic};

/// The predicate of a test's result.
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
/// As in `verify`.
const BYTES_MAX: u64 = 64 << 20;

/// The statement that a model, file by file, drifted on some data: in-toto's test result, with the
/// numbers as annotations of what was judged.
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

/// Signs a statement and adds it to what is attested of a model.
pub fn add(directory: &Path, statement: &Value, key: &SigningKey) -> Result<()> {
    let bundle = Bundle::sign(IN_TOTO, statement.to_string().into_bytes(), key)?;
    let path = attestations_of(directory)
        .ok_or_else(|| Error::new("cannot find the model").at(directory))?;
    append(&path, &bundle.to_json())
}

/// Adds a line, wholly or not at all, while nobody else does.
pub(super) fn append(path: &Path, line: &str) -> Result<()> {
    // The folder is what is locked: the file itself is replaced by another one.
    let folder = folder_of(path);
    let lock = File::open(folder).ok().filter(|_| cfg!(unix));
    if let Some(lock) = &lock {
        lock.lock().context_at("cannot lock the folder", folder)?;
    }
    let mut text = match path.symlink_metadata() {
        Ok(_) => read(path)?,
        Err(_) => String::new(),
    };
    if text.lines().any(|known| known == line) {
        return Ok(()); // said before, about the same bytes
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    write_atomic(path, text.as_bytes())
}

/// The attestations beside a model.
pub(super) fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    crate::files::open_regular(path)?
        .take(BYTES_MAX + 1)
        .read_to_string(&mut text)
        .context_at("cannot read the attestations", path)?;
    if text.len() as u64 > BYTES_MAX {
        let what = format!("attestations of more than {BYTES_MAX} bytes are refused");
        return Err(Error::new(what).at(path));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_many_writers_are_all_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.sigstore.jsonl");
        std::fs::write(&path, "first, without an end").unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for line in 0..5 {
                        append(path, &format!("{writer}-{line}")).unwrap();
                    }
                });
            }
        });
        let text = read(&path).unwrap();
        assert!(text.starts_with("first, without an end\n") && text.ends_with('\n'));
        let lines: std::collections::BTreeSet<&str> = text.lines().collect();
        assert_eq!(lines.len(), 21, "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
