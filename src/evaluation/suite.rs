//! `EVAL.toml`: which data a model is evaluated on, in which slices, and at which tasks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::label_metrics::LABEL_METRICS;
use super::suite_keys::{KEYS, SLICES_MAX};
use super::task::{self, Task};
use crate::config::{DataSetConfig, FormatChoice, OnUnused, ScoreHead};
use crate::data::{CaseSettings, Codec};
use crate::document::{Document, Findings, Placed, Values};
use crate::error::{Error, Result};
use crate::files::Digest;

/// What a model is evaluated on.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Its name, for people.
    pub name: String,
    /// Where it was read.
    pub path: PathBuf,
    /// Of the file's bytes.
    pub sha256: Digest,
    /// Decides draws of the bootstrap.
    pub seed: u64,
    /// The records.
    pub data: DataSetConfig,
    /// Longest row in tokens.
    pub max_seq_len: usize,
    /// Records judged; 0 means all.
    pub max_records: u64,
    /// Rows of a forward pass.
    pub micro_batch_size: usize,
    /// What the chat template is handed, as `data.template_args` of a run.
    pub template_args: BTreeMap<String, serde_json::Value>,
    /// What is done about what the model does not get of a record, as `data.on_unused` of a run.
    pub on_unused: Option<OnUnused>,
    /// How records are told apart.
    pub slices: Vec<SliceBy>,
    /// What the model has to do.
    pub tasks: Vec<Task>,
    /// Resampled data sets for intervals; 0 makes none.
    pub bootstrap: u64,
    /// How wide the intervals are, e.g. 0.95.
    pub confidence: f64,
}

/// Records told apart by one property.
#[derive(Debug, Clone, PartialEq)]
pub enum SliceBy {
    /// By the text in a column; a path such as `meta.lang` leads into nested columns.
    Column {
        /// The column.
        column: String,
        /// The values that must be there; every value that is, if empty.
        values: Vec<String>,
    },
    /// By number of tokens: up to each bound, and above the last.
    Length(Vec<usize>),
}

impl SliceBy {
    /// What it is called in reports and policies.
    pub fn name(&self) -> &str {
        match self {
            Self::Column { column, .. } => column,
            Self::Length(_) => "length",
        }
    }
}

impl Suite {
    /// Reads a suite. Paths in it are relative to the current folder, as in every configuration.
    ///
    /// # Errors
    /// All problems at once with line and column, when it is no suite.
    pub fn read(path: &Path) -> Result<Self> {
        let document = Document::read(&KEYS, path)?;
        let mut findings = document.findings();
        let slices = slices(document.values.tables("slice"), &mut findings);
        let tasks = tasks(document.values.tables("task"), &mut findings);
        findings.finish()?;
        let values = &document.values;
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            name: values.optional_text("name").unwrap_or_else(stem),
            path: path.to_path_buf(),
            sha256: document.sha256,
            seed: values.integer("seed"),
            max_seq_len: values.size("data.max_seq_len"),
            max_records: values.integer("data.max_records"),
            micro_batch_size: values.size("data.micro_batch_size"),
            template_args: values.arguments("data.template_args"),
            on_unused: values
                .optional_text("data.on_unused")
                .and_then(|name| OnUnused::from_name(&name)),
            data: DataSetConfig {
                format: values.choice("data.format", FormatChoice::from_name),
                revision: values.optional_text("data.revision"),
                subset: values.optional_text("data.subset"),
                split: values.optional_text("data.split"),
                files: values.optional_texts("data.files").unwrap_or_default(),
                columns: values.pairs("data.columns").unwrap_or_default(),
                ..DataSetConfig::new(values.text("data.path"))
            },
            slices,
            tasks,
            bootstrap: values.integer("bootstrap"),
            confidence: values.number("confidence"),
        })
    }

    /// All records of a file, a folder or a data set on the hub, without slices or tasks.
    pub fn of_data(data: &str, max_seq_len: usize, max_records: u64) -> Self {
        let text = format!("{data} {max_seq_len} {max_records}");
        Self {
            name: data.to_owned(),
            path: PathBuf::from(data),
            sha256: Digest::of(text.as_bytes()),
            seed: 0,
            max_seq_len,
            max_records,
            micro_batch_size: 1,
            template_args: BTreeMap::new(),
            on_unused: None,
            data: DataSetConfig::new(data.to_owned()),
            slices: Vec::new(),
            tasks: Vec::new(),
            bootstrap: 0,
            confidence: 0.95,
        }
    }

    /// How the records are read. What a run hands to its template holds where the suite says
    /// nothing.
    pub fn case_settings(&self, codec: &Codec, head: Option<&ScoreHead>) -> CaseSettings {
        let template_args = match self.template_args.is_empty() {
            true => codec.template_args().clone(),
            false => self.template_args.clone().into_iter().collect(),
        };
        CaseSettings {
            max_seq_len: self.max_seq_len,
            max_records: self.max_records,
            template_args,
            on_unused: self.on_unused,
            score_head: head.cloned().map(Arc::new),
        }
    }
}

fn slices(entries: &[Values], findings: &mut Findings) -> Vec<SliceBy> {
    let mut slices: Vec<SliceBy> = Vec::new();
    for entry in entries {
        let Some(slice) = findings.take(slice(entry)) else { continue };
        if slices.iter().any(|known| known.name() == slice.name()) {
            let what = format!("there are two slices by `{}`", slice.name());
            findings.report((Error::config(what), entry.place("by")));
        }
        slices.push(slice);
    }
    slices
}

fn slice(entry: &Values) -> Placed<SliceBy> {
    let (by, values, bands) = (entry.text("by"), entry.texts("values"), entry.sizes("bands"));
    if by != "length" {
        if !bands.is_empty() {
            let error = Error::config("`bands` are for slices by `length`");
            return Err((error.hint("`values` name texts"), entry.place("bands")));
        }
        return Ok(SliceBy::Column { column: by, values });
    }
    if bands.is_empty() || !values.is_empty() {
        let error = Error::config("a slice by `length` needs `bands` of tokens, and no `values`")
            .hint("for example `bands = [64, 256]`: up to 64, up to 256, above");
        return Err((error, entry.place(if values.is_empty() { "bands" } else { "values" })));
    }
    if bands.len() >= SLICES_MAX {
        return Err((Error::config(format!("at most {SLICES_MAX} slices")), entry.place("bands")));
    }
    Ok(SliceBy::Length(bands))
}

fn tasks(entries: &[Values], findings: &mut Findings) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for entry in entries {
        let Some(task) = findings.take(task::read(entry)) else { continue };
        let name = task.name.as_str();
        let taken =
            ["loss", "perplexity", "accuracy"].contains(&name) || LABEL_METRICS.contains(&name);
        if taken || tasks.iter().any(|known| known.name == task.name) {
            let what = format!("the name `{}` is taken", task.name);
            findings.report((Error::config(what), entry.place("name")));
        }
        tasks.push(task);
    }
    tasks
}

#[cfg(test)]
#[path = "suite_tests.rs"]
mod tests;
