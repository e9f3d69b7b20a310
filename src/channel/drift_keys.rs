//! The keys of `watch.toml`.

use std::sync::LazyLock;
use std::time::Duration;

use crate::document::key::{DefaultValue, Key, Range, Section, TextRule, ValueKind};
use crate::document::{DocumentKind, KeyTable, choices};
use crate::error::{Error, Result};

/// How much worse a number may be, relative to what it was, where nothing is said: the default of
/// `max_drift`.
pub const MAX_DRIFT: f64 = 0.05;

choices! {
    /// Which numbers are better.
    Direction {
        /// The lower ones.
        Lower = "lower",
        /// The higher ones.
        Higher = "higher",
    }
}

choices! {
    /// What is done about drift.
    OnDrift {
        /// The channel goes back to the last good model.
        Rollback = "rollback",
        /// It is told, and that is all.
        Report = "report",
    }
}

/// All keys of a policy for watching.
pub static KEYS: LazyLock<KeyTable> = LazyLock::new(|| KeyTable::new(&KIND, &[TOP, WATCH]));

const KIND: DocumentKind = DocumentKind {
    name: "watch",
    what: "the policy",
    title: "Firebrand watch policy",
    about: "How much worse the model in use may become, and what follows.",
    opening: "How much worse the model in use may become, and what follows: `firebrand watch \
              --channel NAME --config EVAL --policy FILE`.",
    paths: "",
    too_large: "a policy for watching has some lines",
};

const TOP: Section = Section::new("", "There is nothing above the first section.", &[]);

const LIMIT: Range = Range { max_excluded: true, ..Range::closed(0.0, f64::INFINITY) };

const WATCH: Section = Section::new(
    "watch",
    "What is looked at, and what follows.",
    &[
        Key::new(
            "watch.max_drift",
            ValueKind::NumberOrEach(LIMIT),
            DefaultValue::Value("0.05"),
            "How much worse a number may be, relative to what it was when the model passed the \
             gate: one limit for every number that both have, or a table of metrics, which must \
             be there.",
        )
        .example("{ loss = 0.05, accuracy = 0.1 }"),
        Key::new(
            "watch.direction",
            ValueKind::ChoiceOfEach(Direction::NAMES),
            DefaultValue::Absent(
                "loss, perplexity and errors are better when lower, all others when higher",
            ),
            "Which way metrics are better.",
        )
        .example("{ accuracy = \"higher\" }"),
        Key::new(
            "watch.on_drift",
            ValueKind::Choice(OnDrift::NAMES),
            DefaultValue::Value("\"rollback\""),
            "What is done about drift: the channel goes back to the last good model, or it is \
             reported and that is all.",
        )
        .example("\"report\""),
        Key::new(
            "watch.every",
            ValueKind::Rule(&DURATION),
            DefaultValue::Absent("one round, or what `--every` says"),
            "How long to wait between two rounds.",
        )
        .example("\"1h\""),
    ],
);

const DURATION: TextRule = TextRule {
    describe: || "a time such as `90s`, `30m`, `1h` or `1d`".to_owned(),
    names: &[],
    pattern: Some("^[0-9]+[smhd]$"),
    dates: false,
    check: |text| duration(text).map(drop).map_err(|_| String::new()),
    hint: |_| None,
};

/// A time such as `90s`, `30m`, `1h` or `1d`.
pub fn duration(text: &str) -> Result<Duration> {
    let wrong = || {
        Error::usage(format!("`{text}` is not a duration"))
            .hint("such as `90s`, `30m`, `1h` or `1d`")
    };
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(wrong()),
    };
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = number.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    if number == 0 {
        return Err(wrong());
    }
    Ok(Duration::from_secs(u64::from(number) * seconds))
}
