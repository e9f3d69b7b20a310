//! Where tools work: the folder, what is allowed, the processes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::arguments::Arguments;
use super::children::{Answer, Children};
use super::confined_settings::ConfinedSettings;
use super::permission::Permission;
use super::root::Root;
use crate::config::Loaded;
use crate::error::{Error, Result};
use crate::train::{named_config, named_run};

/// What all tools have in common.
pub(super) struct Workplace {
    pub root: Root,
    pub allowed: Vec<Permission>,
    pub children: Children,
}

/// A call of a tool.
pub(super) struct ToolCall<'a> {
    pub place: &'a Workplace,
    pub arguments: Arguments,
    /// Whether the client no longer wants an answer.
    pub unwanted: &'a dyn Fn() -> bool,
}

impl Workplace {
    pub fn allows(&self, permission: Permission) -> bool {
        self.allowed.contains(&permission)
    }
}

impl ToolCall<'_> {
    /// A path that the client has named, within the folder.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        self.place.root.inside(self.arguments.required(name)?)
    }

    /// A run that the client has named, by its name or its directory.
    pub fn run(&self, name: &str) -> Result<PathBuf> {
        let given = self.arguments.required(name)?;
        self.place.root.inside(given)?;
        let found = named_run(Path::new(given))?;
        self.place.root.inside(&found.to_string_lossy())
    }

    /// The settings that the client has named, a file or those of a run, with what is put over
    /// them: the file, and what it means.
    pub fn settings(&self) -> Result<(PathBuf, Loaded)> {
        let given = self.arguments.required("config")?;
        self.place.root.inside(given)?;
        let path = named_config(Path::new(given))?;
        self.place.root.inside(&path.to_string_lossy())?;
        let overrides = self.arguments.texts("set");
        Ok((path.clone(), self.confined().run(&path, &overrides)?))
    }

    /// The settings of a run in its directory, with what the client puts over them.
    pub fn settings_of_run(&self, run: &Path) -> Result<Loaded> {
        let config = run.join("config.toml");
        self.place.root.inside(&config.to_string_lossy())?;
        self.confined().run(&config, &self.arguments.texts("set"))
    }

    /// A document that the client has named.
    pub fn document(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name)?;
        self.confined().document(&path)?;
        Ok(path)
    }

    fn confined(&self) -> ConfinedSettings<'_> {
        let allows = |permission| self.place.allows(permission);
        let (programs, network) = (allows(Permission::Programs), allows(Permission::Network));
        ConfinedSettings::new(&self.place.root, programs, network)
    }

    /// The options of a command: those given, `--offline` where there is no network, what the
    /// client puts over settings, and then what is no option, whatever it looks like.
    pub fn command(&self, options: &[&str], named: &str) -> Vec<String> {
        let mut all: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        if !self.place.allows(Permission::Network) {
            all.push("--offline".to_owned());
        }
        all.extend(self.arguments.texts("set").iter().map(|set| format!("--set={set}")));
        all.extend(["--".to_owned(), named.to_owned()]);
        all
    }

    /// Has a command done that prints JSON. A well-formed no (exit code 1) has its answer, too, and
    /// so has what could not be decided (2).
    pub fn json(&self, command: &[String]) -> Result<Value> {
        let answer = self.place.children.call(command, self.unwanted)?;
        match serde_json::from_str(&answer.stdout) {
            Ok(value) if answer.code.is_some() => Ok(value),
            _ => Err(failed(&answer)),
        }
    }
}

/// What a command said that did not do it: its error is the answer.
fn failed(answer: &Answer) -> Error {
    let said = answer.said.join("\n");
    let from = said.find("error[").or_else(|| said.find("error: ")).unwrap_or_default();
    let text = said[from..].trim();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    match (text, answer.code) {
        ("", Some(code)) => Error::run(format!("the command failed with exit code {code}")),
        ("", None) => Error::run("the command was ended by a signal"),
        (text, _) => Error::run("the command failed").because(text),
    }
}
