//! What a change touches, as git tells it.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use crate::artifact::git::{bytes, git, text};
use crate::error::{Error, Result};
use crate::files::read_tree;

/// The working folder beside the commit that a change begins at. Names of files are relative to the
/// folder and have slashes.
#[derive(Debug)]
pub struct Change {
    /// The commit.
    pub commit: String,
    changed: BTreeSet<String>,
    files: BTreeSet<String>,
}

const HERE: &str = ".";

impl Change {
    /// What the current folder has that the newest common commit with `base` had not: committed,
    /// or not yet.
    ///
    /// # Errors
    /// When there is no repository, or it does not know `base`.
    pub fn since(base: &str) -> Result<Self> {
        let here = Path::new(HERE);
        let said = |arguments: &[&str]| text(git(here, arguments));
        if said(&["rev-parse", "--is-inside-work-tree"]).is_none_or(|it| it.trim() != "true") {
            return Err(Error::file("this folder is in no git repository")
                .hint("run it in a checkout, where you run `firebrand train`"));
        }
        let named = format!("{base}^{{commit}}");
        let verified = ["rev-parse", "--verify", "--quiet", "--end-of-options", &named];
        let found = said(&verified).ok_or_else(|| {
            Error::usage(format!("git does not know `{base}`"))
                .hint(format!("fetch it first: `git fetch origin {base}`, and name `FETCH_HEAD`"))
        })?;
        let commit = said(&["merge-base", found.trim(), "HEAD"]).ok_or_else(|| {
            Error::usage(format!("`{base}` and the checkout have no commit in common"))
                .because("the checkout may be a shallow one")
                .hint("fetch the history: `fetch-depth: 0` of the checkout step")
        })?;
        let commit = commit.trim().to_owned();
        let failed = || Error::file("git cannot list the files of this folder");
        let names = |text: String| -> BTreeSet<String> {
            text.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let list = ["ls-files", "-z", "--others", "--exclude-standard"];
        let others = names(said(&list).ok_or_else(failed)?);
        let known = names(said(&["ls-files", "-z"]).ok_or_else(failed)?);
        let diff = ["diff", "--name-only", "-z", "--relative", "--no-renames", "--no-ext-diff"];
        let diff = said(&[&diff[..], &[&commit, "--", HERE]].concat());
        let mut changed = names(diff.ok_or_else(failed)?);
        changed.extend(others.iter().cloned());
        let files = known.into_iter().chain(others).filter(|name| Path::new(name).is_file());
        Ok(Self { commit, changed, files: files.collect() })
    }

    /// Every file that the change has, but for those that git ignores.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// Every file that is another than before, new, or gone.
    pub fn changed(&self) -> impl Iterator<Item = &str> {
        self.changed.iter().map(String::as_str)
    }

    /// Whether a file, or one in a folder, is another than before, new, or gone.
    pub fn touches(&self, path: &Path) -> bool {
        within(&self.changed, path).next().is_some()
    }

    /// Whether git has a file, or every file of a folder.
    pub fn holds(&self, path: &Path) -> bool {
        match path.is_dir() {
            true => {
                let held = within(&self.files, path).count();
                let all = read_tree(path, &|_| false, &|_, name| Ok(name.to_owned()));
                all.is_ok_and(|all| held > 0 && all.len() == held)
            }
            false => within(&self.files, path).next().is_some(),
        }
    }

    /// A file as it was before the change; none where there was none.
    pub fn before(&self, path: &Path) -> Option<Vec<u8>> {
        let named = format!("{}:./{}", self.commit, plain(path)?);
        bytes(git(Path::new(HERE), &["cat-file", "blob", &named]))
    }
}

/// Those of some names that are a path, or lie in it.
fn within<'a>(names: &'a BTreeSet<String>, path: &Path) -> impl Iterator<Item = &'a String> {
    let wanted = plain(path);
    let is_it = move |name: &&String| {
        let wanted = wanted.as_deref();
        wanted
            .and_then(|it| name.strip_prefix(it))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || wanted == Some(""))
    };
    names.iter().filter(is_it)
}

/// A path in the current folder as git names it; none for one outside of it.
fn plain(path: &Path) -> Option<String> {
    let here = std::env::current_dir().ok();
    let path = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}
