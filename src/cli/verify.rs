//! `firebrand verify`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::artifact::envelope::bundle_beside;
use crate::cli::compose::check_composition;
use crate::cli::identity::{IdentityArgs, trust};
use crate::cli::place::Place;
use crate::cli::{data_json, data_line, talk};
use crate::compose;
use crate::error::{Error, Result};
use crate::hub::Policy;
use crate::train::Access;
use crate::verify::{
    CheckVerdict, Report, Trust, demand_effect, demand_reproducers, verify, verify_file,
    verify_signed_files,
};

/// Check a model directory: who signed it, is it complete and unchanged, does its lineage agree;
/// or one file by its bundle, or a composition
///
/// Trusts the keys, authorities and identities in the user's own settings (`signing.pub.pem`,
/// `trusted-keys/*.pem` and `trusted-keys.toml` in the folder that `firebrand train` names when it
/// makes a key), or only those that `--key`, `--roots` and `--trusted-root` name; roles, dates and
/// revocations of `trusted-keys.toml` hold for them too. A signature by a short-lived certificate
/// (Sigstore's keyless signing) counts where the trusted root proves it: the certificate's chain
/// and log entry, the entry in a transparency log, and a time within the certificate's minutes.
/// Each line of `DIR.sigstore.jsonl` beside the directory is checked as well. Git's own files and
/// what downloads leave behind (`.gitattributes`, `.cache/huggingface`) are none of the model's;
/// other files that nobody signed have a verdict of their own, `unsigned files`. A file is checked
/// by `FILE.sigstore.json` beside it, as `cosign sign-blob` and `sigstore sign` make it, or an
/// in-toto statement about it; a composition that `firebrand compose` made is checked with all its
/// parts.
/// Exit code 0: verified; 1: unsigned, untrusted, tampered or with unsigned files; 2: could not be
/// checked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An artifact, a run that has one, any signed model directory, owner/name on the hub, also
    /// with `@revision`, or a file
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
    #[command(flatten)]
    identity: IdentityArgs,
    /// The bundle of a file, if it is not FILE.sigstore.json beside it
    #[arg(long, value_name = "JSON")]
    bundle: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let trust = trust(args.key.as_deref(), args.roots.as_deref(), &args.identity)?;
    if args.directory.is_file() {
        return run_file(args, &trust);
    }
    if let Some(bundle) = &args.bundle {
        return Err(Error::usage("`--bundle` is for a single file").at(bundle));
    }
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
    tell(&report, args.json)
}

/// A file by its bundle, or a composition with its parts.
fn run_file(args: &Args, trust: &Trust) -> Result<ExitCode> {
    let file = &args.directory;
    let of_models = [
        ("--revision", args.revision.is_some()),
        ("--ignore-unsigned-files", args.ignore_unsigned_files),
        ("--reproduced-by", args.reproduced_by.is_some()),
        ("--effect", args.effect),
    ];
    if let Some((option, _)) = of_models.into_iter().find(|(_, given)| *given) {
        let what = format!("`{option}` is for the directory of a model, not for a file");
        return Err(Error::usage(what).at(file));
    }
    let beside = bundle_beside(file);
    let bundle = args.bundle.as_deref().or_else(|| beside.is_file().then_some(&*beside));
    match bundle {
        Some(bundle) => tell(&verify_file(file, bundle, trust), args.json),
        None if compose::is_composition(file)? => check_composition(file, trust, args.json),
        None => Err(Error::signature("nothing signs this file")
            .at(file)
            .because(format!("there is no {}, and it is no composition", beside.display()))
            .hint("`--bundle` names the bundle; for a model name its directory")),
    }
}

fn tell(report: &Report, json: bool) -> Result<ExitCode> {
    if json {
        let text = serde_json::to_string_pretty(&report.to_json());
        data_json(&text.unwrap_or_default())?;
    } else {
        for finding in &report.checks {
            data_line(&finding.to_string())?;
        }
        if let Some(signer) = &report.signer {
            let file = signer.key_file.as_ref().map(|file| format!(" ({})", file.display()));
            let name = crate::error::printable(&signer.name());
            // What a certificate says of its owner is nothing before it is proven.
            let how = match signer.issuer.is_some() && signer.key_file.is_none() {
                true => "claims to be signed by",
                false => "signed by",
            };
            data_line(&format!("{how} {name}{}", file.unwrap_or_default()))?;
        }
        data_line(&report.verdict.to_string())?;
        let failed = |check: &&crate::verify::Finding| check.verdict == CheckVerdict::Fail;
        for hint in report.checks.iter().filter(failed).filter_map(|check| check.hint.as_ref()) {
            talk(&format!("\nhint: {hint}"));
        }
    }
    Ok(ExitCode::from(report.verdict.exit_code()))
}
