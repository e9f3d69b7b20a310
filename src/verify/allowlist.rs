//! `allowlist.toml`: which base models and data sets may be used, by the SHA-256 of their files,
//! signed by someone whom the user trusts with that.
//!
//! The signature lies beside it as `allowlist.toml.sigstore.json`: a sigstore bundle around an
//! in-toto statement of which the only subject is the file. A serial number that only grows and a
//! date after which it counts no more keep an old copy from coming back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rollback_guard::Seen;
use super::signer::judge;
use super::trust::Trust;
use super::trusted_keys_table::Role;
use crate::artifact::envelope::{Bundle, Defect, IN_TOTO, bundle_beside};
use crate::artifact::keys::SigningKey;
use crate::artifact::signature::STATEMENT_TYPE;
use crate::document::quoted;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{Digest, parse_json, parse_toml, read_bytes, write_atomic};

/// What the statement says of its subject.
pub const PREDICATE_TYPE: &str = "urn:firebrand:registry:v1";
/// Version of the format; a newer one is refused by name.
const VERSION: u32 = 1;
/// A hundred thousand files have less.
const BYTES_MAX: u64 = 64 << 20;

/// Approved inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowlist {
    version: u32,
    /// What it is called, wherever the file lies: its serial numbers belong to this name.
    pub name: String,
    /// Grows with every change.
    pub serial: u64,
    /// When it counts no more.
    #[serde(with = "rfc3339")]
    pub expires: Timestamp,
    /// What may be used, sorted by kind and name.
    #[serde(default, rename = "artifact")]
    pub artifacts: Vec<Approved>,
}

/// Times as text.
pub(crate) mod rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{time:.0}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not an RFC 3339 time")))
    }
}

/// A model or a data set that may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// As configurations name it.
    pub name: String,
    /// What it is.
    pub kind: InputKind,
    /// The commit that was looked at, on a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Its files, sorted by path.
    pub files: Vec<ApprovedFile>,
}

/// What an approved input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// A base model.
    Model,
    /// A data set.
    Dataset,
}

impl InputKind {
    /// As it stands in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        }
    }
}

/// A file of an approved input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedFile {
    /// Its path in the model or data set.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// What its bytes must be.
    pub sha256: Digest,
}

/// A allowlist of which signature, date and serial number are good.
#[derive(Debug, Clone)]
pub struct OpenedAllowlist {
    /// What it says.
    pub allowlist: Allowlist,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Whose signature it is: the hint of the key.
    pub hint: String,
    models: BTreeMap<Digest, String>,
    data: BTreeMap<Digest, String>,
}

impl OpenedAllowlist {
    /// The approved input that a file of these bytes belongs to.
    pub fn find(&self, kind: InputKind, sha256: &Digest) -> Option<&str> {
        let files = if kind == InputKind::Model { &self.models } else { &self.data };
        files.get(sha256).map(String::as_str)
    }
}

impl Allowlist {
    /// A new one without entries, as serial number 0: it is not valid before it is published.
    pub fn new(name: &str, expires: Timestamp) -> Self {
        let name = name.to_owned();
        Self { version: VERSION, name, serial: 0, expires, artifacts: Vec::new() }
    }

    /// Puts an entry in its place, over an older one of the same kind and name.
    pub fn put(&mut self, entry: Approved) {
        self.remove(entry.kind, &entry.name);
        let key = |known: &Approved| (known.kind, known.name.clone());
        let place = self.artifacts.partition_point(|known| key(known) < key(&entry));
        self.artifacts.insert(place, entry);
    }

    /// Takes an entry away; tells whether it was there.
    pub fn remove(&mut self, kind: InputKind, name: &str) -> bool {
        let before = self.artifacts.len();
        self.artifacts.retain(|known| (known.kind, known.name.as_str()) != (kind, name));
        before != self.artifacts.len()
    }

    /// Signs it under the next serial number and writes both files.
    pub fn publish(&mut self, path: &Path, key: &SigningKey) -> Result<()> {
        self.serial += 1;
        let text = self.to_toml();
        // What nobody could read is not written.
        Self::parse(&text, path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let statement = json!({
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": Digest::of(text.as_bytes())}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {"name": self.name, "serial": self.serial.to_string()},
        });
        let bundle = Bundle::sign(IN_TOTO, statement.to_string().into_bytes(), key)?;
        // Between the two writes the pair does not fit, which readers refuse; then it fits again.
        write_atomic(&bundle_beside(path), format!("{}\n", bundle.to_json()).as_bytes())?;
        write_atomic(path, text.as_bytes())
    }

    /// Reads a allowlist and makes sure that it counts.
    ///
    /// # Errors
    /// Refuses one that is unsigned, signed by nobody whom `trust` lets vouch for inputs, changed,
    /// expired, or older than one that was `seen`.
    pub fn open(path: &Path, trust: &Trust, seen: Option<&Seen>) -> Result<OpenedAllowlist> {
        let bytes = read(path, "the allowlist")?;
        let sha256 = Digest::of(&bytes);
        let beside = bundle_beside(path);
        if !beside.is_file() {
            return Err(Error::refused(ErrorCode::Signature, "the allowlist is not signed")
                .at(path)
                .because(format!("there is no {}", beside.display()))
                .hint("`firebrand allowlist` signs what it writes"));
        }
        let bundle = Bundle::parse(&read(&beside, "the allowlist's signature")?);
        let bundle = bundle.map_err(|defect| unusable(&defect).at(&beside))?;
        let hint = vouched(&bundle, trust).map_err(|error| error.at(&beside))?;
        check_statement(&bundle.payload, &sha256).map_err(|error| error.at(&beside))?;
        let text = String::from_utf8(bytes).context_at("the allowlist is not UTF-8", path)?;
        let allowlist = Self::parse(&text, path)?;
        if allowlist.expires < trust.now() {
            return Err(Error::refused(
                ErrorCode::Untrusted,
                format!("the allowlist expired on {:.0}", allowlist.expires),
            )
            .at(path)
            .hint("`firebrand allowlist approve` renews it"));
        }
        if let Some(seen) = seen {
            let name = format!("registry {}", allowlist.name);
            seen.note(&name, allowlist.serial, sha256).map_err(|error| error.at(path))?;
        }
        let of = |kind| {
            let entries = allowlist.artifacts.iter().filter(move |entry| entry.kind == kind);
            let files = entries.flat_map(|entry| entry.files.iter().map(move |f| (entry, f)));
            files.map(|(entry, file)| (file.sha256, entry.name.clone())).collect()
        };
        let (models, data) = (of(InputKind::Model), of(InputKind::Dataset));
        Ok(OpenedAllowlist { allowlist, sha256, hint, models, data })
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let allowlist: Self = parse_toml(text, "the allowlist cannot be read", path)?;
        allowlist.check().map_err(|error| error.at(path))?;
        Ok(allowlist)
    }

    fn check(&self) -> Result<()> {
        if self.version != VERSION {
            return Err(Error::untrusted(format!(
                "the allowlist has version {}, this program reads {VERSION}",
                self.version
            )));
        }
        let key = |entry: &Approved| (entry.kind, entry.name.clone());
        if self.artifacts.windows(2).any(|pair| key(&pair[0]) >= key(&pair[1])) {
            return Err(Error::untrusted(
                "the entries of the allowlist are not sorted, or appear twice",
            ));
        }
        for entry in &self.artifacts {
            if entry.files.is_empty() {
                return Err(Error::untrusted(format!(
                    "the allowlist names no file of `{}`",
                    entry.name
                )));
            }
            if entry.files.windows(2).any(|pair| pair[0].path >= pair[1].path) {
                let name = &entry.name;
                return Err(Error::untrusted(format!(
                    "the files of `{name}` are not sorted by path"
                )));
            }
        }
        Ok(())
    }

    /// The text: always the same for the same allowlist, made to be read as a diff.
    pub fn to_toml(&self) -> String {
        let mut out = HEADER.to_owned();
        let _ = write!(
            out,
            "version = {VERSION}\nname = {}\nserial = {}\nexpires = \"{:.0}\"\n",
            quoted(&self.name),
            self.serial,
            self.expires
        ); // writing to a string cannot fail
        for entry in &self.artifacts {
            let _ = write!(out, "\n[[artifact]]\nname = {}\n", quoted(&entry.name));
            let _ = writeln!(out, "kind = \"{}\"", entry.kind.name());
            if let Some(commit) = &entry.commit {
                let _ = writeln!(out, "commit = {}", quoted(commit));
            }
            out += "files = [\n";
            for ApprovedFile { path, size, sha256 } in &entry.files {
                let path = quoted(path);
                let _ =
                    writeln!(out, "  {{ path = {path}, size = {size}, sha256 = \"{sha256}\" }},");
            }
            out += "]\n";
        }
        out
    }
}

const HEADER: &str = "\
# Written by `firebrand allowlist`: which base models and data sets may be used. It counts only with
# the signature beside it, up to its date, and never again once a higher serial number was seen.
";

fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).context_at(format!("cannot read {what}"), path)?.len();
    if size > BYTES_MAX {
        return Err(Error::untrusted(format!("{what} has {size} bytes and is refused")).at(path));
    }
    read_bytes(path, BYTES_MAX)
}

fn unusable(defect: &Defect) -> Error {
    match defect {
        Defect::Unsigned => Error::refused(ErrorCode::Signature, "the allowlist is not signed"),
        Defect::Unsupported(why) => {
            Error::signature(format!("this signature cannot be checked: {why}"))
        }
        Defect::Malformed(why) => {
            Error::refused(ErrorCode::Signature, "the allowlist's signature is damaged")
                .because(why)
        }
    }
}

/// The hint of the trusted key that signed.
fn vouched(bundle: &Bundle, trust: &Trust) -> Result<String> {
    let judged = judge(bundle, trust, Some(Role::Allowlist), None);
    if let Some(why) = judged.objection {
        return Err(Error::refused(
            ErrorCode::Untrusted,
            "the allowlist is signed by a key that is not trusted for it",
        )
        .because(format!("the {} {why}", judged.name))
        .hint("if you know whose key it is, name its public key in `trust.allowlist_keys`"));
    }
    if bundle.payload_type != IN_TOTO || judged.signed != Some(true) {
        return Err(Error::refused(
            ErrorCode::Signature,
            "the allowlist's signature does not hold",
        ));
    }
    Ok(judged.signer.hint)
}

/// The signed statement must be about a allowlist of these bytes, and nothing else.
fn check_statement(payload: &[u8], sha256: &Digest) -> Result<()> {
    let value = parse_json(payload).map_err(|error| {
        Error::refused(ErrorCode::Signature, "the allowlist's statement is damaged")
            .because(error.into_what())
    })?;
    let is =
        |path: &str, expected: &str| value.pointer(path).and_then(Value::as_str) == Some(expected);
    let subjects = value["subject"].as_array().map_or(0, Vec::len);
    if !is("/_type", STATEMENT_TYPE) || !is("/predicateType", PREDICATE_TYPE) || subjects != 1 {
        return Err(Error::refused(
            ErrorCode::Signature,
            "the signed statement is not an allowlist",
        ));
    }
    if !is("/subject/0/digest/sha256", &sha256.to_string()) {
        return Err(Error::refused(
            ErrorCode::Changed,
            "the allowlist was changed after it was signed",
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "allowlist_tests.rs"]
mod tests;
