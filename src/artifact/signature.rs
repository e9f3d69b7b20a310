//! `model.sig`: the OpenSSF Model Signing v1.0 signature over every file of a directory.

use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::envelope::{Bundle, IN_TOTO};
use super::keyless_signing::sign_keyless;
use super::keys::SigningKey;
use super::program::Program;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{self, Digest, FileEntry};

/// The signature's file name.
pub const FILE: &str = "model.sig";
/// How the name of a model's attestations ends.
pub const ATTESTATIONS: &str = ".sigstore.jsonl";
/// The type of every in-toto statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The predicate of a model signature.
pub const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// What is never signed, together with the signature itself; only at the top of the directory.
pub const IGNORED: [&str; 5] = [".git", ".gitattributes", ".github", ".gitignore", FILE];

/// What downloads leave in a folder, at its top: `hf download --local-dir` notes there what it has.
pub const LEFTOVERS: [&str; 2] = [".cache/huggingface", ".huggingface"];

/// What was signed.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The digest over all digests.
    pub root: Digest,
    /// The signed files, sorted.
    pub files: Vec<FileEntry>,
    /// What lies there and is not signed: git's own files, and what downloads leave behind.
    pub unsigned: Vec<&'static str>,
}

/// Signs a directory under its own name and writes [`FILE`] into it, replacing an older one.
///
/// # Errors
/// Refuses symbolic links, special files and an empty directory.
pub fn sign(directory: &Path, key: &SigningKey) -> Result<Signed> {
    sign_files(directory, &own_name(directory)?, hash_model(directory)?, with_key(key))
}

/// The same, for files whose digests were taken when they were looked at: what was found good is
/// what is signed.
pub fn sign_seen(directory: &Path, seen: &[FileEntry], key: &SigningKey) -> Result<Signed> {
    sign_files(directory, &own_name(directory)?, seen.to_vec(), with_key(key))
}

/// Lets a program sign a directory keyless; `check` sees the bundle before it is written.
///
/// # Errors
/// Those of [`sign`], of [`sign_keyless`], and of `check`.
pub fn sign_seen_keyless(
    directory: &Path,
    seen: &[FileEntry],
    program: &Program,
    check: impl FnOnce(&Bundle) -> Result<()>,
) -> Result<Signed> {
    let seen = match seen {
        [] => hash_model(directory)?,
        seen => seen.to_vec(),
    };
    sign_files(directory, &own_name(directory)?, seen, |payload| {
        let bundle = sign_keyless(program, IN_TOTO, &payload)?;
        check(&bundle)?;
        Ok(bundle)
    })
}

fn with_key(key: &SigningKey) -> impl FnOnce(Vec<u8>) -> Result<Bundle> {
    move |payload| Bundle::sign(IN_TOTO, payload, key)
}

/// Every file of a directory but for git's own, with its digest.
///
/// # Errors
/// Refuses symbolic links and special files, and names that are not UTF-8.
pub fn hash_model(directory: &Path) -> Result<Vec<FileEntry>> {
    let skip = |name: &str| IGNORED.contains(&name) && name != FILE;
    files::read_tree(directory, &skip, &|path, name| {
        let source = files::Hashing::new(files::open_unlinked(path)?);
        files::hash_rest(source, name).context_at("cannot read the file", path)
    })
}

fn own_name(directory: &Path) -> Result<String> {
    let path = directory.canonicalize().context_at("cannot find the directory", directory)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(name.unwrap_or_else(|| "model".to_owned()))
}

/// Signs a directory under the name that it will have once it is renamed into place.
///
/// # Errors
/// Refuses symbolic links, special files and an empty directory.
pub fn sign_named(directory: &Path, name: &str, key: &SigningKey) -> Result<Signed> {
    sign_files(directory, name, hash_model(directory)?, with_key(key))
}

fn sign_files(
    directory: &Path,
    name: &str,
    files: Vec<FileEntry>,
    sign: impl FnOnce(Vec<u8>) -> Result<Bundle>,
) -> Result<Signed> {
    let is_of_model = |entry: &FileEntry| !is_ignored(&entry.path) && !is_leftover(&entry.path);
    let files: Vec<FileEntry> = files.into_iter().filter(is_of_model).collect();
    if files.is_empty() {
        return Err(Error::refused(ErrorCode::Signature, "there is no file to sign").at(directory));
    }
    let root = root_digest(files.iter().map(|entry| &entry.sha256));
    // What downloads leave is named where it is there: the standard's own program minds it.
    let leftovers = || LEFTOVERS.into_iter().filter(|name| directory.join(name).exists());
    let ignored: Vec<&str> = IGNORED.into_iter().chain(leftovers()).collect();
    let payload = statement(name, &root, &files, &ignored).into_bytes();
    let bundle = sign(payload)?;
    let text = format!("{}\n", bundle.to_json());
    files::write_atomic(&directory.join(FILE), text.as_bytes())?;
    let unsigned = left_out(directory).into_iter().chain(leftovers()).collect();
    Ok(Signed { root, files, unsigned })
}

/// Where the attestations of a model lie: beside its folder, under its name.
pub fn attestations_of(directory: &Path) -> Option<PathBuf> {
    let directory = directory.canonicalize().ok()?;
    let name = directory.file_name()?.to_str()?;
    Some(directory.with_file_name(format!("{name}{ATTESTATIONS}")))
}

/// Gives the attestations of a model that was signed again another name, under which nobody looks
/// for them: they are about the model as it was before. Returns the new name; `None` if there are
/// none.
pub fn set_attestations_aside(directory: &Path) -> Result<Option<PathBuf>> {
    let Some(path) = attestations_of(directory) else { return Ok(None) };
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let free = (1..).map(|number| path.with_file_name(format!("{name}.old-{number}")));
    let aside = free.into_iter().find(|aside| aside.symlink_metadata().is_err());
    let aside = aside.unwrap_or_else(|| path.with_file_name(format!("{name}.old")));
    files::rename_new(&path, &aside)?;
    Ok(Some(aside))
}

/// What lies at the top of a directory and no signature would cover: git's own files.
pub fn left_out(directory: &Path) -> Vec<&'static str> {
    let there = |name: &&str| directory.join(name).symlink_metadata().is_ok();
    IGNORED.into_iter().filter(|name| *name != FILE).filter(there).collect()
}

/// Whether a file lies outside the signed set: git's own at the top, and the signature.
pub fn is_ignored(path: &str) -> bool {
    path.split('/').next().is_some_and(|top| IGNORED.contains(&top))
}

/// Whether a program that downloads or shows files left this one: it is none of the model's, unless
/// a signature covers it.
pub fn is_leftover(path: &str) -> bool {
    let inside = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let name = path.rsplit('/').next().unwrap_or(path);
    LEFTOVERS.into_iter().any(inside) || name == ".DS_Store"
}

/// The SHA-256 over the files' raw digests, in their order. It does not cover the names.
pub fn root_digest<'a>(digests: impl Iterator<Item = &'a Digest>) -> Digest {
    let hash = digests.fold(Sha256::new(), |hash, digest| hash.chain_update(digest.0));
    Digest(hash.finalize().into())
}

/// The statement over these files, in their order, and what it leaves out.
pub(crate) fn statement(
    name: &str,
    root: &Digest,
    files: &[FileEntry],
    ignored: &[impl AsRef<str>],
) -> String {
    let ignored: Vec<&str> = ignored.iter().map(AsRef::as_ref).collect();
    let resources: Vec<_> = files
        .iter()
        .map(|entry| json!({"name": entry.path, "algorithm": "sha256", "digest": entry.sha256}))
        .collect();
    json!({
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "resources": resources,
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": false,
                "ignore_paths": ignored,
            },
        },
    })
    .to_string()
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
