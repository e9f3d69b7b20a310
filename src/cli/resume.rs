//! `firebrand resume`

use std::path::PathBuf;
use std::process::ExitCode;

use super::train::{self, RunArgs};
use crate::cli::{AccessArgs, ConfigArgs};
use crate::error::{Error, Result};
use crate::train::{has_result, named_run};

/// Go on with a run that stopped, by its name
///
/// It has the settings in its directory, and goes on from its newest checkpoint, or restarts where
/// there is none; `firebrand runs` says which runs there are. `train` with the configuration of the
/// run does the same.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The run's name, or its directory
    run: PathBuf,
    /// Change one setting, e.g. `--set train.learning_rate=1e-4`; recorded in the lineage
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    how: RunArgs,
}

impl Args {
    /// The same as a run of `train`.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn train(self) -> Result<train::Args> {
        let Self { run, overrides, access, how } = self;
        let config = named_run(&run)?;
        Ok(train::Args::of_run(ConfigArgs { config, overrides }, access, how))
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let run = named_run(&args.run)?;
    if has_result(&run)? {
        return Err(Error::run("this run is finished: there is nothing to go on with")
            .at(&run)
            .hint(format!("`firebrand train {} --resume never` restarts it", run.display())));
    }
    train::run(&args.clone().train()?)
}
