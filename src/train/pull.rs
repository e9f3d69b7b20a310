//! Everything that a configuration names, fetched, checked, counted and pinned in the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::artifact::signature;
use crate::config::{DataSetConfig, RunConfig};
use crate::data::{self, Role};
use crate::error::{Error, ErrorCode, Result};
use crate::files::FileEntry;
use crate::hub::{
    self, DataLock, FileSet, InputTrust, Locked, LockedFile, ModelDirectory, Policy, Supply,
};
use crate::train::Access;
use crate::train::approval::Approval;

/// Which entries of the lock move to the newest revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// None: what is pinned stays.
    Nothing,
    /// All.
    Everything,
    /// Those of this name.
    Only(String),
}

impl Update {
    fn moves(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Only(only) => only == name,
        }
    }
}

/// What a pull came to.
#[derive(Debug)]
pub struct Pull {
    /// What is different from the lock that was there, a line each.
    pub changes: Vec<String>,
    /// What else there is to say.
    pub notes: Vec<String>,
    /// Bytes that were checked.
    pub bytes: u64,
    /// Whether the lock was written.
    pub written: bool,
}

/// Fetches and pins what a configuration names.
///
/// # Errors
/// Under `locked`, and for files on this machine that were not updated: when something is not as
/// the lock says.
pub fn pull(config: &RunConfig, path: &Path, access: &Access, update: &Update) -> Result<Pull> {
    let old = DataLock::read(path)?;
    if access.locked && old.is_none() {
        return Err(Error::refused(ErrorCode::Lock, "there is no lock").at(path));
    }
    let old = old.unwrap_or_default();
    if let Update::Only(name) = update {
        named(config, name)?;
    }
    let mut kept = old.clone();
    kept.model = kept.model.filter(|entry| !update.moves(&entry.name));
    kept.data.retain(|entry| !update.moves(&entry.name));
    let policy = Policy {
        locked: access.locked,
        offline: access.offline,
        locks: vec![kept],
        extensions: data::extensions(),
        ..Policy::default()
    };
    let mut work = Work {
        approval: Approval::of(config, BTreeSet::new())?,
        supply: access.supply(policy)?,
        old: &old,
        update,
        access,
        notes: Vec::new(),
        new: DataLock::default(),
    };
    work.model(config)?;
    for (sets, role) in
        [(&config.data.train, Role::Train), (&config.data.validation, Role::Validation)]
    {
        sets.iter().try_for_each(|set| work.set(set, role))?;
    }
    let changes = old.changes_to(&work.new);
    let written = work.new != old && !access.locked;
    if written {
        work.new.write(path)?;
    }
    let entries = work.new.model.iter().chain(&work.new.data);
    let bytes = entries.flat_map(|entry| &entry.files).map(|file| file.size).sum();
    Ok(Pull { changes, notes: work.notes, bytes, written })
}

fn named(config: &RunConfig, name: &str) -> Result<()> {
    let sets = config.data.train.iter().chain(&config.data.validation);
    let names: BTreeSet<&str> =
        sets.map(|set| set.path.as_str()).chain([config.model.base.as_str()]).collect();
    if names.contains(name) {
        return Ok(());
    }
    let list: Vec<&str> = names.into_iter().collect();
    Err(Error::usage(format!("the configuration names no `{name}`"))
        .hint(format!("it names {}", list.join(", "))))
}

struct Work<'a> {
    supply: Supply,
    approval: Approval,
    old: &'a DataLock,
    update: &'a Update,
    access: &'a Access,
    notes: Vec<String>,
    new: DataLock,
}

impl Work<'_> {
    fn model(&mut self, config: &RunConfig) -> Result<()> {
        let base = self.supply.base(&config.model)?;
        let Some(mut entry) = base.locked.clone() else { return Ok(()) };
        entry.chat_template = data::chat_template_digest(&base.path)?;
        for file in &mut entry.files {
            if file.sha256.is_none() {
                let path = base.path.join(&file.path);
                file.sha256 = Some(crate::files::hash_file(&path, &file.path)?.sha256);
            }
        }
        entry.trust = Some(self.trust_in(config, &base, &entry)?);
        self.look_for_newer(&entry, hub::RepoKind::Model);
        self.new.model = Some(entry);
        Ok(())
    }

    /// Why the base model may be used. What the allowlist does not list yet is pulled all the same,
    /// since it is approved by what the lock says of it.
    fn trust_in(
        &mut self,
        config: &RunConfig,
        base: &ModelDirectory,
        entry: &Locked,
    ) -> Result<InputTrust> {
        self.approval.read_signature(config, base)?;
        let file = |file: &LockedFile| {
            let (path, size) = (file.path.clone(), file.size);
            Some(FileEntry { path, size, sha256: file.sha256? })
        };
        let files = entry.files.iter().filter(|file| file.path != signature::FILE);
        let files: Vec<FileEntry> = files.filter_map(file).collect();
        match self.approval.model(base, &files) {
            Err(error) if config.model.trusted_keys.is_empty() => {
                self.notes.push(format!("{}, and training refuses it until then", error.what));
                Ok(InputTrust::Tofu)
            }
            found => found,
        }
    }

    fn set(&mut self, set: &DataSetConfig, role: Role) -> Result<()> {
        let found = self.supply.set(set, role.name())?;
        self.access.transfers.expect(found.files.iter().map(|file| file.size).sum());
        let mut entry = found.locked.clone();
        let old = self.old.data.iter().find(|old| old.title() == entry.title());
        let mut columns = Columns::default();
        let paths = self.supply.fetch_all(&found.files)?;
        for ((file, path), locked) in found.files.iter().zip(paths).zip(&mut entry.files) {
            let digest = match self.supply.digest_of(file)? {
                Some(digest) => digest,
                None => crate::files::hash_file(&path, &file.path)?.sha256,
            };
            // What was counted once needs no counting again.
            let known = old.and_then(|old| old.file(&file.path));
            let known = known.filter(|known| known.sha256 == Some(digest));
            locked.sha256 = Some(digest);
            if let (Some(_), Some(old)) = (known, old) {
                columns.remember(&old.columns);
            }
            locked.rows = match known.and_then(|known| known.rows) {
                Some(rows) => Some(rows),
                None => {
                    let counted = data::count(&path, &file.name, &mut columns.0)?;
                    self.supply.confirm(&file.expecting(digest), &counted.file)?;
                    Some(counted.rows)
                }
            };
        }
        entry.columns = columns.lines();
        entry.trust = Some(self.approval.of_set(&entry));
        self.same_here(&found, &entry, old)?;
        self.look_for_newer(&entry, hub::RepoKind::Dataset);
        self.new.put(entry);
        Ok(())
    }

    /// Files on this machine cannot be had again as they were: a change must be asked for.
    fn same_here(&self, set: &FileSet, entry: &Locked, old: Option<&Locked>) -> Result<()> {
        let Some(old) = old.filter(|_| entry.commit.is_none()) else { return Ok(()) };
        if self.update.moves(&entry.name) || old.files == entry.files {
            return Ok(());
        }
        let lines = old.changes_to(entry);
        let error = Error::refused(
            ErrorCode::LockDrift,
            format!("`{}` is not what the lock says", set.title()),
        )
        .hint("`firebrand pull --update` writes what it is now into the lock");
        Err(lines.into_iter().fold(error, Error::because))
    }

    /// Says when a branch has moved on; a hub that does not answer is no trouble here.
    fn look_for_newer(&mut self, entry: &Locked, kind: hub::RepoKind) {
        let asleep = self.access.locked || self.access.offline || self.update.moves(&entry.name);
        let (Some(revision), Some(commit)) = (&entry.revision, &entry.commit) else { return };
        if asleep
            || revision == commit
            || self.old.data.iter().chain(&self.old.model).all(|old| old.commit != entry.commit)
        {
            return;
        }
        let newest = || -> Result<String> {
            let repo = hub::RepoName::parse(kind, &entry.name)?;
            self.supply.hub()?.commit_of(&repo, revision)
        };
        if let Ok(newest) = newest()
            && newest != *commit
        {
            let (now, pinned) = (&newest[..12], &commit[..12]);
            self.notes.push(format!(
                "{}: `{revision}` is now {now}, the lock pins {pinned}; `--update` moves there",
                entry.name
            ));
        }
    }
}

/// Columns of a data set, and the types that were seen in them.
#[derive(Default)]
struct Columns(BTreeMap<String, BTreeSet<String>>);

impl Columns {
    /// Takes over what the lock says of files that are not read again.
    fn remember(&mut self, lines: &[String]) {
        for (name, types) in lines.iter().filter_map(|line| line.split_once(": ")) {
            let types = types.split(" or ").map(str::to_owned);
            self.0.entry(name.to_owned()).or_default().extend(types);
        }
    }

    fn lines(&self) -> Vec<String> {
        let line = |(name, types): (&String, &BTreeSet<String>)| {
            let types: Vec<&str> = types.iter().map(String::as_str).collect();
            format!("{name}: {}", types.join(" or "))
        };
        self.0.iter().map(line).collect()
    }
}
