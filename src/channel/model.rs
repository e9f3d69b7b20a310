//! The model that a pointer names: where it is, whether it is the one, and copies of it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use super::attest;
use super::chain::scratch_name;
use super::pointer::ModelRef;
use crate::artifact::attestations;
use crate::artifact::signature::{self, attestations_of};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{
    Digest, FileEntry, Hashing, NewFile, create_dir_new, open_unlinked, remove_dir, rename_new,
    sync_dir, write_atomic,
};
use crate::verify::{CheckVerdict, Signer, Trust, Verdict, verify};

/// The folder of copies in a registry; each model under the digest of its signature.
pub const FOLDER: &str = "models";

/// A model of which every byte was checked.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its folder.
    pub directory: PathBuf,
    /// Its files, with its signature.
    pub files: Vec<FileEntry>,
    /// The digest over all digests.
    pub root: Digest,
    /// Of `model.sig`.
    pub sig_sha256: Digest,
    /// Who signed it.
    pub signer: Option<Signer>,
}

impl Checked {
    /// Verifies a model.
    ///
    /// # Errors
    /// Refuses one that is unsigned, changed, or signed by nobody whom `trust` lets sign models;
    /// and says when it could not be checked.
    pub fn new(directory: &Path, trust: &Trust) -> Result<Self> {
        if !directory.is_dir() {
            return Err(Error::channel("there is no such model").at(directory));
        }
        let report = verify(directory, trust);
        let signature = report.files.iter().find(|file| file.path == signature::FILE);
        match (report.verdict, report.root, signature) {
            (Verdict::Verified, Some(root), Some(signature)) => Ok(Self {
                directory: directory.to_path_buf(),
                sig_sha256: signature.sha256,
                root,
                signer: report.signer,
                files: report.files,
            }),
            (verdict, _, _) => {
                let what = format!("the model does not verify: {verdict}");
                let error = match verdict.exit_code() {
                    1 => Error::refused(ErrorCode::Channel, what),
                    _ => Error::channel(what),
                };
                let open = |check: &&crate::verify::Finding| match check.verdict {
                    CheckVerdict::Fail => true,
                    CheckVerdict::Unchecked => verdict == Verdict::CouldNotCheck,
                    CheckVerdict::Pass => false,
                };
                let error = report.checks.iter().filter(open).take(5).fold(
                    error.at(directory),
                    |error, check| {
                        error.because(format!("{}: {}", check.check.label(), check.detail))
                    },
                );
                Err(error.hint(format!("`firebrand verify {}` says all", directory.display())))
            }
        }
    }

    /// The same, for the very model that a pointer names.
    pub fn named(directory: &Path, model: &ModelRef, trust: &Trust) -> Result<Self> {
        let found = Self::new(directory, trust)?;
        if (found.sig_sha256, found.root) != (model.sig_sha256, model.root_sha256) {
            return Err(Error::refused(
                ErrorCode::Channel,
                "this is another model than the channel names",
            )
            .at(directory)
            .because(format!(
                "its `{}` has the digest {}, and {} is named",
                signature::FILE,
                found.sig_sha256.short(),
                model.sig_sha256.short()
            )));
        }
        Ok(found)
    }

    /// What people call it: its folder, or for the artifact of a run that of the run.
    pub fn name(&self) -> String {
        let path = self.directory.canonicalize().unwrap_or_else(|_| self.directory.clone());
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let own = name(&path).unwrap_or_default();
        match path.parent().and_then(name) {
            Some(run) if own == "artifact" => run,
            _ => own,
        }
    }

    /// Copies it into a registry, with what was attested of it.
    pub fn copy_into(&self, registry: &Path) -> Result<PathBuf> {
        let target = registry.join(FOLDER).join(self.sig_sha256.to_string());
        if !target.is_dir() {
            let folder = crate::files::folder_of(&target);
            std::fs::create_dir_all(folder).context_at("cannot make the folder", folder)?;
            let scratch = scratch_name(&target);
            create_dir_new(&scratch)?;
            let copied = self.copy_files(&scratch).and_then(|()| rename_new(&scratch, &target));
            if let Err(error) = copied {
                let _ = remove_dir(&scratch);
                // Someone else copies the same model: its name says its bytes.
                if !target.is_dir() {
                    return Err(error);
                }
            }
            sync_dir(folder)?;
        }
        self.copy_attestations(&target)?;
        Ok(target)
    }

    fn copy_files(&self, scratch: &Path) -> Result<()> {
        let store = crate::hub::store_of(&self.directory);
        for file in &self.files {
            let (from, to) = (self.directory.join(&file.path), scratch.join(&file.path));
            let folder = crate::files::folder_of(&to);
            std::fs::create_dir_all(folder).context_at("cannot make the folder", folder)?;
            // In a hub's cache it is a link, which was followed when the model was checked.
            let real = match &store {
                Some(_) => from.canonicalize().context_at("cannot find the file", &from)?,
                None => from.clone(),
            };
            let mut source = Hashing::new(open_unlinked(&real)?);
            let mut copy = || -> std::io::Result<()> {
                let mut target = NewFile::begin(&to)?;
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match source.read(&mut buffer)? {
                        0 => return target.sync(),
                        count => target.write_all(&buffer[..count])?,
                    }
                }
            };
            copy().map_err(|error| crate::files::failed("cannot copy the file", &to, &error))?;
            if source.finish().2 != file.sha256 {
                return Err(Error::refused(
                    ErrorCode::Changed,
                    "the file changed while it was copied",
                )
                .at(from));
            }
        }
        sync_dir(scratch)
    }

    /// Lines that are not there yet are added.
    fn copy_attestations(&self, target: &Path) -> Result<()> {
        let (Some(from), Some(to)) = (attestations_of(&self.directory), attestations_of(target))
        else {
            return Ok(());
        };
        if from == to || !from.is_file() {
            return Ok(());
        }
        let text = attest::read(&from)?;
        if to.symlink_metadata().is_err() {
            return write_atomic(&to, text.as_bytes());
        }
        let there = attest::read(&to)?;
        let there: BTreeSet<&str> = there.lines().collect();
        let new: Vec<&str> = text.lines().filter(|line| !there.contains(line)).collect();
        if !new.is_empty() {
            attestations::append_lines(target, &new)?;
        }
        Ok(())
    }
}

/// Where a pointer's model is: where the caller has it, else where the pointer says.
pub fn place(registry: &Path, model: &ModelRef, given: Option<&Path>) -> Result<PathBuf> {
    match (given, &model.path, &model.uri) {
        (Some(given), _, _) => Ok(given.to_path_buf()),
        (None, Some(path), _) => Ok(tidy(&registry.join(path))),
        (None, None, uri) => {
            let uri = uri.clone().unwrap_or_default();
            Err(Error::channel(format!("the model was published at {uri}"))
                .hint("fetch it from there and name its folder with `--model`"))
        }
    }
}

/// Without `a/..`, which would need `a` to exist; where `a` is a link this is not the same, and
/// then the path stays as it is.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        let back = part == Component::ParentDir;
        if back && matches!(tidy.components().next_back(), Some(Component::Normal(_))) {
            tidy.pop();
        } else {
            tidy.push(part);
        }
    }
    match (tidy.canonicalize(), path.canonicalize()) {
        (Ok(short), Ok(long)) if short == long => tidy,
        _ => path.to_path_buf(),
    }
}

/// How a pointer names a folder: relative to the registry if both lie in one folder, so that the
/// whole may be moved, else absolute.
pub fn path_from(registry: &Path, directory: &Path) -> Result<String> {
    let full = |path: &Path| path.canonicalize().context_at("cannot find the folder", path);
    let (registry, directory) = (full(registry)?, full(directory)?);
    let path = if let Ok(inside) = directory.strip_prefix(&registry) {
        inside.to_path_buf()
    } else {
        let beside = registry.parent().filter(|parent| parent.parent().is_some());
        match beside.and_then(|parent| directory.strip_prefix(parent).ok()) {
            Some(beside) => Path::new("..").join(beside),
            None => directory.clone(),
        }
    };
    let parts: Option<Vec<&str>> = path.components().map(|it| it.as_os_str().to_str()).collect();
    let parts = parts.ok_or_else(|| {
        Error::refused(ErrorCode::Channel, "the folder's name is not valid UTF-8").at(&directory)
    })?;
    Ok(parts.join("/").replacen("//", "/", 1))
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
