//! `trusted-keys.toml`: keys and authorities with roles, a time in which they count, and
//! revocations.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::keyless::SigstoreRoot;
use super::trusted_keys_table::{KEYS, Role};
use crate::artifact::certificate::Certificate;
use crate::artifact::keys::PublicKey;
use crate::document::{Document, Placed, Values};
use crate::error::{Context, Error, Result};

/// A certificate whose owner says who is a signer, and where it was found.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Its certificate.
    pub certificate: Certificate,
    /// The file that holds it.
    pub file: PathBuf,
    /// What `trusted-keys.toml` says of it.
    pub limits: KeyLimits,
}

/// An identity that signs without a key that lasts (Sigstore): it counts where `root` proves it.
#[derive(Debug, Clone)]
pub struct TrustedIdentity {
    /// The subject of its certificates: an e-mail address, or the URI of a workload.
    pub identity: String,
    /// The identity provider that vouches for it, a URL.
    pub issuer: String,
    /// Whose certificates, logs and time stamps count.
    pub root: SigstoreRoot,
    /// The file with the trusted root.
    pub file: PathBuf,
    /// What `trusted-keys.toml` says of it.
    pub limits: KeyLimits,
}

impl TrustedIdentity {
    /// Whether it is the same one of the same provider, whichever root is to prove it.
    pub(super) fn is_named_as(&self, other: &Self) -> bool {
        (&self.identity, &self.issuer) == (&other.identity, &other.issuer)
    }
}

/// One key, and where it was found.
#[derive(Debug, Clone)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// The file that holds it.
    pub file: PathBuf,
    /// What `trusted-keys.toml` says of it; nothing bounds a key that only lies in a folder.
    pub limits: KeyLimits,
}

/// The file's name in the folder of the user's settings.
pub const FILE: &str = "trusted-keys.toml";
/// No PEM file of one key or certificate comes near this size.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// What a signer says of the time.
pub(super) const STATED: &str = "what it signed says that it was finished on";

/// What bounds the trust in a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// What it may vouch for; nothing where lists share no role. Without a list it may vouch
    /// for anything but that a model was made again.
    pub roles: Option<Vec<Role>>,
    /// From when on it counts.
    pub not_before: Option<Timestamp>,
    /// Until when it counts.
    pub not_after: Option<Timestamp>,
    /// It counts no more; with the reason, which may be empty.
    pub revoked: Option<String>,
}

impl KeyLimits {
    /// What is left where two lists bound the trust: neither gives back what the other takes.
    #[must_use]
    pub fn narrowed(&self, by: &Self) -> Self {
        let roles = match (&self.roles, &by.roles) {
            (Some(roles), Some(others)) => {
                Some(roles.iter().copied().filter(|role| others.contains(role)).collect())
            }
            (roles, others) => roles.clone().or_else(|| others.clone()),
        };
        // `None` is less than any time.
        let not_before = self.not_before.max(by.not_before);
        let not_after = self.not_after.into_iter().chain(by.not_after).min();
        let revoked = self.revoked.clone().or_else(|| by.revoked.clone());
        Self { roles, not_before, not_after, revoked }
    }

    /// Why the key does not count; `None` if it does. Without a `role`, any will do.
    pub fn objection(
        &self,
        role: Option<Role>,
        now: Timestamp,
        finished: Option<Timestamp>,
    ) -> Option<String> {
        // A signature does not tell when it was made. What its signer says of the time can only
        // take trust away.
        let stated = finished.map(|time| (time, STATED));
        let times: Vec<_> = [Some((now, "it is now")), stated].into_iter().flatten().collect();
        self.objection_at(role, &times)
    }

    /// Why it does not have this role, though nothing takes it away.
    pub(super) fn unnamed(&self, role: Option<Role>) -> Option<String> {
        let role = role.filter(|role| role.must_be_named() && self.roles.is_none())?;
        Some(format!("has no list of `roles`, and `{role}` must be named in one"))
    }

    /// As [`Self::objection`] where times are known, each with what it is.
    pub(super) fn objection_at(
        &self,
        role: Option<Role>,
        times: &[(Timestamp, &str)],
    ) -> Option<String> {
        if let Some(reason) = &self.revoked {
            let reason = if reason.is_empty() { "no reason is given" } else { reason };
            return Some(format!("was revoked: {reason}"));
        }
        if self.roles.as_ref().is_some_and(Vec::is_empty) {
            return Some("has no role that each list with it gives".to_owned());
        }
        if let (Some(roles), Some(role)) = (&self.roles, role)
            && !roles.contains(&role)
        {
            let roles: Vec<_> = roles.iter().map(|role| format!("`{role}`")).collect();
            let roles = roles.join(" and ");
            return Some(format!("has the role {roles}, and `{role}` is needed"));
        }
        for (time, what) in times {
            if let Some(start) = self.not_before.filter(|start| time < start) {
                return Some(format!("is valid from {start} on, and {what} {time:.0}"));
            }
            if let Some(end) = self.not_after.filter(|end| time > end) {
                return Some(format!("expired on {end}, and {what} {time:.0}"));
            }
        }
        None
    }
}

/// Whom the file names.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub keys: Vec<TrustedKey>,
    pub authorities: Vec<Authority>,
    pub identities: Vec<TrustedIdentity>,
}

/// Whom the user's file names; nobody without the file.
pub(super) fn read(config_home: &Path) -> Result<Known> {
    let path = config_home.join(FILE);
    if matches!(fs::metadata(&path), Err(error) if error.kind() == ErrorKind::NotFound) {
        return Ok(Known::default());
    }
    read_list(&path)
}

/// Whom a file of this form names. Paths in it are relative to its folder.
pub(super) fn read_list(path: &Path) -> Result<Known> {
    let folder = crate::files::folder_of(path);
    let document = Document::read(&KEYS, path)?;
    let mut findings = document.findings();
    let mut known = Known::default();
    for entry in document.values.tables("key") {
        let found = trusted(entry, folder, path, &PublicKey::from_pem);
        let Some((key, file, limits)) = findings.take(found) else { continue };
        if known.keys.iter().any(|other| other.key.hint() == key.hint()) {
            findings.report((Error::config("this key is listed twice"), entry.table_place()));
        }
        known.keys.push(TrustedKey { key, file, limits });
    }
    for entry in document.values.tables("authority") {
        let found = trusted(entry, folder, path, &one_certificate);
        let Some((certificate, file, limits)) = findings.take(found) else { continue };
        if known.authorities.iter().any(|other| other.certificate == certificate) {
            findings.report((Error::config("this authority is listed twice"), entry.table_place()));
        }
        known.authorities.push(Authority { certificate, file, limits });
    }
    for entry in document.values.tables("identity") {
        let Some(identity) = findings.take(identity(entry, folder)) else { continue };
        let same = |other: &TrustedIdentity| {
            (&other.identity, &other.issuer, &other.file)
                == (&identity.identity, &identity.issuer, &identity.file)
        };
        if known.identities.iter().any(same) {
            let error = Error::config("this identity is listed twice");
            findings.report((error, entry.table_place()));
        }
        known.identities.push(identity);
    }
    findings.finish()?;
    Ok(known)
}

fn one_certificate(text: &str) -> Result<Certificate> {
    let mut all = Certificate::all_from_pem(text)?;
    match (all.pop(), all.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        _ => Err(Error::config("the PEM text holds more than one certificate")
            .hint("write an entry for each authority")),
    }
}

fn identity(entry: &Values, folder: &Path) -> Placed<TrustedIdentity> {
    let text = |key: &str| entry.optional_text(key).unwrap_or_default();
    let file = folder.join(text("trusted_root"));
    // At the entry, since that is the line to mend.
    let root = SigstoreRoot::from_file(&file).map_err(|error| {
        (Error::config(super::report::describe(&error)), entry.place("trusted_root"))
    })?;
    let (identity, issuer) = (text("identity"), text("issuer"));
    Ok(TrustedIdentity { identity, issuer, root, file, limits: limits(entry)? })
}

/// What `read` makes of the entry's PEM text, the file that holds it, and the limits.
fn trusted<T>(
    entry: &Values,
    folder: &Path,
    path: &Path,
    read: &dyn Fn(&str) -> Result<T>,
) -> Placed<(T, PathBuf, KeyLimits)> {
    let (it, file, key) = match (entry.optional_text("file"), entry.optional_text("pem")) {
        (Some(file), _) => {
            let file = folder.join(file);
            let it = pem_file(&file).and_then(|text| read(&text).map_err(|error| error.at(&file)));
            (it, file, "file")
        }
        (None, Some(pem)) => (read(&pem), path.to_path_buf(), "pem"),
        (None, None) => {
            let error = Error::config("a key needs either `file` or `pem`");
            return Err((error, entry.table_place()));
        }
    };
    // At the entry, since that is the line to mend.
    let it =
        it.map_err(|error| (Error::config(super::report::describe(&error)), entry.place(key)))?;
    Ok((it, file, limits(entry)?))
}

fn pem_file(path: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PEM_BYTES).read_to_string(&mut text))
        .context_at("cannot read the public key", path)?;
    Ok(text)
}

fn limits(entry: &Values) -> Placed<KeyLimits> {
    let roles = entry.optional_texts("roles");
    let roles = roles.map(|names| names.iter().filter_map(|name| Role::from_name(name)).collect());
    let (not_before, not_after) = (time(entry, "not_before"), time(entry, "not_after"));
    if let (Some(start), Some(end)) = (not_before, not_after)
        && end <= start
    {
        let error = Error::config("`not_after` is not later than `not_before`");
        return Err((error, entry.place("not_after")));
    }
    let reason = || entry.optional_text("reason").unwrap_or_default();
    let revoked = entry.boolean("revoked").then(reason);
    Ok(KeyLimits { roles, not_before, not_after, revoked })
}

fn time(entry: &Values, key: &str) -> Option<Timestamp> {
    let text = entry.optional_text(key)?;
    Some(text.parse().expect("the table of keys accepts times alone"))
}
