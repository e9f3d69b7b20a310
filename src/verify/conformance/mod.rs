//! The standard's own rules, as its public conformance suite tests them: also other curves, files
//! that are left out, and signatures of older versions. `verify` is stricter and has none of this.

mod bundle;
mod statement;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf, absolute};

use jiff::Timestamp;

use self::bundle::{Material, Signed};
use super::chain::{self, Reading};
use crate::artifact::certificate::Certificate;
use crate::artifact::ecdsa::Public;
use crate::artifact::envelope::{Bundle, IN_TOTO};
use crate::artifact::keys::SigningKey;
use crate::artifact::signature::{self, root_digest};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{self, Digest, FileEntry};

/// The largest signature file that is read.
const MAX_SIGNATURE_BYTES: u64 = 64 << 20;
/// No PEM file of one key comes near this size.
const MAX_PEM_BYTES: u64 = 64 << 10;
/// What is left out whether or not somebody asks for it.
const GIT: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// What is to be signed, and how.
pub struct Signing<'a> {
    /// A directory or a single file.
    pub model: &'a Path,
    /// The file with the private key, on any of the three curves.
    pub private_key: &'a Path,
    /// The signer's certificate and those above it; none for a signature by the key's own name.
    pub certificates: Vec<Certificate>,
    /// What is to be left out.
    pub ignored: &'a [PathBuf],
    /// The file to write.
    pub output: &'a Path,
}

/// Signs a model.
///
/// # Errors
/// Refuses links, special files and a model without files.
pub fn sign_model(request: &Signing) -> Result<()> {
    let ignored = ignored(request.model, request.ignored, request.output)?;
    let files = read_files(request.model, &ignored)?;
    if files.is_empty() {
        return Err(
            Error::refused(ErrorCode::Signature, "there is no file to sign").at(request.model)
        );
    }
    let text = files::read_text(request.private_key, MAX_PEM_BYTES)?;
    let place = request.private_key.display().to_string();
    let mut key = SigningKey::from_pem(&text, &place).map_err(|e| e.at(request.private_key))?;
    if !request.certificates.is_empty() {
        key = key.certified(without_repeats(&request.certificates))?;
    }
    let root = root_digest(files.iter().map(|entry| &entry.sha256));
    let model = request.model.canonicalize().context_at("cannot find the model", request.model)?;
    let name = model.file_name().map_or("model".into(), |name| name.to_string_lossy());
    let ignored: Vec<&String> = ignored.iter().collect();
    let statement = signature::statement(&name, &root, &files, &ignored);
    let bundle = Bundle::sign(IN_TOTO, statement.into_bytes(), &key)?;
    files::write_atomic(request.output, format!("{}\n", bundle.to_json()).as_bytes())
}

/// One that signed itself is given both as the signer's and as the one above it.
fn without_repeats(certificates: &[Certificate]) -> Vec<Certificate> {
    let mut chain: Vec<Certificate> = Vec::new();
    for certificate in certificates {
        if !chain.contains(certificate) {
            chain.push(certificate.clone());
        }
    }
    chain
}

/// Whom to trust.
pub enum Whom {
    /// The key in this file.
    Key(PathBuf),
    /// Everyone for whom these authorities vouch.
    Authorities(Vec<Certificate>),
}

/// What is to be verified, and how.
pub struct Verifying<'a> {
    /// A directory or a single file.
    pub model: &'a Path,
    /// The signature.
    pub bundle: &'a Path,
    /// Whom to trust.
    pub whom: Whom,
    /// What is to be left out.
    pub ignored: &'a [PathBuf],
    /// Files that nobody signed do not matter.
    pub ignore_unsigned: bool,
}

/// Checks a model against a signature.
///
/// # Errors
/// A refusal that says what does not hold.
pub fn verify_model(request: &Verifying) -> Result<()> {
    let text = files::read_text(request.bundle, MAX_SIGNATURE_BYTES)?;
    let signed = Signed::parse(text.as_bytes()).map_err(|why| refused(request.bundle, why))?;
    let manifest = statement::parse(&signed.payload);
    let old = manifest.as_ref().is_ok_and(|manifest| manifest.old);
    check_signer(&signed, old, &request.whom).map_err(|why| refused(request.bundle, why))?;
    let manifest = manifest.map_err(|why| refused(request.bundle, why))?;
    let mut ignored = ignored(request.model, request.ignored, request.bundle)?;
    ignored.extend(manifest.ignored.iter().cloned());
    let files = read_files(request.model, &ignored)?;
    compare(&manifest.files, &files, request).map_err(|why| refused(request.model, why))
}

fn refused(path: &Path, why: String) -> Error {
    Error::refused(ErrorCode::Signature, why).at(path)
}

fn check_signer(signed: &Signed, old: bool, whom: &Whom) -> Result<(), String> {
    let key = match (&signed.material, whom) {
        (Material::Key(named), Whom::Key(path)) => {
            let text = files::read_text(path, MAX_PEM_BYTES).map_err(|error| error.to_string())?;
            let key = Public::from_pem(&text).ok_or("the public key is on no supported curve")?;
            if !named.fits(&key) {
                return Err("the signature names another key".to_owned());
            }
            key
        }
        (Material::Chain(chain), Whom::Authorities(authorities)) => {
            let authorities: Vec<&Certificate> = authorities.iter().collect();
            chain::anchor(chain, &authorities, Timestamp::now(), Reading::Standard)?;
            chain.first().and_then(Certificate::key).cloned().ok_or("there is no key")?
        }
        (Material::Key(_), _) => return Err("it is signed by a key, not a certificate".to_owned()),
        (Material::Chain(_), _) => {
            return Err("it is signed by a certificate, not a key".to_owned());
        }
    };
    if old && key.accepts_digest(&Digest::of(&signed.old_signed_bytes()).0, &signed.signature) {
        return Ok(());
    }
    key.check(&signed.signed_bytes(), &signed.signature)
        .map_err(|why| format!("the signature {why}"))
}

fn compare(
    signed: &BTreeMap<String, Digest>,
    files: &[FileEntry],
    request: &Verifying,
) -> Result<(), String> {
    let mut left = signed.clone();
    let single = request.model.is_file();
    for file in files {
        // Older versions call a single file by the name of its folder.
        let name = if single && left.contains_key(".") { "." } else { file.path.as_str() };
        match left.remove(name) {
            Some(digest) if digest == file.sha256 => {}
            Some(_) => return Err(format!("`{}` was changed", file.path)),
            None if request.ignore_unsigned => {}
            None => return Err(format!("no signature covers `{}`", file.path)),
        }
    }
    match left.first_key_value() {
        Some((name, _)) => Err(format!("`{name}` is missing")),
        None => Ok(()),
    }
}

/// Names inside the model of what is left out: git's files, what was asked for, the signature.
fn ignored(model: &Path, asked: &[PathBuf], signature: &Path) -> Result<BTreeSet<String>> {
    let mut roots = vec![absolute(model).context_at("cannot find the model", model)?];
    roots.extend(model.canonicalize());
    let mut names: BTreeSet<String> = GIT.iter().map(|name| (*name).to_owned()).collect();
    for path in asked.iter().map(PathBuf::as_path).chain([signature]) {
        let mut paths = vec![absolute(path).context_at("cannot find the path", path)?];
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
            paths.extend(parent.canonicalize().map(|parent| parent.join(name)));
        }
        let inside = paths.iter().flat_map(|path| {
            roots.iter().filter_map(move |root| path.strip_prefix(root).ok()?.to_str())
        });
        names.extend(inside.filter(|name| !name.is_empty()).map(|name| name.replace('\\', "/")));
    }
    Ok(names)
}

fn read_files(model: &Path, ignored: &BTreeSet<String>) -> Result<Vec<FileEntry>> {
    let look = fs::symlink_metadata(model).context_at("cannot find the model", model)?;
    let hash = |path: &Path, name: &str| {
        let file = files::Hashing::new(files::open_unlinked(path)?);
        files::hash_rest(file, name).context_at("cannot read the file", path)
    };
    if !look.is_dir() {
        let name = model.file_name().unwrap_or_default().to_string_lossy();
        return Ok(vec![hash(model, &name)?]);
    }
    // Asked of a folder before anything below it.
    files::read_tree(model, &|name| ignored.contains(name), &hash)
}

#[cfg(test)]
mod tests;
