//! Which files the name of a data set stands for: on this machine or on a hub, under the lock.

use super::data_files::{DataFilesQuery, choose, list_local};
use super::lock::{Asked, Locked, LockedFile};
use super::supply::{DEFAULT_REVISION, Supply, locked_file, not_locked, remote_file};
use super::{RepoKind, RepoName};
use crate::config::DataSetConfig;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{has_file, read_bytes};
use crate::hub::set_file::Place;
use crate::hub::set_file::SetFile;
use std::path::Path;

/// Data set cards are small.
const CARD_BYTES_MAX: u64 = 16 << 20;

/// The files that a name in the configuration stands for.
#[derive(Debug, Clone)]
pub struct FileSet {
    /// The files, sorted by path.
    pub files: Vec<SetFile>,
    /// The entry that locks them; digests and rows are filled in as files are read.
    pub locked: Locked,
    /// How they were found, for people; nothing for a single file.
    pub why: Option<String>,
}

impl FileSet {
    /// What people know it by.
    pub fn title(&self) -> String {
        self.locked.title()
    }

    /// Where anyone finds a file again, if it came from a hub.
    pub fn uri(&self, file: &SetFile) -> Option<String> {
        let commit = self.locked.commit.as_ref()?;
        Some(format!("hf://datasets/{}@{commit}/{}", self.locked.name, file.path))
    }
}

impl Supply {
    /// The files of a data set; `default_split` is that of its role.
    pub fn set(&self, set: &DataSetConfig, default_split: &str) -> Result<FileSet> {
        let path = Path::new(&set.path);
        let here = path.exists();
        let repo = RepoName::parse(RepoKind::Dataset, &set.path);
        let asked = asked(set, default_split, here);
        if here {
            if set.revision.is_some() {
                return Err(Error::config("`revision` names a revision, but files here have none")
                    .at(path)
                    .hint("leave it out: files on this machine are recorded by digest"));
            }
            let entry = self.here(set, path, &asked)?;
            return self.check_here(entry, &asked);
        }
        let lower = set.path.to_lowercase();
        if self.policy.extensions.iter().any(|ending| lower.ends_with(&format!(".{ending}"))) {
            return Err(Error::file("there is no such file").at(path));
        }
        let repo = repo.map_err(|error| missing(set, error))?;
        match self.locked(&asked) {
            Some(found) => self.of_hub(&repo, found.clone(), Some("as locked".to_owned())),
            None if self.policy.locked => Err(not_locked(&set.path)),
            None => {
                let (entry, why) = self.data_entry(&repo, set, default_split)?;
                self.of_hub(&repo, entry, Some(why))
            }
        }
    }

    /// What a data set of the hub is at this moment, and why these files.
    fn data_entry(
        &self,
        repo: &RepoName,
        set: &DataSetConfig,
        default_split: &str,
    ) -> Result<(Locked, String)> {
        let hub = self.hub()?;
        let revision = set.revision.as_deref().unwrap_or(DEFAULT_REVISION);
        let commit = hub.commit_of(repo, revision)?;
        let tree = hub.tree(repo, &commit)?;
        let readme = tree.iter().find(|file| file.path == "README.md");
        let readme = match readme {
            Some(file) if set.files.is_empty() && file.size <= CARD_BYTES_MAX => {
                let found = hub.fetch(repo, &commit, file, &|_| {})?;
                Some(card(&found.path)?)
            }
            _ => None,
        };
        let listing: Vec<&str> = tree.iter().map(|file| file.path.as_str()).collect();
        let chosen = choose(
            &listing,
            readme.as_deref(),
            &wanted(set, default_split),
            &self.policy.extensions,
        )
        .map_err(|error| error.because(format!("`{}` at {commit} was looked at", repo.id())))?;
        let files = tree.iter().filter(|file| chosen.files.contains(&file.path));
        let asked = asked(set, default_split, false);
        let entry = Locked {
            endpoint: Some(hub.settings().endpoint.clone()),
            commit: Some(commit),
            files: files.map(locked_file).collect(),
            ..entry_of(&asked)
        };
        Ok((entry, chosen.why))
    }

    fn locked(&self, asked: &Asked) -> Option<&Locked> {
        self.locks().find_map(|lock| lock.data(asked))
    }

    fn of_hub(&self, repo: &RepoName, locked: Locked, why: Option<String>) -> Result<FileSet> {
        let commit = locked
            .commit
            .clone()
            .ok_or_else(|| Error::lock(format!("the lock of `{}` names no commit", locked.name)))?;
        let file = |file: &LockedFile| SetFile {
            path: file.path.clone(),
            name: format!("{}/{}", locked.name, file.path).into(),
            size: file.size,
            sha256: file.sha256,
            place: Place::Hub {
                repo: repo.clone(),
                commit: commit.clone(),
                file: remote_file(file),
            },
        };
        Ok(FileSet { files: locked.files.iter().map(file).collect(), why, locked })
    }

    /// Files on this machine.
    fn here(&self, set: &DataSetConfig, path: &Path, asked: &Asked) -> Result<FileSet> {
        let (paths, why) = if path.is_dir() {
            let listing = list_local(path)?;
            let listing: Vec<&str> = listing.iter().map(String::as_str).collect();
            let readme = path.join("README.md");
            let readme = match set.files.is_empty() && has_file(&readme)? {
                true => Some(card(&readme)?),
                false => None,
            };
            let wanted = wanted(set, asked.split.unwrap_or("train"));
            let chosen = choose(&listing, readme.as_deref(), &wanted, &self.policy.extensions)
                .map_err(|error| error.at(path))?;
            (chosen.files, Some(chosen.why))
        } else {
            for (key, given) in [
                ("subset", set.subset.is_some()),
                ("split", set.split.is_some()),
                ("files", !set.files.is_empty()),
            ] {
                if given {
                    return Err(Error::config(format!("`{key}` chooses among files, this is one"))
                        .at(path)
                        .hint("leave it out, or name the folder"));
                }
            }
            (vec![String::new()], None)
        };
        let mut files = Vec::new();
        for inside in paths {
            let whole = if inside.is_empty() { path.to_owned() } else { path.join(&inside) };
            let found = std::fs::metadata(&whole).context_at("cannot look at the file", &whole)?;
            let path = if inside.is_empty() { set.path.clone() } else { inside };
            files.push(SetFile {
                name: whole.to_string_lossy().into(),
                path,
                size: found.len(),
                sha256: None,
                place: Place::Here(whole),
            });
        }
        let locked = |file: &SetFile| LockedFile {
            path: file.path.clone(),
            size: file.size,
            rows: None,
            sha256: None,
            oid: None,
        };
        let locked = Locked { files: files.iter().map(locked).collect(), ..entry_of(asked) };
        Ok(FileSet { files, locked, why })
    }

    /// Compares files on this machine with the lock, where it has them.
    fn check_here(&self, mut set: FileSet, asked: &Asked) -> Result<FileSet> {
        let Some(locked) = self.locked(asked) else {
            return if self.policy.locked { Err(not_locked(asked.name)) } else { Ok(set) };
        };
        if !self.policy.locked {
            return Ok(set);
        }
        let mut changes = Vec::new();
        for file in &mut set.files {
            let found = self.digest_of(file)?;
            match locked.file(&file.path) {
                None => changes.push(format!("{} is new", file.name)),
                Some(known) if known.sha256 != found => {
                    changes.push(format!("{} has other bytes", file.name));
                }
                Some(_) => file.sha256 = found,
            }
        }
        let gone = locked
            .files
            .iter()
            .filter(|known| !set.files.iter().any(|file| file.path == known.path));
        changes.extend(gone.map(|file| format!("{} is gone", file.path)));
        if changes.is_empty() {
            return Ok(set);
        }
        let error = Error::refused(
            ErrorCode::LockDrift,
            format!("`{}` is not what the lock says", asked.name),
        )
        .hint("`firebrand pull --update` writes what it is now into the lock");
        Err(changes.into_iter().fold(error, Error::because))
    }
}

fn wanted<'a>(set: &'a DataSetConfig, default_split: &'a str) -> DataFilesQuery<'a> {
    DataFilesQuery {
        subset: set.subset.as_deref(),
        split: Some(set.split.as_deref().unwrap_or(default_split)),
        files: &set.files,
    }
}

/// What the lock is asked for. A single file, and files by globs, have no split.
fn asked<'a>(set: &'a DataSetConfig, default_split: &'a str, here: bool) -> Asked<'a> {
    let split = set.split.as_deref().unwrap_or(default_split);
    let single = here && !Path::new(&set.path).is_dir();
    let revision = set.revision.as_deref().unwrap_or(DEFAULT_REVISION);
    Asked {
        name: &set.path,
        subset: set.subset.as_deref(),
        split: (set.files.is_empty() && !single).then_some(split),
        globs: &set.files,
        revision: (!here).then_some(revision),
    }
}

fn entry_of(asked: &Asked) -> Locked {
    Locked {
        name: asked.name.to_owned(),
        subset: asked.subset.map(str::to_owned),
        split: asked.split.map(str::to_owned),
        globs: asked.globs.to_vec(),
        revision: asked.revision.map(str::to_owned),
        ..Locked::default()
    }
}

/// A card, whatever its letters are: only its front matter is read.
fn card(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&read_bytes(path, CARD_BYTES_MAX)?).into_owned())
}

fn missing(set: &DataSetConfig, error: Error) -> Error {
    Error::file("there is no such file or folder, and it is not the name of a data set on a hub")
        .at(&set.path)
        .because(error.into_what())
        .hint("a data set on a hub is `owner/name`")
}
