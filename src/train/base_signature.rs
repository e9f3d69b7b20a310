//! What the signature of a base model is worth, and which of its files it covers.

use std::collections::BTreeMap;
use std::path::Path;

use crate::artifact::base_record::BaseRecord;
use crate::artifact::keys;
use crate::artifact::parent::{Parent, ParentSignature};
use crate::artifact::signature;
use crate::error::{Error, ErrorCode, Result};
use crate::event::{Event, Observer};
use crate::files::{Digest, FileEntry};
use crate::gguf;
use crate::hub::{self, ModelDirectory};
use crate::train::approval::Approval;
use crate::verify::{CheckVerdict, Trust, Verdict, verify_signed_files};

/// The signature of a base model, and the files that it covers.
pub struct BaseSignature {
    /// What it is worth.
    pub state: ParentSignature,
    /// The signed files, as they were when the signature was checked; none if it could not be, or
    /// if nobody signed the model.
    signed: Option<BTreeMap<String, Digest>>,
    /// Files beside them that nobody signed.
    unsigned: Vec<String>,
}

/// Checks the signature of a base model, if it has one.
///
/// # Errors
/// When the base was changed since it was signed: it is never used.
pub fn base_signature(directory: &Path) -> Result<BaseSignature> {
    let unchecked =
        |unsigned| BaseSignature { state: ParentSignature::Unchecked, signed: None, unsigned };
    if !directory.join(signature::FILE).exists() {
        return Ok(unchecked(Vec::new()));
    }
    let trust = Trust::of_user(&keys::config_home()?)?;
    let report = verify_signed_files(directory, &trust);
    let state = match report.verdict {
        Verdict::Verified => ParentSignature::Verified,
        Verdict::UnsignedFiles | Verdict::Untrusted => ParentSignature::Untrusted,
        Verdict::CouldNotCheck => return Ok(unchecked(report.unsigned)),
        Verdict::Tampered | Verdict::Unsigned => {
            let failed = report.checks.iter().filter(|check| check.verdict == CheckVerdict::Fail);
            let error =
                Error::refused(ErrorCode::Signature, "the model is not the one that was signed")
                    .at(directory);
            return Err(failed.fold(error, |error, check| error.because(&check.detail)));
        }
    };
    // What would be read as a part of the model must be a part of what was signed.
    let is_read = |path: &&String| hub::is_essential(path) || path.ends_with(".jinja");
    let read: Vec<String> = report.unsigned.iter().filter(is_read).cloned().collect();
    if !read.is_empty() {
        return Err(added(directory, &read));
    }
    let signed = report.files.iter().filter(|file| !report.unsigned.contains(&file.path));
    let signed = signed.map(|file| (file.path.clone(), file.sha256)).collect();
    Ok(BaseSignature { state, signed: Some(signed), unsigned: report.unsigned })
}

/// What a lineage says of the files of a directory that a run begins with or learns from, once they
/// are found to be those that were signed, locked and allowed.
///
/// # Errors
/// When they are not.
pub fn recorded(
    directory: &ModelDirectory,
    files: &[FileEntry],
    signed: &BaseSignature,
    approval: &Approval,
) -> Result<BaseRecord> {
    for file in files {
        signed.expect(&directory.path, file)?;
    }
    let mut parent = Parent::of(&directory.path, signed.state)?;
    if let (Some(parent), Some(_)) = (&mut parent, directory.commit()) {
        parent.name.clone_from(&directory.id);
    }
    Ok(BaseRecord {
        id: directory.id.clone(),
        revision: directory.commit().map(str::to_owned),
        files: files.to_vec(),
        gguf: gguf::source_of(&directory.path)?,
        trust: approval.adapter(directory, files)?,
        parent,
    })
}

impl BaseSignature {
    /// A file that is used must be one that was signed, with the very bytes.
    ///
    /// # Errors
    /// Refuses a file that was added to a signed model, and one that changed after the check.
    pub fn expect(&self, directory: &Path, read: &FileEntry) -> Result<()> {
        let Some(signed) = &self.signed else { return Ok(()) };
        let (what, why) = match signed.get(&read.path) {
            Some(digest) if *digest == read.sha256 => return Ok(()),
            Some(_) => {
                ("the file changed after it was checked", format!("{} was read", read.sha256))
            }
            None => (
                "the file was added to a signed model, and no signature covers it",
                format!("`{}` covers {} other files", signature::FILE, signed.len()),
            ),
        };
        Err(Error::refused(ErrorCode::Signature, what).at(directory.join(&read.path)).because(why))
    }

    /// Says what lies beside the signed files and is not used.
    pub fn tell(&self, observer: &mut dyn Observer) {
        if !self.unsigned.is_empty() {
            observer.on(Event::Note(format!(
                "files beside the signed ones of the base model are not used: {}",
                shown(&self.unsigned)
            )));
        }
    }
}

/// What the signature of a model is worth that another one is made from.
///
/// # Errors
/// When it was changed since it was signed, or when files were added that could be taken for a part
/// of it.
pub fn parent_state(directory: &Path) -> Result<ParentSignature> {
    let found = base_signature(directory)?;
    let more: Vec<String> = found.unsigned.into_iter().filter(|path| !hub::is_note(path)).collect();
    if found.signed.is_none() || more.is_empty() {
        return Ok(found.state);
    }
    Err(added(directory, &more))
}

fn added(directory: &Path, names: &[String]) -> Error {
    Error::refused(
        ErrorCode::Signature,
        "files were added to a signed model, and no signature covers them",
    )
    .at(directory)
    .because(shown(names))
    .hint("remove them, or have the model signed again")
}

/// The first few names.
fn shown(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let first: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
