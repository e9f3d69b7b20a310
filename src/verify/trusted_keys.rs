//! `trusted-keys.toml`: keys and authorities with roles, a time in which they count, and
//! revocations.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use crate::artifact::certificate::Certificate;
use crate::artifact::keys::PublicKey;
use crate::error::{Context, Error, Result};
use crate::files::{Placed, TomlText};

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

/// What a key may vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Models, and how they were made.
    Train,
    /// Results of tests.
    Gate,
    /// Which model is in use.
    Promote,
    /// Which inputs may be used.
    Allowlist,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Gate => "gate",
            Self::Promote => "promote",
            Self::Allowlist => "allowlist",
        })
    }
}

/// What bounds the trust in a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// What it may vouch for; anything without a list.
    pub roles: Option<Vec<Role>>,
    /// From when on it counts.
    pub not_before: Option<Timestamp>,
    /// Until when it counts.
    pub not_after: Option<Timestamp>,
    /// It counts no more; with the reason, which may be empty.
    pub revoked: Option<String>,
}

impl KeyLimits {
    /// Why the key does not count; `None` if it does. Without a `role`, any will do.
    pub fn objection(
        &self,
        role: Option<Role>,
        now: Timestamp,
        finished: Option<Timestamp>,
    ) -> Option<String> {
        if let Some(reason) = &self.revoked {
            let reason = if reason.is_empty() { "no reason is given" } else { reason };
            return Some(format!("was revoked: {reason}"));
        }
        if let (Some(roles), Some(role)) = (&self.roles, role)
            && !roles.contains(&role)
        {
            let roles: Vec<_> = roles.iter().map(|role| format!("`{role}`")).collect();
            let roles = roles.join(" and ");
            return Some(format!("has the role {roles}, and `{role}` is needed"));
        }
        // A signature does not tell when it was made. What its signer says of the time can only
        // take trust away.
        let stated = finished.map(|time| (time, "the lineage ends on"));
        for (time, what) in [Some((now, "it is now")), stated].into_iter().flatten() {
            if let Some(start) = self.not_before.filter(|start| time < *start) {
                return Some(format!("counts from {start} on, and {what} {time:.0}"));
            }
            if let Some(end) = self.not_after.filter(|end| time > *end) {
                return Some(format!("expired on {end}, and {what} {time:.0}"));
            }
        }
        None
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    key: Vec<Spanned<KeyEntry>>,
    #[serde(default)]
    authority: Vec<Spanned<KeyEntry>>,
}

/// Whom the file names.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub keys: Vec<TrustedKey>,
    pub authorities: Vec<Authority>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    file: Option<Spanned<PathBuf>>,
    pem: Option<Spanned<String>>,
    roles: Option<Spanned<Vec<Role>>>,
    not_before: Option<Spanned<Time>>,
    not_after: Option<Spanned<Time>>,
    revoked: Option<bool>,
    reason: Option<Spanned<String>>,
}

/// A time of RFC 3339, as text or as TOML has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    Toml(Datetime),
    Text(String),
}

/// Whom the user's file names; nobody without the file.
pub(super) fn read(config_home: &Path) -> Result<Known> {
    let path = config_home.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Known::default()),
        other => other.context_at("cannot read the trusted keys", &path)?,
    };
    let text = TomlText::new(&path, text);
    let place = |error, span| text.place(error, span);
    let document: Document = text.parse()?;
    let mut known = Known::default();
    for entry in document.key {
        let span = entry.span();
        let placed = |(error, span)| place(error, span);
        let (key, file, limits) =
            trusted(entry, config_home, &path, &PublicKey::from_pem).map_err(placed)?;
        if known.keys.iter().any(|other| other.key.hint() == key.hint()) {
            return Err(place(Error::new("this key stands here twice"), span));
        }
        known.keys.push(TrustedKey { key, file, limits });
    }
    for entry in document.authority {
        let span = entry.span();
        let placed = |(error, span)| place(error, span);
        let (certificate, file, limits) =
            trusted(entry, config_home, &path, &one_certificate).map_err(placed)?;
        if known.authorities.iter().any(|other| other.certificate == certificate) {
            return Err(place(Error::new("this authority stands here twice"), span));
        }
        known.authorities.push(Authority { certificate, file, limits });
    }
    Ok(known)
}

fn one_certificate(text: &str) -> Result<Certificate> {
    let mut all = Certificate::all_from_pem(text)?;
    match (all.pop(), all.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        _ => Err(Error::new("the PEM text holds more than one certificate")
            .hint("write an entry for each authority")),
    }
}

/// What `read` makes of the entry's PEM text, the file that holds it, and the limits.
fn trusted<T>(
    entry: Spanned<KeyEntry>,
    config_home: &Path,
    path: &Path,
    read: &dyn Fn(&str) -> Result<T>,
) -> Placed<(T, PathBuf, KeyLimits)> {
    let whole = entry.span();
    let entry = entry.into_inner();
    let say = |what: &str, span: Range<usize>| (Error::new(what), span);
    let (it, file) = match (&entry.file, &entry.pem) {
        (Some(file), None) => {
            let span = file.span();
            let file = config_home.join(file.get_ref());
            let it = pem_file(&file).and_then(|text| read(&text).map_err(|error| error.at(&file)));
            (it.map_err(|error| unreadable(&error, span))?, file)
        }
        (None, Some(pem)) => {
            let it = read(pem.get_ref());
            (it.map_err(|error| unreadable(&error, pem.span()))?, path.to_path_buf())
        }
        _ => return Err(say("a key needs either `file` or `pem`", whole)),
    };
    Ok((it, file, limits(entry)?))
}

fn pem_file(path: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PEM_BYTES).read_to_string(&mut text))
        .context_at("cannot read the public key", path)?;
    Ok(text)
}

fn limits(entry: KeyEntry) -> Placed<KeyLimits> {
    let say = |what: &str, span: Range<usize>| (Error::new(what), span);
    let roles = match entry.roles {
        Some(roles) if roles.get_ref().is_empty() => {
            return Err(say("`roles` is empty; without it, a key has every role", roles.span()));
        }
        roles => roles.map(Spanned::into_inner),
    };
    let (not_before, not_after) = (time(entry.not_before)?, time(entry.not_after)?);
    if let (Some((start, _)), Some((end, span))) = (&not_before, &not_after)
        && end <= start
    {
        return Err(say("`not_after` is not later than `not_before`", span.clone()));
    }
    let revoked = match (entry.revoked, entry.reason) {
        (Some(true), reason) => Some(reason.map_or_else(String::new, Spanned::into_inner)),
        (_, None) => None,
        (_, Some(reason)) => {
            return Err(say("`reason` means nothing without `revoked = true`", reason.span()));
        }
    };
    Ok(KeyLimits {
        roles,
        not_before: not_before.map(|(time, _)| time),
        not_after: not_after.map(|(time, _)| time),
        revoked,
    })
}

/// Says at the entry what is wrong with the key, since that is the line to mend.
fn unreadable(error: &Error, span: Range<usize>) -> (Error, Range<usize>) {
    (Error::new(super::report::describe(error)), span)
}

fn time(value: Option<Spanned<Time>>) -> Placed<Option<(Timestamp, Range<usize>)>> {
    let Some(value) = value else { return Ok(None) };
    let span = value.span();
    let text = match value.into_inner() {
        Time::Toml(time) => time.to_string(),
        Time::Text(text) => text,
    };
    match text.parse() {
        Ok(time) => Ok(Some((time, span))),
        Err(_) => {
            let error = Error::new(format!("`{text}` is no time of RFC 3339"))
                .hint("write it as `2027-01-31T00:00:00Z`");
            Err((error, span))
        }
    }
}
