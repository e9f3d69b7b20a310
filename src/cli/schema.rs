//! `firebrand schema`

use std::process::ExitCode;

use crate::cli::data_json;
use crate::error::{Context, Result};
use crate::settings;

/// Print the JSON Schema of configurations, for editors
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Result<ExitCode> {
    let text = serde_json::to_string_pretty(&settings::schema()).context("cannot encode")?;
    data_json(&text)?;
    Ok(ExitCode::SUCCESS)
}
