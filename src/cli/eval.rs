//! `firebrand eval`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use crate::artifact::open::{BaseChoice, open, opened_on};
use crate::checkpoint::NamedCheckpoint;
use crate::cli::weight_format::WeightFormatArgs;
use crate::cli::{data_json, data_lines, named_device, talk};
use crate::device;
use crate::error::{Context, Result};
use crate::evaluation::{Report, Subject, Suite, Watcher, evaluate};
use crate::files::{cache_home, write_atomic};
use crate::hub::Policy;
use crate::train::Access;

/// Judge a model: loss, accuracy and tasks, per slice, with intervals
///
/// The same model on the same data gives the same numbers, which are kept and shown at once the
/// next time. Results of a run are also added to its `evaluations.jsonl`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model directory, an artifact, a run (finished or not), a checkpoint of one (`RUN@best`,
    /// `RUN@last`, `RUN@step-200`), or owner/name on the hub, also with `@revision`
    model: String,
    /// What it is evaluated on (TOML)
    #[arg(long, value_name = "EVAL")]
    config: PathBuf,
    /// One JSON object in place of the table
    #[arg(long)]
    json: bool,
    /// With every record in the JSON
    #[arg(long, requires = "json")]
    records: bool,
    /// Write the table (Markdown) into this file too
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The base model of an adapter, if it is not where the adapter says
    #[arg(long, value_name = "DIR")]
    base: Option<String>,
    #[command(flatten)]
    weights: WeightFormatArgs,
    /// As `device.name` in a configuration, such as cpu, gpu:1 or vulkan
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// Measure again, whatever is kept
    #[arg(long)]
    fresh: bool,
    /// Never use the network (as HF_HUB_OFFLINE=1 does)
    #[arg(long)]
    offline: bool,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
    /// Not into the history of the run: how `gate` measures speed
    #[arg(long, hide = true)]
    unnoted: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let suite = Suite::read(&args.config)?;
    let wanted = named_device(&args.device)?;
    let opened = device::open(wanted, 0)?;
    let transfers = Arc::new(crate::report::Transfers::new(args.quiet));
    let access = Access { transfers, offline: args.offline, ..Access::default() };
    let supply = Arc::new(access.supply(Policy {
        offline: args.offline,
        extensions: crate::data::extensions(),
        ..Policy::default()
    })?);
    let base = BaseChoice { instead: args.base.as_deref(), linears: args.weights.format() };
    let model = opened_on(&opened, || open(&args.model, base, &opened.device, &supply))?;
    model.notes.iter().for_each(|note| talk(&format!("note: {note}")));
    let (cache, bar) = (cache_home()?, Bar::new(args.quiet));
    let kept = (cache.as_path(), args.fresh);
    let codec = model.codec(None)?;
    let (name, quantised) = (args.model.as_str(), model.quantised);
    let score_head = model.score_head.as_ref();
    let (model, files) = (&model.model, model.files.as_slice());
    let subject = Subject { name, model, codec: &codec, files, quantised, score_head };
    let report = evaluate(&subject, &suite, &supply, &opened, kept, &bar)?;
    if !args.unnoted {
        note(&args.model, &report)?;
    }
    let table = report.to_markdown();
    if let Some(path) = &args.markdown {
        write_atomic(path, table.as_bytes())?;
    }
    if args.json {
        let mut report = report;
        if !args.records {
            report.records.clear();
        }
        let line = serde_json::to_string(&report).context("cannot encode the result")?;
        data_json(&line)?;
        return Ok(ExitCode::SUCCESS);
    }
    let speed = &report.performance;
    talk(&format!(
        "{} on {}: {} records, {:.0} tokens/s on {}",
        args.model,
        suite.name,
        report.records.len(),
        speed.tokens_per_second,
        speed.device
    ));
    if let (Some(tokens), Some(first)) = (speed.answer_tokens_per_second, speed.first_token_seconds)
    {
        talk(&format!("answers: {tokens:.1} tokens/s, first token after {first:.3} s (median)"));
    }
    data_lines(table.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Adds a line to the history of the run that the model is of, if it is of one.
fn note(model: &str, report: &Report) -> Result<()> {
    let named = NamedCheckpoint::parse(model)?;
    let path = named.as_ref().map_or(Path::new(model), |named| &named.run);
    let folders = [Some(path), path.parent()].into_iter().flatten();
    let Some(run) = folders.into_iter().find(|folder| folder.join("run.lock").is_file()) else {
        return Ok(());
    };
    report.note(run)
}

/// A progress bar on stderr, where a person sees it.
pub(super) struct Bar {
    quiet: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, bar: Mutex::new(None) }
    }

    fn with(&self, change: impl FnOnce(&mut Option<ProgressBar>)) {
        change(&mut self.bar.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Watcher for Bar {
    fn warn(&self, text: &str) {
        talk(&format!("warning: {text}"));
    }

    fn begin(&self, what: &str, units: u64) {
        if self.quiet {
            return;
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta} left");
        let bar = ProgressBar::new(units);
        crate::terminal::label(&bar, what);
        if let Ok(style) = style {
            bar.set_style(style);
        }
        self.with(|held| *held = Some(bar));
    }

    fn advance(&self, units: u64) {
        self.with(|held| {
            if let Some(bar) = held {
                bar.inc(units);
            }
        });
    }

    fn end(&self) {
        self.with(|held| {
            if let Some(bar) = held.take() {
                bar.finish_and_clear();
            }
        });
    }
}
