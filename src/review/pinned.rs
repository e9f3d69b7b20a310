//! Is it known for good which bytes a configuration means by its names?

use std::path::Path;

use super::changes::Change;
use super::scene::{Answer, RunSubject, Scene};
use crate::config::{DataSetConfig, RUNS};
use crate::error::Result;
use crate::hub::{Asked, DEFAULT_REVISION, DataLock, Locked, RepoKind, RepoName, at_revision};

/// The model that a run starts from.
pub fn model(scene: &Scene, run: &RunSubject) -> Result<Vec<Answer>> {
    let model = &run.loaded.config.model;
    let base = match is_here(&model.base, RepoKind::Model) {
        true => here(&model.base, &scene.change, "base model"),
        false => {
            let entry = run.lock.as_ref().and_then(|lock| lock.model.as_ref());
            let entry = entry.filter(|entry| {
                (entry.name.as_str(), entry.revision.as_deref())
                    == (model.base.as_str(), Some(model.revision.as_str()))
            });
            of_hub(&model.base, &model.revision, entry, run, &scene.change)
        }
    };
    let adapters =
        model.adapter.iter().chain(&model.base_adapters).map(|name| match at_revision(name) {
            Some((name, revision)) => of_hub(name, revision, None, run, &scene.change),
            None if is_here(name, RepoKind::Model) => here(name, &scene.change, "adapter"),
            None => of_hub(name, DEFAULT_REVISION, None, run, &scene.change),
        });
    Ok([base].into_iter().chain(adapters).collect())
}

/// The data of a run, one answer for each data set.
pub fn data(scene: &Scene, run: &RunSubject) -> Result<Vec<Answer>> {
    let data = &run.loaded.config.data;
    let sets = data.train.iter().map(|set| (set, "train"));
    let sets = sets.chain(data.validation.iter().map(|set| (set, "validation")));
    Ok(sets.map(|(set, split)| data_set(scene, run, set, split)).collect())
}

fn data_set(scene: &Scene, run: &RunSubject, set: &DataSetConfig, split: &str) -> Answer {
    let path = Path::new(&set.path);
    let local = is_here(&set.path, RepoKind::Dataset);
    if local && scene.change.holds(path) {
        return Answer::passed(format!("`{}` is in the repository", set.path));
    }
    let single = local && !path.is_dir();
    let revision = set.revision.as_deref().unwrap_or(DEFAULT_REVISION);
    let split = set.split.as_deref().unwrap_or(split);
    let asked = Asked {
        name: &set.path,
        subset: set.subset.as_deref(),
        split: (set.files.is_empty() && !single).then_some(split),
        globs: &set.files,
        revision: (!local).then_some(revision),
    };
    let entry = run.lock.as_ref().and_then(|lock| lock.data(&asked));
    if !local {
        return of_hub(&set.path, revision, entry, run, &scene.change);
    }
    let lock = DataLock::path_of(&run.path);
    match entry {
        Some(entry) if scene.change.holds(&lock) && is_known(entry) => changed(entry, path, run)
            .unwrap_or_else(|| {
                let count = entry.files.len();
                Answer::passed(format!("`{}`: {count} files by digest in the lock", set.path))
            }),
        _ => Answer::failed(
            format!("`{}` is neither in the repository nor in the lock", set.path),
            pull(run),
        ),
    }
}

/// What lies here and is not what the lock has.
fn changed(entry: &Locked, path: &Path, run: &RunSubject) -> Option<Answer> {
    let is_other = |file: &&crate::hub::LockedFile| {
        let lies = if path.is_dir() { path.join(&file.path) } else { path.to_path_buf() };
        let found = crate::files::hash_file(&lies, &file.path);
        found.is_ok_and(|found| file.sha256.is_some_and(|sha256| sha256 != found.sha256))
    };
    let file = entry.files.iter().find(is_other)?;
    let what = format!("`{}` has other bytes than the lock of `{}`", file.path, run.path.display());
    Some(Answer::failed(what, pull(run)))
}

fn pull(run: &RunSubject) -> String {
    format!(
        "`firebrand pull {}` writes the lock; commit {}",
        run.path.display(),
        DataLock::path_of(&run.path).display()
    )
}

fn is_here(name: &str, kind: RepoKind) -> bool {
    let path = Path::new(name);
    path.exists() || path.starts_with(RUNS) || RepoName::parse(kind, name).is_err()
}

/// Whether every file is known by its bytes.
fn is_known(entry: &Locked) -> bool {
    entry.files.iter().all(|file| file.sha256.is_some() || file.oid.is_some())
}

fn here(name: &str, change: &Change, what: &str) -> Answer {
    match change.holds(Path::new(name)) {
        true => Answer::passed(format!("`{name}` is in the repository")),
        false => Answer::failed(
            format!("the {what} `{name}` is a folder of this machine that git does not have"),
            "name it as `owner/name` on a hub with a commit for its revision, or keep it in the \
             repository",
        ),
    }
}

fn of_hub(
    name: &str,
    revision: &str,
    entry: Option<&Locked>,
    run: &RunSubject,
    change: &Change,
) -> Answer {
    let lock = DataLock::path_of(&run.path);
    match entry {
        Some(entry) if is_known(entry) && change.holds(&lock) => {
            let commit = entry.commit.as_deref().and_then(|it| it.get(..12)).unwrap_or("none");
            let count = entry.files.len();
            return Answer::passed(format!("`{name}`: commit {commit}, {count} files by digest"));
        }
        Some(_) if !change.holds(&lock) => {
            let what = format!("the lock of `{name}` is ignored by git");
            return Answer::failed(what, format!("commit {}", lock.display()));
        }
        _ => {}
    }
    let hex = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    match hex {
        true => Answer::passed(format!("`{name}`: commit {}", &revision[..12])),
        false => Answer::failed(
            format!("`{name}` is at `{revision}`, which moves, and no lock says what it was"),
            pull(run),
        ),
    }
}
