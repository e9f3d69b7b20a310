//! `firebrand init`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{data_line, data_lines, talk};
use crate::error::{Context, Error, Result};
use crate::settings;

/// Write a commented configuration to start from; without PATH it goes to stdout
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to make; an existing one is never replaced
    path: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let text = settings::template();
    let Some(path) = &args.path else {
        data_lines(text.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    };
    if path.exists() {
        return Err(Error::new("refusing to replace what is already there").at(path));
    }
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().context_at("cannot write the configuration", path)?;
    talk(&format!("edit it, then look at what it would do: firebrand plan {}", path.display()));
    data_line(&path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
