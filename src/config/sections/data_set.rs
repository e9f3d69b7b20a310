//! `[[data.train]]` and `[[data.validation]]`: one data set each.

use std::collections::BTreeMap;

use crate::document::key::{DefaultValue, Key, Range, ValueKind};
use crate::document::{Setting, Values, choices};

/// A file or folder of records, or a data set on the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSetConfig {
    /// Where it lies: a path, or `owner/name` on the hub.
    pub path: String,
    /// The shape of its records.
    pub format: FormatChoice,
    /// Branch, tag or commit on the hub.
    pub revision: Option<String>,
    /// Which subset of a folder or of a data set on the hub.
    pub subset: Option<String>,
    /// Which split of it.
    pub split: Option<String>,
    /// Globs of the files to read, in place of subset and split.
    pub files: Vec<String>,
    /// Our names of columns, and the names in the records.
    pub columns: BTreeMap<String, String>,
    /// How often its records come in an epoch.
    pub weight: f64,
}

choices! {
    /// The shape of records.
    FormatChoice {
        /// Detected on a sample, verified on every record.
        Auto = "auto",
        /// Chat turns with roles.
        Messages = "messages",
        /// Chat turns with `from` and `value`.
        ShareGpt = "sharegpt",
        /// `instruction`, `input`, `output`.
        Alpaca = "alpaca",
        /// `prompt`, `completion`.
        Completion = "completion",
        /// Plain `text`.
        Text = "text",
        /// An answer that is preferred to another.
        Preference = "preference",
    }
}

pub(crate) const PATH: Key = Key::new(
    "path",
    ValueKind::Line,
    DefaultValue::Required,
    "A file of records, a folder of such files, or owner/name of a data set on the hub.",
)
.example("\"datasets/messages.jsonl\"")
.names(&[("LLaMA-Factory", "file_name"), ("axolotl", "data_files")]);

pub(crate) const FORMAT: Key = Key::new(
    "format",
    ValueKind::Choice(FormatChoice::NAMES),
    DefaultValue::Value("\"auto\""),
    "Shape of the records. `auto` detects it on a sample and verifies every record.",
)
.example("\"messages\"")
.names(&[("axolotl", "type"), ("LLaMA-Factory", "formatting")]);

pub(crate) const REVISION: Key = Key::new(
    "revision",
    ValueKind::Line,
    DefaultValue::Absent("the branch main"),
    "Branch, tag or commit of a data set on the hub.",
)
.example("\"v1.0\"");

pub(crate) const SUBSET: Key = Key::new(
    "subset",
    ValueKind::Line,
    DefaultValue::Absent("the one that the data set calls its default"),
    "Subset (also called configuration) of a data set on the hub or of a folder.",
)
.example("\"english\"")
.names(&[("TRL", "dataset_config")]);

pub(crate) const FILES: Key = Key::new(
    "files",
    ValueKind::Texts,
    DefaultValue::Absent("those of subset and split"),
    "Globs of the files to read of a data set on the hub or of a folder, in place of subset and \
     split.",
)
.example("[\"data/part-*.jsonl.gz\"]");

/// The columns that shapes of records know.
pub const COLUMN_NAMES: &[&str] = &[
    "messages",
    "tools",
    "conversations",
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "text",
    "label",
];

const COLUMNS_DOC: &str = "Other names of columns: what Firebrand calls a column, and \
     what the records call it; a dot leads into an object.";

pub(crate) const COLUMNS: Key = Key::new(
    "columns",
    ValueKind::Columns(COLUMN_NAMES),
    DefaultValue::Absent("those of `data.columns`"),
    COLUMNS_DOC,
)
.example("{ prompt = \"question\", completion = \"answer\" }");

/// Of all data sets of a file that have none of their own.
pub(crate) const DATA_COLUMNS: Key = Key {
    path: "data.columns",
    default: DefaultValue::Absent("the names of the shape"),
    ..COLUMNS
}
.example("{ messages = \"conversation\" }");

pub(crate) const ON_UNUSED: Key = Key::new(
    "data.on_unused",
    ValueKind::Choice(OnUnused::NAMES),
    DefaultValue::Absent(
        "an error for messages, calls and tools that the chat template does not write, a \
         warning for everything else",
    ),
    "Whether a record is refused of which a part does not reach the model, or the part is \
     reported and counted.",
)
.example("\"warn\"");

pub(super) const TRAIN_KEYS: &[Key] = &[
    PATH,
    FORMAT,
    REVISION,
    SUBSET,
    Key::new(
        "split",
        ValueKind::Line,
        DefaultValue::Absent("train"),
        "Split of a data set on the hub or of a folder.",
    )
    .example("\"train_sft\""),
    FILES,
    COLUMNS,
    Key::new(
        "weight",
        ValueKind::Number(Range::above(0.0, 1000.0)),
        DefaultValue::Value("1.0"),
        "How often its records come in an epoch: 2 means twice, 0.5 every other one, each epoch \
         others. Sets are mixed evenly while `data.shuffle` is on.",
    )
    .example("0.5"),
];

pub(super) const VALIDATION_KEYS: &[Key] = &[
    PATH,
    FORMAT,
    REVISION,
    SUBSET,
    Key::new(
        "split",
        ValueKind::Line,
        DefaultValue::Absent("validation"),
        "Split of a data set on the hub or of a folder.",
    )
    .example("\"test\""),
    FILES,
    COLUMNS,
];

impl DataSetConfig {
    /// A set with nothing but a path.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            format: FormatChoice::Auto,
            revision: None,
            subset: None,
            split: None,
            files: Vec::new(),
            columns: BTreeMap::new(),
            weight: 1.0,
        }
    }

    /// As a table of a config has it.
    pub(super) fn read(values: &Values) -> Self {
        Self {
            format: Setting::of(values, "format"),
            revision: Setting::of(values, "revision"),
            subset: Setting::of(values, "subset"),
            split: Setting::of(values, "split"),
            files: Setting::of(values, "files"),
            columns: values.pairs("columns").unwrap_or_default(),
            weight: Option::of(values, "weight").unwrap_or(1.0),
            ..Self::new(values.text("path"))
        }
    }
}

choices! {
    /// What happens to what a record says and the model does not get.
    OnUnused {
        /// The record is unusable.
        Error = "error",
        /// It is reported, counted.
        Warn = "warn",
    }
}
