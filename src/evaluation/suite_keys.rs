//! The keys of `eval.toml`.

use std::sync::LazyLock;

use crate::config::sections::data_set::{
    DATA_COLUMNS, FILES, FORMAT, ON_UNUSED, PATH, REVISION, SUBSET,
};
use crate::document::key::{DefaultValue, Key, MANY, Range, Section, ValueKind};
use crate::document::{DocumentKind, KeyTable};
use crate::scorers::{
    APPEND_REFERENCE, COMMAND, COMPARE, EXTRACT, KIND, PATTERN, RUN_MEMORY, RUN_SECONDS, SCHEMA,
    TIMEOUT,
};

/// More slices of one kind tell a person nothing. The text of `slice.values` says the number.
pub const SLICES_MAX: usize = 100;

/// All keys of a suite.
pub static KEYS: LazyLock<KeyTable> = LazyLock::new(|| KeyTable::new(&SUITE, &[TOP, DATA]));

const SUITE: DocumentKind = DocumentKind {
    name: "eval",
    what: "the evaluation",
    title: "Firebrand evaluation suite",
    about: "What a model is evaluated on: records, slices of them, and tasks.",
    opening: "What models are evaluated on: `firebrand eval MODEL --config FILE`, `eval.suite` of \
              a run, and both sides of a gate.",
    paths: "Paths are relative to the folder where the command is run.",
    too_large: "a suite names data files, it does not hold them",
};

const TOP: Section = Section::new(
    "",
    "Which suite this is.",
    &[
        Key::new(
            "name",
            ValueKind::Line,
            DefaultValue::Depends("the name of the file without its extension"),
            "Name of the suite in reports.",
        )
        .example("\"nightly\""),
        Key::new(
            "seed",
            ValueKind::Integer { min: 0, max: i64::MAX.cast_unsigned() },
            DefaultValue::Value("42"),
            "Decides the draws of the bootstrap. Models are compared on the same draws.",
        )
        .example("7"),
        Key::new(
            "bootstrap",
            ValueKind::Integer { min: 0, max: MANY },
            DefaultValue::Value("1000"),
            "How many resampled data sets the intervals are made from. 0 makes no intervals.",
        )
        .example("0"),
        Key::new(
            "confidence",
            ValueKind::Number(Range { min: 0.0, max: 1.0, min_excluded: true, max_excluded: true }),
            DefaultValue::Value("0.95"),
            "How wide the intervals are.",
        )
        .example("0.9"),
        Key::new(
            "slice",
            ValueKind::Tables { keys: SLICE, may_be_empty: true },
            DefaultValue::Absent("the numbers are those over all records"),
            "Parts of the records that get numbers of their own, one `[[slice]]` for each \
             property.",
        )
        .example("[{ by = \"lang\" }]"),
        Key::new(
            "task",
            ValueKind::Tables { keys: TASK, may_be_empty: true },
            DefaultValue::Absent("the loss alone is measured"),
            "What the model has to do, one `[[task]]` each. It is asked what comes before the last \
             answer of a conversation, or the prompt of a prompt with completion.",
        )
        .example("[{ name = \"right answer\", kind = \"exact\" }]"),
    ],
);

const SLICE: &[Key] = &[
    Key::new(
        "by",
        ValueKind::Line,
        DefaultValue::Required,
        "A column, of which `meta.lang` leads into nested ones, or `length`, for tokens.",
    )
    .example("\"lang\""),
    Key::new(
        "values",
        ValueKind::AnyTexts,
        DefaultValue::Value("[]"),
        "The values that must be there. Without it every value that is, at most 100.",
    )
    .example("[\"en\", \"fr\"]"),
    Key::new(
        "bands",
        ValueKind::Rising { min: 0, max: MANY },
        DefaultValue::Value("[]"),
        "Bounds in tokens for slices by `length`: up to each of them, and above the last.",
    )
    .example("[64, 256]"),
];

const TASK: &[Key] = &[
    Key::new(
        "name",
        ValueKind::Line,
        DefaultValue::Required,
        "What the task is called in reports and policies.",
    )
    .example("\"calls a tool\""),
    KIND,
    COMPARE,
    SCHEMA,
    PATTERN,
    COMMAND,
    TIMEOUT,
    RUN_SECONDS,
    RUN_MEMORY,
    APPEND_REFERENCE,
    EXTRACT,
    Key::new(
        "max_tokens",
        ValueKind::Integer { min: 1, max: MANY },
        DefaultValue::Value("128"),
        "Longest answer, in tokens.",
    )
    .example("64"),
    Key::new(
        "max_records",
        ValueKind::Integer { min: 0, max: MANY },
        DefaultValue::Value("0"),
        "How many records are asked. 0 means all.",
    )
    .example("50"),
];

const DATA: Section = Section::new(
    "data",
    "The records, as `[[data.train]]` of a run names them.",
    &[
        Key { path: "data.path", ..PATH }.example("\"datasets/validation.jsonl\""),
        Key { path: "data.format", ..FORMAT },
        Key { path: "data.revision", ..REVISION },
        Key { path: "data.subset", ..SUBSET },
        Key::new(
            "data.split",
            ValueKind::Line,
            DefaultValue::Absent("validation"),
            "Split of a data set on the hub or of a folder.",
        )
        .example("\"test\""),
        Key { path: "data.files", ..FILES },
        DATA_COLUMNS,
        Key::new(
            "data.max_seq_len",
            ValueKind::Integer { min: 2, max: MANY },
            DefaultValue::Value("1024"),
            "Longest record in tokens. What is longer is cut, and counted.",
        )
        .example("2048"),
        Key::new(
            "data.max_records",
            ValueKind::Integer { min: 0, max: MANY },
            DefaultValue::Value("0"),
            "How many records are judged: those with the smallest digests. 0 judges all.",
        )
        .example("500"),
        Key::new(
            "data.micro_batch_size",
            ValueKind::Integer { min: 1, max: MANY },
            DefaultValue::Value("1"),
            "How many rows go through the model at once.",
        )
        .example("8"),
        Key::new(
            "data.template_args",
            ValueKind::Arguments,
            DefaultValue::Absent("those of the model's run"),
            "What the chat template is given by name. What a record has as `chat_template_kwargs` \
             comes before it.",
        )
        .example("{ enable_thinking = false }"),
        ON_UNUSED,
    ],
);
