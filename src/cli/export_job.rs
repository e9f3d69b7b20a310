//! `firebrand export-job`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;

use crate::cli::{AccessArgs, ConfigArgs, data_line, talk};
use crate::data::Extent;
use crate::error::{Error, Result};
use crate::export_job::{
    USUAL_ROWS_FORMAT, export_job, job_target, job_targets, rows_format, rows_formats,
};
use crate::report::{Console, Signals};
use crate::train::prepare;

/// Write a run as a job of another trainer, for more than one GPU
///
/// The folder gets the rows that the run would train on, tokenised and packed, in the order in
/// which it trains on them over all epochs (JSON Lines or Parquet, which `datasets` reads), and its
/// settings under the names of the other tool. Settings that have no counterpart there are told one
/// by one, and stand in the job. Nothing is trained. In the place of a configuration stands the
/// name of a run, too. stdout gets the folder.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The tool
    #[arg(
        long = "to",
        value_name = "TOOL",
        value_parser = PossibleValuesParser::new(job_targets())
    )]
    to: String,
    /// The form of the rows
    #[arg(long, value_name = "FORM", default_value = USUAL_ROWS_FORMAT,
          value_parser = PossibleValuesParser::new(rows_formats()))]
    rows: String,
    /// The folder; else `jobs/` and the names of the run and the tool
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let target = job_target(&args.to).ok_or_else(|| Error::usage("there is no such tool"))?;
    let rows = rows_format(&args.rows).ok_or_else(|| Error::usage("there is no such form"))?;
    let config = args.config.of_run_too()?;
    let loaded = config.load()?;
    let mut console = Console::new(Signals::default(), args.quiet, None);
    let supply = args.access.supply(&config, args.quiet)?;
    let prepared = prepare(&loaded, &supply, Extent::AsNeeded, &mut console)?;
    let usual = || Path::new("jobs").join(format!("{}-{}", loaded.config.name, target.name));
    let folder = args.out.clone().unwrap_or_else(usual);
    let made = export_job(&prepared, &loaded.resolved, target, rows, &folder, &mut console)?;
    drop(console);
    talk(&format!(
        "{} rows with {} tokens, of {} steps",
        made.rows, made.tokens, prepared.total_steps
    ));
    if made.filled > 0 {
        let filled = made.filled;
        talk(&format!("{filled} rows without targets among them fill up the last steps of epochs"));
    }
    for (setting, why) in &made.left {
        talk(&format!("without a counterpart: {setting}: {why}"));
    }
    talk(&format!("to run it there: {}", made.command));
    data_line(&made.folder.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
