//! `EVAL.toml`: which data a model is evaluated on, in which slices, and at which tasks.

use crate::evaluation::task::BYTES_MAX;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::task::{self, Task, TaskEntry};
use crate::config::{DataSetConfig, FormatChoice, OnUnused};
use crate::data::{CaseSettings, Codec};
use crate::error::{Error, Result};
use crate::files::{Digest, Placed, TomlText};

/// More slices of one kind tell a person nothing.
pub const SLICES_MAX: usize = 100;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: Option<String>,
    #[serde(default = "seed")]
    seed: u64,
    data: Data,
    #[serde(default)]
    slice: Vec<Spanned<Slice>>,
    #[serde(default)]
    task: Vec<Spanned<TaskEntry>>,
    #[serde(default = "samples")]
    bootstrap: u64,
    #[serde(default = "confidence")]
    confidence: Spanned<f64>,
}

fn seed() -> u64 {
    42
}

fn samples() -> u64 {
    1000
}

fn confidence() -> Spanned<f64> {
    Spanned::new(0..0, 0.95)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    path: String,
    format: Option<Spanned<String>>,
    revision: Option<String>,
    subset: Option<String>,
    split: Option<String>,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    columns: BTreeMap<String, String>,
    max_seq_len: Option<Spanned<usize>>,
    #[serde(default)]
    max_records: u64,
    micro_batch_size: Option<Spanned<usize>>,
    #[serde(default)]
    template_args: BTreeMap<String, serde_json::Value>,
    on_unused: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slice {
    by: String,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    bands: Vec<usize>,
}

impl Suite {
    /// Reads a suite. Paths in it are relative to the current folder, as in every configuration.
    ///
    /// # Errors
    /// With line and column, when it is no suite.
    pub fn read(path: &Path) -> Result<Self> {
        let text = TomlText::read(path, "the evaluation", BYTES_MAX)?;
        let document: Document = text.parse()?;
        Self::of(document, path, Digest::of(text.text().as_bytes()))
            .map_err(|(error, span)| text.place(error, span))
    }

    fn of(document: Document, path: &Path, sha256: Digest) -> Placed<Self> {
        let mut slices: Vec<SliceBy> = Vec::new();
        for entry in document.slice {
            let span = entry.span();
            let slice = slice(entry.into_inner()).map_err(|error| (error, span.clone()))?;
            if slices.iter().any(|known| known.name() == slice.name()) {
                let what = format!("there are two slices by `{}`", slice.name());
                return Err((Error::new(what), span));
            }
            slices.push(slice);
        }
        let mut tasks: Vec<Task> = Vec::new();
        for entry in document.task {
            let span = entry.span();
            let task = task::read(entry.into_inner(), &span)?;
            let taken = ["loss", "perplexity", "accuracy"].contains(&task.name.as_str());
            if taken || tasks.iter().any(|known| known.name == task.name) {
                let what = format!("the name `{}` is taken", task.name);
                return Err((Error::new(what), span));
            }
            tasks.push(task);
        }
        let (confidence, span) = (*document.confidence.get_ref(), document.confidence.span());
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err((Error::new("`confidence` lies between 0 and 1, such as 0.95"), span));
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let data = document.data;
        Ok(Self {
            name: document.name.unwrap_or(stem),
            path: path.to_path_buf(),
            sha256,
            seed: document.seed,
            max_seq_len: at_least(data.max_seq_len, 2, 1024, "max_seq_len")?,
            max_records: data.max_records,
            template_args: data.template_args,
            on_unused: on_unused(data.on_unused)?,
            micro_batch_size: at_least(data.micro_batch_size, 1, 1, "micro_batch_size")?,
            data: DataSetConfig {
                format: format(data.format)?,
                path: data.path,
                revision: data.revision,
                subset: data.subset,
                split: data.split,
                files: data.files,
                columns: data.columns,
                weight: 1.0,
            },
            slices,
            tasks,
            bootstrap: document.bootstrap,
            confidence,
        })
    }
}

fn at_least(
    given: Option<Spanned<usize>>,
    least: usize,
    default: usize,
    name: &str,
) -> Placed<usize> {
    match given {
        None => Ok(default),
        Some(value) if *value.get_ref() < least => {
            Err((Error::new(format!("`{name}` must be at least {least}")), value.span()))
        }
        Some(value) => Ok(value.into_inner()),
    }
}

impl Suite {
    /// How the records are read. What a run hands to its template holds where the suite says
    /// nothing.
    pub fn case_settings(&self, codec: &Codec) -> CaseSettings {
        let template_args = match self.template_args.is_empty() {
            true => codec.template_args().clone(),
            false => self.template_args.clone().into_iter().collect(),
        };
        CaseSettings {
            max_seq_len: self.max_seq_len,
            max_records: self.max_records,
            template_args,
            on_unused: self.on_unused,
        }
    }
}

fn on_unused(given: Option<Spanned<String>>) -> Placed<Option<OnUnused>> {
    let Some(given) = given else { return Ok(None) };
    match OnUnused::from_name(given.get_ref()) {
        Some(on_unused) => Ok(Some(on_unused)),
        None => {
            let error = Error::new(format!("`on_unused` cannot be `{}`", given.get_ref()));
            let hint = format!("there are {}", OnUnused::NAMES.join(", "));
            Err((error.hint(hint), given.span()))
        }
    }
}

fn format(given: Option<Spanned<String>>) -> Placed<FormatChoice> {
    let Some(given) = given else { return Ok(FormatChoice::Auto) };
    let span = given.span();
    FormatChoice::from_name(given.get_ref()).ok_or_else(|| {
        let error = Error::new(format!("there is no format `{}`", given.get_ref()));
        (error.hint(format!("there are {}", FormatChoice::NAMES.join(", "))), span)
    })
}

fn slice(entry: Slice) -> Result<SliceBy> {
    if entry.by != "length" {
        if !entry.bands.is_empty() {
            return Err(
                Error::new("`bands` are for slices by `length`").hint("`values` name texts")
            );
        }
        return Ok(SliceBy::Column { column: entry.by, values: entry.values });
    }
    let rising = entry.bands.windows(2).all(|pair| pair[0] < pair[1]);
    if entry.bands.is_empty() || !rising || !entry.values.is_empty() {
        return Err(Error::new("a slice by `length` needs rising `bands` of tokens")
            .hint("for example `bands = [64, 256]`: up to 64, up to 256, above"));
    }
    if entry.bands.len() >= SLICES_MAX {
        return Err(Error::new(format!("at most {SLICES_MAX} slices")));
    }
    Ok(SliceBy::Length(entry.bands))
}

#[cfg(test)]
#[path = "suite_tests.rs"]
mod tests;
