//! `firebrand lineage`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::identity::{IdentityArgs, trust};
use crate::cli::place::Place;
use crate::cli::{data_json, data_line, talk};
use crate::error::{Context, Error, Result, printable};
use crate::files::write_atomic;
use crate::report::picture;
use crate::verify::family;

/// Show where a model comes from: its whole ancestry, as its lineage tells it
///
/// Reads `lineage.statement.json`, and that of each base model that Firebrand made and that lies
/// where it lay then; a base must be the very one that was recorded, and its signature is checked.
/// Exit code 0: the tree is sound; 1: something in it is not what was recorded or signed; 2: there
/// is no lineage, or it is damaged.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An artifact, a run that has one, or owner/name on the hub, also with
    /// `@revision`
    #[arg(value_name = "MODEL")]
    directory: PathBuf,
    /// Trust this public key (PEM) and no other
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// Never use the network (as HF_HUB_OFFLINE=1 does)
    #[arg(long)]
    offline: bool,
    /// Print the tree as nested JSON objects
    #[arg(long)]
    json: bool,
    /// Draw the tree into this new file (SVG)
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let trust = trust(args.key.as_deref(), None, &IdentityArgs::default())?;
    let place = Place { offline: args.offline, quiet: args.json, revision: None };
    let family = family(&place.of(&args.directory)?, &trust)?;
    if let Some(path) = &args.picture {
        if path.symlink_metadata().is_ok() {
            return Err(Error::exists("refusing to replace what is already there").at(path));
        }
        write_atomic(path, picture(&family).as_bytes())?;
        talk(&format!("picture: {}", path.display()));
    }
    if args.json {
        data_json(&serde_json::to_string_pretty(&family).context("cannot encode the lineage")?)?;
    } else {
        for line in family.lines() {
            data_line(&printable(&line))?;
        }
    }
    Ok(ExitCode::from(u8::from(!family.is_sound())))
}
