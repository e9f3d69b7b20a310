//! Commands that no one types: what the program starts itself, and a name that is no more.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::{AccessArgs, scan, train};
#[cfg(feature = "gpu")]
use crate::cli::{data_json, doctor};
use crate::config::Reuse;
use crate::document::quoted;
use crate::error::{Error, Result};
use crate::settings;
use crate::sweep::SweepStore;

pub(super) use crate::data::RENDER_COMMAND;
#[cfg(feature = "gpu")]
pub(super) use crate::device::PROBE_COMMAND;
pub(super) use crate::sweep::POINT_COMMAND;
#[cfg(feature = "gpu")]
pub(super) use doctor::COMPARE_COMMAND;

/// What `doctor` starts to compare a device with the CPU
#[cfg(feature = "gpu")]
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// An adapter
    adapter: String,
}

#[cfg(feature = "gpu")]
pub fn compare(args: &CompareArgs) -> Result<ExitCode> {
    doctor::answer(&args.adapter)
}

/// What asks a driver, so that its crash is that of another process
#[cfg(feature = "gpu")]
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    /// An interface
    api: String,
    /// An adapter to try out
    adapter: Option<String>,
}

#[cfg(feature = "gpu")]
pub fn probe(args: &ProbeArgs) -> Result<ExitCode> {
    let line = crate::device::probe_answer(&args.api, args.adapter.as_deref())?;
    data_json(&line)?;
    Ok(ExitCode::SUCCESS)
}

/// What renders chat templates, started by the program itself
#[derive(Debug, clap::Args)]
pub struct RenderArgs {}

pub fn render(_: &RenderArgs) -> Result<ExitCode> {
    scan::render_templates()
}

/// What `sweep run` starts for a run: `train`, until its input ends
#[derive(Debug, clap::Args)]
pub struct PointArgs {
    /// The configuration
    config: PathBuf,
    /// Save and stop after this step
    #[arg(long)]
    stop_at_step: Option<u64>,
    /// Where checkpoints, results and shared steps go as well
    #[arg(long)]
    store: Option<String>,
    /// How long the system waits between asking a run to end and ending it
    #[arg(long, default_value_t = 30)]
    grace: u64,
    #[command(flatten)]
    access: AccessArgs,
}

impl PointArgs {
    /// The same as arguments of `train`.
    pub fn train(&self) -> train::Args {
        let Self { config, stop_at_step, store, grace, access } = self;
        let overrides = store.as_deref().map(|store| in_store(config, store)).unwrap_or_default();
        train::Args::of_point((config.clone(), overrides), access, *stop_at_step, *grace)
    }
}

/// What a point is told of the store of its sweep, as far as its configuration says nothing else.
/// What is wrong with it is told when it runs.
pub(super) fn in_store(config: &Path, address: &str) -> Vec<String> {
    let (Ok(loaded), Ok(store)) = (settings::load(config, &[]), SweepStore::open(address)) else {
        return Vec::new();
    };
    let (output, checkpoint) = (&loaded.config.output, &loaded.config.checkpoint);
    let set = |key: &str, value: &str| format!("{key}={}", quoted(value));
    let mirror = output.mirror.is_none().then(|| set("output.mirror", &store.mirror()));
    let shares = checkpoint.reuse == Reuse::Auto && checkpoint.reuse_store.is_none();
    let steps = shares.then(|| set("checkpoint.reuse_store", address));
    mirror.into_iter().chain(steps).collect()
}

pub fn point(args: &PointArgs) -> Result<ExitCode> {
    crate::report::stop_at_end_of_input()?;
    train::run(&args.train())
}

/// The earlier name of `allowlist`
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct RegistryArgs {
    /// Whatever it was called with
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Whatever the arguments are, the error is about the name.
pub fn registry(args: &RegistryArgs) -> Result<ExitCode> {
    let RegistryArgs { arguments: _ } = args;
    Err(Error::usage("`firebrand registry` is called `firebrand allowlist` now")
        .hint("a registry is where `promote` keeps channels and models"))
}
