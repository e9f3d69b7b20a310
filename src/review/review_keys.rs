//! The keys of `review.toml`.

use std::sync::LazyLock;

use crate::document::key::{DefaultValue, Key, Section, ValueKind};
use crate::document::{DocumentKind, KeyTable};

/// All keys of the settings of a review.
pub static KEYS: LazyLock<KeyTable> =
    LazyLock::new(|| KeyTable::new(&KIND, &[TOP, REVIEW, CHECKS]));

const KIND: DocumentKind = DocumentKind {
    name: "review",
    what: "the settings of the review",
    title: "Firebrand review settings",
    about: "What a change of code or model must keep to before it is merged.",
    opening: "What a change of code or model must keep to before it is merged: `firebrand review \
              --base REF`. Of a change, those settings count that were there before it.",
    paths: "Paths are relative to the folder in which the review is run.",
    too_large: "settings of a review have some dozens of lines",
};

const TOP: Section = Section::new(
    "",
    "What code expects of the model.",
    &[Key::new(
        "contract",
        ValueKind::Tables { keys: CONTRACT, may_be_empty: true },
        DefaultValue::Absent("what the code expects is not known, and cannot be judged"),
        "What code expects of the answers of a task, one `[[contract]]` each.",
    )
    .example("[{ task = \"calls a tool\", schema = \"app/call.schema.json\" }]")],
);

const CONTRACT: &[Key] = &[
    Key::new(
        "task",
        ValueKind::Line,
        DefaultValue::Required,
        "A task of the kind `json_schema` in a suite.",
    )
    .example("\"calls a tool\""),
    Key::new(
        "schema",
        ValueKind::Line,
        DefaultValue::Required,
        "The JSON Schema by which the code reads those answers: each that the task admits must \
         fit.",
    )
    .example("\"app/call.schema.json\""),
];

const REVIEW: Section = Section::new(
    "review",
    "What is looked at.",
    &[
        Key::new(
            "review.configs",
            ValueKind::Texts,
            DefaultValue::Depends("every one in this folder and below that git does not ignore"),
            "The configurations of runs.",
        )
        .example("[\"nightly.toml\"]"),
        Key::new(
            "review.policies",
            ValueKind::Texts,
            DefaultValue::Depends("every one in this folder and below that git does not ignore"),
            "The policies of gates, with the suites that they name.",
        )
        .example("[\"gate.toml\"]"),
        Key::new(
            "review.coverage",
            ValueKind::Line,
            DefaultValue::Absent("coverage cannot be judged"),
            "A result of `firebrand coverage --out` that is kept in the repository: what the \
             evaluation exercises. It is compared with the one before the change.",
        )
        .example("\"coverage.json\""),
    ],
);

const CHECKS: Section = Section::new(
    "checks",
    "The checklist. All of it must hold but for what is `false` here.",
    &[
        switch("checks.model_pinned", "The base model is known by its commit or its bytes."),
        switch("checks.data_pinned", "The data of runs is known by its commit or its bytes."),
        switch("checks.output_schema", "The gate demands that answers fit a JSON Schema."),
        switch("checks.policy_limits", "The gate demands no less than before."),
        switch("checks.regression_test", "The gate has passed the newest artifact."),
        switch("checks.evaluation_apart", "Nothing that is evaluated on is trained on."),
        switch("checks.coverage", "The evaluation exercises no less of the model than before."),
        switch("checks.contract", "Every answer that the evaluation admits is one for the code."),
    ],
);

const fn switch(path: &'static str, doc: &'static str) -> Key {
    Key::new(path, ValueKind::Boolean, DefaultValue::Value("true"), doc).example("false")
}
