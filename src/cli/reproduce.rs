//! `firebrand reproduce`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::artifact::reproduction::Outcome;
use crate::cli::place::model_directory;
use crate::cli::signer::SignerArgs;
use crate::cli::{data_json, data_line, talk};
use crate::error::{Error, Result};
use crate::files::remove_dir;
use crate::reproduce::{self, Recipe, Reproduced, Request, Sources, StepsBeside};

/// Make an artifact again from its lineage, and compare
///
/// Trains again on this machine, from the settings, the base and the data that the lineage names by
/// digest, with the program of that version, and says whether the weights have the same bytes, the
/// same numbers within rounding, or others, and from which step on. On the same kind of CPU they
/// must have the same bytes. What was found is signed and added to `DIR.sigstore.jsonl`, where
/// `firebrand verify --reproduced-by N` counts it. `--steps A..B` makes only the steps between two
/// checkpoints of the run again. Base and data are looked for where they lay, then where `--base`
/// and `--data` say.
/// Exit code 0: the same, or within rounding; 1: different; 2: an input cannot be had.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An artifact that was trained, or a run that has one
    #[arg(value_name = "ARTIFACT")]
    directory: PathBuf,
    /// The folder of the base model, or its GGUF file
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,
    /// A data file, or a folder with data files
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// The lock of the run, where base or data are of a hub; else `data.lock` beside the artifact
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Make the steps after A up to B again, from the checkpoint of step A to that of step B; 0 is
    /// the begin
    #[arg(long, value_name = "A..B", value_parser = stretch)]
    steps: Option<(u64, u64)>,
    /// The greatest relative difference of a tensor that is still called rounding
    #[arg(long, value_name = "X", default_value_t = 1e-3, value_parser = tolerance)]
    tolerance: f64,
    /// Work in this folder and keep it; the same command goes on there. Else a temporary one
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Compare though it was made by another version of this program
    #[arg(long)]
    allow_code_change: bool,
    /// Never use the network (as HF_HUB_OFFLINE=1 does)
    #[arg(long)]
    offline: bool,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    signing: SignerArgs,
}

fn stretch(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("write it as `200..400`")?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| "write it as `200..400`".to_owned());
    match (number(from)?, number(to)?) {
        (from, to) if from < to => Ok((from, to)),
        _ => Err("the second step must come after the first".to_owned()),
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..1.0).contains(number));
    number.ok_or_else(|| "a number from 0 to below 1, such as 1e-3".to_owned())
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let directory = model_directory(&args.directory);
    let recipe = Recipe::read(&directory)?;
    let signer = args.signing.signer()?;
    let folder = match &args.work {
        Some(folder) => folder.clone(),
        None => temporary()?,
    };
    let request = Request {
        recipe: &recipe,
        sources: Sources {
            base: args.base.as_deref(),
            data: &args.data,
            lock: args.lock.as_deref(),
        },
        folder: &folder,
        tolerance: args.tolerance,
        steps: args.steps,
        allow_code_change: args.allow_code_change,
        offline: args.offline,
        quiet: args.json,
    };
    let made = reproduce::reproduce(&request);
    if args.work.is_none() {
        let _ = remove_dir(&folder); // of no more use
    }
    let made = made?;
    tell(&made, args.json)?;
    if made.found.outcome == Outcome::Different {
        return Ok(ExitCode::from(1));
    }
    match &signer {
        Some((key, origin)) => {
            let path = reproduce::attest(&recipe, &made.found, key)?;
            talk(&format!("signed by {} ({origin}): {}", key.name(), path.display()));
        }
        None => talk("not signed (`--no-sign`)"),
    }
    Ok(ExitCode::SUCCESS)
}

/// A new folder of this process.
fn temporary() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("firebrand-reproduce-{}", std::process::id()));
    match folder.symlink_metadata() {
        Ok(_) => Err(Error::exists("the folder to work in is there already")
            .at(&folder)
            .hint("remove it, or name another one with `--work`")),
        Err(_) => Ok(folder),
    }
}

fn tell(made: &Reproduced, json: bool) -> Result<()> {
    let Reproduced { found, weights, steps, notes } = made;
    if json {
        let (first, stretch) = (found.first_step, found.steps.map(|(from, to)| [from, to]));
        let value = serde_json::json!({
            "outcome": found.outcome.name(), "device": found.device, "inputs": found.inputs,
            "tolerance": found.tolerance, "difference": found.difference,
            "tensors": weights.tensors.0, "tensors_different": weights.tensors.1,
            "first_differing_step": first, "steps": stretch, "notes": notes,
        });
        return data_json(&value.to_string());
    }
    notes.iter().for_each(|note| talk(&format!("note: {note}")));
    let (all, other) = weights.tensors;
    if let Some((name, greatest)) = &weights.greatest {
        data_line(&format!("{other} of {all} tensors differ, most `{name}`: {greatest:.2e}"))?;
    }
    match steps {
        StepsBeside::FirstDifferent(step) => {
            data_line(&format!("the first step with other numbers is step {step}"))?;
        }
        StepsBeside::Unknown if found.outcome != Outcome::SameBytes => {
            talk("from which step on is not known: the metrics of the run are not beside it");
        }
        StepsBeside::Unknown | StepsBeside::Same => {}
    }
    let tolerance = found.tolerance;
    let what = match found.outcome {
        Outcome::SameBytes => format!("the same bytes: {all} tensors"),
        Outcome::SameTensors => format!("the same numbers: {all} tensors, with other inputs named"),
        Outcome::WithinRounding => format!("the same within rounding (at most {tolerance:e})"),
        Outcome::Different => format!("different: by more than {tolerance:e}"),
    };
    let stretch = found.steps.map(|(from, to)| format!(", steps {from} to {to}"));
    data_line(&format!("{what}{}", stretch.unwrap_or_default()))
}
