//! `firebrand review`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::identity::{IdentityArgs, trust};
use crate::cli::place::model_directory;
use crate::cli::{data_json, data_lines, talk};
use crate::error::{Context, Error, Result};
use crate::files::write_atomic;
use crate::review::{self, Request};

/// Fit to be merged? Check a change of code, configuration or evaluation in a git checkout
///
/// Every configuration of a run and every policy of a gate that the change touches is looked at:
/// are model and data pinned, are answers validated, does the gate demand no less than before, has
/// it passed what the change makes, is what is evaluated on apart from what is trained on, does the
/// evaluation exercise no less than before, and does the code understand every answer that the
/// evaluation admits? Nothing is trained and nothing is fetched. Run it where you run `firebrand
/// train`. Exit code 0: all holds; 1: something does not; 2: not everything could be judged.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the change is compared with: a branch, tag or commit that git has here
    #[arg(long, value_name = "REF")]
    base: String,
    /// Look at what the change does not touch, too
    #[arg(long)]
    all: bool,
    /// Settings (TOML), in place of review.toml as it was before the change
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The artifact that the change makes, or a run that has one, in place of those of the
    /// configurations
    #[arg(long, value_name = "ARTIFACT")]
    candidate: Option<PathBuf>,
    /// What `firebrand gate --json` wrote of it, in place of the signed verdicts beside it
    #[arg(long, value_name = "FILE")]
    gate_report: Option<PathBuf>,
    /// Write the review as JSON into this file; `-` prints it in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the review as SARIF 2.1.0, which code hosts show
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// Write the review as Markdown, for one comment on a pull request
    #[arg(long, value_name = "FILE")]
    comment: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    // An error on the way is no verdict, whatever it is elsewhere.
    let review = judge(args).map_err(Error::failed)?;
    let json = serde_json::to_string_pretty(&review::json(&review)).context("cannot encode it")?;
    let sarif =
        serde_json::to_string_pretty(&review::sarif(&review)).context("cannot encode it")?;
    let printed = args.json.as_deref() == Some(Path::new("-"));
    let write = |path: &Option<PathBuf>, text: &str| match path {
        Some(path) => write_atomic(path, format!("{}\n", text.trim_end()).as_bytes()),
        None => Ok(()),
    };
    if !printed {
        write(&args.json, &json)?;
    }
    write(&args.sarif, &sarif)?;
    write(&args.comment, &review::comment(&review))?;
    if let Some(note) = &review.note {
        talk(note);
    }
    match printed {
        true => data_json(&json)?,
        false => data_lines(review::text(&review).trim_end())?,
    }
    Ok(ExitCode::from(review.exit_code()))
}

fn judge(args: &Args) -> Result<review::Review> {
    let trust = trust(None, None, &IdentityArgs::default())?;
    let candidate = args.candidate.as_deref().map(model_directory);
    review::review(&Request {
        base: &args.base,
        all: args.all,
        settings: args.config.as_deref(),
        candidate: candidate.as_deref(),
        gate_report: args.gate_report.as_deref(),
        trust: &trust,
    })
}
