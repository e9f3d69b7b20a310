//! `firebrand schema`

use std::process::ExitCode;

use crate::cli::data_json;
use crate::cli::documents::Document;
use crate::document;
use crate::error::{Context, Result};

/// Print the JSON Schema of a kind of TOML file, for editors
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which kind of file
    #[arg(value_name = "KIND", value_enum, default_value_t)]
    kind: Document,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let schema = document::schema(args.kind.keys());
    data_json(&serde_json::to_string_pretty(&schema).context("cannot encode")?)?;
    Ok(ExitCode::SUCCESS)
}
