//! `firebrand verify`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::artifact::keys;
use crate::cli::{data_line, talk};
use crate::error::Result;
use crate::verify::{CheckVerdict, Trust, verify};

/// Check a model directory: who signed it, is it complete and unchanged, does its lineage agree
///
/// Trusts the keys in the user's own settings (`signing.pub.pem` and `trusted-keys/*.pem` in the
/// folder that `firebrand train` names when it makes a key), or only the one that `--key` names.
/// Exit code 0: verified; 1: unsigned, untrusted or tampered; 2: could not be checked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An artifact, a run that has one, or any signed model directory
    directory: PathBuf,
    /// Trust this public key (PEM) and no other
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let trust = match &args.key {
        Some(path) => Trust::key_file(path)?,
        None => Trust::of_user(&keys::config_home()?)?,
    };
    let inside = args.directory.join("artifact");
    let is_run = !args.directory.join("model.sig").exists() && inside.is_dir();
    let directory = if is_run { &inside } else { &args.directory };
    let report = verify(directory, &trust);
    if args.json {
        let text = serde_json::to_string_pretty(&report.to_json());
        data_line(&text.unwrap_or_default())?;
    } else {
        for finding in &report.checks {
            data_line(&finding.to_string())?;
        }
        if let Some(signer) = &report.signer {
            let file = signer.key_file.as_ref().map(|file| format!(" ({})", file.display()));
            data_line(&format!("signed by key {}{}", signer.hint, file.unwrap_or_default()))?;
        }
        data_line(&report.verdict.to_string())?;
        let failed = |check: &&crate::verify::Finding| check.verdict == CheckVerdict::Fail;
        for hint in report.checks.iter().filter(failed).filter_map(|check| check.hint.as_ref()) {
            talk(&format!("\nhint: {hint}"));
        }
    }
    Ok(ExitCode::from(report.verdict.exit_code()))
}
