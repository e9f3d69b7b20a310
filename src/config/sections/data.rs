//! `[data]`: what is learnt from, and how records become rows.

use crate::config::key::{DefaultValue, Key, Kind, MANY, Section};
use crate::config::render::Entries;
use crate::config::value::{Value, Values};

/// What is learnt from, and how records become rows.
#[derive(Debug, Clone, PartialEq)]
pub struct DataConfig {
    /// Data sets to learn from; at least one.
    pub train: Vec<DataSetConfig>,
    /// Data sets to measure the loss on.
    pub validation: Vec<DataSetConfig>,
    /// What is held out of `train` while `validation` is empty.
    pub val_size: ValSize,
    /// Longest row in tokens.
    pub max_seq_len: usize,
    /// Several documents share a row.
    pub packing: bool,
    /// Records are learnt in random order.
    pub shuffle: bool,
    /// What happens to examples longer than a row.
    pub overlong: Overlong,
    /// Which tokens are learnt.
    pub train_on: TrainOn,
    /// A Jinja file in place of the model's own chat template.
    pub chat_template: Option<String>,
    /// How many unusable records are skipped before the run is refused.
    pub max_bad_rows: u64,
    /// How many rows are shuffled and packed together.
    pub window_rows: u64,
}

/// One file or folder of records.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSetConfig {
    /// Where it lies.
    pub path: String,
    /// The shape of its records.
    pub format: FormatChoice,
}

/// How much is held out of the training data for validation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValSize {
    /// Nothing.
    None,
    /// This share of the records, above 0 and below 1.
    Fraction(f64),
    /// This many records.
    Records(u64),
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

choices! {
    /// What happens to an example that is longer than a row.
    Overlong {
        /// Its end is cut off.
        Truncate = "truncate",
        /// It is left out.
        Drop = "drop",
        /// The run is refused.
        Error = "error",
    }
}

choices! {
    /// Which tokens of a conversation are learnt.
    TrainOn {
        /// The answers.
        Assistant = "assistant",
        /// Everything.
        All = "all",
    }
}

const DATA_SET_KEYS: &[Key] = &[
    Key::new(
        "path",
        Kind::Line,
        DefaultValue::Required,
        "File of records, one JSON object a line.",
    )
    .example("\"datasets/messages.jsonl\"")
    .names(&[("LLaMA-Factory", "file_name"), ("axolotl", "data_files")]),
    Key::new(
        "format",
        Kind::Choice(FormatChoice::NAMES),
        DefaultValue::Value("\"auto\""),
        "Shape of the records. `auto` detects it on a sample and verifies every record.",
    )
    .example("\"messages\"")
    .names(&[("axolotl", "type"), ("LLaMA-Factory", "formatting")]),
];

pub(in crate::config) const SECTION: Section =
    Section::new("data", "What is learnt from, and how records become rows of tokens.", KEYS);

const KEYS: &[Key] = &[
    Key::new(
        "data.val_size",
        Kind::Share,
        DefaultValue::Value("0"),
        "Held out of the training data for validation: a share between 0 and 1, or a number of \
         records. Instead of it, `[[data.validation]]` names data sets of its own.",
    )
    .example("0.1")
    .excludes(&["data.validation"])
    .names(&[("axolotl", "val_set_size"), ("other tools", "test_size")]),
    Key::new(
        "data.max_seq_len",
        Kind::Integer { min: 8, max: 131_072 },
        DefaultValue::Value("1024"),
        "Longest row in tokens. Memory grows with it.",
    )
    .example("2048")
    .names(&[
        ("axolotl", "sequence_len"),
        ("LLaMA-Factory", "cutoff_len"),
        ("mlx-lm", "max_seq_length"),
        ("TRL", "max_length"),
        ("other tools", "sequence_length"),
    ]),
    Key::new(
        "data.packing",
        Kind::Boolean,
        DefaultValue::Value("true"),
        "Several short examples share a row. Each attends only to itself, so the result is that \
         of separate rows, sooner.",
    )
    .example("false")
    .names(&[
        ("axolotl", "sample_packing"),
        ("LLaMA-Factory", "neat_packing"),
        ("torchtune", "packed"),
    ]),
    Key::new(
        "data.shuffle",
        Kind::Boolean,
        DefaultValue::Value("true"),
        "Records are learnt in an order drawn anew each epoch, not in file order.",
    )
    .example("false")
    .names(&[("axolotl", "shuffle_merged_datasets")]),
    Key::new(
        "data.overlong",
        Kind::Choice(Overlong::NAMES),
        DefaultValue::Value("\"truncate\""),
        "What happens to an example longer than `max_seq_len`: its end is cut off, it is left \
         out, or the run is refused.",
    )
    .example("\"drop\"")
    .names(&[("axolotl", "excess_length_strategy")]),
    Key::new(
        "data.train_on",
        Kind::Choice(TrainOn::NAMES),
        DefaultValue::Value("\"assistant\""),
        "Which tokens are learnt: the answers alone, or everything.",
    )
    .example("\"all\"")
    .names(&[
        ("axolotl", "train_on_inputs"),
        ("axolotl", "roles_to_train"),
        ("LLaMA-Factory", "train_on_prompt"),
        ("mlx-lm", "mask_prompt"),
        ("torchtune", "train_on_input"),
        ("TRL", "assistant_only_loss"),
        ("TRL", "completion_only_loss"),
    ]),
    Key::new(
        "data.chat_template",
        Kind::Line,
        DefaultValue::Absent("the model's own chat template"),
        "A Jinja file with the chat template to use.",
    )
    .example("\"chat_template.jinja\"")
    .names(&[
        ("LLaMA-Factory", "template"),
        ("axolotl", "chat_template_jinja"),
        ("TRL", "chat_template_path"),
    ]),
    Key::new(
        "data.max_bad_rows",
        Kind::Integer { min: 0, max: MANY },
        DefaultValue::Value("0"),
        "How many unusable records are skipped, each reported, before the run is refused.",
    )
    .example("10"),
    Key::new(
        "data.window_rows",
        Kind::Integer { min: 1, max: MANY },
        DefaultValue::Value("16000"),
        "How many records are shuffled and packed together. Larger mixes better and takes more \
         memory.",
    )
    .example("4000")
    .names(&[("LLaMA-Factory", "buffer_size")]),
    Key::new(
        "data.train",
        Kind::Tables { keys: DATA_SET_KEYS, may_be_empty: false },
        DefaultValue::Required,
        "Data sets to learn from, one `[[data.train]]` each.",
    )
    .example("[{ path = \"datasets/messages.jsonl\" }]")
    .names(&[
        ("axolotl", "datasets"),
        ("LLaMA-Factory and torchtune", "dataset"),
        ("TRL", "dataset_name"),
        ("mlx-lm", "hf_dataset"),
    ]),
    Key::new(
        "data.validation",
        Kind::Tables { keys: DATA_SET_KEYS, may_be_empty: true },
        DefaultValue::Absent("no data sets of its own"),
        "Data sets to measure the validation loss on, one `[[data.validation]]` each.",
    )
    .example("[{ path = \"datasets/validation.jsonl\" }]")
    .names(&[("axolotl", "test_datasets"), ("LLaMA-Factory and TRL", "eval_dataset")]),
];

impl DataConfig {
    pub(in crate::config) fn read(values: &Values) -> Self {
        let sets = |path| values.tables(path).iter().map(DataSetConfig::read).collect();
        Self {
            train: sets("data.train"),
            validation: sets("data.validation"),
            val_size: match values.get("data.val_size") {
                Some(&Value::Integer(records)) if records > 0 => ValSize::Records(records),
                Some(&Value::Number(share)) if share > 0.0 => ValSize::Fraction(share),
                _ => ValSize::None,
            },
            max_seq_len: values.size("data.max_seq_len"),
            packing: values.boolean("data.packing"),
            shuffle: values.boolean("data.shuffle"),
            overlong: values.choice("data.overlong", Overlong::from_name),
            train_on: values.choice("data.train_on", TrainOn::from_name),
            chat_template: values.optional_text("data.chat_template"),
            max_bad_rows: values.integer("data.max_bad_rows"),
            window_rows: values.integer("data.window_rows"),
        }
    }

    pub(in crate::config) fn write(&self, out: &mut Entries) {
        if self.validation.is_empty() {
            match self.val_size {
                ValSize::None => out.integer("data.val_size", 0),
                ValSize::Fraction(share) => out.number("data.val_size", share),
                ValSize::Records(records) => out.integer("data.val_size", records),
            }
        }
        out.size("data.max_seq_len", self.max_seq_len);
        out.boolean("data.packing", self.packing);
        out.boolean("data.shuffle", self.shuffle);
        out.text("data.overlong", self.overlong.name());
        out.text("data.train_on", self.train_on.name());
        out.optional_text("data.chat_template", self.chat_template.as_deref());
        out.integer("data.max_bad_rows", self.max_bad_rows);
        out.integer("data.window_rows", self.window_rows);
        for (name, sets) in [("train", &self.train), ("validation", &self.validation)] {
            for (index, set) in sets.iter().enumerate() {
                out.text(&format!("data.{name}.{index}.path"), &set.path);
                out.text(&format!("data.{name}.{index}.format"), set.format.name());
            }
        }
    }
}

impl DataSetConfig {
    fn read(values: &Values) -> Self {
        Self { path: values.text("path"), format: values.choice("format", FormatChoice::from_name) }
    }
}
