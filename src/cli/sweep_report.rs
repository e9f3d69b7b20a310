//! What `firebrand sweep collect --report` makes: the results of a sweep in a folder of their own.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::artifact::keys::SigningKey;
use crate::artifact::parent::STATEMENT_FILE;
use crate::artifact::signature;
use crate::error::{Context, Error, Result};
use crate::files::{create_dir_new, hash_file, remove_dir, rename_new, write_synced};
use crate::report::sweep_page;
use crate::sweep::{Collected, tables};

/// Writes and signs it; without a key it is not signed.
///
/// # Errors
/// When something is there already, or it cannot be written: nothing is left then.
pub(super) fn write(collected: &Collected, folder: &Path, key: Option<&SigningKey>) -> Result<()> {
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
        return Err(Error::usage("the report needs a folder with a name of its own").at(folder));
    };
    let scratch = folder.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    create_dir_new(&scratch)?;
    let made = fill(collected, &scratch, (name, key)).and_then(|()| rename_new(&scratch, folder));
    if made.is_err() {
        let _ = remove_dir(&scratch); // half of it is of no use
    }
    made
}

fn fill(
    collected: &Collected,
    folder: &Path,
    (name, key): (&str, Option<&SigningKey>),
) -> Result<()> {
    let mut results = collected.to_json();
    results["statements"] = json!(statements(collected)?);
    let results = serde_json::to_string_pretty(&results).context("cannot encode the results")?;
    let lines = |lines: Vec<String>| lines.join("\n") + "\n";
    for (name, text) in [
        ("results.json", results + "\n"),
        ("table.csv", lines(tables::csv(collected))),
        ("table.md", lines(tables::markdown(collected))),
        ("page.html", sweep_page(collected)?),
    ] {
        write_synced(&folder.join(name), text.as_bytes())?;
    }
    key.map_or(Ok(()), |key| signature::sign_named(folder, name, key).map(|_| ()))
}

/// The digest of the lineage of each finished point's artifact, by the point: it names every file.
fn statements(collected: &Collected) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for point in &collected.points {
        let Some(artifact) = &point.result.artifact else { continue };
        let path = artifact.join(STATEMENT_FILE);
        let entry = hash_file(&path, STATEMENT_FILE)?;
        found.insert(point.point.id.clone(), entry.sha256.to_string());
    }
    Ok(found)
}
