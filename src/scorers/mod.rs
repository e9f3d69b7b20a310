//! How good an answer is: equal to the record's own, JSON that a schema accepts, a pattern that is
//! found, or a number that a program gives. Evaluations ask, and so does training by rewards.

mod code;
mod command;
mod keys;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use serde_json::{Map, Value, json};

pub use code::CodeRunner;
pub use keys::{
    APPEND_REFERENCE, COMMAND, COMPARE, EXTRACT, KIND, PATTERN, RUN_MEMORY, RUN_SECONDS, SCHEMA,
    TIMEOUT,
};

use crate::document::{Placed, Values};
use crate::error::{Error, Result};
use crate::files::{Digest, JsonSchema, read_json_schema};

/// A way to score answers.
#[derive(Debug, Clone)]
pub struct Scorer {
    /// What is asked of an answer.
    pub kind: ScorerKind,
    /// What of the answer is scored: the first group, else the whole match; all of it without.
    pub extract: Option<Regex>,
}

/// What is asked of an answer.
#[derive(Debug, Clone)]
pub enum ScorerKind {
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
        schema: Arc<jsonschema::Validator>,
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
    /// It is code that ends without an error.
    Code(CodeRunner),
}

/// An answer, and what it is an answer to.
#[derive(Debug, Clone, Copy)]
pub struct ScoredAnswer<'a> {
    /// Names the record.
    pub id: &'a str,
    /// What the model was asked.
    pub prompt: &'a str,
    /// What it said.
    pub answer: &'a str,
    /// What the record has for an answer.
    pub reference: &'a str,
    /// The fields of the record, where they are at hand.
    pub record: Option<&'a Map<String, Value>>,
}

impl Scorer {
    /// Reads one from a table with the keys of this module.
    ///
    /// # Errors
    /// When a schema cannot be used, or a command is empty.
    pub fn read(entry: &Values) -> Placed<Self> {
        let kind = match entry.text("kind").as_str() {
            "exact" => ScorerKind::Exact { json: entry.text("compare") == "json" },
            "json_schema" => judged_by(Path::new(&entry.text("schema")))
                .map_err(|error| (error, entry.place("schema")))?,
            "regex" => ScorerKind::Regex(expression(&entry.text("pattern"))),
            kind => {
                let command = entry.texts("command");
                if command.is_empty() {
                    return Err((Error::config("`command` is empty"), entry.place("command")));
                }
                match kind {
                    "code" => ScorerKind::Code(code_runner(entry, command)),
                    _ => {
                        let timeout = Duration::from_secs(entry.integer("timeout_seconds"));
                        ScorerKind::Command { command, timeout }
                    }
                }
            }
        };
        let extract = entry.optional_text("extract").map(|text| expression(&text));
        Ok(Self { kind, extract })
    }

    /// Sees to it that answers can be scored here.
    ///
    /// # Errors
    /// When there is no sandbox to run code in.
    pub fn check(&self) -> Result<()> {
        match &self.kind {
            ScorerKind::Code(runner) => runner.check(),
            _ => Ok(()),
        }
    }

    /// How good each answer is: 1 or 0, or what a program says.
    ///
    /// # Errors
    /// When the program fails or says something else than a number for each.
    pub fn scores(&self, answers: &[ScoredAnswer]) -> Result<Vec<f64>> {
        let judged = |text: &str| self.extracted(text).unwrap_or_default();
        let scores = |fits: &dyn Fn(&str, &str) -> bool| -> Vec<f64> {
            let score =
                |it: &ScoredAnswer| f64::from(u8::from(fits(&judged(it.answer), it.reference)));
            answers.iter().map(score).collect()
        };
        Ok(match &self.kind {
            ScorerKind::Exact { json: false } => {
                scores(&|answer, reference| answer.trim() == judged(reference).trim())
            }
            ScorerKind::Exact { json: true } => scores(&|answer, reference| {
                let wanted = judged(reference);
                let value = |text: &str| crate::files::parse_json(text.trim().as_bytes()).ok();
                value(answer).is_some_and(|found| value(&wanted) == Some(found))
            }),
            ScorerKind::JsonSchema { schema, .. } => scores(&|answer, _| {
                let value = crate::files::parse_json(answer.trim().as_bytes());
                value.is_ok_and(|value| schema.is_valid(&value))
            }),
            ScorerKind::Regex(pattern) => scores(&|answer, _| pattern.is_match(answer)),
            ScorerKind::Command { command, timeout } => {
                let line = |it: &ScoredAnswer| {
                    let mut line = json!({
                        "id": it.id,
                        "prompt": it.prompt,
                        "answer": judged(it.answer),
                        "reference": it.reference,
                    });
                    if let Some(record) = it.record {
                        line["record"] = json!(record);
                    }
                    line
                };
                let lines: Vec<Value> = answers.iter().map(line).collect();
                command::scores(command, &lines, *timeout)?
            }
            ScorerKind::Code(runner) => {
                let code = |it: &ScoredAnswer<'_>| judged(it.answer);
                let all: Vec<(String, &str)> =
                    answers.iter().map(|it| (code(it), it.reference)).collect();
                runner.scores(&all)?
            }
        })
    }

    /// What of a text is scored; nothing where the pattern finds nothing.
    fn extracted(&self, text: &str) -> Option<String> {
        let Some(pattern) = &self.extract else { return Some(text.to_owned()) };
        let found = pattern.captures(text)?;
        found.get(1).or_else(|| found.get(0)).map(|part| part.as_str().to_owned())
    }
}

fn code_runner(entry: &Values, command: Vec<String>) -> CodeRunner {
    CodeRunner {
        command,
        seconds: entry.integer("run_seconds"),
        memory: entry.integer("run_memory"),
        append_reference: entry.boolean("append_reference"),
    }
}

fn expression(text: &str) -> Regex {
    Regex::new(text).expect("the table of keys accepts regular expressions alone")
}

fn judged_by(path: &Path) -> Result<ScorerKind> {
    let JsonSchema { validator, sha256, .. } = read_json_schema(path)?;
    Ok(ScorerKind::JsonSchema { path: path.to_path_buf(), sha256, schema: Arc::new(validator) })
}
