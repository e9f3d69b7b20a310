//! `firebrand merge`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::artifact::keys;
use crate::artifact::merged::{Merge, merge};
use crate::checkpoint::now;
use crate::cli::{data_line, talk};
use crate::error::Result;
use crate::hub::{DEFAULT_REVISION, Policy};
use crate::train::{Access, parent_state};

/// Make a whole model of an adapter and its base
///
/// Adds in f32 and rounds once to the base's own number format; a base that is not the one of the
/// adapter's lineage is refused. The result is signed and carries its lineage.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An adapter, or a run that has one as its artifact
    artifact: String,
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The base model, if it is not where the adapter says
    #[arg(long, value_name = "DIR")]
    base: Option<String>,
    /// Do not sign the result
    #[arg(long)]
    no_sign: bool,
    /// Sign with this private key (PEM)
    #[arg(long, value_name = "PEM", conflicts_with = "no_sign")]
    signing_key: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let supply = Access::default().supply(Policy::default())?;
    let found = supply.find(&args.artifact, DEFAULT_REVISION)?;
    let signer = if args.no_sign {
        None
    } else {
        let explicit = args.signing_key.as_ref().map(|path| path.to_string_lossy().into_owned());
        let environment = std::env::var(keys::ENVIRONMENT).ok();
        let home = keys::config_home()?;
        Some(keys::load_or_create(&home, explicit.as_deref(), environment.as_deref(), Vec::new())?)
    };
    merge(&Merge {
        adapter: &args.artifact,
        base: args.base.as_deref(),
        out: &args.out,
        key: signer.as_ref().map(|(key, _)| key),
        parent: parent_state(&found.path)?.0,
        time: &now(),
        supply: &supply,
    })?;
    match &signer {
        Some((key, origin)) => {
            talk(&format!("signed by {} ({origin})", key.name()));
        }
        None => talk("not signed (`--no-sign`)"),
    }
    talk(&format!("check it:  firebrand verify {}", args.out.display()));
    data_line(&args.out.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
