//! `firebrand resolve`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::artifact::keys::config_home;
use crate::cli::promote::RegistryArgs;
use crate::cli::{data_json, data_line, talk};
use crate::error::{Result, printable};
use crate::verify::{Seen, Trust};

/// Print the path of the model that is in use
///
/// Only after everything was checked: the pointer's signature (role `promote`) and date, that no
/// pointer is missing, changed or older than one that was seen before, and every byte of the model
/// with its own signature.
/// Exit code 0: this is the model; 1: something does not hold; 2: it could not be checked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The channel, such as `production`
    channel: String,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Where the model is, if it is not where the pointer says
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Only where the model is to be had, a folder or a URI; the pointer is checked, and no model
    #[arg(long = "where", conflicts_with_all = ["model", "json"])]
    place: bool,
    /// The pointer and its signers too, as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let channel = args.registry.channel(&args.channel)?;
    let home = config_home()?;
    let (trust, seen) = (Trust::of_user(&home)?, Seen::of_user(&home));
    if args.place {
        data_line(&channel.where_to(&trust, &seen)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let resolved = channel.resolve(args.model.as_deref(), &trust, &seen)?;
    if args.json {
        data_json(&resolved.to_json().to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let pointer = &resolved.entry.pointer;
    let (channel, what) = (&pointer.channel, pointer.line());
    let (by, why) = (&resolved.signed.name, &pointer.reason);
    talk(&printable(&format!("`{channel}` is {what}; by {by}: {why}")));
    data_line(&resolved.path().display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
