//! `firebrand verify`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::artifact::keys;
use crate::cli::place::Place;
use crate::cli::{data_json, data_line, talk};
use crate::error::Result;
use crate::hub::Policy;
use crate::train::Access;
use crate::verify::{
    CheckVerdict, Trust, demand_effect, demand_reproducers, verify, verify_signed_files,
};

/// Check a model directory: who signed it, is it complete and unchanged, does its lineage agree
///
/// Trusts the keys and authorities in the user's own settings (`signing.pub.pem`,
/// `trusted-keys/*.pem` and `trusted-keys.toml` in the folder that `firebrand train` names when it
/// makes a key), or only those that `--key` and `--roots` name; roles, dates and revocations of
/// `trusted-keys.toml` hold for them too. Each line of `DIR.sigstore.jsonl` beside the directory is
/// checked as well. Git's own files and what downloads leave behind (`.gitattributes`,
/// `.cache/huggingface`) are none of the model's; other files that nobody signed have a verdict of
/// their own, `unsigned files`.
/// Exit code 0: verified; 1: unsigned, untrusted, tampered or with unsigned files; 2: could not be
/// checked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An artifact, a run that has one, any signed model directory, or owner/name on the hub, also
    /// with `@revision`
    #[arg(value_name = "MODEL")]
    directory: PathBuf,
    /// The branch, tag or commit of a model on the hub
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Never use the network (as HF_HUB_OFFLINE=1 does)
    #[arg(long)]
    offline: bool,
    /// Let files be that nobody signed, as long as all that was signed is unchanged
    #[arg(long)]
    ignore_unsigned_files: bool,
    /// Demand that so many others made it again (`firebrand reproduce`) and got the same bytes:
    /// trusted keys with the role `reproduce`, none of them the one that signed the model
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    reproduced_by: Option<u16>,
    /// Run the model and its base on a few rows of tokens, on the CPU, and compare with the scores
    /// that it carries (`effect.json`): an adapter that loads and does nothing is caught
    #[arg(long)]
    effect: bool,
    /// The base for `--effect`, if it is not where the adapter says
    #[arg(long, value_name = "DIR", requires = "effect")]
    base: Option<String>,
    /// Trust this public key (PEM) and no other
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// Trust certificates that these authorities (PEM) vouch for, and no others
    #[arg(long, value_name = "PEM")]
    roots: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Whom to trust: the key and the authorities that were named, within the limits that the user has
/// set, or whom the user trusts.
pub fn trust(key: Option<&Path>, roots: Option<&Path>) -> Result<Trust> {
    let named = match (key, roots) {
        (None, None) => return Trust::of_user(&keys::config_home()?),
        (Some(key), None) => Trust::key_file(key)?,
        (None, Some(roots)) => Trust::default().and_roots(roots)?,
        (Some(key), Some(roots)) => Trust::key_file(key)?.and_roots(roots)?,
    };
    match keys::config_home() {
        Ok(home) => named.limited_by(&home),
        Err(_) => Ok(named), // a machine without a home has no such settings
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let trust = trust(args.key.as_deref(), args.roots.as_deref())?;
    let Args { revision, offline, .. } = args;
    let directory = Place { offline: *offline, quiet: args.json, revision: revision.as_deref() }
        .of(&args.directory)?;
    let mut report = match args.ignore_unsigned_files {
        true => verify_signed_files(&directory, &trust),
        false => verify(&directory, &trust),
    };
    if let Some(wanted) = args.reproduced_by {
        demand_reproducers(&directory, wanted.into(), &trust, &mut report);
    }
    if args.effect {
        let policy = Policy { offline: *offline, ..Policy::default() };
        let supply = Arc::new(Access::default().supply(policy)?);
        demand_effect(&directory, args.base.as_deref(), &supply, &mut report);
    }
    if args.json {
        let text = serde_json::to_string_pretty(&report.to_json());
        data_json(&text.unwrap_or_default())?;
    } else {
        for finding in &report.checks {
            data_line(&finding.to_string())?;
        }
        if let Some(signer) = &report.signer {
            let file = signer.key_file.as_ref().map(|file| format!(" ({})", file.display()));
            let name = match &signer.certificate {
                Some(subject) => format!("certificate `{}`", crate::error::printable(subject)),
                None => format!("key {}", signer.hint),
            };
            data_line(&format!("signed by {name}{}", file.unwrap_or_default()))?;
        }
        data_line(&report.verdict.to_string())?;
        let failed = |check: &&crate::verify::Finding| check.verdict == CheckVerdict::Fail;
        for hint in report.checks.iter().filter(failed).filter_map(|check| check.hint.as_ref()) {
            talk(&format!("\nhint: {hint}"));
        }
    }
    Ok(ExitCode::from(report.verdict.exit_code()))
}
