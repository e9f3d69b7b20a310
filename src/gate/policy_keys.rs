//! The keys of `gate.toml`.

use std::sync::LazyLock;

use super::limits::{Direction, MAX_REGRESSION};
use super::performance_config::{Measure, REPEATS_MAX};
use crate::document::key::{DefaultValue, Key, MANY, Range, Section, ValueKind};
use crate::document::{DocumentKind, KeyTable};

/// All keys of a policy.
pub static KEYS: LazyLock<KeyTable> =
    LazyLock::new(|| KeyTable::new(&KIND, &[TOP, BASELINE, EVAL, PERFORMANCE, COVERAGE, CHECKS]));

const KIND: DocumentKind = DocumentKind {
    name: "gate",
    what: "the policy",
    title: "Firebrand gate policy",
    about: "What a candidate must keep to before it may take the place of the model in use.",
    opening: "What a new model must keep to before it takes the place of the one in use: \
              `firebrand gate --policy FILE --candidate ARTIFACT`. Limits that can never matter \
              are errors.",
    paths: "Paths are relative to the folder of this file.",
    too_large: "a policy has some dozens of lines",
};

const TOP: Section = Section::new(
    "",
    "What the numbers must keep to.",
    &[
        Key::new(
            "metric",
            ValueKind::Tables { keys: METRIC, may_be_empty: true },
            DefaultValue::Absent("every metric of the suite with its usual limits"),
            "Limits of a number over all records, one `[[metric]]` each.",
        )
        .example("[{ name = \"loss\", max_regression = 0.02 }]"),
        Key::new(
            "slice",
            ValueKind::Tables { keys: SLICE, may_be_empty: true },
            DefaultValue::Absent("slices have no limits of their own"),
            "Limits of a number in every slice by a property, one `[[slice]]` each.",
        )
        .example("[{ by = \"length\", metric = \"loss\" }]"),
    ],
);

const RELATIVE: Range =
    Range { min: f64::NEG_INFINITY, max: f64::INFINITY, min_excluded: true, max_excluded: false };

const MAX_WORSE: Key = Key::new(
    "max_regression",
    ValueKind::Number(RELATIVE),
    DefaultValue::Value("0.05"),
    "How much worse it may be, relative to the size of the baseline's number. A negative one \
     demands better; `inf` allows anything.",
)
.example("0.02");

const MIN: Key = Key::new(
    "min",
    ValueKind::Number(Range::FINITE),
    DefaultValue::Absent("no such limit"),
    "It must be at least this, with a baseline and without.",
)
.example("0.5");

const MAX: Key = Key::new(
    "max",
    ValueKind::Number(Range::FINITE),
    DefaultValue::Absent("no such limit"),
    "It must be at most this, with a baseline and without.",
)
.example("2.5");

const SIGNIFICANT: Key = Key::new(
    "significant",
    ValueKind::Boolean,
    DefaultValue::Value("false"),
    "It is too much worse only if the whole paired bootstrap interval is.",
)
.example("true");

const METRIC: &[Key] = &[
    Key::new(
        "name",
        ValueKind::Line,
        DefaultValue::Required,
        "`loss`, `perplexity`, `accuracy`, or a task of the suite; of a model that scores labels \
         also `f1_macro`, `f1_micro`, `auroc`, `calibration_error` and `mean_absolute_error`.",
    )
    .example("\"loss\""),
    Key::new(
        "direction",
        ValueKind::Choice(Direction::NAMES),
        DefaultValue::Depends("`lower` for loss, perplexity and errors, else `higher`"),
        "Which way is better.",
    )
    .example("\"lower\""),
    MAX_WORSE,
    MIN,
    MAX,
    SIGNIFICANT,
];

const SLICE: &[Key] = &[
    Key::new(
        "by",
        ValueKind::Line,
        DefaultValue::Required,
        "What a `[[slice]]` of the suite is by.",
    )
    .example("\"length\""),
    Key::new("metric", ValueKind::Line, DefaultValue::Required, "The number that is looked at.")
        .example("\"loss\""),
    Key::new(
        "values",
        ValueKind::AnyTexts,
        DefaultValue::Depends("those of the suite, else all that have records"),
        "The slices that must be there.",
    )
    .example("[\"en\", \"fr\"]"),
    Key::new(
        "min_records",
        ValueKind::Integer { min: 1, max: MANY },
        DefaultValue::Value("1"),
        "A slice of fewer judged records fails.",
    )
    .example("50"),
    MAX_WORSE,
    MIN,
    MAX,
    SIGNIFICANT,
    Key::new(
        "max_gap",
        ValueKind::Number(Range { max_excluded: true, ..Range::closed(0.0, f64::INFINITY) }),
        DefaultValue::Absent("slices are not compared with each other"),
        "How much worse the worst slice may be than the best, relative to the best.",
    )
    .example("0.2"),
];

const BASELINE: Section = Section::new(
    "baseline",
    "The model to compare with, where `--baseline` names none. Without one it is a first release.",
    &[Key::new(
        "baseline.model",
        ValueKind::Line,
        DefaultValue::Required,
        "A model beside this file, or owner/name on the hub.",
    )
    .example("\"models/production\"")],
)
.optional();

const EVAL: Section = Section::new(
    "eval",
    "What both models are evaluated on.",
    &[Key::new(
        "eval.suite",
        ValueKind::Line,
        DefaultValue::Required,
        "A suite as `firebrand eval` takes it.",
    )
    .example("\"eval.toml\"")],
);

const PERFORMANCE: Section = Section::new(
    "performance",
    "Speed and memory on the same machine as the baseline. Without this section they are not \
     measured.",
    &[
        Key::new(
            "performance.max_regression",
            ValueKind::Number(Range::FINITE),
            DefaultValue::Value("0.05"),
            "How much slower or larger it may be, relative to the baseline.",
        )
        .example("0.2"),
        Key::new(
            "performance.metrics",
            ValueKind::Choices(Measure::NAMES),
            DefaultValue::Depends("all that there are; `first_token_seconds` needs a task"),
            "What is measured.",
        )
        .example("[\"memory\"]"),
        Key::new(
            "performance.repeats",
            ValueKind::Integer { min: 1, max: REPEATS_MAX },
            DefaultValue::Value("3"),
            "How many processes measure each model, in turn. Medians are compared.",
        )
        .example("5"),
    ],
)
.optional();

const COVERAGE: Section = Section::new(
    "coverage",
    "Units, heads and experts that the evaluation must exercise. Without this section they are not \
     looked at.",
    &[
        Key::new(
            "coverage.training",
            ValueKind::Line,
            DefaultValue::Required,
            "What the training data exercises: a result of `firebrand coverage --out`, of the \
             baseline or of the candidate.",
        )
        .example("\"coverage-training.json\""),
        Key::new(
            "coverage.min_share",
            ValueKind::Number(Range::above(0.0, 1.0)),
            DefaultValue::Value("0.9"),
            "The least share of that which the evaluation exercises, too.",
        )
        .example("0.95"),
    ],
)
.optional();

/// More people than will ever make a model again.
const REPRODUCERS_MAX: u64 = 1000;

const CHECKS: Section = Section::new(
    "checks",
    "The checklist. All of it must hold but for what is `false` or 0 here.",
    &[
        switch("checks.signature", "A trusted key with the role `train` signed these very files."),
        switch("checks.lineage", "The lineage is there and tells of these files."),
        switch("checks.model_pinned", "The base model is known by its bytes."),
        switch("checks.data_pinned", "The training data is known by its bytes."),
        Key::new(
            "checks.require_approved",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "Someone must vouch for inputs: a lock alone does not do.",
        )
        .example("true"),
        switch("checks.source_clean", "It was trained from a commit, without changes."),
        Key::new(
            "checks.reproduced_by",
            ValueKind::Integer { min: 0, max: REPRODUCERS_MAX },
            DefaultValue::Value("0"),
            "How many others must have made it again and got the same bytes: keys with the role \
             `reproduce`, and not the one that signed it. 0 asks for none.",
        )
        .example("1")
        .only_with("checks.signature", &["true"]),
        switch("checks.output_schema", "Answers of every `json_schema` task fit their schema."),
        Key::new(
            "checks.min_valid",
            ValueKind::Number(Range::above(0.0, 1.0)),
            DefaultValue::Value("0.99"),
            "The least share of answers that fit their schema.",
        )
        .example("0.9")
        .only_with("checks.output_schema", &["true"]),
        switch("checks.tokenizer", "Tokens are those of the base model, and texts come back."),
        Key::new(
            "checks.allow_tokenizer_change",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "The tokenizer may be another than the base model's.",
        )
        .example("true")
        .only_with("checks.tokenizer", &["true"]),
        switch("checks.evaluation_apart", "Nothing that it is evaluated on was trained on."),
        Key::new(
            "checks.ngram",
            ValueKind::Integer { min: 4, max: 100 },
            DefaultValue::Value("13"),
            "How many words in a row are the same text. Fewer are found in any text, more in none.",
        )
        .example("8")
        .only_with("checks.evaluation_apart", &["true"]),
        Key::new(
            "checks.ngram_share",
            ValueKind::Number(Range::below(0.0, 1.0)),
            DefaultValue::Value("0.8"),
            "A record was trained on if more than this share of its n-grams was.",
        )
        .example("0.5")
        .only_with("checks.evaluation_apart", &["true"]),
        Key::new(
            "checks.max_overlap",
            ValueKind::Number(Range::below(0.0, 1.0)),
            DefaultValue::Value("0.0"),
            "The share of records that may have been trained on.",
        )
        .example("0.01")
        .only_with("checks.evaluation_apart", &["true"]),
        Key::new(
            "checks.missing_training_data",
            ValueKind::Choice(&["undecided", "allow"]),
            DefaultValue::Value("\"undecided\""),
            "Whether training data that is not on this machine leaves the verdict undecided, or is \
             a warning.",
        )
        .example("\"allow\"")
        .only_with("checks.evaluation_apart", &["true"]),
    ],
);

const fn switch(path: &'static str, doc: &'static str) -> Key {
    Key::new(path, ValueKind::Boolean, DefaultValue::Value("true"), doc).example("false")
}

const _: () = assert!(MAX_REGRESSION == 0.05, "the defaults of `max_regression` say it");
