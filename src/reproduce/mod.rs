//! An artifact is made again from its lineage, on this machine, and compared with what there is.
//!
//! The lineage names base and data by digest and has all settings; what lies elsewhere than it did
//! is looked for by those digests. A run of its own does the work, in a folder in which everything
//! has the name that it had.

mod compare;
mod layout;
mod recipe;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use compare::{StepsBeside, WeightsDifference};
pub use layout::Sources;
pub use recipe::Recipe;

use crate::artifact::attestations::append;
use crate::artifact::envelope::{Bundle, IN_TOTO};
use crate::artifact::keys::SigningKey;
use crate::artifact::lineage::INPUTS_FILE;
use crate::artifact::parent::LINEAGE_BYTES_MAX;
use crate::artifact::reproduction::{Outcome, Reproduction, statement};
use crate::artifact::signature;
use crate::checkpoint::{RestoredCheckpoint, folder_name, manifest_digest, now};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{Digest, folder_of, hash_file, read_json};
use layout::{CONFIG, RUN};

/// What is asked for.
pub struct Request<'a> {
    /// What is to be made again.
    pub recipe: &'a Recipe,
    /// Where inputs may lie.
    pub sources: Sources<'a>,
    /// The folder to work in.
    pub folder: &'a Path,
    /// The greatest relative difference of a tensor that is still rounding.
    pub tolerance: f64,
    /// The stretch of steps to make again, in place of the whole.
    pub steps: Option<(u64, u64)>,
    /// Whether it may have been made by another version of the program.
    pub allow_code_change: bool,
    /// Nothing from the network.
    pub offline: bool,
    /// Nothing is said on the way.
    pub quiet: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Reproduced {
    /// As it is attested.
    pub found: Reproduction,
    /// The weights.
    pub weights: WeightsDifference,
    /// The steps.
    pub steps: StepsBeside,
    /// What makes a difference likely, or is not proved.
    pub notes: Vec<String>,
}

/// Makes it again and compares.
///
/// # Errors
/// When an input is not to be had, or the run fails.
pub fn reproduce(request: &Request) -> Result<Reproduced> {
    let recipe = request.recipe;
    let mut notes = Vec::new();
    check_versions(recipe, request.allow_code_change, &mut notes)?;
    layout::lay(recipe, &request.sources, request.folder)?;
    if recipe.settings.contains_key("eval.suite") {
        notes.push("the suite of its configuration (`eval.suite`) is not run again".to_owned());
    }
    match request.steps {
        None => whole(request, notes),
        Some(stretch) => part(request, stretch, notes),
    }
}

/// The same program computes the same; another one may round otherwise.
fn check_versions(recipe: &Recipe, allowed: bool, notes: &mut Vec<String>) -> Result<()> {
    let own = [("firebrand", env!("CARGO_PKG_VERSION")), ("burn", env!("FIREBRAND_BURN"))];
    for (name, own) in own {
        let there = recipe.versions.get(name).map_or("another version", String::as_str);
        if there == own {
            continue;
        }
        let what = format!("it was made by {name} {there}, and this is {name} {own}");
        if !allowed {
            return Err(Error::refused(ErrorCode::Lineage, what)
                .at(&recipe.directory)
                .hint("use that version, or compare all the same with `--allow-code-change`"));
        }
        notes.push(what);
    }
    Ok(())
}

/// Says so if the kind of machine is another one.
fn note_machine(recipe: &Recipe, device: &str, notes: &mut Vec<String>) {
    if let Some(there) = recipe.device.as_ref().filter(|there| *there != device) {
        notes.push(format!("it was made on another kind of machine: {there}, not {device}"));
    }
}

fn whole(request: &Request, mut notes: Vec<String>) -> Result<Reproduced> {
    let recipe = request.recipe;
    train(request, &[])?;
    let made = request.folder.join(RUN).join("artifact");
    let names: Vec<String> = recipe.weights().map(|file| file.path.clone()).collect();
    let weights = WeightsDifference::of(&names, &recipe.directory, &made)?;
    let inputs = hash_file(&made.join(INPUTS_FILE), INPUTS_FILE)?.sha256;
    let told = read_json(&made.join(INPUTS_FILE), LINEAGE_BYTES_MAX)?;
    let device = told["internalParameters"]["device"]["class"].as_str().unwrap_or_default();
    note_machine(recipe, device, &mut notes);
    if inputs != recipe.inputs {
        notes.push(format!("`{INPUTS_FILE}` is not the same, though every file is"));
    }
    let metrics = request.folder.join(RUN).join("metrics.jsonl");
    let there = folder_of(&recipe.directory).join("metrics.jsonl");
    let steps = if compare::is_of(&metrics, recipe.metrics) {
        StepsBeside::Same
    } else if compare::is_of(&there, recipe.metrics) {
        compare::steps(&there, &metrics, None)?
    } else {
        StepsBeside::Unknown
    };
    let same = inputs == recipe.inputs && steps == StepsBeside::Same;
    let outcome = weights.outcome(same, request.tolerance);
    let device = device.to_owned();
    Ok(reproduced(request, (outcome, device, inputs), weights, steps, notes))
}

/// A stretch between two checkpoints of the run that the artifact lies in.
fn part(request: &Request, (from, to): (u64, u64), mut notes: Vec<String>) -> Result<Reproduced> {
    let recipe = request.recipe;
    let run = folder_of(&recipe.directory);
    let end = checkpoint(recipe, run, to, &mut notes)?;
    let count = (to - from).to_string();
    let mut arguments = vec!["--stop-after-steps".to_owned(), count];
    if from > 0 {
        let begin = checkpoint(recipe, run, from, &mut notes)?;
        let begin = begin.canonicalize().context_at("cannot find the checkpoint", &begin)?;
        arguments.extend(["--resume".to_owned(), begin.display().to_string()]);
    }
    train(request, &arguments)?;
    let made = request.folder.join(RUN);
    let end_made = made.join(folder_name(to));
    let device = RestoredCheckpoint::open(&end_made)?.state.identity.device;
    note_machine(recipe, &device, &mut notes);
    let saved = RestoredCheckpoint::open(&end)?.weights_name().to_owned();
    let names = [saved, "optimizer.safetensors".to_owned()];
    let weights = WeightsDifference::of(&names, &end, &end_made)?;
    let metrics = run.join("metrics.jsonl");
    let steps = match metrics.is_file() {
        true => compare::steps(&metrics, &made.join("metrics.jsonl"), Some((from, to)))?,
        false => StepsBeside::Unknown,
    };
    let same = !matches!(steps, StepsBeside::FirstDifferent(_));
    let outcome = weights.outcome(same, request.tolerance);
    Ok(reproduced(request, (outcome, device, recipe.inputs), weights, steps, notes))
}

/// A checkpoint of the run, whole, and the one that its signed provenance names.
fn checkpoint(recipe: &Recipe, run: &Path, step: u64, notes: &mut Vec<String>) -> Result<PathBuf> {
    let folder = run.join(folder_name(step));
    if !folder.is_dir() {
        return Err(Error::checkpoint(format!("there is no checkpoint of step {step}"))
            .at(&folder)
            .because("a stretch of steps lies between two checkpoints of the run, or its begin")
            .hint("name steps that the run has kept (`checkpoint.keep_every`)"));
    }
    RestoredCheckpoint::open(&folder)?;
    match recipe.checkpoints.get(&step) {
        Some(attested) if manifest_digest(&folder)? != *attested => {
            Err(Error::refused(ErrorCode::Checkpoint, "the checkpoint is not that of the run")
                .at(&folder)
                .because(format!("the provenance has the manifest {attested}")))
        }
        Some(_) => Ok(folder),
        None => {
            notes.push(format!("nothing attests the checkpoint of step {step}"));
            Ok(folder)
        }
    }
}

fn reproduced(
    request: &Request,
    (outcome, device, inputs): (Outcome, String, Digest),
    weights: WeightsDifference,
    steps: StepsBeside,
    notes: Vec<String>,
) -> Reproduced {
    let first_step = match steps {
        StepsBeside::FirstDifferent(step) => Some(step),
        StepsBeside::Same | StepsBeside::Unknown => None,
    };
    let found = Reproduction {
        outcome,
        time: now(),
        device,
        inputs,
        tolerance: request.tolerance,
        difference: weights.greatest(),
        first_step,
        steps: request.steps,
    };
    Reproduced { found, weights, steps, notes }
}

/// Runs this program's `train` in the folder: it goes on there if it was stopped.
fn train(request: &Request, more: &[String]) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.arg("train").arg(CONFIG).args(more).current_dir(request.folder);
    if request.offline {
        command.arg("--offline");
    }
    if request.quiet {
        command.arg("--quiet");
    }
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.context("cannot start this program again")?;
    if status.success() {
        return Ok(());
    }
    Err(Error::run("making it again failed")
        .at(request.folder)
        .because(format!("`firebrand train {CONFIG}` ended there with {status}")))
}

/// Signs what was found and adds it to what is attested of the artifact.
///
/// # Errors
/// When the artifact is no longer what was read, or its attestations cannot be written.
pub fn attest(recipe: &Recipe, found: &Reproduction, key: &SigningKey) -> Result<PathBuf> {
    let mut files = signature::hash_model(&recipe.directory)?;
    files.retain(|file| recipe.files.contains(file) || !signature::is_leftover(&file.path));
    if files != recipe.files {
        return Err(
            Error::changed("the artifact was changed in the meantime").at(&recipe.directory)
        );
    }
    let text = statement(&recipe.files, found);
    append(&recipe.directory, &[Bundle::sign(IN_TOTO, text.into_bytes(), key)?])
}
