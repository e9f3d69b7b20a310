//! `firebrand init`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::documents::Document;
use crate::cli::{data_line, data_lines, talk};
use crate::document;
use crate::error::{Context, Error, Result};
use crate::presets::{self, Preset};

/// Write a commented configuration to start from, or another kind of TOML file
///
/// Without PATH it goes to stdout.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to make; an existing one is never replaced
    path: Option<PathBuf>,
    /// Which kind of file
    #[arg(long = "for", value_name = "KIND", value_enum, default_value_t)]
    kind: Document,
    /// A short configuration for this, in place of one with every key
    #[arg(long, requires = "model", requires = "data", conflicts_with = "kind",
          value_parser = clap::builder::PossibleValuesParser::new(presets::names()))]
    preset: Option<String>,
    /// The base model of a preset: a directory, or `owner/name` on the hub
    #[arg(long, requires = "preset")]
    model: Option<String>,
    /// The data set of a preset: a file, a folder, or `owner/name` on the hub
    #[arg(long, requires = "preset")]
    data: Option<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let preset = args.preset.as_deref().and_then(Preset::find);
    let text = match (preset, &args.model, &args.data) {
        (Some(preset), Some(model), Some(data)) => preset.write(model, data)?,
        _ => document::template(args.kind.keys()),
    };
    let Some(path) = &args.path else {
        data_lines(text.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    };
    if path.exists() {
        return Err(Error::exists("refusing to replace what is already there").at(path));
    }
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().context_at("cannot write the file", path)?;
    if args.kind == Document::CONFIG {
        talk(&format!("edit it, then look at what it would do: firebrand plan {}", path.display()));
    }
    data_line(&path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
