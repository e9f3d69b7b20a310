//! `firebrand train`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::artifact::keys::config_home;
use crate::cli::notified::{notified, tell as tell_of};
use crate::cli::{AccessArgs, ConfigArgs, data_json, data_line, talk, talk_of};
use crate::config::{Loaded, RunConfig};
use crate::error::Result;
use crate::event::Stop;
use crate::report::{Console, Dashboard, LivePage, PAGE_FILE, Signals, Transfers, write_page};
use crate::terminal;
use crate::trackers::Trackers;
use crate::train::{Published, Request, Resume, RunOutcome, allowed, expect_in_place, train};
use crate::verify::Trust;

/// Train from a configuration, and go on by itself where an earlier run stopped
///
/// Writes checkpoints and the finished, signed artifact into the run directory (`output.dir`).
/// Ctrl-C saves and stops; the same command goes on from there, to the same bytes as a run that
/// was never interrupted (on the CPU). stdout gets the path of the artifact. In the place of a
/// configuration stands the name of a run, too, or its directory: it has the settings that it has
/// there.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    access: AccessArgs,
    /// `auto` goes on from the newest checkpoint, `never` restarts and moves the earlier
    /// attempt aside, a path goes on from that checkpoint folder
    #[arg(long, value_name = "auto|never|PATH", default_value = "auto")]
    resume: String,
    #[command(flatten)]
    how: RunArgs,
    /// Save and stop after this step; set by a sweep
    #[arg(skip)]
    stop_at_step: Option<u64>,
}

/// How a run is made, or goes on.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Save and stop when this process has done so many steps; the same command does as many more
    #[arg(long, value_name = "N")]
    stop_after_steps: Option<u64>,
    /// Go on with another number of steps than the run began with. Under a constant rate, and
    /// before the decay of `wsd`, the result is that of a run which had been so long from its
    /// beginning; otherwise the lineage says that it is not
    #[arg(long)]
    extend: bool,
    /// Go on, at the same position, though data, tokenizer or template changed; the lineage says so
    #[arg(long)]
    allow_data_change: bool,
    /// Go on on another kind of device; the lineage says so
    #[arg(long)]
    allow_device_change: bool,
    /// Go on with another version of this program; the lineage says so
    #[arg(long)]
    allow_code_change: bool,
    /// How long the system waits between asking a run to end (SIGTERM) and ending it: if the last
    /// save took longer, the run stops without another one
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    /// Tell how the run ended: an address (`https://…`) gets a `POST` of JSON, a program, or an
    /// array of program and arguments, gets it on stdin. Else FIREBRAND_NOTIFY says whom
    #[arg(long, value_name = "PROGRAM|URL")]
    notify: Option<String>,
    /// Say nothing but warnings and errors
    #[arg(long, short)]
    quiet: bool,
    /// Fill the terminal: curves, speed, memory, answers and messages while it trains. `q` goes
    /// back to lines, and the run goes on
    #[arg(long, conflicts_with = "quiet")]
    dashboard: bool,
}

impl Args {
    /// What goes on with a run: its settings stand in its directory.
    pub fn of_run(config: ConfigArgs, access: AccessArgs, how: RunArgs) -> Self {
        Self { config, access, resume: "auto".to_owned(), how, stop_at_step: None }
    }

    /// What a point of a sweep is run with.
    pub fn of_point(
        (config, overrides): (PathBuf, Vec<String>),
        access: &AccessArgs,
        stop_at_step: Option<u64>,
        grace: u64,
    ) -> Self {
        Self {
            config: ConfigArgs { config, overrides },
            access: AccessArgs { locked: access.locked, offline: access.offline },
            resume: "auto".to_owned(),
            how: RunArgs {
                stop_after_steps: None,
                extend: false,
                allow_data_change: false,
                allow_device_change: false,
                allow_code_change: false,
                grace,
                notify: None,
                quiet: false,
                dashboard: false,
            },
            stop_at_step,
        }
    }

    /// The folder for compiled kernels, if the run wants them beside it. What is wrong with the
    /// configuration is told when it runs.
    #[cfg(feature = "gpu")]
    pub fn pinned_kernels(&self) -> Option<PathBuf> {
        let config = self.config.of_run_too().ok()?.load().ok()?.config;
        let run = Path::new(&config.output.dir);
        config.device.pin_kernels.then(|| run.join(crate::files::KERNELS))
    }
}

/// The configuration that was named, or that of the run that was.
fn configuration(args: &Args) -> Result<(ConfigArgs, Loaded)> {
    let config = args.config.of_run_too()?;
    let loaded = config.load()?;
    if let Some(run) = config.run_of(&args.config) {
        expect_in_place(run, &loaded.config)?;
    }
    Ok((config, loaded))
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let notified = notified(args.how.notify.as_deref())?;
    let mut ended = None;
    let result = run_until(args, &mut ended);
    let message = match &result {
        Err(error) => Some(json!({
            "event": "failed", "error": {"code": error.code.name(), "what": error.what},
            "text": format!("{}: {}", args.config.config.display(), error.what),
        })),
        Ok(_) => ended,
    };
    if let (Some(notified), Some(mut message)) = (notified, message) {
        message["config"] = json!(args.config.config.display().to_string());
        tell_of(&notified, &message, "how the run ended");
    }
    result
}

/// Trains; `ended` gets what is to be told of it.
fn run_until(args: &Args, ended: &mut Option<Value>) -> Result<ExitCode> {
    let (config, loaded) = configuration(args)?;
    let how = &args.how;
    let full_screen = fills_terminal(how.dashboard);
    let signals = Signals::install_beside(full_screen)?;
    let dashboard = full_screen.then(|| Dashboard::new(&loaded.config.name, signals.clone()));
    let transfers = Arc::new(Transfers::new(how.quiet));
    let bars = transfers.bars();
    let access = args.access.access(transfers, &signals);
    let mut console = Console::new(signals.clone(), how.quiet, how.stop_after_steps)
        .stopping_at(args.stop_at_step)
        .among(bars)
        .tracked(Trackers::new(&loaded.config))
        .with_dashboard(dashboard);
    let config_path = config.config.display().to_string();
    let resume = match args.resume.as_str() {
        "auto" => Resume::Auto,
        "never" => Resume::Never,
        path => Resume::From(PathBuf::from(path)),
    };
    let request = Request {
        loaded: &loaded,
        config_path: &config_path,
        resume,
        allowed: allowed(
            how.extend,
            how.allow_data_change,
            how.allow_code_change,
            how.allow_device_change,
        ),
        grace: Duration::from_secs(how.grace),
        access,
    };
    let directory = loaded.config.output.dir.clone();
    let outcome = train(&request, &mut LivePage::new(&mut console, Path::new(&directory)));
    let begun = console.has_begun();
    drop(console);
    let outcome = match (outcome, signals.stop_requested()) {
        // Stopped before the first step: nothing was lost, and what was fetched is kept.
        (Err(error), Some(stop)) if !begun => {
            talk_of(&error);
            return Ok(exit_code(stop));
        }
        (outcome, _) => outcome?,
    };
    *ended = news(&loaded.config, &outcome);
    tell_outcome(&outcome, &loaded.config, how.quiet)
}

/// Whether a dashboard that is wanted can be shown.
fn fills_terminal(wanted: bool) -> bool {
    let can = terminal::can_fill();
    if wanted && !can {
        talk(
            "note: `--dashboard` needs a terminal for input and messages (stdin, stderr), and \
             messages that are text: there are lines in its place",
        );
    }
    wanted && can
}

/// What is to be told of how a run ended; nothing where it had ended before.
fn news(config: &RunConfig, outcome: &RunOutcome) -> Option<Value> {
    let (name, directory) = (&config.name, &config.output.dir);
    match outcome {
        RunOutcome::Finished(published) => {
            let artifact = published.artifact.display().to_string();
            Some(json!({
                "event": "finished", "run": name, "directory": directory, "artifact": artifact,
                "eval_loss": published.losses.map(|(before, after)| [before, after]),
                "text": format!("{name} is finished: {artifact}"),
            }))
        }
        RunOutcome::Paused { step, total, .. } => Some(json!({
            "event": "interrupted", "run": name, "directory": directory,
            "step": step, "steps": total,
            "text": format!("{name} stopped after step {step} of {total}"),
        })),
        RunOutcome::AlreadyFinished(_) => None,
    }
}

/// Says how a run ended.
fn tell_outcome(outcome: &RunOutcome, config: &RunConfig, quiet: bool) -> Result<ExitCode> {
    match outcome {
        RunOutcome::Finished(published) => {
            page(&config.output.dir);
            if !quiet {
                tell(published);
            }
            data_line(&published.artifact.display().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        RunOutcome::AlreadyFinished(artifact) => {
            talk("this run is finished; `--resume never` would restart");
            if !Path::new(&config.output.dir).join(PAGE_FILE).exists() {
                page(&config.output.dir); // it was ended before the page was written
            }
            data_line(&artifact.display().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        RunOutcome::Paused { step, total, stop } => {
            talk(&format!("stopped after step {step} of {total}; the same command continues"));
            let status = serde_json::json!({
                "status": "interrupted", "resumable": true, "step": step, "steps": total,
            });
            data_json(&status.to_string())?;
            Ok(exit_code(*stop))
        }
    }
}

/// The page about the run, for people: without it the result is the same.
fn page(run: &str) {
    let run = Path::new(run);
    let written = config_home()
        .and_then(|home| Trust::of_user(&home))
        .and_then(|trust| write_page(run, &run.join(PAGE_FILE), &trust));
    if let Err(error) = written {
        let why = error.with_causes();
        talk(&format!("warning: there is no page about the run: {why}"));
    }
}

fn exit_code(stop: Stop) -> ExitCode {
    match stop {
        Stop::Asked => ExitCode::SUCCESS,
        Stop::Interrupt => ExitCode::from(130),
        Stop::Terminate => ExitCode::from(143),
    }
}

fn tell(published: &Published) {
    for (prompt, before, after) in &published.answers {
        talk(&format!("\n  > {}", crate::error::printable(prompt)));
        talk(&format!("    before: {}", one_line(before)));
        talk(&format!("    after:  {}", one_line(after)));
    }
    talk(&format!("\nartifact  {}", published.artifact.display()));
    if let Some((first, last)) = published.losses {
        talk(&format!("validation loss  {first:.4} before, {last:.4} after"));
    }
    match &published.signer {
        Some(signer) => talk(&format!("signed by {signer}")),
        None => talk("not signed (`output.sign = false`)"),
    }
    talk(&format!("check it:  firebrand verify {}", published.artifact.display()));
}

/// Answers on one line each, so that before and after stand under each other.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 160;
    let text = crate::error::printable(text.trim()).replace('\n', "⏎");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
