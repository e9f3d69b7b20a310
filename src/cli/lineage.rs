//! `firebrand lineage`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::data_line;
use crate::cli::verify::{model_directory, trust};
use crate::error::{Context, Result, printable};
use crate::verify::family;

/// Show where a model comes from: its whole family tree, as its lineage tells it
///
/// Reads `lineage.statement.json`, and that of each base model that Firebrand made and that lies
/// where it lay then; a base must be the very one that was recorded, and its signature is checked.
/// Exit code 0: the tree is sound; 1: something in it is not what was recorded or signed; 2: there
/// is no lineage, or it is damaged.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An artifact, or a run that has one
    directory: PathBuf,
    /// Trust this public key (PEM) and no other
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// Print the tree as nested JSON objects
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let trust = trust(args.key.as_deref(), None)?;
    let family = family(&model_directory(&args.directory), &trust)?;
    if args.json {
        data_line(&serde_json::to_string_pretty(&family).context("cannot encode the lineage")?)?;
    } else {
        for line in family.lines() {
            data_line(&printable(&line))?;
        }
    }
    Ok(ExitCode::from(u8::from(!family.is_sound())))
}
