//! `firebrand pull`

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::cli::{AccessArgs, ConfigArgs, data_json, data_line, talk};
use crate::error::Result;
use crate::hub::DataLock;
use crate::report::{Signals, Transfers};
use crate::train::{Pull, Update, pull};

/// Fetch every file that a configuration names, check it, and pin it in the lock
///
/// The lock lies beside the configuration (`x.lock` beside `x.toml`): commit, size, SHA-256 and
/// number of records of every file. What is in the lock already stays as it is; `--update` moves
/// to the newest revision and prints what changed. With `--locked` nothing is written: exit code 1
/// if anything is not as the lock says.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    access: AccessArgs,
    /// Move to the newest revision of NAME, or of everything
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "",
          conflicts_with_all = ["locked", "offline"])]
    update: Option<String>,
    /// Print what changed as JSON
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let loaded = args.config.load()?;
    let update = match args.update.as_deref() {
        None => Update::Nothing,
        Some("") => Update::Everything,
        Some(name) => Update::Only(name.to_owned()),
    };
    let lock = DataLock::path_of(&args.config.config);
    let transfers = Arc::new(Transfers::new(args.quiet || args.json));
    let access = args.access.access(transfers, &Signals::default());
    let Pull { changes, notes, bytes, written } = pull(&loaded.config, &lock, &access, &update)?;
    if !args.quiet {
        notes.iter().for_each(|note| talk(note));
    }
    if args.json {
        let line = json!({
            "lock": lock.display().to_string(),
            "written": written,
            "changed": !changes.is_empty(),
            "changes": changes,
        });
        data_json(&line.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    for change in &changes {
        data_line(change)?;
    }
    let bytes = crate::event::bytes(bytes);
    let path = lock.display();
    if !args.quiet {
        talk(&match (written, args.access.locked) {
            (true, _) => format!("{bytes} checked, pinned in {path}"),
            (false, true) => format!("{bytes} checked, all as {path} says"),
            (false, false) => format!("{bytes} checked, {path} stays as it is"),
        });
    }
    Ok(ExitCode::SUCCESS)
}
