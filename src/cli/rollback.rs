//! `firebrand rollback`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::channel::Return;
use crate::cli::allowlist::KeyArgs;
use crate::cli::promote::{ChannelArgs, Own, tell};
use crate::cli::{data_line, talk};
use crate::error::{Result, printable};

/// Take a model out of use: point a channel back to an older one
///
/// Writes a new pointer with a higher serial number, so that nobody takes it for a replay. The
/// older model is verified again. Without `--to` it is the last one that was never taken back.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    channel: ChannelArgs,
    /// Go back to the model of this serial number
    #[arg(long, value_name = "SERIAL")]
    to: Option<u64>,
    /// Where that model is, if it is not where its pointer says
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Why, for those who read the log
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// For how long the pointer counts
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    #[command(flatten)]
    key: KeyArgs,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let channel = args.channel.open()?;
    let own = Own::load(&args.key)?;
    let back = Return {
        from: None,
        to: args.to,
        model: args.model.as_deref(),
        reason: &args.reason,
        days: args.days,
    };
    let (entry, passed_over) = channel.roll_back(&back, &own.authority())?;
    for why in passed_over {
        talk(&printable(&format!("passed over {why}")));
    }
    tell(&entry, &own.key);
    data_line(&entry.path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
