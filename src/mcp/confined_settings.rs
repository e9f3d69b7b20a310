//! Settings that a client has written, or has put over others: what they name stays within the
//! folder of the server, and they start no programs unless that is allowed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::Value;

use super::root::{PATH_BYTES_MAX, Root};
use crate::config::Loaded;
use crate::error::{Context, Error, Result};
use crate::settings;
use crate::stores::StoreAddress;

/// Keys whose values are programs.
const PROGRAMS: [&str; 2] = ["command", "signer"];
/// Keys whose values are text for models and people, whatever they look like.
const PROSE: [&str; 2] = ["eval.prompts", "output.title"];
/// Larger documents are refused.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Documents that one names, and they, at most.
const DOCUMENTS_MAX: usize = 16;

/// What is looked at, and what was.
pub(super) struct ConfinedSettings<'a> {
    root: &'a Root,
    programs: bool,
    network: bool,
    seen: BTreeSet<PathBuf>,
}

impl<'a> ConfinedSettings<'a> {
    /// Settings may name programs and stores that are reached through the network, if so.
    pub fn new(root: &'a Root, programs: bool, network: bool) -> Self {
        Self { root, programs, network, seen: BTreeSet::new() }
    }

    /// The settings of a run: a file with values put over it.
    pub fn run(mut self, config: &Path, overrides: &[String]) -> Result<Loaded> {
        expect_small(config)?;
        let loaded = settings::load(config, overrides)?;
        self.text(&loaded.canonical)?;
        Ok(loaded)
    }

    /// Another document, such as a suite.
    pub fn document(mut self, path: &Path) -> Result<()> {
        self.file(path)
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        if self.seen.len() > DOCUMENTS_MAX {
            return Err(Error::usage("too many documents name each other").at(path));
        }
        expect_small(path)?;
        let text = std::fs::read_to_string(path).context_at("cannot read the file", path)?;
        self.text(&text).map_err(|error| error.at(path))
    }

    fn text(&mut self, text: &str) -> Result<()> {
        let table: toml::Table =
            text.parse().map_err(|error| Error::usage("the file is not TOML").because(error))?;
        table.iter().try_for_each(|(name, value)| self.value(name, value))
    }

    fn value(&mut self, key: &str, value: &Value) -> Result<()> {
        let last = key.rsplit('.').next().unwrap_or(key);
        if PROGRAMS.contains(&last) && !self.programs {
            return Err(Error::usage(format!("`{key}` names a program to run"))
                .because("this server runs no programs that settings name")
                .hint("start it with `--allow programs`, or leave the key out"));
        }
        match value {
            Value::Table(table) => table
                .iter()
                .try_for_each(|(name, value)| self.value(&format!("{key}.{name}"), value)),
            Value::Array(values) => values.iter().try_for_each(|value| self.value(key, value)),
            Value::String(_) if PROSE.contains(&key) => Ok(()),
            Value::String(text) => self.name(key, text),
            _ => Ok(()),
        }
    }

    /// Whatever can be a path is looked at as one; another name is one within the folder.
    fn name(&mut self, key: &str, text: &str) -> Result<()> {
        // No system takes these for a path; others may hold line ends.
        let is_long_text = text.len() > PATH_BYTES_MAX && text.contains('\n');
        if text.is_empty() || text.contains('\0') || is_long_text {
            return Ok(());
        }
        let store = StoreAddress::parse(text).ok();
        if !self.network && store.is_some_and(|it| !matches!(it, StoreAddress::Folder(_))) {
            return Err(Error::usage(format!("`{key}` is a store in the network"))
                .at(text)
                .because("this server does not use the network")
                .hint("start it with `--allow network`, or name a folder"));
        }
        let path = self
            .root
            .inside(text)
            .map_err(|error| error.because(format!("`{key}` is `{text}`")))?;
        match path.extension().is_some_and(|end| end == "toml") && path.is_file() {
            true => self.file(&path),
            false => Ok(()),
        }
    }
}

/// A pipe would be waited for, and a large file read, before it is refused.
fn expect_small(path: &Path) -> Result<()> {
    let found = std::fs::metadata(path).context_at("cannot read the file", path)?;
    match found.is_file() && found.len() <= DOCUMENT_BYTES_MAX {
        true => Ok(()),
        false => Err(Error::usage("this is not a file of settings").at(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_nothing_outside_and_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path()).unwrap();
        let check = |text: &str, programs: bool| {
            let path = folder.path().join("suite.toml");
            std::fs::write(&path, text).unwrap();
            ConfinedSettings::new(&root, programs, false).document(&path)
        };
        check("[[data]]\npath = \"a/b.jsonl\"\nname = \"Salesforce/wikitext\"\nof = 3", false)
            .unwrap();
        check("[eval]\nprompts = [\"/etc is what?\", \"../\"]", false).unwrap();
        check("[output]\nurl = \"https://example.org/a\"\ntext = \"\"\"a\nb/c\"\"\"", false)
            .unwrap();
        for text in [
            "[[data]]\npath = \"/etc/passwd\"",
            "[[data]]\npath = \"../other\"",
            "a = [[\"x\", [\"a/../..\"]]]",
            "a = { b = { c = \"/etc\" } }",
            "[[task.scorer]]\nkind = \"command\"\ncommand = [\"sh\"]",
            "[output]\nsigner = [\"sh\"]",
            "not = [toml",
            "[[data]]\npath = \"https://../../secret.jsonl\"",
            "[[data]]\npath = \"a\\n/../../secret.jsonl\"",
        ] {
            assert!(check(text, false).is_err(), "{text}");
        }
        check("[output]\nsigner = [\"sh\", \"-c\"]", true).unwrap();
        // Documents that documents name are looked at, each once.
        std::fs::write(folder.path().join("other.toml"), "a = \"suite.toml\"\nb = \"/etc\"")
            .unwrap();
        assert!(check("a = \"other.toml\"", false).is_err());
        std::fs::write(folder.path().join("other.toml"), "a = \"suite.toml\"").unwrap();
        check("a = \"other.toml\"", false).unwrap();
    }
    #[test]
    fn a_store_in_the_network_is_named_only_where_that_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path()).unwrap();
        let check = |address: &str, network: bool| {
            let path = folder.path().join("a.toml");
            std::fs::write(&path, format!("[output]\nmirror = \"{address}\"")).unwrap();
            ConfinedSettings::new(&root, false, network).document(&path)
        };
        for address in ["s3://bucket/some/prefix", "gs://bucket"] {
            check(address, true).unwrap();
            assert!(check(address, false).is_err(), "{address}");
        }
        check("mirrors/mine", false).unwrap();
        check("s3://../../elsewhere", true).unwrap_err();
    }
}
