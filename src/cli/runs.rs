//! `firebrand runs`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::artifact::keys::config_home;
use crate::cli::{data_json, data_line, talk};
use crate::config::RUNS;
use crate::error::{Context, Result, printable};
use crate::event::bytes;
use crate::report::{PAGE_FILE, write_compare_page, write_page};
use crate::train::comparison::Comparison;
use crate::train::named_run;
use crate::train::runs::{self, Details, Prune, Summary};
use crate::verify::Trust;

/// List runs and what became of them, look at one, or make room
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to look for runs
    #[arg(default_value = RUNS)]
    dir: PathBuf,
    /// One JSON object per run
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Everything about one run; its checkpoints are checked byte by byte
    Show {
        /// Its name, or its directory
        run: PathBuf,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// One page about a run: curves, settings, answers, history, lineage (HTML)
    Report {
        /// Its name, or its directory
        run: PathBuf,
        /// Where the page goes; else `report.html` in the directory
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Two runs beside each other: the settings that differ, and losses at steps that both have
    Compare {
        /// Name or directory of one
        one: PathBuf,
        /// Name or directory of the other
        other: PathBuf,
        /// As one JSON object
        #[arg(long)]
        json: bool,
        /// Also write a page with their curves over each other (HTML)
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Remove what is not needed any more: all but the newest checkpoints, and leftovers
    ///
    /// Checkpoints that `keep_every` and `keep_best` have kept go as well. Results are never
    /// removed, nor the best checkpoint of a run with `eval.load_best_model_at_end`, nor anything
    /// of a run that is at work.
    Prune {
        /// Where to look for runs
        #[arg(default_value = RUNS)]
        dir: PathBuf,
        /// How many checkpoints of each run stay; of an unfinished one at least two
        #[arg(long, value_name = "N", default_value_t = 1)]
        keep: usize,
        /// Also remove what was set aside: damaged checkpoints, earlier attempts and results
        #[arg(long)]
        set_aside: bool,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        None => list(&args.dir, args.json)?,
        Some(Command::Show { run, json }) => show(&runs::details(&named_run(run)?)?, *json)?,
        Some(Command::Report { run, out }) => {
            let run = &named_run(run)?;
            let out = out.clone().unwrap_or_else(|| run.join(PAGE_FILE));
            write_page(run, &out, &Trust::of_user(&config_home()?)?)?;
            data_line(&out.display().to_string())?;
        }
        Some(Command::Compare { one, other, json, report }) => {
            let both = Comparison::of(&named_run(one)?, &named_run(other)?)?;
            if let Some(out) = report {
                write_compare_page(&both, out)?;
                talk(&format!("the curves are in {}", out.display()));
            }
            compare(&both, *json)?;
        }
        Some(Command::Prune { dir, keep, set_aside, dry_run }) => {
            let (keep, set_aside, dry_run) = (*keep, *set_aside, *dry_run);
            let removed = runs::prune(dir, Prune { keep, set_aside, dry_run })?;
            for found in &removed {
                let path = printable(&found.path.display().to_string());
                data_line(&format!("{:>10}  {path}", bytes(found.bytes)))?;
            }
            let total = removed.iter().map(|found| found.bytes).sum();
            let what = if dry_run { "would be removed" } else { "removed" };
            talk(&format!("{} folders, {}, {what}", removed.len(), bytes(total)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(both: &Comparison, json: bool) -> Result<()> {
    if json {
        let text = serde_json::to_string_pretty(both).context("cannot encode the comparison")?;
        return data_json(&text);
    }
    for run in &both.runs {
        data_line(&line(run))?;
    }
    let keys = both.settings.keys().map(|key| key.chars().count());
    let width = keys.max().unwrap_or_default();
    for (key, [one, other]) in &both.settings {
        let shown = |value: &Option<String>| value.as_deref().unwrap_or("-").to_owned();
        data_line(&printable(&format!("{key:<width$}  {}  |  {}", shown(one), shown(other))))?;
    }
    for (what, curve) in [("training", &both.training), ("validation", &both.validation)] {
        for point in curve {
            let [one, other] = point.loss;
            let (step, difference) = (point.step, other - one);
            data_line(&format!(
                "{what:<10}  step {step:>8}  loss {one:>8.4}  {other:>8.4}  {difference:>+8.4}"
            ))?;
        }
    }
    if both.training.is_empty() && both.validation.is_empty() {
        talk("the runs have no step in common");
    }
    Ok(())
}

fn list(dir: &std::path::Path, json: bool) -> Result<()> {
    let all = runs::list(dir)?;
    for run in &all {
        match json {
            true => data_json(&serde_json::to_string(run).context("cannot encode the run")?)?,
            false => data_line(&line(run))?,
        }
    }
    let total = all.iter().map(|run| run.bytes).sum();
    if !json {
        talk(&format!("{} runs, {}", all.len(), bytes(total)));
    }
    Ok(())
}

fn line(run: &Summary) -> String {
    let loss = run.loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"));
    format!(
        "{:<24}  {:>10}  loss {loss:>7}  {}",
        printable(&run.name),
        bytes(run.bytes),
        printable(&run.status.line(run.step, run.steps)),
    )
}

fn show(run: &Details, json: bool) -> Result<()> {
    if json {
        let text = serde_json::to_string_pretty(run).context("cannot encode the run")?;
        return data_json(&text);
    }
    data_line(&line(&run.summary))?;
    for checkpoint in &run.checkpoints {
        let loss = checkpoint.eval_loss.map(|loss| format!("  validation loss {loss:.4}"));
        let best = if checkpoint.best { ", the best" } else { "" };
        let problem = checkpoint.problem.as_ref().map(|why| format!("  DAMAGED: {why}"));
        data_line(&printable(&format!(
            "{}  {:>10}{}{best}{}",
            checkpoint.name,
            bytes(checkpoint.bytes),
            loss.unwrap_or_default(),
            problem.unwrap_or_default()
        )))?;
    }
    for name in &run.set_aside {
        data_line(&format!("set aside: {}", printable(name)))?;
    }
    for entry in &run.history {
        let from = entry.from.as_ref().map(|from| format!(" from run {from}"));
        let why = entry.why.as_ref().map(|why| format!(": {why}"));
        let changes: Vec<String> = entry.differences.iter().map(ToString::to_string).collect();
        let changes = match (changes.is_empty(), entry.exact) {
            (true, _) => String::new(),
            (false, Some(true)) => format!(": {} (exact)", changes.join("; ")),
            (false, _) => format!(": {} (not exact)", changes.join("; ")),
        };
        data_line(&printable(&format!(
            "{}  step {:>8}  {}{}{}{changes}",
            entry.time,
            entry.step,
            entry.what,
            from.unwrap_or_default(),
            why.unwrap_or_default()
        )))?;
    }
    Ok(())
}
