//! Messages as tests know them: whole, as snapshots beside the test that provokes them.
//!
//! `SNAPSHOTS=overwrite cargo test …` writes what is said now into the sources, so a message is
//! changed in one place and read again in the difference. Unit tests have this module, and so has
//! `tests/it`.

use std::fmt::Display;
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use regex::{Captures, Regex};
use snapbox::data::Inline;

/// What differs from run to run, and the name that stands for it in a snapshot. The order counts:
/// a digest is no commit.
static REDACTIONS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let redaction = |(pattern, name)| (Regex::new(pattern).expect("a fixed pattern"), name);
    [
        (r#"[^\s`"'(=]*[/\\]\.tmp[0-9A-Za-z]{6}"#, "[FOLDER]"),
        (r"\b[0-9a-f]{64}\b", "[SHA256]"),
        (r"\b[0-9a-f]{40}\b", "[COMMIT]"),
        (r"\b[0-9a-f]{12}\b", "[HEX]"),
        // Process numbers have few or many digits.
        (r"\.tmp-step-[0-9]+\.[0-9]+\b", ".tmp-step-[PROCESS]"),
        (r"\b127\.0\.0\.1:[0-9]{4,5}\b", "127.0.0.1:[PORT]"),
        (r"\b[0-9]+\.[0-9]+ (s|ms)\b", "[TIME]"),
        (r"\b[0-9.]+ tokens/s\b", "[SPEED]"),
        (r"\buntil 20[0-9]{2}-[0-9T:-]+Z", "until [LATER]"),
        (r"\b[0-9]+\.[0-9]{2} (%|…)", "[N] $1"),
        (r"\b[0-9]+\.[0-9] % apart", "[N] % apart"),
        // Signatures have 70 to 72 bytes, and times of a run few or many digits.
        (r"\b[0-9]+ files, [0-9]+ bytes\b", "[SIZE]"),
        (r"\b[0-9.]+ [kM]?B  ", "[SIZE]  "),
        // Processors differ in threads and formats, machines in adapters and speed.
        (r"\bCPU, [0-9]+ threads?(: .*)?", "CPU, [DEVICE]"),
        (r"\bf32: every CPU has it.*", "f32: [REASON]"),
        (r"\bnorm [0-9.]+  ", "norm [N]  "),
        (r"\bperplexity [0-9.]+", "perplexity [NUMBER]"),
        (r"\b[0-9]+[smh] left\b", "[TIME] left"),
        // Losses: their last digits are the processor's.
        (r"\b[0-9]+\.[0-9]{4,}\b", "[NUMBER]"),
        (r"\b[0-9]\.[0-9]{3}e-?[0-9]+\b", "[NUMBER]"),
    ]
    .map(redaction)
    .into()
});

/// Fails unless a text is its snapshot. In it, `[..]` is any text within a line.
#[track_caller]
pub fn says(text: impl Display, snapshot: Inline) {
    let mut text = redacted(&text.to_string());
    // The repository lies elsewhere on other machines.
    text = text.replace(env!("CARGO_MANIFEST_DIR"), "[REPOSITORY]");
    snapbox::Assert::new()
        .action_env(snapbox::assert::DEFAULT_ACTION_ENV)
        // `\u{1b}` is no path.
        .normalize_paths(cfg!(windows))
        .eq(text, snapshot);
}

/// The same for several messages, of which equal ones count once.
#[track_caller]
pub fn each_says(messages: impl IntoIterator<Item = String>, snapshot: Inline) {
    let mut distinct: Vec<String> = Vec::new();
    for message in messages {
        let message = redacted(&message);
        if !distinct.contains(&message) {
            distinct.push(message);
        }
    }
    says(distinct.join("\n"), snapshot);
}

fn redacted(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, name) in REDACTIONS.iter() {
        text = pattern.replace_all(&text, *name).into_owned();
    }
    without_now(&text)
}

/// Times of this run; those of fixtures are of other days.
fn without_now(text: &str) -> String {
    static TIME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]+)?Z").expect("fixed")
    });
    let (now, day) = (Timestamp::now(), SignedDuration::from_hours(24));
    let time = |found: &Captures| match found[0].parse::<Timestamp>() {
        Ok(time) if time.duration_since(now).abs() < day => "[NOW]".to_owned(),
        _ => found[0].to_owned(),
    };
    TIME.replace_all(text, time).into_owned()
}
