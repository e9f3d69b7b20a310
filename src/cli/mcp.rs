//! `firebrand mcp`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValue;

use crate::cli::talk;
use crate::error::Result;
use crate::mcp::{Permission, ServerSettings, serve};
use crate::terminal;

/// Serve agents: the Model Context Protocol on stdin and stdout
///
/// A client (Claude, Codex, Gemini, VS Code, Cursor …) starts this command and calls its tools:
/// plan, status, verify, lineage, scan, and lists and comparisons of runs, which only read. What
/// computes or writes has to be allowed. Everything stays within one folder. docs/agents.md says
/// how clients are set up.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder within which paths must be, and in which the tools work
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// What may be done beside reading
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    allow: Vec<Permission>,
    /// How long a call may take; runs are not calls
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

impl clap::ValueEnum for Permission {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.meaning()))
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if terminal::can_fill() {
        talk(
            "note: a client of the Model Context Protocol is expected on stdin; see docs/agents.md",
        );
    }
    let patience = Duration::from_secs(args.timeout);
    serve(ServerSettings { root: args.root.clone(), allowed: args.allow.clone(), patience })?;
    Ok(ExitCode::SUCCESS)
}
