//! `[data]`: what is trained on, and how records become rows.

use std::collections::BTreeMap;

pub use super::data_set::OnUnused;
use super::data_set::{DATA_COLUMNS, DataSetConfig, ON_UNUSED, TRAIN_KEYS, VALIDATION_KEYS};
use crate::config::ScoreHead;
use crate::document::key::{DefaultValue, Key, MANY, Range, Section, TextRule, ValueKind};
use crate::document::{Effect, Setting, Value, Values, choices, settings};
use crate::files::Digest;

/// The digest of a record.
const RECORD_DIGEST: TextRule = TextRule {
    describe: || "the SHA-256 of a record, 64 lower-case hex digits".to_owned(),
    names: &[],
    pattern: Some("^[0-9a-f]{64}$"),
    dates: false,
    check: |text| text.parse::<Digest>().map(|_| ()).map_err(|_| String::new()),
    hint: |_| Some("`firebrand retract RECORDS --run RUN` prints it".to_owned()),
};

settings! {
    /// What is trained on, and how records become rows.
    pub struct DataConfig, KEYS {
        /// What is held out of `train` while `validation` is empty.
        val_size: ValSize = Key::new(
            "data.val_size",
            ValueKind::Share,
            DefaultValue::Value("0"),
            "Held out of the training data for validation: a share between 0 and 1, or a number of \
             records. Instead of it, `[[data.validation]]` names data sets of its own.",
        )
        .example("0.1")
        .excludes(&["data.validation"])
        .names(&[("axolotl", "val_set_size"), ("other tools", "test_size")]);
        /// Longest row in tokens.
        max_seq_len: usize = Key::new(
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
        ]);
        /// Several documents share a row.
        packing: bool = Key::new(
            "data.packing",
            ValueKind::Boolean,
            DefaultValue::Value("true"),
            "Several short examples share a row. Each attends only to itself, so the result is \
             that of separate rows, sooner.",
        )
        .example("false")
        .names(&[
            ("axolotl", "sample_packing"),
            ("LLaMA-Factory", "neat_packing"),
            ("torchtune", "packed"),
        ]);
        /// Records are trained on in random order.
        shuffle: bool = Key::new(
            "data.shuffle",
            ValueKind::Boolean,
            DefaultValue::Value("true"),
            "Records are trained on in an order drawn each epoch, not in file order.",
        )
        .example("false")
        .names(&[("axolotl", "shuffle_merged_datasets")]);
        /// What records are trained on in the order of, smallest first.
        order: Option<String> = Key::new(
            "data.order",
            ValueKind::Line,
            DefaultValue::Absent("what `data.shuffle` says"),
            "A curriculum: every epoch begins with the records of the smallest number. `length` is \
             their number of tokens; any other value names a column, or a key of the records (a \
             dot leads into an object), that holds a number. The records of all data sets are \
             merged into one order, as often as `weight` says; of equal ones `data.shuffle` \
             draws which comes first. Rows are packed in that order. All data is read before \
             training starts.",
        )
        .example("\"length\"");
        /// How strongly the sizes of data sets decide how often their records come.
        mixing_temperature: f64 = Key::new(
            "data.mixing_temperature",
            ValueKind::Number(Range::closed(0.1, 1000.0)),
            DefaultValue::Value("1"),
            "Mixes data sets by a temperature T: the share of each in an epoch is its number of \
             examples, times its `weight`, to the power of 1/T (Raffel et al. 2020). 1 leaves \
             weights as they are; the larger, the more alike shares become. An epoch stays as \
             long. All data is read before training starts.",
        )
        .silent_default()
        .example("2");
        /// The column or key of records that says what their loss is multiplied with.
        sample_weight: Option<String> = Key::new(
            "data.sample_weight",
            ValueKind::Line,
            DefaultValue::Absent("every record weighs 1"),
            "A column, or a key of the records (a dot leads into an object), that holds a number \
             of at least 0: what the loss of the record's target tokens is multiplied with. The \
             loss of a step is the sum of them divided by the number of target tokens, so that \
             a record of weight 2 has the gradient of two, and one of 0 is left out. Validation \
             data is not weighted.",
        )
        .example("\"quality\"");
        /// What happens to examples longer than a row.
        overlong: Overlong = Key::new(
            "data.overlong",
            ValueKind::Choice(Overlong::NAMES),
            DefaultValue::Value("\"truncate\""),
            "What happens to an example longer than `max_seq_len`: its end is cut off, it is left \
             out, or the run is refused.",
        )
        .example("\"drop\"")
        .names(&[("axolotl", "excess_length_strategy")]);
        /// Which tokens are trained on.
        train_on: TrainOn = Key::new(
            "data.train_on",
            ValueKind::Choice(TrainOn::NAMES),
            DefaultValue::Value("\"assistant\""),
            "Which tokens are trained on: the answers alone, those to the last message of the \
             user, or everything.",
        )
        .example("\"all\"")
        .names(&[
            ("axolotl", "train_on_inputs"),
            ("axolotl", "roles_to_train"),
            ("LLaMA-Factory", "mask_history"),
            ("LLaMA-Factory", "train_on_prompt"),
            ("mlx-lm", "mask_prompt"),
            ("torchtune", "train_on_input"),
            ("TRL", "assistant_only_loss"),
            ("TRL", "completion_only_loss"),
        ]);
        /// A Jinja file in place of the model's own chat template.
        chat_template: Option<String> = Key::new(
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
        ]);
        /// What the chat template is given by name, such as `enable_thinking`: strings, numbers and
        /// booleans. A record's own come before them.
        template_args: BTreeMap<String, serde_json::Value> = Key::new(
            "data.template_args",
            ValueKind::Arguments,
            DefaultValue::Absent("none"),
            "What the chat template is given by name. What a record has as `chat_template_kwargs` \
             comes before it.",
        )
        .example("{ enable_thinking = false }")
        .names(&[("TRL", "chat_template_kwargs")]);
        /// What happens to what a record says and the model does not get; `None` for errors where
        /// it is a message, a call or a tool, and warnings where it is anything else.
        on_unused: Option<OnUnused> = ON_UNUSED;
        /// How many unusable records are skipped before the run is refused.
        max_bad_rows: u64 = Key::new(
            "data.max_bad_rows",
            ValueKind::Integer { min: 0, max: MANY },
            DefaultValue::Value("0"),
            "How many unusable records are skipped, each reported, before the run is refused.",
        )
        .example("10");
        /// Equal records are trained on once.
        deduplicate: bool = Key::new(
            "data.deduplicate",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "Equal records of the training data are trained on once; what is left out is counted.",
        )
        .example("true")
        .names(&[("axolotl", "dataset_exact_deduplication")]);
        /// How many examples are shuffled and packed together at most.
        window_rows: u64 = Key::new(
            "data.window_rows",
            ValueKind::Integer { min: 1, max: MANY },
            DefaultValue::Value("16000"),
            "How many examples are shuffled and packed together at most. Larger mixes better and \
             takes more memory.",
        )
        .example("4000")
        .names(&[("LLaMA-Factory", "buffer_size")]);
        /// How many bytes of examples are shuffled and packed together at most.
        window_bytes: u64 = Key::new(
            "data.window_bytes",
            ValueKind::Bytes { min: 1 << 10, max: 1 << 40 },
            DefaultValue::Value("\"64 MiB\""),
            "How many bytes of examples, five a token, are shuffled and packed together at most. \
             It bounds the memory that data takes, with `data.prefetch_windows`.",
        )
        .example("\"256 MiB\"");
        /// How many windows are made ready while one is trained on.
        prefetch_windows: u64 = Key::new(
            "data.prefetch_windows",
            ValueKind::Integer { min: 0, max: 64 },
            DefaultValue::Value("1"),
            "How many windows are fetched, tokenised and packed ahead while one is trained on.",
        )
        .effect(Effect::Speed)
        .example("2");
        /// Training data of up to so many bytes is read to its end before training starts.
        survey_below: u64 = Key::new(
            "data.survey_below",
            ValueKind::Bytes { min: 0, max: 1 << 50 },
            DefaultValue::Value("\"64 MiB\""),
            "Training data up to this size is read to its end before training starts, so that all \
             of it is counted and checked first. Larger data is read while it is trained on, \
             unless `train.epochs`, `data.val_size`, `data.deduplicate`, `data.order` or \
             `data.mixing_temperature` need all of it.",
        )
        .example("\"1 GiB\"")
        .names(&[("axolotl and LLaMA-Factory", "streaming")]);
        /// How many bytes the cache of data sets may take on disk; `None` for any number.
        cache_limit: Option<u64> = Key::new(
            "data.cache_limit",
            ValueKind::Bytes { min: 0, max: 1 << 50 },
            DefaultValue::Absent("no limit"),
            "How many bytes the tokenised data and the data files that Firebrand downloaded may \
             take on disk. What is needed again is fetched again.",
        )
        .effect(Effect::Speed)
        .example("\"20 GB\"");
        /// Records that are not trained on, by the SHA-256 of what they hold. Rows keep their
        /// places without them, so that steps before the first of them stay what they were.
        retracted: Vec<Digest> = Key::new(
            "data.retracted",
            ValueKind::TextsOf(&RECORD_DIGEST),
            DefaultValue::Absent("no record is retracted"),
            "Records that are not trained on, each by the SHA-256 that `firebrand retract` gives. \
             All other rows are those of a run with them, so that the steps before the first of \
             them are the same.",
        )
        .example("[\"4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a\"]");
        /// Data sets to learn from; at least one.
        train: Vec<DataSetConfig> = DATA_COLUMNS,
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
        ]);
        /// Data sets to measure the loss on.
        validation: Vec<DataSetConfig> = Key::new(
            "data.validation",
            ValueKind::Tables { keys: VALIDATION_KEYS, may_be_empty: true },
            DefaultValue::Absent("no data sets of its own"),
            "Data sets to measure the validation loss on, one `[[data.validation]]` each.",
        )
        .example("[{ path = \"datasets/validation.jsonl\" }]")
        .names(&[("axolotl", "test_datasets"), ("LLaMA-Factory and TRL", "eval_dataset")]);
    } beside {
        /// What to do about records that are pairs of answers; `None` where the objective learns
        /// from them. The objective says it.
        no_pairs: Option<String> = Some(String::new());
        /// Whether what the chat template writes behind the answers of pairs is read, too: a reward
        /// is that of a whole conversation. The objective says it.
        whole_pairs: bool = false;
        /// Whether answers have labels, which the objective learns from. The objective says it.
        labels: bool = false;
        /// The head that texts are scored by, where the objective learns from labels of texts. The
        /// objective says it.
        score_head: Option<ScoreHead> = None;
        /// Whether the last answer is one to compare with, which must be whole. The objective says
        /// it.
        prompts: bool = false;
        /// The column or key of records that says by how much more the chosen answer of a pair is
        /// to be scored. The objective says it.
        margin: Option<String> = None;
    }
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
        /// What is answered to the last message of the user, calls of tools included.
        LastTurn = "last_turn",
        /// Everything.
        All = "all",
    }
}

pub(in crate::config) const SECTION: Section =
    Section::new("data", "What is trained on, and how records become rows of tokens.", KEYS)
        .effect(Effect::Data)
        .plain_value("data.train", "the data set itself is `path` in `[[data.train]]`");

impl Setting for Vec<Digest> {
    fn of(values: &Values, path: &str) -> Self {
        let texts = values.optional_texts(path).unwrap_or_default();
        texts.iter().map(|text| text.parse().expect("digests were checked")).collect()
    }
}

impl Setting for ValSize {
    fn of(values: &Values, path: &str) -> Self {
        match values.get(path) {
            Some(&Value::Integer(records)) if records > 0 => Self::Records(records),
            Some(&Value::Number(share)) if share > 0.0 => Self::Fraction(share),
            _ => Self::None,
        }
    }
}

impl Setting for Vec<DataSetConfig> {
    fn of(values: &Values, path: &str) -> Self {
        values.tables(path).iter().map(DataSetConfig::read).collect()
    }
}
