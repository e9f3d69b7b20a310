//! Commands: each reads settings, calls the library and prints.

mod allowlist;
mod cache;
mod checkup;
mod completions;
mod conformance;
mod data;
mod devices;
mod doctor;
mod environment;
mod eval;
mod export;
mod gate;
mod generate;
mod init;
mod keygen;
mod lineage;
mod log;
mod merge;
mod output;
mod pairs;
mod plan;
mod promote;
mod pull;
mod resolve;
mod rollback;
mod runs;
mod scan;
mod schema;
mod sign;
mod signer;
mod train;
mod verify;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::data::RENDER_COMMAND;
use crate::error::{Error, Kind, Result};
use crate::hub::Supply;
use crate::report::{Signals, Transfers};
use crate::train::{Access, supply_for};

pub use output::{data_json, data_line, data_lines, talk, talk_of};

/// Fine-tune open language models: exact resume, signed artifacts with their lineage.
#[derive(Debug, Parser)]
#[command(name = "firebrand", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done · 1 a well-formed no (a signature does not hold, \
     the lock is not met) · \
     2 an error · 130, 143 interrupted and saved.\nstdout is data, stderr is talk.";

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Pull(pull::Args),
    Plan(plan::Args),
    Data(data::Args),
    Train(train::Args),
    Runs(runs::Args),
    Devices(devices::Args),
    Doctor(doctor::Args),
    /// What `doctor` starts to compare a device with the CPU
    #[cfg(feature = "gpu")]
    #[command(name = doctor::COMPARE_COMMAND, hide = true)]
    CompareDevice {
        /// An adapter
        adapter: String,
    },
    /// What asks a driver, so that its crash is that of another process
    #[cfg(feature = "gpu")]
    #[command(name = crate::device::PROBE_COMMAND, hide = true)]
    ProbeDevice {
        /// An interface
        api: String,
        /// An adapter to try out
        adapter: Option<String>,
    },
    Generate(generate::Args),
    Eval(eval::Args),
    Gate(gate::Args),
    Promote(promote::Args),
    Rollback(rollback::Args),
    Resolve(resolve::Args),
    Log(log::Args),
    Watch(watch::Args),
    Merge(merge::Args),
    Export(export::Args),
    Sign(sign::Args),
    Verify(verify::Args),
    Allowlist(allowlist::Args),
    /// The earlier name of `allowlist`
    #[command(hide = true, disable_help_flag = true)]
    Registry {
        /// Whatever it was called with
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    Lineage(lineage::Args),
    Scan(scan::Args),
    /// What renders chat templates, started by the program itself
    #[command(name = RENDER_COMMAND, hide = true)]
    RenderTemplates,
    Keygen(keygen::Args),
    #[command(hide = true)]
    SignModel(conformance::SignArgs),
    #[command(hide = true)]
    VerifyModel(conformance::VerifyArgs),
    Cache(cache::Args),
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
        crate::settings::load(&self.config, &self.overrides)
    }
}

/// How files may be got.
#[derive(Debug, clap::Args)]
struct AccessArgs {
    /// Use exactly what the lock beside the configuration says; anything else ends with exit code 1
    #[arg(long)]
    locked: bool,
    /// Never use the network (as HF_HUB_OFFLINE=1 does)
    #[arg(long)]
    offline: bool,
}

impl AccessArgs {
    fn access(&self, transfers: Arc<Transfers>, signals: &Signals) -> Access {
        let signals = signals.clone();
        Access {
            locked: self.locked,
            offline: self.offline,
            transfers,
            interrupted: Arc::new(move || signals.stop_requested().is_some()),
        }
    }

    /// Where files come from when no run directory is at work.
    fn supply(&self, config: &ConfigArgs, quiet: bool) -> Result<Arc<Supply>> {
        let transfers = Arc::new(Transfers::new(quiet));
        supply_for(&config.config, None, &self.access(transfers, &Signals::default()))
    }
}

/// What a program's environment must hold before it runs anything else, so that drivers keep
/// compiled kernels in the user's cache folder, or beside the run that wants that
/// (`device.pin_kernels`).
#[cfg(feature = "gpu")]
pub fn kernel_variables(arguments: &[OsString]) -> Vec<(&'static str, OsString)> {
    let pinned = match Arguments::try_parse_from(arguments) {
        Ok(Arguments { command: Command::Train(args) }) => args.pinned_kernels(),
        _ => None,
    };
    let usual = crate::files::cache_home().ok().map(|cache| cache.join("kernels"));
    crate::device::keep_kernels(pinned, usual)
}

/// Whether the program would understand these arguments, and why not.
pub fn understands(arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    match Arguments::try_parse_from(arguments) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs the command that the arguments name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            crate::terminal::usage(&error);
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    std::panic::set_hook(Box::new(tell_panic));
    let result = match environment::check(environment::value_of) {
        Ok(()) => run_command(parsed.command),
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| exit_code(&error))
}

/// A panic may quote what it failed on, so that it goes the way of all text.
fn tell_panic(info: &std::panic::PanicHookInfo) {
    talk(&info.to_string());
    let trace = std::backtrace::Backtrace::capture(); // if `RUST_BACKTRACE` asks for one
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        talk(&trace.to_string());
    }
}

fn run_command(command: Command) -> Result<ExitCode> {
    match command {
        Command::Init(args) => init::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        #[cfg(feature = "gpu")]
        Command::CompareDevice { adapter } => doctor::answer(&adapter),
        #[cfg(feature = "gpu")]
        Command::ProbeDevice { api, adapter } => {
            crate::device::probe_answer(&api, adapter.as_deref()).and_then(|line| {
                data_json(&line)?;
                Ok(ExitCode::SUCCESS)
            })
        }
        Command::Generate(args) => generate::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Promote(args) => promote::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Resolve(args) => resolve::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Sign(args) => sign::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Allowlist(args) => allowlist::run(&args),
        Command::Registry { .. } => {
            Err(Error::new("`firebrand registry` is called `firebrand allowlist` now")
                .hint("a registry is where `promote` keeps channels and models"))
        }
        Command::Lineage(args) => lineage::run(&args),
        Command::Scan(args) => scan::run(&args),
        Command::RenderTemplates => scan::render_templates(),
        Command::Keygen(args) => keygen::run(&args),
        Command::SignModel(args) => conformance::sign(&args),
        Command::VerifyModel(args) => conformance::verify(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

fn exit_code(error: &Error) -> ExitCode {
    if output::is_broken_pipe(error) {
        return ExitCode::SUCCESS; // the reader of our output had enough
    }
    talk_of(&error);
    match error.kind {
        Kind::Refused => ExitCode::from(1),
        Kind::Failed | Kind::NoRoom => ExitCode::from(2),
    }
}
