//! The keys of a table that says how answers are scored.

use crate::document::key::{DefaultValue, Key, MANY, TextRule, ValueKind};

/// How an answer is scored.
pub const KIND: Key = Key::new(
    "kind",
    ValueKind::Choice(&["exact", "json_schema", "regex", "command", "code"]),
    DefaultValue::Required,
    "How an answer is judged: it is the record's own, it is JSON that a schema accepts, a \
     pattern is found in it, a program says so, or it is code that ends without an error in a \
     sandbox (Linux, bubblewrap).",
)
.example("\"exact\"");

/// What is compared with the record's answer.
pub const COMPARE: Key = Key::new(
    "compare",
    ValueKind::Choice(&["text", "json"]),
    DefaultValue::Value("\"text\""),
    "Whether texts are compared, but for space around them, or JSON values.",
)
.example("\"json\"")
.only_with("kind", &["exact"]);

/// The file of a JSON Schema.
pub const SCHEMA: Key = Key::new(
    "schema",
    ValueKind::Line,
    DefaultValue::Required,
    "A file with the JSON Schema, which may refer to nothing outside.",
)
.example("\"schemas/call.json\"")
.only_with("kind", &["json_schema"]);

/// What is looked for.
pub const PATTERN: Key = Key::new(
    "pattern",
    ValueKind::Rule(&EXPRESSION),
    DefaultValue::Required,
    "The regular expression that is looked for.",
)
.example("'^yes'")
.only_with("kind", &["regex"]);

/// The program that gives numbers.
pub const COMMAND: Key = Key::new(
    "command",
    ValueKind::Texts,
    DefaultValue::Required,
    "Program and arguments. It gets a JSON object a line on stdin, with `id`, `prompt`, \
     `answer`, `reference` and `record`, and prints a number a line. With `code` it is what runs \
     an answer, such as `[\"python3\", \"-\"]`: it gets the answer itself on stdin.",
)
.example("[\"judge\", \"--strict\"]")
.only_with("kind", &["command", "code"]);

/// How long code may run.
pub const RUN_SECONDS: Key = Key::new(
    "run_seconds",
    ValueKind::Integer { min: 1, max: 3_600 },
    DefaultValue::Value("10"),
    "Processor time that an answer may take as code; four times as long is waited for it.",
)
.example("2")
.only_with("kind", &["code"]);

/// What memory code may have.
pub const RUN_MEMORY: Key = Key::new(
    "run_memory",
    ValueKind::Bytes { min: 1 << 20, max: 1 << 50 },
    DefaultValue::Value("\"512 MiB\""),
    "Memory (address space) that an answer may take as code.",
)
.example("\"2 GiB\"")
.only_with("kind", &["code"]);

/// Whether tests follow the code.
pub const APPEND_REFERENCE: Key = Key::new(
    "append_reference",
    ValueKind::Boolean,
    DefaultValue::Value("true"),
    "Whether the record's own answer follows the model's, as tests of it.",
)
.example("false")
.only_with("kind", &["code"]);

/// How long that may take.
pub const TIMEOUT: Key = Key::new(
    "timeout_seconds",
    ValueKind::Integer { min: 0, max: MANY },
    DefaultValue::Value("600"),
    "How long the program may take for all answers.",
)
.example("60")
.only_with("kind", &["command"]);

/// What of an answer is scored.
pub const EXTRACT: Key = Key::new(
    "extract",
    ValueKind::Rule(&EXPRESSION),
    DefaultValue::Absent("the whole answer"),
    "What of the answer is judged: the first group of this regular expression, or the whole \
     match. An answer without a match fails.",
)
.example("'<tool_call>(.*)</tool_call>'");

const EXPRESSION: TextRule = TextRule {
    describe: || "a regular expression".to_owned(),
    names: &[],
    pattern: None,
    dates: false,
    check: |text| match regex::Regex::new(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string().lines().last().unwrap_or_default().to_owned()),
    },
    hint: |_| None,
};
