//! Commands: each reads settings, calls the library and prints.

mod completions;
mod data;
mod generate;
mod init;
mod keygen;
mod merge;
mod output;
mod plan;
mod schema;
mod train;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Kind, Result};

pub use output::{data_line, talk};

/// Fine-tune open language models: exact resume, signed artifacts with their lineage.
#[derive(Debug, Parser)]
#[command(name = "firebrand", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done · 1 a well-formed no (a signature does not hold) · \
     2 an error · 130, 143 interrupted and saved.\nstdout is data, stderr is talk.";

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Plan(plan::Args),
    Data(data::Args),
    Train(train::Args),
    Generate(generate::Args),
    Merge(merge::Args),
    Verify(verify::Args),
    Keygen(keygen::Args),
    Schema(schema::Args),
    Completions(completions::Args),
}

/// Settings that every command with a configuration takes.
#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The configuration file (TOML); `firebrand init` writes one to start from
    #[arg(value_name = "CONFIG")]
    config: std::path::PathBuf,
    /// Change one setting, e.g. `--set train.learning_rate=1e-4`; recorded in the lineage
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

impl ConfigArgs {
    fn load(&self) -> Result<crate::config::Loaded> {
        crate::config::load(&self.config, &self.overrides)
    }
}

/// Runs the command that the arguments name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print(); // help goes to stdout, mistakes to stderr
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match parsed.command {
        Command::Init(args) => init::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    result.unwrap_or_else(|error| exit_code(&error))
}

fn exit_code(error: &Error) -> ExitCode {
    if output::is_broken_pipe(error) {
        return ExitCode::SUCCESS; // the reader of our output had enough
    }
    talk(&error.to_string());
    match error.kind {
        Kind::Refused => ExitCode::from(1),
        Kind::Failed => ExitCode::from(2),
    }
}
