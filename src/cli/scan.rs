//! `firebrand scan`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::place::Place;
use crate::cli::{data_json, data_line};
use crate::data::render_served;
use crate::error::{Context, Result, printable};
use crate::scan::{sarif, scan};

/// Look at any model directory or file for what could harm whoever opens it
///
/// By content and not by name: pickles, archives, programs and code under any name, safetensors
/// that readers disagree on, chat templates that run away, tokenizers that do not fit, links and
/// odd names. Nothing is unpacked to disk, and nothing is run but chat templates, in a process with
/// limits. Says nothing about who made the model: `firebrand verify` does that.
/// Exit code 0: nothing dangerous; 1: something is; 2: not everything could be looked at.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model directory, a file, or owner/name on the hub, also with `@revision`: of that, those
    /// files are fetched and looked at that this program would use
    path: PathBuf,
    /// Never use the network (as HF_HUB_OFFLINE=1 does)
    #[arg(long)]
    offline: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Print the report as SARIF 2.1.0, which code hosts and editors show
    #[arg(long, conflicts_with = "json")]
    sarif: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find the program itself")?;
    let place = Place { offline: args.offline, quiet: args.json || args.sarif, ..Place::default() };
    let fetched = place.fetched(&args.path)?;
    let report = scan(fetched.as_deref().unwrap_or(&args.path), Some(&program))?;
    if args.json || args.sarif {
        let value = if args.sarif { sarif(&report) } else { report.to_json() };
        data_json(&serde_json::to_string_pretty(&value).context("cannot encode the report")?)?;
    } else {
        for finding in &report.findings {
            data_line(&printable(&finding.to_string()))?;
        }
        data_line(&report.summary())?;
    }
    Ok(ExitCode::from(report.verdict().exit_code()))
}

/// Answers what the program asks about a chat template, under limits.
pub fn render_templates() -> Result<ExitCode> {
    render_served(std::io::stdin().lock(), crate::terminal::answers())?;
    Ok(ExitCode::SUCCESS)
}
