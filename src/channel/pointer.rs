//! A pointer: which model is in use from a moment on, since when, until when and why.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::artifact::envelope::Bundle;
use crate::artifact::keys::SigningKey;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{Digest, parse_json};
use crate::verify::allowlist::rfc3339;

/// What is signed is of this kind, and of no other that a key signs.
pub const PAYLOAD_TYPE: &str = "application/vnd.firebrand.channel+json";
/// Numbers that one pointer carries; a gate measures some dozens.
const METRICS_MAX: usize = 1000;
/// Characters of a reason, a name, a place.
const TEXT_MAX: usize = 4000;
/// The highest serial number: it stands in a file's name with eight digits.
pub const SERIAL_MAX: u64 = 99_999_999;

/// Which model is in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pointer {
    /// The channel's name.
    pub channel: String,
    /// Grows by one with every pointer, from 1 on.
    pub serial: u64,
    /// A random number at a channel's beginning, so that no two channels begin with the same
    /// bytes: by its beginning a channel is known again, wherever it lies. Channels of earlier
    /// versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Digest>,
    /// Forward or back.
    pub kind: PointerKind,
    /// When it was signed, as its signer says.
    #[serde(with = "rfc3339")]
    pub issued: Timestamp,
    /// When it counts no more.
    #[serde(with = "rfc3339")]
    pub expires: Timestamp,
    /// The model.
    pub model: ModelRef,
    /// The pointer before it; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// Why.
    pub reason: String,
    /// The verdict that allowed it: SHA-256 of its line beside the model.
    pub vsa_sha256: Digest,
    /// The numbers of that verdict.
    pub metrics: BTreeMap<String, f64>,
}

/// Whether a pointer leads to a new model or back to an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointerKind {
    /// To a model that passed the gate.
    Promote,
    /// To one that was in use before.
    Rollback,
}

impl fmt::Display for PointerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promote => "promote",
            Self::Rollback => "rollback",
        })
    }
}

/// A model by its bytes, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// What people call it.
    pub name: String,
    /// Its folder: absolute, or relative to the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where it was published, if not in a folder of everyone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The digest over all digests.
    pub root_sha256: Digest,
    /// Of `model.sig`: what pins every byte of the model and who signed it.
    pub sig_sha256: Digest,
}

/// The pointer before: its bytes, and so all those before it, are part of what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Its serial number.
    pub serial: u64,
    /// Its model.
    pub sig_sha256: Digest,
    /// Of the file that holds it.
    pub sha256: Digest,
}

impl Pointer {
    /// The model and how long it counts, for people.
    pub fn line(&self) -> String {
        let (name, signature) = (&self.model.name, self.model.sig_sha256.short());
        format!("{name} ({signature}), serial number {}, until {:.0}", self.serial, self.expires)
    }

    /// Signs it.
    ///
    /// # Errors
    /// When it is none that a reader would accept.
    pub fn sign(&self, key: &SigningKey) -> Result<Bundle> {
        let text = serde_json::to_string(self).context("cannot encode the pointer")?;
        Self::parse(text.as_bytes())?;
        Bundle::sign(PAYLOAD_TYPE, text.into_bytes(), key)
    }

    /// Reads the signed bytes, strictly.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        let value = parse_json(payload)?;
        let pointer: Self = serde_json::from_value(value)
            .context_code(ErrorCode::Channel, "this is not a channel pointer")?;
        let texts = [Some(&pointer.reason), Some(&pointer.model.name)];
        let places = [pointer.model.path.as_ref(), pointer.model.uri.as_ref()];
        // Programs read these line by line.
        let bad =
            |text: &&String| text.chars().count() > TEXT_MAX || text.chars().any(char::is_control);
        let problem = if texts.into_iter().chain(places).flatten().any(|text| bad(&text)) {
            "a string in it is too long or has control characters"
        } else if !(1..=SERIAL_MAX).contains(&pointer.serial) {
            "its serial number is out of range"
        } else if pointer.model.path.is_some() == pointer.model.uri.is_some() {
            "its model has not exactly one of `path` and `uri`"
        } else if pointer.model.uri.as_ref().is_some_and(|uri| uri.trim().is_empty()) {
            "its model's `uri` is empty"
        } else if pointer.nonce.is_some() && pointer.previous.is_some() {
            "only the first pointer of a channel has a `nonce`"
        } else if pointer.metrics.len() > METRICS_MAX {
            "it holds too many numbers"
        } else if pointer.expires <= pointer.issued {
            "it expires before it is issued"
        } else {
            return Ok(pointer);
        };
        Err(Error::channel("this is not a channel pointer").because(problem))
    }
}

/// Makes one line of a text for a pointer, with an end.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    words
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(TEXT_MAX)
        .collect()
}

/// A channel's name becomes a folder's: lower case, so that it is the same on every disk.
pub fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if begins && name.len() <= 64 && name.chars().all(fits) && !name.ends_with('.') {
        return Ok(());
    }
    Err(Error::channel(format!("`{name}` is not a valid name of a channel"))
        .hint("up to 64 lower-case letters, digits, `-`, `_` and `.`, such as `production`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    pub fn pointer() -> Pointer {
        Pointer {
            channel: "production".to_owned(),
            serial: 2,
            nonce: None,
            kind: PointerKind::Promote,
            issued: "2026-10-20T10:06:00Z".parse().unwrap(),
            expires: "2026-11-19T10:06:00Z".parse().unwrap(),
            model: ModelRef {
                name: "support".to_owned(),
                path: Some("models/a".to_owned()),
                uri: None,
                root_sha256: Digest::of(b"root"),
                sig_sha256: Digest::of(b"sig"),
            },
            previous: Some(Previous {
                serial: 1,
                sig_sha256: Digest::of(b"old"),
                sha256: Digest::of(b"file"),
            }),
            reason: "gate PASSED".to_owned(),
            vsa_sha256: Digest::of(b"vsa"),
            metrics: BTreeMap::from([("loss".to_owned(), 1.25)]),
        }
    }

    #[test]
    fn a_pointer_comes_back_as_it_was() {
        let text = serde_json::to_string(&pointer()).unwrap();
        assert!(text.contains("\"issued\":\"2026-10-20T10:06:00Z\""), "{text}");
        assert_eq!(Pointer::parse(text.as_bytes()).unwrap(), pointer());
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_refused() {
        let text = serde_json::to_string(&pointer()).unwrap();
        let swap = |from: &str, to: &str| {
            let bent = text.replace(from, to);
            assert_ne!(bent, text, "{from}");
            Pointer::parse(bent.as_bytes()).unwrap_err().to_string()
        };
        let mut messages = String::new();
        for (from, to) in [
            ("\"serial\":2,\"kind\"", "\"serial\":0,\"kind\""),
            ("\"serial\":2,\"kind\"", "\"serial\":2,\"serial\":3,\"kind\""),
            ("\"serial\":2,\"kind\"", "\"serial\":100000000,\"kind\""),
            ("\"kind\"", "\"more\":1,\"kind\""),
            ("\"promote\"", "\"forward\""),
            ("2026-11-19", "2026-10-19"),
            ("\"path\":\"models/a\"", "\"path\":\"models\\na\""),
            ("\"path\":\"models/a\",", ""),
            ("\"path\":", "\"uri\":\"x:y\",\"path\":"),
            ("1.25", "null"),
            ("\"path\":\"models/a\"", "\"uri\":\" \""),
            ("\"kind\"", &format!("\"nonce\":\"{}\",\"kind\"", Digest::of(b"x"))),
            ("\"kind\"", "\"nonce\":\"short\",\"kind\""),
        ] {
            messages += &format!("{from} -> {to}\n{}\n", swap(from, to));
        }
        says(
            messages,
            snapbox::str![[r#"
"serial":2,"kind" -> "serial":0,"kind"
error[channel]: this is not a channel pointer
  because its serial number is out of range
"serial":2,"kind" -> "serial":2,"serial":3,"kind"
error[file]: not valid JSON
  because the key `serial` appears twice at line 1 column 45
"serial":2,"kind" -> "serial":100000000,"kind"
error[channel]: this is not a channel pointer
  because its serial number is out of range
"kind" -> "more":1,"kind"
error[channel]: this is not a channel pointer
  because unknown field `more`, expected one of `channel`, `serial`, `nonce`, `kind`, `issued`, `expires`, `model`, `previous`, `reason`, `vsa_sha256`, `metrics`
"promote" -> "forward"
error[channel]: this is not a channel pointer
  because unknown variant `forward`, expected `promote` or `rollback`
2026-11-19 -> 2026-10-19
error[channel]: this is not a channel pointer
  because it expires before it is issued
"path":"models/a" -> "path":"models\na"
error[channel]: this is not a channel pointer
  because a string in it is too long or has control characters
"path":"models/a", -> 
error[channel]: this is not a channel pointer
  because its model has not exactly one of `path` and `uri`
"path": -> "uri":"x:y","path":
error[channel]: this is not a channel pointer
  because its model has not exactly one of `path` and `uri`
1.25 -> null
error[channel]: this is not a channel pointer
  because invalid type: null, expected f64
"path":"models/a" -> "uri":" "
error[channel]: this is not a channel pointer
  because its model's `uri` is empty
"kind" -> "nonce":"[SHA256]","kind"
error[channel]: this is not a channel pointer
  because only the first pointer of a channel has a `nonce`
"kind" -> "nonce":"short","kind"
error[channel]: this is not a channel pointer
  because `short` is not a lower-case SHA-256 digest

"#]],
        );
        assert!(
            Pointer { metrics: (0..2000).map(|n| (n.to_string(), 0.0)).collect(), ..pointer() }
                .sign(&SigningKey::generate().unwrap())
                .is_err()
        );
    }

    #[test]
    fn names_are_folders_of_their_own() {
        for name in ["production", "a", "eu-west.2_x", "0"] {
            check_name(name).unwrap();
        }
        let long = "a".repeat(65);
        for name in ["", ".", "..", "../x", "a/b", "A", "a b", "-x", ".x", "x.", "a\\b", &long] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn reasons_are_one_line() {
        assert_eq!(one_line(" a\n b\u{1b}[2J\tc "), "a b [2J c");
        assert_eq!(one_line(&"x".repeat(9000)).len(), TEXT_MAX);
    }
}
