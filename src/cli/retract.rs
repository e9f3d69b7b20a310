//! `firebrand retract`

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use crate::artifact::descendants::Descent;
use crate::cli::{AccessArgs, data_json, data_line, talk};
use crate::error::{Context, Result};
use crate::event::Observer;
use crate::report::{Signals, Transfers};
use crate::train::{Retraction, retraction, write_config};

/// How many records, and steps of a record, are listed.
const SHOWN: usize = 20;

/// Take records back: which steps of a run read them, what was made with them, and the run without
///
/// RECORDS is a file with one record a line: the record as JSON, of which fields may be left out
/// (`{"user": 17}` names every record of that user), or FILE:LINE, or the SHA-256 of a record.
/// The rows of a run are known exactly, so this tells which steps read them and which checkpoint
/// of the run had not, and finds artifacts that were made with them by their lineage. With `--out`
/// the run is made again without them, in a new directory: with the same rows otherwise
/// (`data.retracted`), so that it goes on from the last step before the first of them, as far as
/// the cache or the run have kept it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The records, one a line
    #[arg(value_name = "RECORDS")]
    records: PathBuf,
    /// The run directory
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Train again without them into this run directory; DIR.toml is its configuration
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Look for artifacts here, too; else below the folder that the run lies in
    #[arg(long, value_name = "DIR")]
    artifacts: Vec<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    /// Say nothing but warnings and errors
    #[arg(long, short)]
    quiet: bool,
}

/// What is said while a run is looked at is of no matter here.
struct Quiet;

impl Observer for Quiet {
    fn on(&mut self, _: crate::event::Event) {}
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let transfers = Arc::new(Transfers::new(args.quiet || args.json));
    let access = args.access.access(transfers, &Signals::default());
    let found = retraction(&args.run, &args.records, &args.artifacts, &access, &mut Quiet)?;
    if args.json {
        let text = serde_json::to_string_pretty(&found).context("cannot encode what was found")?;
        data_json(&text)?;
    } else {
        tell(&found)?;
    }
    let Some(out) = &args.out else {
        if found.first_step.is_some() && !args.json {
            talk("nothing was changed; `--out DIR` trains again without them");
        }
        return Ok(ExitCode::SUCCESS);
    };
    if found.first_step.is_none() {
        talk("no step has read them: there is nothing to make again");
        return Ok(ExitCode::SUCCESS);
    }
    let config = write_config(&args.run, &found, out)?;
    talk(&format!("wrote {}", config.display()));
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.arg("train").arg(&config);
    if args.access.offline {
        command.arg("--offline");
    }
    if args.quiet || args.json {
        command.arg("--quiet");
    }
    let status = command.status().context("cannot start this program again")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn tell(found: &Retraction) -> Result<()> {
    for line in &found.unknown {
        talk(&format!("line {line} of the list names no record of the training data"));
    }
    for record in found.records.iter().take(SHOWN) {
        let steps: Vec<String> = record.steps.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = if record.steps.len() > SHOWN { ", …" } else { "" };
        let steps = match steps.is_empty() {
            true => "read by no step".to_owned(),
            false => format!("read by step {}{more}", steps.join(", ")),
        };
        data_line(&format!("{}  sha256 {}  {steps}", record.record, record.sha256.short()))?;
    }
    if found.records.len() > SHOWN {
        data_line(&format!("… and {} more records", found.records.len() - SHOWN))?;
    }
    let proof = match found.proved {
        true => "the newest checkpoint holds the digest of these rows",
        false => "not proved: the newest checkpoint holds no digest of just these rows and rates",
    };
    let read = found.records.iter().filter(|record| !record.steps.is_empty()).count();
    let count = found.records.len();
    data_line(&format!("{read} of {count} records were read in {} steps; {proof}", found.steps))?;
    if let Some(first) = found.first_step {
        data_line(&match found.checkpoint {
            Some(step) => format!("first read by step {first}; the run keeps step {step}, before"),
            None => format!("first read by step {first}; the run keeps no checkpoint before"),
        })?;
    }
    for artifact in &found.artifacts {
        let what = match artifact.descent {
            Descent::OfTheRun => "made with them",
            Descent::Descendant => "made of what was made with them",
            Descent::SameData => "may be: another run has the same data file",
        };
        data_line(&format!("{}  {what}", artifact.path.display()))?;
    }
    Ok(())
}
