//! The lock: which bytes a configuration's names stand for. `configs/x.lock` beside
//! `configs/x.toml`, TOML, sorted, one line a file, so that a change reads well as a diff.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::names::check_paths;
use crate::document::quoted;
use crate::error::{Error, Result};
use crate::files::{
    DATA_LOCK, Digest, MIRRORED_LOCK, has_file, parse_toml, read_text, write_atomic,
};

/// Version of the format; a newer one is refused by name.
const VERSION: u32 = 1;
/// A million files of a hundred bytes; more is something else.
const BYTES_MAX: u64 = 256 << 20;

/// Everything that a configuration names, pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataLock {
    /// The base model, if it is on a hub.
    pub model: Option<Locked>,
    /// The data sets, sorted.
    pub data: Vec<Locked>,
}

/// A model or a data set, pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// As the configuration names it.
    pub name: String,
    /// Which subset was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// Which split was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Which globs were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globs: Vec<String>,
    /// The hub; nothing for what lies on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The revision that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit that it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// SHA-256 of a model's chat template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<Digest>,
    /// Columns of a data set with their types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Why it may be used; nothing in locks of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<InputTrust>,
    /// The files, sorted by path.
    pub files: Vec<LockedFile>,
}

/// Why an input may be used; the weakest reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputTrust {
    /// Nobody vouches for it: trust on first use, and the lock pins what was used.
    Tofu,
    /// A signed list of approved inputs has it; earlier versions called that a registry.
    #[serde(alias = "registry")]
    Allowlist,
    /// A key that was asked for has signed it.
    Signature,
}

impl InputTrust {
    /// As it stands in locks and in the lineage.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tofu => "tofu",
            Self::Allowlist => "allowlist",
            Self::Signature => "signature",
        }
    }
}

/// A file, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Its path in the repository or folder; of a single file, as the configuration names it.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Records, of data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// SHA-256 of its bytes; not known before they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Its git object, on a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<String>,
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    model: Option<Locked>,
    #[serde(default)]
    data: Vec<Locked>,
}

/// What a lock entry is asked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// As the configuration names it.
    pub name: &'a str,
    /// The subset.
    pub subset: Option<&'a str>,
    /// The split.
    pub split: Option<&'a str>,
    /// The globs.
    pub globs: &'a [String],
    /// The revision; `None` for what lies on this machine.
    pub revision: Option<&'a str>,
}

impl Locked {
    fn key(&self) -> (&str, Option<&str>, Option<&str>, &[String]) {
        (&self.name, self.subset.as_deref(), self.split.as_deref(), &self.globs)
    }

    /// Whether it was made for what is asked for.
    pub fn answers(&self, asked: &Asked) -> bool {
        self.key() == (asked.name, asked.subset, asked.split, asked.globs)
            && self.revision.as_deref() == asked.revision
    }

    /// What it is called where people read it: `name (subset, split)`.
    pub fn title(&self) -> String {
        let parts: Vec<&str> = self.subset.iter().chain(&self.split).map(String::as_str).collect();
        let parts = if self.globs.is_empty() { parts } else { vec!["chosen files"] };
        if parts.is_empty() {
            self.name.clone()
        } else {
            format!("{} ({})", self.name, parts.join(", "))
        }
    }

    /// A file of this path.
    pub fn file(&self, path: &str) -> Option<&LockedFile> {
        self.files.iter().find(|file| file.path == path)
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::lock(what));
        if self.files.is_empty() {
            return wrong(format!("the lock names no file of `{}`", self.name));
        }
        if self.commit.is_some() {
            check_paths(self.files.iter().map(|file| file.path.as_str()))?;
        }
        let hex = |text: &String| {
            text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut hashes = self.files.iter().filter_map(|file| file.oid.as_ref());
        if self.commit.iter().chain(&mut hashes).any(|text| !hex(text)) {
            return wrong(format!(
                "a commit or git object of `{}` is not 40 hex digits",
                self.name
            ));
        }
        if self.files.windows(2).any(|pair| pair[0].path >= pair[1].path) {
            return wrong(format!("the files of `{}` are not sorted by path", self.name));
        }
        Ok(())
    }
}

impl DataLock {
    /// Where the lock of a configuration lies.
    pub fn path_of(config: &Path) -> PathBuf {
        config.with_extension("lock")
    }

    /// That of a run: its own, or the one that came with it from its mirror.
    ///
    /// # Errors
    /// As with [`Self::read`].
    pub fn of_run(root: &Path) -> Result<Option<Self>> {
        match Self::read(&root.join(DATA_LOCK))? {
            Some(own) => Ok(Some(own)),
            None => Self::read(&root.join(MIRRORED_LOCK)),
        }
    }

    /// Reads a lock; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read, is of a newer version, or names what no hub may name.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if !has_file(path)? {
            return Ok(None);
        }
        let text = read_text(path, BYTES_MAX)?;
        Self::parse(&text, path)
            .map(Some)
            .map_err(|error| error.hint("remove it, and `firebrand pull` writes it again"))
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let document: Document = parse_toml(text, "the lock cannot be read", path)?;
        Self::of(document).map_err(|error| error.at(path))
    }

    fn of(document: Document) -> Result<Self> {
        if document.version > VERSION {
            return Err(Error::lock(format!(
                "the lock has version {}, this program reads up to {VERSION}",
                document.version
            )));
        }
        let lock = Self { model: document.model, data: document.data };
        lock.model.iter().chain(&lock.data).try_for_each(Locked::check)?;
        if lock.data.windows(2).any(|pair| pair[0].key() >= pair[1].key()) {
            return Err(Error::lock("the data sets of the lock are not sorted, or appear twice"));
        }
        Ok(lock)
    }

    /// The entry of a data set.
    pub fn data(&self, asked: &Asked) -> Option<&Locked> {
        self.data.iter().find(|entry| entry.answers(asked))
    }

    /// Puts an entry of a data set in its place, over an older one.
    pub fn put(&mut self, entry: Locked) {
        self.data.retain(|known| known.key() != entry.key());
        let place = self.data.partition_point(|known| known.key() < entry.key());
        self.data.insert(place, entry);
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.to_toml().as_bytes())
    }

    /// The text: always the same for the same lock.
    pub fn to_toml(&self) -> String {
        let mut out = HEADER.to_owned();
        let _ = writeln!(out, "version = {VERSION}"); // writing to a string cannot fail
        if let Some(model) = &self.model {
            out += "\n[model]\n";
            model.render(&mut out);
        }
        for entry in &self.data {
            out += "\n[[data]]\n";
            entry.render(&mut out);
        }
        out
    }
}

const HEADER: &str = "\
# Written by `firebrand pull`: which bytes the names in the configuration stand for.
# Keep it beside the configuration, in version control. `firebrand pull --update` renews it, and
# `--locked` refuses anything else.
";

impl Locked {
    fn render(&self, out: &mut String) {
        let mut line = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = writeln!(out, "{name} = {value}");
            }
        };
        let text = |text: &Option<String>| text.as_deref().map(quoted);
        let list = |texts: &[String]| {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            (!texts.is_empty()).then(|| format!("[{}]", texts.join(", ")))
        };
        line("name", Some(quoted(&self.name)));
        line("subset", text(&self.subset));
        line("split", text(&self.split));
        line("globs", list(&self.globs));
        line("endpoint", text(&self.endpoint));
        line("revision", text(&self.revision));
        line("commit", text(&self.commit));
        line("chat_template", self.chat_template.map(|digest| quoted(&digest.to_string())));
        line("columns", list(&self.columns));
        line("trust", self.trust.map(|trust| quoted(trust.name())));
        *out += "files = [\n";
        for file in &self.files {
            let _ = write!(out, "  {{ path = {}, size = {}", quoted(&file.path), file.size);
            if let Some(rows) = file.rows {
                let _ = write!(out, ", rows = {rows}");
            }
            if let Some(sha256) = file.sha256 {
                let _ = write!(out, ", sha256 = \"{sha256}\"");
            }
            if let Some(oid) = &file.oid {
                let _ = write!(out, ", oid = {}", quoted(oid));
            }
            *out += " },\n";
        }
        *out += "]\n";
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
