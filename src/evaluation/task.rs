//! `[[task]]`: something that the model has to do, and how its answers are evaluated.

use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;

use crate::document::{Placed, Values};
use crate::error::{Context, Error, Result};
use crate::files::{Digest, read_bytes};

/// A schema has some hundreds of lines; a larger file is something else.
const BYTES_MAX: u64 = 1 << 20;

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

/// Reads a task.
pub(super) fn read(entry: &Values) -> Placed<Task> {
    let kind = match entry.text("kind").as_str() {
        "exact" => TaskKind::Exact { json: entry.text("compare") == "json" },
        "json_schema" => compiled(Path::new(&entry.text("schema")))
            .map_err(|error| (error, entry.place("schema")))?,
        "regex" => TaskKind::Regex(expression(&entry.text("pattern"))),
        _ => {
            let command = entry.texts("command");
            if command.is_empty() {
                return Err((Error::config("`command` is empty"), entry.place("command")));
            }
            let timeout = Duration::from_secs(entry.integer("timeout_seconds"));
            TaskKind::Command { command, timeout }
        }
    };
    Ok(Task {
        name: entry.text("name"),
        kind,
        max_tokens: entry.size("max_tokens"),
        max_records: entry.integer("max_records"),
        extract: entry.optional_text("extract").map(|text| expression(&text)),
    })
}

fn expression(text: &str) -> Regex {
    Regex::new(text).expect("the table of keys accepts regular expressions alone")
}

/// A schema never fetches another: what it refers to must be inside it.
fn compiled(path: &Path) -> Result<TaskKind> {
    std::fs::metadata(path).context_at("cannot read the schema", path)?;
    let bytes = read_bytes(path, BYTES_MAX)?;
    let json = crate::files::parse_json(&bytes).map_err(|error| {
        Error::config("the schema is no JSON").at(path).because(error.into_what())
    })?;
    let schema = jsonschema::validator_for(&json).map_err(|error| {
        Error::config("this is no JSON Schema").at(path).because(error.to_string())
    })?;
    let (path, sha256) = (path.to_path_buf(), Digest::of(&bytes));
    Ok(TaskKind::JsonSchema { path, sha256, schema: std::sync::Arc::new(schema) })
}
