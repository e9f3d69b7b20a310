//! Names that come from outside: repositories, revisions, and the files in them.
//!
//! A hub is not trusted with paths. A name is refused if it could be written anywhere but under
//! its snapshot, on this system or, since caches are copied and shared, on another one.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};

/// Longest name of one component that file systems take, in bytes.
const COMPONENT_BYTES_MAX: usize = 255;

/// Longest path inside a repository, in bytes; Linux takes 4096 with all folders above it.
const PATH_BYTES_MAX: usize = 2048;

/// Names that Windows gives to devices, with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RepoKind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

impl RepoKind {
    /// As the hub's API spells it in addresses.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

impl fmt::Display for RepoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Dataset => "data set",
        })
    }
}

/// A repository on a hub, `owner/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoName {
    kind: RepoKind,
    owner: String,
    name: String,
}

impl RepoName {
    /// Reads `owner/name` by the hub's own rules: ASCII letters, digits, `-`, `_` and `.`; at most
    /// 96 characters each; neither begins or ends with `-` or `.`; no `--` or `..`; no `.git`.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn parse(kind: RepoKind, text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::hub(format!("`{text}` is not the name of a {kind} on a hub")).because(why)
        };
        let (owner, name) = text.split_once('/').ok_or_else(|| {
            wrong("a name on a hub is `owner/name`, e.g. `HuggingFaceTB/SmolLM2`")
        })?;
        for part in [owner, name] {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if part.is_empty() || part.len() > 96 || !part.chars().all(allowed) {
                return Err(wrong(
                    "owner and name have 1 to 96 characters: letters, digits, `-`, `_`, `.`",
                ));
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return Err(wrong("neither part begins or ends with `-` or `.`"));
            }
            if part.contains("--") || part.contains("..") {
                return Err(wrong("`--` and `..` stand in no name"));
            }
        }
        if name.ends_with(".git") {
            return Err(wrong("a name does not end in `.git`"));
        }
        Ok(Self { kind, owner: owner.to_owned(), name: name.to_owned() })
    }

    /// What it holds.
    pub fn kind(&self) -> RepoKind {
        self.kind
    }

    /// Who it belongs to.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Its name without the owner.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `owner/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// Is this a whole commit hash, which never moves?
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Checks a branch, tag or commit: it becomes the path `refs/REVISION` in the cache.
pub(super) fn check_revision(revision: &str) -> Result<()> {
    match path_fault(revision) {
        None => Ok(()),
        Some(fault) => {
            Err(Error::hub(format!("`{revision}` is not the name of a branch, tag or commit"))
                .because(fault))
        }
    }
}

/// Checks the path of one file in a repository.
pub(super) fn check_path(path: &str) -> Result<()> {
    match path_fault(path) {
        None => Ok(()),
        Some(fault) => Err(Error::hub(format!("refusing the file name `{path}`"))
            .because(fault)
            .hint("nothing was written; such a name can make a download write outside its folder")),
    }
}

/// Checks all paths of a repository, also against each other: no path may be both a file and a
/// folder, and no two may be one where upper and lower case are the same.
pub(super) fn check_paths<'a>(paths: impl IntoIterator<Item = &'a str>) -> Result<()> {
    // Every file and folder by its lower-case path: its spelling, and whether it is a file.
    let mut seen: BTreeMap<String, (&str, bool)> = BTreeMap::new();
    for path in paths {
        check_path(path)?;
        let ends = path.match_indices('/').map(|(at, _)| (at, false)).chain([(path.len(), true)]);
        for (end, is_file) in ends {
            let spelled = &path[..end];
            let before = seen.insert(spelled.to_lowercase(), (spelled, is_file));
            if let Some((other, other_is_file)) = before
                && (other != spelled || other_is_file || is_file)
            {
                return Err(Error::hub(format!(
                    "refusing the file names `{other}` and `{spelled}`: they are one name where \
                     case does not count, or a file and a folder"
                ))
                .hint("nothing was written; one of the two would replace the other"));
            }
        }
    }
    Ok(())
}

/// What is wrong with a path, under the rules of POSIX and of Windows.
pub fn path_fault(path: &str) -> Option<&'static str> {
    if path.len() > PATH_BYTES_MAX {
        return Some("it is longer than 2048 bytes");
    }
    path.split('/').find_map(|part| {
        if part.is_empty() {
            return Some("it is empty, absolute, or has an empty part");
        }
        if part == "." || part == ".." {
            return Some("`.` and `..` lead to other folders");
        }
        if part.chars().any(char::is_control) {
            return Some("it holds a control character");
        }
        if part.contains(['\\', ':']) {
            return Some("`\\` and `:` name drives, hosts and streams on Windows");
        }
        if part.ends_with(['.', ' ']) {
            return Some("Windows drops a dot or space at the end of a name");
        }
        if part.len() > COMPONENT_BYTES_MAX {
            return Some("one part is longer than 255 bytes");
        }
        is_device(part).then_some("Windows takes it for a device")
    })
}

fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let port = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
    let numbered = |rest: &str| {
        let mut characters = rest.chars();
        let number = characters.next().is_some_and(|c| c.is_ascii_digit() || "¹²³".contains(c));
        number && characters.next().is_none()
    };
    DEVICES.contains(&stem.as_str()) || port.is_some_and(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_hubs_rules() {
        for good in ["a/b", "Foo-BAR/foo.bar_1", "0/9"] {
            assert_eq!(RepoName::parse(RepoKind::Model, good).unwrap().id(), good);
        }
        let long = format!("a/{}", "x".repeat(97));
        for bad in [
            "gpt2", "a/b/c", "a/", "/b", "a b/c", "ä/b", ".a/b", "a/b.", "-a/b", "a--b/c",
            "a..b/c", "a/b.git", "a/../b", &long,
        ] {
            assert!(RepoName::parse(RepoKind::Dataset, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        for good in ["a", "data/train-00000.parquet", ".gitattributes", "a..b", "x/é ü/z?.txt"] {
            check_path(good).unwrap();
        }
        let long = "x".repeat(300);
        for bad in [
            "",
            "/etc/passwd",
            "a//b",
            "a/",
            "..",
            "../a",
            "a/../../b",
            "a/./b",
            "C:\\a",
            "C:a",
            "\\\\host\\share",
            "a\\..\\b",
            "a\0b",
            "a\nb",
            "a\u{1b}[2J",
            "a.",
            "a /b",
            "a.txt:b",
            "con",
            "x/NUL.txt",
            "com1",
            "lpt9.dat",
            "COM¹",
            &long,
            &"a/".repeat(1500),
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_collide_are_refused() {
        assert!(check_paths(["a/b", "a/c", "d"]).is_ok());
        for bad in [vec!["a", "A"], vec!["x/a", "X/b"], vec!["a", "a/b"], vec!["a/b", "a"]] {
            assert!(check_paths(bad.clone()).is_err(), "{bad:?}");
        }
        assert!(check_paths(["a", "a"]).is_err());
    }

    #[test]
    fn a_revision_is_a_safe_path_too() {
        for good in ["main", "refs/pr/4", "v1.0"] {
            check_revision(good).unwrap();
        }
        for bad in ["", "../x", "/x", "a\nb"] {
            assert!(check_revision(bad).is_err(), "{bad}");
        }
        assert!(is_commit(&"a".repeat(40)) && !is_commit(&"A".repeat(40)) && !is_commit("main"));
    }
}
