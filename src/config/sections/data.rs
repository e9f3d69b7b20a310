//! `[data]`: what is trained on, and how records become rows.

use std::collections::BTreeMap;

use super::data_set::{COLUMN_NAMES, COLUMNS_DOC, DataSetConfig, TRAIN_KEYS, VALIDATION_KEYS};
use crate::document::key::{DefaultValue, Key, MANY, Section, ValueKind};
use crate::document::{Effect, Entries, Value, Values, choices};

/// What is trained on, and how records become rows.
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
    /// Records are trained on in random order.
    pub shuffle: bool,
    /// What happens to examples longer than a row.
    pub overlong: Overlong,
    /// Which tokens are trained on.
    pub train_on: TrainOn,
    /// A Jinja file in place of the model's own chat template.
    pub chat_template: Option<String>,
    /// What the chat template is given by name, such as `enable_thinking`: strings, numbers and
    /// booleans. A record's own come before them.
    pub template_args: BTreeMap<String, serde_json::Value>,
    /// What happens to what a record says and the model does not get; `None` for errors where it
    /// is a message, a call or a tool, and warnings where it is anything else.
    pub on_unused: Option<OnUnused>,
    /// How many unusable records are skipped before the run is refused.
    pub max_bad_rows: u64,
    /// Equal records are trained on once.
    pub deduplicate: bool,
    /// How many examples are shuffled and packed together at most.
    pub window_rows: u64,
    /// How many bytes of examples are shuffled and packed together at most.
    pub window_bytes: u64,
    /// How many windows are made ready while one is trained on.
    pub prefetch_windows: u64,
    /// Training data of up to so many bytes is read to its end before training starts.
    pub survey_below: u64,
    /// How many bytes the cache of data sets may take on disk; `None` for any number.
    pub cache_limit: Option<u64>,
    /// What to do about records that are pairs of answers; `None` where the objective learns from
    /// them. No key: the objective says it.
    pub no_pairs: Option<String>,
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
    /// Which tokens of a conversation are trained on.
    TrainOn {
        /// The answers.
        Assistant = "assistant",
        /// Everything.
        All = "all",
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

pub(in crate::config) const SECTION: Section =
    Section::new("data", "What is trained on, and how records become rows of tokens.", KEYS)
        .effect(Effect::Data)
        .plain_value("data.train", "the data set itself is `path` in `[[data.train]]`");

const KEYS: &[Key] = &[
    Key::new(
        "data.val_size",
        ValueKind::Share,
        DefaultValue::Value("0"),
        "Held out of the training data for validation: a share between 0 and 1, or a number of \
         records. Instead of it, `[[data.validation]]` names data sets of its own.",
    )
    .example("0.1")
    .excludes(&["data.validation"])
    .names(&[("axolotl", "val_set_size"), ("other tools", "test_size")]),
    Key::new(
        "data.max_seq_len",
        ValueKind::Integer { min: 8, max: 131_072 },
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
        ValueKind::Boolean,
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
        ValueKind::Boolean,
        DefaultValue::Value("true"),
        "Records are trained on in an order drawn each epoch, not in file order.",
    )
    .example("false")
    .names(&[("axolotl", "shuffle_merged_datasets")]),
    Key::new(
        "data.overlong",
        ValueKind::Choice(Overlong::NAMES),
        DefaultValue::Value("\"truncate\""),
        "What happens to an example longer than `max_seq_len`: its end is cut off, it is left \
         out, or the run is refused.",
    )
    .example("\"drop\"")
    .names(&[("axolotl", "excess_length_strategy")]),
    Key::new(
        "data.train_on",
        ValueKind::Choice(TrainOn::NAMES),
        DefaultValue::Value("\"assistant\""),
        "Which tokens are trained on: the answers alone, or everything.",
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
        ValueKind::Line,
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
        "data.template_args",
        ValueKind::Arguments,
        DefaultValue::Absent("none"),
        "What the chat template is given by name. What a record has as `chat_template_kwargs` \
         comes before it.",
    )
    .example("{ enable_thinking = false }")
    .names(&[("TRL", "chat_template_kwargs")]),
    Key::new(
        "data.on_unused",
        ValueKind::Choice(OnUnused::NAMES),
        DefaultValue::Absent(
            "an error for messages, calls and tools that the chat template does not write, a \
             warning for everything else",
        ),
        "Whether a record is refused of which a part does not reach the model, or the part is \
         reported and counted.",
    )
    .example("\"warn\""),
    Key::new(
        "data.max_bad_rows",
        ValueKind::Integer { min: 0, max: MANY },
        DefaultValue::Value("0"),
        "How many unusable records are skipped, each reported, before the run is refused.",
    )
    .example("10"),
    Key::new(
        "data.deduplicate",
        ValueKind::Boolean,
        DefaultValue::Value("false"),
        "Equal records of the training data are trained on once; what is left out is counted.",
    )
    .example("true")
    .names(&[("axolotl", "dataset_exact_deduplication")]),
    Key::new(
        "data.columns",
        ValueKind::Columns(COLUMN_NAMES),
        DefaultValue::Absent("the names of the shape"),
        COLUMNS_DOC,
    )
    .example("{ messages = \"conversation\" }"),
    Key::new(
        "data.window_rows",
        ValueKind::Integer { min: 1, max: MANY },
        DefaultValue::Value("16000"),
        "How many examples are shuffled and packed together at most. Larger mixes better and \
         takes more memory.",
    )
    .example("4000")
    .names(&[("LLaMA-Factory", "buffer_size")]),
    Key::new(
        "data.window_bytes",
        ValueKind::Bytes { min: 1 << 10, max: 1 << 40 },
        DefaultValue::Value("\"64 MiB\""),
        "How many bytes of examples, five a token, are shuffled and packed together at most. It \
         bounds the memory that data takes, with `data.prefetch_windows`.",
    )
    .example("\"256 MiB\""),
    Key::new(
        "data.prefetch_windows",
        ValueKind::Integer { min: 0, max: 64 },
        DefaultValue::Value("1"),
        "How many windows are fetched, tokenised and packed ahead while one is trained on.",
    )
    .effect(Effect::Speed)
    .example("2"),
    Key::new(
        "data.survey_below",
        ValueKind::Bytes { min: 0, max: 1 << 50 },
        DefaultValue::Value("\"64 MiB\""),
        "Training data up to this size is read to its end before training starts, so that all of \
         it is counted and checked first. Larger data is read while it is trained on, unless \
         `train.epochs`, `data.val_size` or `data.deduplicate` need all of it.",
    )
    .example("\"1 GiB\"")
    .names(&[("axolotl and LLaMA-Factory", "streaming")]),
    Key::new(
        "data.cache_limit",
        ValueKind::Bytes { min: 0, max: 1 << 50 },
        DefaultValue::Absent("no limit"),
        "How many bytes the tokenised data and the data files that Firebrand downloaded may take \
         on disk. What is needed again is fetched again.",
    )
    .effect(Effect::Speed)
    .example("\"20 GB\""),
    Key::new(
        "data.train",
        ValueKind::Tables { keys: TRAIN_KEYS, may_be_empty: false },
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
        ValueKind::Tables { keys: VALIDATION_KEYS, may_be_empty: true },
        DefaultValue::Absent("no data sets of its own"),
        "Data sets to measure the validation loss on, one `[[data.validation]]` each.",
    )
    .example("[{ path = \"datasets/validation.jsonl\" }]")
    .names(&[("axolotl", "test_datasets"), ("LLaMA-Factory and TRL", "eval_dataset")]),
];

impl DataConfig {
    pub(in crate::config) fn read(values: &Values) -> Self {
        let columns = values.pairs("data.columns").unwrap_or_default();
        let sets = |path| values.tables(path).iter().map(|set| DataSetConfig::read(set, &columns));
        Self {
            train: sets("data.train").collect(),
            validation: sets("data.validation").collect(),
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
            template_args: values.arguments("data.template_args"),
            on_unused: values
                .optional_text("data.on_unused")
                .and_then(|name| OnUnused::from_name(&name)),
            max_bad_rows: values.integer("data.max_bad_rows"),
            deduplicate: values.boolean("data.deduplicate"),
            window_rows: values.integer("data.window_rows"),
            window_bytes: values.integer("data.window_bytes"),
            prefetch_windows: values.integer("data.prefetch_windows"),
            survey_below: values.integer("data.survey_below"),
            cache_limit: values.optional_integer("data.cache_limit"),
            no_pairs: Some(String::new()),
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
        if !self.template_args.is_empty() {
            out.arguments("data.template_args", &self.template_args);
        }
        out.optional_text("data.on_unused", self.on_unused.map(OnUnused::name));
        out.integer("data.max_bad_rows", self.max_bad_rows);
        out.boolean("data.deduplicate", self.deduplicate);
        out.integer("data.window_rows", self.window_rows);
        out.integer("data.window_bytes", self.window_bytes);
        out.integer("data.prefetch_windows", self.prefetch_windows);
        out.integer("data.survey_below", self.survey_below);
        if let Some(limit) = self.cache_limit {
            out.integer("data.cache_limit", limit);
        }
        for (name, sets) in [("train", &self.train), ("validation", &self.validation)] {
            for (index, set) in sets.iter().enumerate() {
                set.write(&format!("data.{name}.{index}"), name == "train", out);
            }
        }
    }
}
