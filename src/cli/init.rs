//! `firebrand init`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::artifact::past::Past;
use crate::cli::documents::Document;
use crate::cli::place::model_directory;
use crate::cli::{data_line, data_lines, talk};
use crate::document;
use crate::error::{Context, Error, Result};
use crate::gate;
use crate::presets::{self, Preset};

/// Write a commented configuration to start from, or another kind of TOML file
///
/// Without PATH it goes to stdout.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to make; an existing one is never replaced
    path: Option<PathBuf>,
    /// Which kind of file
    #[arg(long = "for", value_name = "KIND", value_enum, default_value_t)]
    kind: Document,
    /// A short configuration for this, in place of one with every key
    #[arg(long, requires = "model", requires = "data", conflicts_with = "kind",
          value_parser = clap::builder::PossibleValuesParser::new(presets::names()))]
    preset: Option<String>,
    /// A suite and a policy for the gate, of what a run or its artifact says of itself; PATH is
    /// their folder, `gate` if it is not named
    #[arg(long, value_name = "RUN", conflicts_with_all = ["kind", "preset"])]
    gate: Option<PathBuf>,
    /// The base model of a preset: a directory, or `owner/name` on the hub
    #[arg(long, requires = "preset")]
    model: Option<String>,
    /// The data set of a preset, or what models are judged on at a gate: a file, a folder, or
    /// `owner/name` on the hub
    #[arg(long, conflicts_with = "kind")]
    data: Option<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(run) = &args.gate {
        return gate_of(run, args);
    }
    if args.data.is_some() && args.preset.is_none() {
        return Err(Error::usage("`--data` goes with `--preset` or `--gate`"));
    }
    let preset = args.preset.as_deref().and_then(Preset::find);
    let text = match (preset, &args.model, &args.data) {
        (Some(preset), Some(model), Some(data)) => preset.write(model, data)?,
        _ => document::template(args.kind.keys()),
    };
    let Some(path) = &args.path else {
        data_lines(text.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    };
    make(path, &text)?;
    if args.kind == Document::CONFIG {
        talk(&format!("edit it, then look at what it would do: firebrand plan {}", path.display()));
    }
    data_line(&path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that is not there yet.
fn make(path: &Path, text: &str) -> Result<()> {
    if path.exists() {
        return Err(Error::exists("refusing to replace what is already there").at(path));
    }
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().context_at("cannot write the file", path)
}

/// What a gate starts with, for the models of a run.
fn gate_of(run: &Path, args: &Args) -> Result<ExitCode> {
    let directory = model_directory(run);
    if !directory.is_dir() {
        return Err(Error::file("there is no such run or artifact").at(run));
    }
    let name = run.file_name().map_or("gate".into(), |name| name.to_string_lossy());
    let start = gate::start(&Past::read(&directory)?, &name, args.data.as_deref());
    let start = start.map_err(|error| error.at(run))?;
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from("gate"));
    let [suite, policy] = [gate::SUITE_FILE, gate::POLICY_FILE].map(|file| folder.join(file));
    for path in [&suite, &policy] {
        if path.exists() {
            return Err(Error::exists("refusing to replace what is already there").at(path));
        }
    }
    std::fs::create_dir_all(&folder).context_at("cannot make the folder", &folder)?;
    make(&suite, &start.suite)?;
    make(&policy, &start.policy)?;
    start.notes.iter().for_each(|note| talk(&format!("note: {note}")));
    talk(&format!(
        "judge a model by it: firebrand gate --policy {} --candidate {} [--baseline MODEL]",
        policy.display(),
        run.display()
    ));
    data_line(&suite.display().to_string())?;
    data_line(&policy.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
