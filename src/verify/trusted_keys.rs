//! `trusted-keys.toml`: keys with roles, a time in which they count, and revocations.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use super::trust::TrustedKey;
use crate::artifact::keys::PublicKey;
use crate::error::{Context, Error, Result};

/// The file's name in the folder of the user's settings.
pub const FILE: &str = "trusted-keys.toml";

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
    Registry,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Gate => "gate",
            Self::Promote => "promote",
            Self::Registry => "registry",
        })
    }
}

/// What bounds the trust in a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// What it may vouch for; anything without a list.
    pub roles: Option<Vec<Role>>,
    /// From when on it counts.
    pub not_before: Option<Timestamp>,
    /// Until when it counts.
    pub not_after: Option<Timestamp>,
    /// It counts no more; with the reason, which may be empty.
    pub revoked: Option<String>,
}

impl Limits {
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
    key: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
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

/// The keys of the user's file; none without the file.
pub(super) fn read(config_home: &Path) -> Result<Vec<TrustedKey>> {
    let path = config_home.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context_at("cannot read the trusted keys", &path)?,
    };
    let place = |error: Error, span: Range<usize>| {
        let before = text.get(..span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        let line = before.matches('\n').count() + 1;
        error.at_position(&path, line, before[line_start..].chars().count() + 1)
    };
    let document: Document = toml::from_str(&text).map_err(|error| {
        let what = error.message().lines().collect::<Vec<_>>().join("; ");
        place(Error::new(what), error.span().unwrap_or_default())
    })?;
    let mut keys: Vec<TrustedKey> = Vec::new();
    for entry in document.key {
        let span = entry.span();
        let key = trusted(entry.into_inner(), span.clone(), config_home, &path)
            .map_err(|(error, span)| place(error, span))?;
        if keys.iter().any(|known| known.key.hint() == key.key.hint()) {
            return Err(place(Error::new("this key stands here twice"), span));
        }
        keys.push(key);
    }
    Ok(keys)
}

type Placed<T> = Result<T, (Error, Range<usize>)>;

fn trusted(
    entry: Entry,
    whole: Range<usize>,
    config_home: &Path,
    path: &Path,
) -> Placed<TrustedKey> {
    let say = |what: &str, span: Range<usize>| (Error::new(what), span);
    let (key, file) = match (entry.file, entry.pem) {
        (Some(file), None) => {
            let span = file.span();
            let file = config_home.join(file.into_inner());
            (PublicKey::from_file(&file).map_err(|error| unreadable(&error, span))?, file)
        }
        (None, Some(pem)) => {
            let key = PublicKey::from_pem(pem.get_ref());
            (key.map_err(|error| unreadable(&error, pem.span()))?, path.to_path_buf())
        }
        _ => return Err(say("a key needs either `file` or `pem`", whole)),
    };
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
    let limits = Limits {
        roles,
        not_before: not_before.map(|(time, _)| time),
        not_after: not_after.map(|(time, _)| time),
        revoked,
    };
    Ok(TrustedKey { key, file, limits })
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
