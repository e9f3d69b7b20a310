//! The state of the user's own git repository at the time of a run.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::git::{git, text};
use crate::files::{Digest, Hashing};

/// Which commit the user's working directory is at, and how it differs from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The commit that is checked out.
    pub commit: String,
    /// Whether it carries a signature. Nobody has checked it.
    pub signed: bool,
    /// What differs from the commit; `None` where nothing does.
    pub changes: Option<Changes>,
}

/// How a working directory differs from its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// SHA-256 of `git diff --binary HEAD`, followed by the names of the untracked files.
    pub digest: Digest,
    /// How many files and folders git does not know.
    pub untracked: usize,
}

/// The state of the repository that `directory` belongs to; paths in `outputs` (where runs go) do
/// not count as changes. `None` outside a repository, before its first commit, or without git.
pub fn source(directory: &Path, outputs: &[PathBuf]) -> Option<Source> {
    let commit = text(git(directory, &["rev-parse", "--verify", "HEAD^{commit}"]))?;
    let commit = commit.trim().to_owned();
    let headers = text(git(directory, &["cat-file", "commit", &commit]))?;
    let headers = headers.split("\n\n").next().unwrap_or_default();
    let signed = headers.lines().any(|line| line.starts_with("gpgsig"));
    let excluded = pathspecs(directory, outputs)?;
    let mut status =
        git(directory, &["status", "--porcelain=v2", "-z", "--untracked-files=normal"]);
    let status = text(status.args(&excluded))?;
    if status.is_empty() {
        return Some(Source { commit, signed, changes: None });
    }
    let mut untracked: Vec<&str> =
        status.split('\0').filter_map(|entry| entry.strip_prefix("? ")).collect();
    untracked.sort_unstable();
    let digest = differences(directory, &excluded, &untracked)?;
    let changes = Some(Changes { digest, untracked: untracked.len() });
    Some(Source { commit, signed, changes })
}

/// The whole repository without `outputs`; those outside it, which git would refuse, are left out.
fn pathspecs(directory: &Path, outputs: &[PathBuf]) -> Option<Vec<String>> {
    let top = text(git(directory, &["rev-parse", "--show-toplevel"]))?;
    let top = Path::new(top.trim_end_matches('\n')).canonicalize().ok()?;
    let mut specs = vec!["--".to_owned(), ":/".to_owned()];
    for output in outputs {
        // What does not exist yet cannot differ.
        let Ok(path) = directory.join(output).canonicalize() else { continue };
        if path != top && path.starts_with(&top) {
            specs.push(format!(":(exclude,literal){}", path.to_str()?));
        }
    }
    Some(specs)
}

fn differences(directory: &Path, excluded: &[String], untracked: &[&str]) -> Option<Digest> {
    let mut hash = Hashing::new(io::sink());
    // Every option that a user's git settings could change is given, so that equal trees agree.
    let mut diff = git(
        directory,
        &[
            "diff",
            "--binary",
            "--full-index",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
            "--no-renames",
            "--src-prefix=a/",
            "--dst-prefix=b/",
            "--unified=3",
            "--diff-algorithm=myers",
            "--no-indent-heuristic",
            "--ignore-submodules=none",
            "HEAD",
        ],
    );
    let mut child = diff.args(excluded).stdout(Stdio::piped()).spawn().ok()?;
    let copied = io::copy(child.stdout.as_mut()?, &mut hash);
    let status = child.wait().ok()?;
    if copied.is_err() || !status.success() {
        return None;
    }
    for name in untracked {
        io::copy(&mut format!("? {name}\n").as_bytes(), &mut hash).ok()?;
    }
    Some(hash.finish().2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let status = git(folder.path(), arguments)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .stdout(Stdio::null())
                .status()
                .unwrap();
            assert!(status.success(), "{arguments:?}");
        };
        run(&["init", "-q"]);
        fs::write(folder.path().join("a.toml"), "x = 1\n").unwrap();
        run(&["add", "a.toml"]);
        let author = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        run(&[&author[..], &["-c", "commit.gpgsign=false", "commit", "-qm", "one"]].concat());
        folder
    }

    #[test]
    fn a_clean_tree_has_a_commit_and_no_changes() {
        let folder = repository();
        let state = source(folder.path(), &[]).unwrap();
        assert_eq!(state.commit.len(), 40);
        assert_eq!((state.changes, state.signed), (None, false));
    }

    #[test]
    fn a_signature_on_the_commit_is_seen() {
        let folder = repository();
        let commit = text(git(folder.path(), &["cat-file", "commit", "HEAD"])).unwrap();
        let (headers, message) = commit.split_once("\n\n").unwrap();
        let signed = format!("{headers}\ngpgsig -----BEGIN X-----\n abc\n\n{message}");
        fs::write(folder.path().join("commit"), signed).unwrap();
        let made = ["hash-object", "-t", "commit", "-w", "commit"];
        let made = text(git(folder.path(), &made)).unwrap();
        fs::remove_file(folder.path().join("commit")).unwrap();
        text(git(folder.path(), &["update-ref", "HEAD", made.trim()])).unwrap();
        let state = source(folder.path(), &[]).unwrap();
        assert_eq!((state.commit.as_str(), state.signed), (made.trim(), true));
    }

    #[test]
    fn edits_and_untracked_files_are_changes_but_outputs_are_not() {
        let folder = repository();
        fs::create_dir_all(folder.path().join("checkpoints/run")).unwrap();
        fs::write(folder.path().join("checkpoints/run/x"), "1").unwrap();
        let outside = std::env::temp_dir();
        let outputs = [PathBuf::from("checkpoints"), PathBuf::from("none"), outside];
        assert_eq!(source(folder.path(), &outputs).unwrap().changes, None);
        let all = source(folder.path(), &[]).unwrap().changes.unwrap();
        assert_eq!(all.untracked, 1);

        fs::write(folder.path().join("a.toml"), "x = 2\n").unwrap();
        let edited = source(folder.path(), &outputs).unwrap().changes.unwrap();
        assert_eq!(edited.untracked, 0);
        assert_ne!(edited.digest, all.digest);
        let again = source(folder.path(), &outputs).unwrap().changes.unwrap();
        assert_eq!(edited, again);
    }

    #[test]
    fn a_change_above_the_working_directory_counts() {
        let folder = repository();
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        fs::write(folder.path().join("a.toml"), "x = 2\n").unwrap();
        assert!(source(&below, &[]).unwrap().changes.is_some());
    }

    #[test]
    fn there_is_nothing_to_say_outside_a_repository() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(source(folder.path(), &[]), None);
    }
}
