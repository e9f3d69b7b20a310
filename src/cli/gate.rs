//! `firebrand gate`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::artifact::keys::{self, KeyOrigin, SigningKey};
use crate::cli::eval::Bar;
use crate::cli::identity::{IdentityArgs, trust};
use crate::cli::place::model_directory;
use crate::cli::{data_json, data_lines, named_device, talk};
use crate::device;
use crate::error::{Context, Error, Result};
use crate::files::{cache_home, write_atomic};
use crate::gate::{self, Decision, Meter, Policy, Report, Request, attest};
use crate::hub::Policy as SupplyPolicy;
use crate::train::Access;

/// Good enough to ship? Judge a candidate against a baseline by a policy
///
/// Both are evaluated here, on the same bytes: limits of every number and of every slice, speed on
/// the same device, and a checklist (signature, lineage, pinned inputs, clean source, tokenizer,
/// evaluation data apart from training data). The verdict is signed and added to the attestations
/// beside the artifact, unless it could not be decided. Exit code 0: passed; 1: refused; 2: could
/// not be decided.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is demanded (TOML)
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The artifact that is to be used, or a run that has one
    #[arg(long, value_name = "ARTIFACT")]
    candidate: PathBuf,
    /// The model that is used now, in place of the policy's; a first release has none
    #[arg(long, value_name = "MODEL")]
    baseline: Option<String>,
    /// Write the report as JSON into this file; `-` prints it in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as JUnit XML, which CI systems show
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the report as SARIF 2.1.0, which code hosts show
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// Write the report as Markdown, for a comment on a pull request
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Sign the verdict with this private key (PEM), in place of FIREBRAND_SIGNING_KEY or your own
    #[arg(long, value_name = "PEM", conflicts_with = "no_attest")]
    key: Option<PathBuf>,
    /// Do not sign the verdict
    #[arg(long)]
    no_attest: bool,
    /// As `device.name` in a configuration, such as cpu, gpu:1 or vulkan
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// Never use the network (as HF_HUB_OFFLINE=1 does)
    #[arg(long)]
    offline: bool,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    // An error on the way is no verdict, whatever it is elsewhere.
    let (report, directory, key) = judge(args).map_err(Error::failed)?;
    write(args, &report)?;
    match &key {
        Some(_) if report.decision == Decision::Undecided => {
            talk("nothing is signed: there is no verdict");
        }
        Some(_) if !report.signed => {
            talk("the verdict is not signed: no trusted key has signed a verdict on these bytes");
        }
        Some(key) => {
            let path = attest::attest(&report, &directory, key).map_err(Error::failed)?;
            talk(&format!("signed by {}: {}", key.name(), path.display()));
        }
        None => {}
    }
    Ok(ExitCode::from(report.decision.exit_code()))
}

fn judge(args: &Args) -> Result<(Report, PathBuf, Option<SigningKey>)> {
    let policy = Policy::read(&args.policy)?;
    let directory = model_directory(&args.candidate);
    if !directory.is_dir() {
        return Err(Error::file("there is no such artifact").at(&args.candidate));
    }
    let wanted = named_device(&args.device)?;
    let key = if args.no_attest { None } else { Some(signing_key(args.key.as_deref())?) };
    let trust = trust(None, None, &IdentityArgs::default())?; // the key may just have been made
    if let Some(why) = key.as_ref().and_then(|key| attest::objection(key, &trust)) {
        return Err(Error::untrusted(
            "a verdict signed with this key would count for nothing here",
        )
        .because(why)
        .hint("trust its public key with the role `gate`, or use `--no-attest`"));
    }
    let opened = device::open(wanted, 0)?;
    let transfers = Arc::new(crate::report::Transfers::new(args.quiet));
    let access = Access { transfers, offline: args.offline, ..Access::default() };
    let supply = Arc::new(access.supply(SupplyPolicy {
        offline: args.offline,
        extensions: crate::data::extensions(),
        ..SupplyPolicy::default()
    })?);
    let (cache, bar) = (cache_home()?, Bar::new(args.quiet));
    let meter = Meter {
        program: std::env::current_exe().context("cannot find the program itself")?,
        suite: policy.suite.path.clone(),
        device: args.device.clone(),
        offline: args.offline,
    };
    let report = gate::judge(&Request {
        policy: &policy,
        candidate: &directory,
        baseline: args.baseline.as_deref().or(policy.baseline.as_deref()),
        device: &opened,
        supply: &supply,
        trust: &trust,
        meter: &meter,
        cache: &cache,
        watcher: &bar,
    })?;
    Ok((report, directory, key))
}

fn signing_key(path: Option<&Path>) -> Result<SigningKey> {
    let explicit = path.map(|path| path.to_string_lossy().into_owned());
    let environment = std::env::var(keys::ENVIRONMENT).ok();
    let home = keys::config_home()?;
    let environment = environment.as_deref();
    let (key, origin) = keys::load_or_create(&home, explicit.as_deref(), environment, Vec::new())?;
    if let KeyOrigin::Created(path) = &origin {
        talk(&format!("made a key pair to sign with: {}", path.display()));
    }
    Ok(key)
}

/// Prints and writes everything that was asked for.
fn write(args: &Args, report: &Report) -> Result<()> {
    let json = || serde_json::to_string_pretty(&report.to_json()).context("cannot encode it");
    let sarif = || serde_json::to_string_pretty(&gate::sarif(report)).context("cannot encode it");
    let printed = args.json.as_deref() == Some(Path::new("-"));
    if let Some(path) = args.json.as_deref().filter(|_| !printed) {
        write_atomic(path, format!("{}\n", json()?).as_bytes())?;
    }
    if let Some(path) = &args.junit {
        write_atomic(path, gate::junit(report).as_bytes())?;
    }
    if let Some(path) = &args.sarif {
        write_atomic(path, format!("{}\n", sarif()?).as_bytes())?;
    }
    if let Some(path) = &args.markdown {
        write_atomic(path, gate::markdown(report).as_bytes())?;
    }
    if printed { data_json(&json()?) } else { data_lines(gate::text(report).trim_end()) }
}
