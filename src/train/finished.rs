//! Whether the folder `artifact` of a run is what the run has made: it verifies, and its lineage
//! names the metrics that lie in the run.

use std::path::Path;

use serde_json::Value;

use crate::artifact::keys::config_home;
use crate::artifact::parent::{LINEAGE_BYTES_MAX, STATEMENT_FILE};
use crate::error::{Error, ErrorCode, Result};
use crate::files::{Digest, hash_file, read_json};
use crate::settings;
use crate::verify::{CheckVerdict, Trust, Verdict, verify};

const METRICS: &str = "metrics.jsonl";

/// Whether the result of a run is there; by its lineage alone, for a list of runs.
///
/// # Errors
/// When something else lies in its place.
pub fn has_result(run: &Path) -> Result<bool> {
    let artifact = run.join("artifact");
    if artifact.symlink_metadata().is_err() {
        return Ok(false);
    }
    match stated_metrics(&artifact) {
        Some(stated) if hash_file(&run.join(METRICS), METRICS)?.sha256 == stated => Ok(true),
        Some(_) => Err(foreign(&artifact).because(format!("its lineage names other `{METRICS}`"))),
        None => Err(foreign(&artifact).because("it has no lineage of a run")),
    }
}

/// The same, with every byte of it verified.
///
/// # Errors
/// When something else lies in its place, or it was changed since.
pub fn has_whole_result(run: &Path) -> Result<bool> {
    if !has_result(run)? {
        return Ok(false);
    }
    let artifact = run.join("artifact");
    let report = verify(&artifact, &Trust::of_user(&config_home()?)?);
    let unsigned =
        || settings::load(&run.join("config.toml"), &[]).is_ok_and(|it| !it.config.output.sign);
    let holds = match report.verdict {
        Verdict::Tampered | Verdict::CouldNotCheck => false,
        Verdict::Unsigned => unsigned(),
        _ => true,
    };
    if holds {
        return Ok(true);
    }
    let failed = report.checks.iter().filter(|check| check.verdict == CheckVerdict::Fail);
    Err(failed.fold(foreign(&artifact), |error, check| error.because(&check.detail)))
}

fn foreign(artifact: &Path) -> Error {
    Error::refused(ErrorCode::Signature, "this is not, or is no longer, the result of the run")
        .at(artifact)
        .hint("move it away: the same command then makes the result from the last checkpoint")
}

/// Digest of the metrics that the lineage of an artifact names.
fn stated_metrics(artifact: &Path) -> Option<Digest> {
    let statement = read_json(&artifact.join(STATEMENT_FILE), LINEAGE_BYTES_MAX).ok()?;
    let byproducts = statement["predicate"]["runDetails"]["byproducts"].as_array()?;
    let log = byproducts.iter().find(|entry: &&Value| entry["name"] == METRICS)?;
    log["digest"]["sha256"].as_str()?.parse().ok()
}
