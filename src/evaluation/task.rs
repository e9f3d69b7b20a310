//! `[[task]]`: something that the model has to do, and how its answers are evaluated.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use toml::Spanned;

use crate::error::{Context, Error, Result};
use crate::files::{Digest, Placed, read_bytes};

/// A suite has some dozens of lines; a larger file is something else.
pub(super) const BYTES_MAX: u64 = 1 << 20;

/// Something that the model has to do: its answers are looked at.
#[derive(Debug, Clone)]
pub struct Task {
    /// What it is called in reports and policies.
    pub name: String,
    /// How an answer is evaluated.
    pub kind: TaskKind,
    /// Longest answer in tokens.
    pub max_tokens: usize,
    /// Records that are asked; 0 means all.
    pub max_records: u64,
    /// What of the answer is evaluated: the first group, else the whole match; all of it without.
    pub extract: Option<Regex>,
}

/// How an answer is evaluated.
#[derive(Debug, Clone)]
pub enum TaskKind {
    /// It is the record's answer: as text without the space around it, or as a JSON value.
    Exact {
        /// Compare JSON values.
        json: bool,
    },
    /// It is JSON that fits a JSON Schema.
    JsonSchema {
        /// The schema's file.
        path: PathBuf,
        /// Its bytes.
        sha256: Digest,
        /// Compiled.
        schema: std::sync::Arc<jsonschema::Validator>,
    },
    /// A regular expression is found in it.
    Regex(Regex),
    /// A program tells a number for each.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskEntry {
    name: String,
    kind: Spanned<String>,
    compare: Option<Spanned<String>>,
    schema: Option<Spanned<PathBuf>>,
    pattern: Option<Spanned<String>>,
    command: Option<Spanned<Vec<String>>>,
    timeout_seconds: Option<u64>,
    extract: Option<Spanned<String>>,
    #[serde(default = "answer_tokens")]
    max_tokens: usize,
    #[serde(default)]
    max_records: u64,
}

fn answer_tokens() -> usize {
    128
}

/// Reads a task; `whole` is where it stands.
pub(super) fn read(entry: TaskEntry, whole: &Range<usize>) -> Placed<Task> {
    let lacks = |key: &str, kind: &str| {
        (Error::new(format!("a task of the kind `{kind}` needs `{key}`")), whole.clone())
    };
    let kind = match entry.kind.get_ref().as_str() {
        "exact" => match entry.compare.as_ref().map(|compare| compare.get_ref().as_str()) {
            None | Some("text") => TaskKind::Exact { json: false },
            Some("json") => TaskKind::Exact { json: true },
            Some(other) => {
                let error = Error::new(format!("`compare` is `text` or `json`, not `{other}`"));
                return Err((error, whole.clone()));
            }
        },
        "json_schema" => {
            let schema = entry.schema.as_ref().ok_or_else(|| lacks("schema", "json_schema"))?;
            compiled(schema.get_ref()).map_err(|error| (error, schema.span()))?
        }
        "regex" => {
            let pattern = entry.pattern.as_ref().ok_or_else(|| lacks("pattern", "regex"))?;
            TaskKind::Regex(expression(pattern)?)
        }
        "command" => {
            let command = entry.command.as_ref().ok_or_else(|| lacks("command", "command"))?;
            if command.get_ref().is_empty() {
                return Err((Error::new("`command` is empty"), command.span()));
            }
            TaskKind::Command {
                command: command.get_ref().clone(),
                timeout: Duration::from_secs(entry.timeout_seconds.unwrap_or(600)),
            }
        }
        other => {
            let error = Error::new(format!("there is no kind of task `{other}`"));
            let hint = "there are `exact`, `json_schema`, `regex`, `command`";
            return Err((error.hint(hint), entry.kind.span()));
        }
    };
    unused(&entry, &kind)?;
    if entry.max_tokens == 0 {
        return Err((Error::new("`max_tokens` must be at least 1"), whole.clone()));
    }
    Ok(Task {
        extract: entry.extract.as_ref().map(expression).transpose()?,
        name: entry.name,
        kind,
        max_tokens: entry.max_tokens,
        max_records: entry.max_records,
    })
}

/// A key that would change nothing is a mistake.
fn unused(entry: &TaskEntry, kind: &TaskKind) -> Placed<()> {
    let is = |wanted: &str| entry.kind.get_ref() == wanted;
    let spans = [
        ("compare", entry.compare.as_ref().map(Spanned::span), is("exact")),
        ("schema", entry.schema.as_ref().map(Spanned::span), is("json_schema")),
        ("pattern", entry.pattern.as_ref().map(Spanned::span), is("regex")),
        ("command", entry.command.as_ref().map(Spanned::span), is("command")),
        (
            "timeout_seconds",
            entry.timeout_seconds.map(|_| entry.kind.span()),
            matches!(kind, TaskKind::Command { .. }),
        ),
    ];
    for (key, span, used) in spans {
        if let (Some(span), false) = (span, used) {
            let what = format!("`{key}` means nothing for the kind `{}`", entry.kind.get_ref());
            return Err((Error::new(what), span));
        }
    }
    Ok(())
}

fn expression(text: &Spanned<String>) -> Placed<Regex> {
    Regex::new(text.get_ref()).map_err(|error| {
        let why = error.to_string().lines().last().unwrap_or_default().to_owned();
        (Error::new("this is no regular expression").because(why), text.span())
    })
}

/// A schema never fetches another: what it refers to must be inside it.
fn compiled(path: &Path) -> Result<TaskKind> {
    std::fs::metadata(path).context_at("cannot read the schema", path)?;
    let bytes = read_bytes(path, BYTES_MAX)?;
    let json = crate::files::parse_json(&bytes)
        .map_err(|error| Error::new("the schema is no JSON").at(path).because(error.what))?;
    let schema = jsonschema::validator_for(&json).map_err(|error| {
        Error::new("this is no JSON Schema").at(path).because(error.to_string())
    })?;
    let (path, sha256) = (path.to_path_buf(), Digest::of(&bytes));
    Ok(TaskKind::JsonSchema { path, sha256, schema: std::sync::Arc::new(schema) })
}
