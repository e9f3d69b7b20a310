//! Commands: each reads settings, calls the library and prints.

mod allowlist;
mod answering;
mod cache;
mod chat;
mod classify;
mod checkup;
mod completions;
mod compose;
mod conformance;
mod coverage;
mod data;
mod devices;
mod doctor;
mod documents;
mod environment;
mod eval;
mod export;
mod export_job;
mod gate;
mod generate;
mod identity;
mod import;
mod init;
mod internal;
mod keygen;
mod lineage;
mod log;
mod man;
mod mcp;
mod merge;
mod named_checkpoint;
mod notified;
mod output;
mod pairs;
mod place;
mod plan;
mod promote;
mod pull;
mod push;
mod reproduce;
mod resolve;
mod resume;
mod retract;
mod review;
mod rollback;
mod runs;
mod scan;
mod schema;
mod sign;
mod signer;
mod step_tables;
mod sweep;
mod sweep_report;
mod train;
mod trust;
mod verify;
mod watch;
mod weight_format;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::Result as ClapResult;
use clap::{ArgMatches, FromArgMatches, Parser};

use crate::config::DeviceChoice;
use crate::document::key::quoted_list;
use crate::error::{Error, Kind, Result};
use crate::hub::Supply;
use crate::report::{Signals, Transfers};
use crate::terminal::{LOG_FORMAT, use_json};
use crate::train::{Access, supply_for};

pub use documents::tables as documents;
pub use output::{data_json, data_line, data_lines, talk, talk_of};

/// A command: a line of the table.
struct CliCommand {
    name: &'static str,
    /// Adds help and arguments.
    declare: fn(clap::Command) -> clap::Command,
    /// Reads the arguments and does it.
    run: fn(&ArgMatches) -> Result<ExitCode>,
}

/// A line of the table: the module of a command with its `Args` and `run`. Commands that are not
/// for people have names of their own.
macro_rules! command {
    ($module:ident) => {
        command!(stringify!($module), $module::Args, $module::run)
    };
    ($name:expr, $arguments:ty, $run:path) => {
        CliCommand {
            name: $name,
            declare: <$arguments as clap::Args>::augment_args,
            run: |matches| $run(&read::<$arguments>(matches)?),
        }
    };
}

/// Every command, in the order of the help.
const COMMANDS: &[CliCommand] = &[
    command!(init),
    command!(import),
    command!(pull),
    command!(plan),
    command!(data),
    command!(train),
    command!(resume),
    command!(sweep),
    command!(runs),
    command!(devices),
    command!(doctor),
    command!(generate),
    command!(chat),
    command!(classify),
    command!(eval),
    command!(coverage),
    command!(gate),
    command!(review),
    command!(promote),
    command!(rollback),
    command!(resolve),
    command!(log),
    command!(watch),
    command!(merge),
    command!(compose),
    command!(export),
    command!("export-job", export_job::Args, export_job::run),
    command!(push),
    command!(sign),
    command!(verify),
    command!(reproduce),
    command!(retract),
    command!(allowlist),
    command!(lineage),
    command!(scan),
    command!(keygen),
    command!(trust),
    command!(cache),
    command!(schema),
    command!(mcp),
    command!(completions),
    command!(man),
];

/// What the program starts itself, what the standard's conformance suite calls, and earlier names.
const HIDDEN: &[CliCommand] = &[
    #[cfg(feature = "gpu")]
    command!(internal::COMPARE_COMMAND, internal::CompareArgs, internal::compare),
    #[cfg(feature = "gpu")]
    command!(internal::PROBE_COMMAND, internal::ProbeArgs, internal::probe),
    command!(internal::POINT_COMMAND, internal::PointArgs, internal::point),
    command!("registry", internal::RegistryArgs, internal::registry),
    command!(internal::RENDER_COMMAND, internal::RenderArgs, internal::render),
    command!("sign-model", conformance::SignArgs, conformance::sign),
    command!("verify-model", conformance::VerifyArgs, conformance::verify),
];

/// Fine-tune open language models: exact resume, signed artifacts with their lineage.
#[derive(Debug, Parser)]
#[command(name = "firebrand", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    command: Chosen,
}

/// A command of the table with its arguments.
#[derive(Debug)]
struct Chosen {
    name: String,
    matches: ArgMatches,
}

impl clap::Args for Chosen {
    fn augment_args(program: clap::Command) -> clap::Command {
        let shown = COMMANDS.iter().map(|command| (command, false));
        let all = shown.chain(HIDDEN.iter().map(|command| (command, true)));
        all.fold(program, |program, (command, hidden)| {
            let declared = (command.declare)(clap::Command::new(command.name));
            program.subcommand(declared.hide(hidden))
        })
    }

    fn augment_args_for_update(program: clap::Command) -> clap::Command {
        Self::augment_args(program)
    }
}

impl FromArgMatches for Chosen {
    fn from_arg_matches(matches: &ArgMatches) -> ClapResult<Self> {
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(missing)?;
        Ok(Self { name: name.to_owned(), matches: matches.clone() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> ClapResult<()> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Chosen {
    /// Where compiled kernels are to be kept, if a run is to be made that says so.
    #[cfg(feature = "gpu")]
    fn pinned_kernels(&self) -> Option<std::path::PathBuf> {
        match self.name.as_str() {
            "train" => train::Args::from_arg_matches(&self.matches).ok()?.pinned_kernels(),
            "resume" => {
                resume::Args::from_arg_matches(&self.matches).ok()?.train().ok()?.pinned_kernels()
            }
            internal::POINT_COMMAND => {
                internal::PointArgs::from_arg_matches(&self.matches).ok()?.train().pinned_kernels()
            }
            _ => None,
        }
    }

    fn run(&self) -> Result<ExitCode> {
        let command = COMMANDS.iter().chain(HIDDEN).find(|command| command.name == self.name);
        (command.expect("only commands of the table are parsed").run)(&self.matches)
    }
}

/// The arguments of a command; clap has checked them.
fn read<A: FromArgMatches>(matches: &ArgMatches) -> Result<A> {
    A::from_arg_matches(matches).map_err(|error| Error::usage(error.to_string()))
}

const EXIT_CODES: &str = "Exit codes: 0 done · 1 a well-formed no (a signature does not hold, \
     the lock is not met) · \
     2 an error · 130, 143 interrupted and saved.\nstdout is data, stderr is talk.";

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

    /// The same where a run may be named in the place of a file: its settings.
    fn of_run_too(&self) -> Result<Self> {
        let config = crate::train::named_config(&self.config)?;
        Ok(Self { config, overrides: self.overrides.clone() })
    }

    /// The directory of the run, if one was named.
    fn run_of(&self, named: &Self) -> Option<&std::path::Path> {
        (self.config != named.config).then(|| self.config.parent())?
    }
}

/// How files may be got.
#[derive(Debug, Clone, clap::Args)]
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
        Ok(Arguments { command }) => command.pinned_kernels(),
        Err(_) => None,
    };
    let usual = crate::files::cache_home().ok().map(|cache| cache.join("kernels"));
    crate::device::keep_kernels(pinned, usual)
}

/// The device that an option names.
///
/// # Errors
/// When there is none of this name.
fn named_device(name: &str) -> Result<DeviceChoice> {
    DeviceChoice::from_name(name).ok_or_else(|| {
        Error::device(format!("there is no device `{name}`"))
            .hint(format!("there are {}", quoted_list(DeviceChoice::NAMES)))
    })
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
    if environment::value_of(LOG_FORMAT).as_deref() == Some("json") {
        use_json();
    }
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            crate::terminal::usage(&error);
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    std::panic::set_hook(Box::new(tell_panic));
    let result = match environment::check(environment::value_of) {
        Ok(()) => parsed.command.run(),
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| exit_code(&error))
}

/// A panic may quote what it failed on, so that it goes the way of all text.
fn tell_panic(info: &std::panic::PanicHookInfo) {
    crate::terminal::close_screen(); // whatever fails, the terminal is given back
    talk(&info.to_string());
    let trace = std::backtrace::Backtrace::capture(); // if `RUST_BACKTRACE` asks for one
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        talk(&trace.to_string());
    }
}

fn exit_code(error: &Error) -> ExitCode {
    if output::is_broken_pipe(error) {
        return ExitCode::SUCCESS; // the reader of our output had enough
    }
    talk_of(error);
    match error.kind {
        Kind::Refused => ExitCode::from(1),
        Kind::Failed => ExitCode::from(2),
    }
}
