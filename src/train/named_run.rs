//! Runs by their names: what a user types in the place of a directory or of a configuration.

use std::path::{Path, PathBuf};

use super::runs;
use crate::config::{RUNS, RunConfig};
use crate::error::{Error, Result, nearest};

/// The settings of a run, in its directory.
const CONFIG: &str = "config.toml";

/// The directory of a run: a path, or the name of one below `checkpoints`.
///
/// # Errors
/// When there is none, or several have the name.
pub fn named_run(name: &Path) -> Result<PathBuf> {
    let named = of_name(name)?;
    if !runs::is_run(name) {
        return match <[PathBuf; 1]>::try_from(named) {
            Ok([run]) => Ok(run),
            Err(all) if all.is_empty() => Err(not_found(name)?),
            Err(all) => Err(ambiguous(name, "several runs", &all)),
        };
    }
    let others: Vec<PathBuf> = named.into_iter().filter(|run| !is_same_folder(run, name)).collect();
    match others.is_empty() {
        true => Ok(name.to_owned()),
        false => Err(ambiguous(name, "several runs", &with_here(name, &others))),
    }
}

/// The configuration that a name means: a file, or that of a run.
///
/// # Errors
/// When it means several. A name that means nothing is that of a file that is not there.
pub fn named_config(name: &Path) -> Result<PathBuf> {
    if !name.is_file() {
        let is_name = runs::is_run(name) || !of_name(name)?.is_empty();
        return if is_name { Ok(named_run(name)?.join(CONFIG)) } else { Ok(name.to_owned()) };
    }
    match &of_name(name)?[..] {
        [] => Ok(name.to_owned()),
        all => Err(ambiguous(name, "a file and a run", &with_here(name, all))),
    }
}

/// Refuses a run whose settings write elsewhere: it was moved, or copied.
///
/// # Errors
/// When it is so.
pub fn expect_in_place(run: &Path, config: &RunConfig) -> Result<()> {
    let output = Path::new(&config.output.dir);
    if is_same_folder(run, output) {
        return Ok(());
    }
    Err(Error::run("this run is not where its settings say")
        .at(run)
        .because(format!("`output.dir` is `{}`", output.display()))
        .hint(format!("go on with it here: `--set output.dir={}`", run.display())))
}

/// The runs of a name, if it is one, and no path.
fn of_name(name: &Path) -> Result<Vec<PathBuf>> {
    let is_name =
        name.components().count() == 1 && !name.starts_with(".") && name != Path::new("..");
    match is_name && Path::new(RUNS).is_dir() {
        true => {
            let all = runs::paths(Path::new(RUNS))?.into_iter();
            Ok(all.filter(|run| run.file_name() == Some(name.as_os_str())).collect())
        }
        false => Ok(Vec::new()),
    }
}

/// What has the name in the present folder stands before the others.
fn with_here(name: &Path, others: &[PathBuf]) -> Vec<PathBuf> {
    std::iter::once(Path::new(".").join(name)).chain(others.iter().cloned()).collect()
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    let full = |path: &Path| std::fs::canonicalize(path).ok();
    full(one).is_some() && full(one) == full(other)
}

fn ambiguous(name: &Path, what: &str, all: &[PathBuf]) -> Error {
    let paths: Vec<String> = all.iter().map(|path| format!("`{}`", path.display())).collect();
    Error::usage(format!("`{}` is the name of {what}", name.display()))
        .hint(format!("name one by its path: {}", paths.join(", ")))
}

fn not_found(name: &Path) -> Result<Error> {
    let all = if Path::new(RUNS).is_dir() { runs::paths(Path::new(RUNS))? } else { Vec::new() };
    let names = all.iter().filter_map(|run| run.file_name()?.to_str());
    let error = match name.exists() {
        true => Error::run("this is not a run directory").at(name),
        false => Error::run(format!("there is no run `{}`", name.display())),
    };
    let near = name.to_str().and_then(|name| nearest(name, names).map(str::to_owned));
    Ok(match near {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("`firebrand runs DIR` lists the runs below a folder"),
    })
}
