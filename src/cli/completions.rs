//! `firebrand completions`

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::output::data_exact;
use crate::error::Result;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell
    shell: Shell,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut script = Vec::new();
    let mut command = super::Arguments::command();
    clap_complete::generate(args.shell, &mut command, "firebrand", &mut script);
    data_exact(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
