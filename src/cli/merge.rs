//! `firebrand merge`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::artifact::derived::Derivation;
use crate::artifact::merged::{Compared, merge};
use crate::checkpoint::now;
use crate::cli::signer::{SignerArgs, tell};
use crate::cli::{data_line, talk};
use crate::error::Result;
use crate::hub::{DEFAULT_REVISION, Policy};
use crate::train::{Access, parent_state};

/// Make a whole model of an adapter and its base
///
/// Adds in f32 and rounds once to the base's own number format, shard by shard, in little memory;
/// a base that is not the one of the adapter's lineage is refused. Then both are run on the prompts
/// of the adapter's run, and the largest difference of a logit is told. The result is signed and
/// carries its lineage.
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
    /// Do not compare the result with the adapter, which takes as much memory as the model in f32
    #[arg(long)]
    no_check: bool,
    /// Add a bill of materials, `bom.cdx.json` (CycloneDX 1.6)
    #[arg(long)]
    sbom: bool,
    #[command(flatten)]
    signing: SignerArgs,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let supply = Access::default().supply(Policy::default())?;
    let found = supply.find(&args.artifact, DEFAULT_REVISION)?;
    let signer = args.signing.signer()?;
    let request = Derivation {
        model: &args.artifact,
        base: args.base.as_deref(),
        out: &args.out,
        key: signer.as_ref().map(|(key, _)| key),
        parent: parent_state(&found.path)?.0,
        sbom: args.sbom,
        time: &now(),
        supply: &supply,
    };
    match merge(&request, !args.no_check)? {
        Compared::Yes(likeness) => talk(&format!("beside the adapter: {likeness}")),
        Compared::No(_) if args.no_check => talk("not compared with the adapter (`--no-check`)"),
        Compared::No(why) => talk(&format!("warning: not compared with the adapter: {why}")),
    }
    tell(signer.as_ref(), &args.out);
    data_line(&args.out.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
