//! What a folder must be for a run to work in it: empty or a run, and nothing but regular files.

use std::fs::{self, File, FileType};
use std::io::Read;
use std::path::Path;

use crate::error::{Context, Error, Result};

/// The lock of a run, in its directory.
pub const DATA_LOCK: &str = "data.lock";

/// The lock that came with a run from its mirror: it says which revisions are meant, and vouches
/// for nothing.
pub const MIRRORED_LOCK: &str = "mirrored-data.lock";
/// What a model wrote itself in a run that learns from it.
pub const ROLLOUTS: &str = "rollouts.jsonl";

/// Compiled kernels of a run that keeps them, a folder in its directory.
pub const KERNELS: &str = "kernels";

/// What file systems and desktops put into folders by themselves.
const OF_THE_SYSTEM: [&str; 3] = ["lost+found", ".DS_Store", "desktop.ini"];
/// As much of a file as tells whether a run has written it.
const LOOKED_AT: u64 = 4096;
/// How many names a message holds.
const SHOWN: usize = 3;
/// How deep a run's own files lie.
const DEPTH: usize = 3;
/// What the lock of a run begins with.
pub(super) const HOLDER: &str = "process ";
/// The lock of a run.
pub(super) const LOCK: &str = "run.lock";

/// A folder that a run may begin or go on in.
///
/// # Errors
/// When there is something in it, and no run has made it.
pub(super) fn expect_ours(root: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).context_at("cannot list the run directory", root)? {
        let entry = entry.context_at("cannot list the run directory", root)?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    // A nightly job keeps the lock that it pulled with beside the run (`examples/ci`).
    let pulled = |name: &str| name.ends_with(".lock") && name != LOCK && name != DATA_LOCK;
    let others = |name: &str| OF_THE_SYSTEM.contains(&name) || name == KERNELS || pulled(name);
    names.retain(|name| !others(name));
    names.sort();
    if names.is_empty() || is_run(root, &names) {
        return Ok(());
    }
    let more = names.len().saturating_sub(SHOWN);
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Error::run("the run directory is not empty, and holds no run")
        .at(root)
        .because(format!("it holds {}{more}, which no run has written", shown.join(", ")))
        .hint("choose another `name` or `output.dir`, or an empty folder"))
}

/// Whether the files of a folder are those of a run: its lock or its history says so.
fn is_run(root: &Path, names: &[String]) -> bool {
    let lock = beginning(&root.join(LOCK));
    let lock = lock.as_deref().map(String::from_utf8_lossy);
    if lock.as_deref().is_some_and(|text| text.starts_with(HOLDER)) {
        return true;
    }
    if begins_history(&root.join("history.jsonl")) {
        return true;
    }
    // It was ended, or lost its power, before it wrote into the lock that it had made.
    let scratch = |name: &str| name.starts_with('.') && name.ends_with(".tmp");
    let begun = names.iter().all(|name| name == LOCK || scratch(name));
    lock.is_some_and(|text| text.is_empty()) && (begun || names.iter().any(|it| it == DATA_LOCK))
}

/// The first bytes of a regular file.
fn beginning(path: &Path) -> Option<Vec<u8>> {
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LOOKED_AT).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn begins_history(path: &Path) -> bool {
    let bytes = beginning(path).unwrap_or_default();
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let entry: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    entry.is_some_and(|entry| entry["what"].is_string() && entry["step"].is_u64())
}

/// Nothing in a run may be what it waits for without end, or what leads out of it.
///
/// # Errors
/// When there is a pipe, a socket or a device in it, or a link that leads out of it or nowhere.
pub fn expect_regular(root: &Path) -> Result<()> {
    let real = root.canonicalize().context_at("cannot find the folder", root)?;
    look(root, &real, DEPTH)
}

fn look(folder: &Path, root: &Path, depth: usize) -> Result<()> {
    for entry in fs::read_dir(folder).context_at("cannot list the folder", folder)? {
        let entry = entry.context_at("cannot list the folder", folder)?;
        let (path, kind) = (entry.path(), entry.file_type());
        let kind = kind.context_at("cannot look at the file", &path)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What was archived, and what drivers keep, is no part of the run any more.
        let aside = name.starts_with("earlier-") || name == KERNELS;
        if kind.is_dir() {
            if depth > 1 && !aside && !OF_THE_SYSTEM.contains(&name.as_str()) {
                look(&path, root, depth - 1)?;
            }
        } else if let Some(what) = irregular(&path, kind, root) {
            return Err(Error::run(format!("`{name}` in the run directory is {what}"))
                .at(path)
                .hint("a run has regular files only: put the file back, or move this away"));
        }
    }
    Ok(())
}

/// What is no regular file, in words.
fn irregular(path: &Path, kind: FileType, root: &Path) -> Option<&'static str> {
    if kind.is_file() {
        return None;
    }
    if kind.is_symlink() {
        return match path.canonicalize() {
            Err(_) => Some("a link that leads nowhere"),
            Ok(target) if !target.starts_with(root) => Some("a link that leads out of it"),
            Ok(target) if target.is_dir() || target.is_file() => None,
            Ok(_) => Some("a link to something that is not a regular file"),
        };
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe, not a regular file");
        }
        if kind.is_socket() {
            return Some("a socket, not a regular file");
        }
    }
    Some("a device, not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::RunDirectory;
    use crate::snapshots::says;

    fn with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_with_files_of_others_is_no_run() {
        let foreign: [&[(&str, &str)]; 8] = [
            &[("config.toml", "precious")],
            &[("report.html", "<p>")],
            &[("artifact/thesis.txt", "mine")],
            &[(".hidden", "")],
            &[("run.lock", "{}"), ("config.toml", "x")],
            &[("run.lock", ""), ("config.toml", "x")],
            &[("history.jsonl", "{\"a\": 1}\n")],
            &[("lost+found/a", ""), ("b", "")],
        ];
        let mut messages = String::new();
        for files in foreign {
            let folder = with(files);
            let error = RunDirectory::lock(folder.path()).unwrap_err().to_string();
            messages += &format!("{files:?}: {error}\n");
            let lock = files.iter().any(|(name, _)| *name == LOCK);
            assert_eq!(folder.path().join(LOCK).exists(), lock, "nothing was touched");
        }
        says(
            messages,
            snapbox::str![[r#"
[("config.toml", "precious")]: error[run]: the run directory is not empty, and holds no run
  at [FOLDER]
  because it holds `config.toml`, which no run has written

hint: choose another `name` or `output.dir`, or an empty folder
[("report.html", "<p>")]: error[run]: the run directory is not empty, and holds no run
  at [FOLDER]
  because it holds `report.html`, which no run has written

hint: choose another `name` or `output.dir`, or an empty folder
[("artifact/thesis.txt", "mine")]: error[run]: the run directory is not empty, and holds no run
  at [FOLDER]
  because it holds `artifact`, which no run has written

hint: choose another `name` or `output.dir`, or an empty folder
[(".hidden", "")]: error[run]: the run directory is not empty, and holds no run
  at [FOLDER]
  because it holds `.hidden`, which no run has written

hint: choose another `name` or `output.dir`, or an empty folder
[("run.lock", "{}"), ("config.toml", "x")]: error[run]: the run directory is not empty, and holds no run
  at [FOLDER]
  because it holds `config.toml`, `run.lock`, which no run has written

hint: choose another `name` or `output.dir`, or an empty folder
[("run.lock", ""), ("config.toml", "x")]: error[run]: the run directory is not empty, and holds no run
  at [FOLDER]
  because it holds `config.toml`, `run.lock`, which no run has written

hint: choose another `name` or `output.dir`, or an empty folder
[("history.jsonl", "{\"a\": 1}\n")]: error[run]: the run directory is not empty, and holds no run
  at [FOLDER]
  because it holds `history.jsonl`, which no run has written

hint: choose another `name` or `output.dir`, or an empty folder
[("lost+found/a", ""), ("b", "")]: error[run]: the run directory is not empty, and holds no run
  at [FOLDER]
  because it holds `b`, which no run has written

hint: choose another `name` or `output.dir`, or an empty folder

"#]],
        );
    }

    #[test]
    fn empty_folders_and_runs_are_taken() {
        let ours: [&[(&str, &str)]; 6] = [
            &[],
            &[("lost+found/a", ""), (".DS_Store", "")],
            &[("run.lock", "")],
            &[("run.lock", ""), (".config.toml.7-0.tmp", "x")],
            &[("run.lock", "process 7"), ("config.toml", "x")],
            &[("history.jsonl", "{\"what\":\"begun\",\"step\":0,\"time\":\"\"}\n"), ("a", "")],
        ];
        for files in ours {
            RunDirectory::lock(with(files).path()).unwrap();
        }
        let folder = with(&[("file", "")]);
        let error = RunDirectory::lock(&folder.path().join("file")).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[run]: the run directory is not a folder
  at [FOLDER]/file

hint: choose another `name` or `output.dir`
"#]],
        );
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_links_that_lead_out_are_refused_wherever_they_lie() {
        use std::os::unix::fs::symlink;
        let run = || with(&[("run.lock", "process 7"), ("step-00000001/state.json", "{}")]);
        let mut messages = String::new();
        for name in ["metrics.jsonl", "history.jsonl", "config.toml", "step-00000001/MANIFEST.json"]
        {
            let folder = run();
            let path = folder.path().join(name);
            let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
            assert!(made.success());
            let error = RunDirectory::lock(folder.path()).unwrap_err().to_string();
            messages += &format!("{name}: {error}\n");
            fs::remove_file(&path).unwrap();
            for target in ["/dev/zero", "gone"] {
                symlink(target, &path).unwrap();
                let error = RunDirectory::lock(folder.path()).unwrap_err().to_string();
                messages += &format!("{name}: {error}\n");
                fs::remove_file(&path).unwrap();
            }
        }
        says(
            messages,
            snapbox::str![[r#"
metrics.jsonl: error[run]: `metrics.jsonl` in the run directory is a pipe, not a regular file
  at [FOLDER]/metrics.jsonl

hint: a run has regular files only: put the file back, or move this away
metrics.jsonl: error[run]: `metrics.jsonl` in the run directory is a link that leads out of it
  at [FOLDER]/metrics.jsonl

hint: a run has regular files only: put the file back, or move this away
metrics.jsonl: error[run]: `metrics.jsonl` in the run directory is a link that leads nowhere
  at [FOLDER]/metrics.jsonl

hint: a run has regular files only: put the file back, or move this away
history.jsonl: error[run]: `history.jsonl` in the run directory is a pipe, not a regular file
  at [FOLDER]/history.jsonl

hint: a run has regular files only: put the file back, or move this away
history.jsonl: error[run]: `history.jsonl` in the run directory is a link that leads out of it
  at [FOLDER]/history.jsonl

hint: a run has regular files only: put the file back, or move this away
history.jsonl: error[run]: `history.jsonl` in the run directory is a link that leads nowhere
  at [FOLDER]/history.jsonl

hint: a run has regular files only: put the file back, or move this away
config.toml: error[run]: `config.toml` in the run directory is a pipe, not a regular file
  at [FOLDER]/config.toml

hint: a run has regular files only: put the file back, or move this away
config.toml: error[run]: `config.toml` in the run directory is a link that leads out of it
  at [FOLDER]/config.toml

hint: a run has regular files only: put the file back, or move this away
config.toml: error[run]: `config.toml` in the run directory is a link that leads nowhere
  at [FOLDER]/config.toml

hint: a run has regular files only: put the file back, or move this away
step-00000001/MANIFEST.json: error[run]: `MANIFEST.json` in the run directory is a pipe, not a regular file
  at [FOLDER]/step-00000001/MANIFEST.json

hint: a run has regular files only: put the file back, or move this away
step-00000001/MANIFEST.json: error[run]: `MANIFEST.json` in the run directory is a link that leads out of it
  at [FOLDER]/step-00000001/MANIFEST.json

hint: a run has regular files only: put the file back, or move this away
step-00000001/MANIFEST.json: error[run]: `MANIFEST.json` in the run directory is a link that leads nowhere
  at [FOLDER]/step-00000001/MANIFEST.json

hint: a run has regular files only: put the file back, or move this away

"#]],
        );
        let folder = run();
        symlink("step-00000001", folder.path().join("newest")).unwrap();
        RunDirectory::lock(folder.path()).unwrap();
    }
}
