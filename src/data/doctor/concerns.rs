//! What deserves attention, in sentences with what to do, worst first.

use super::Checkup;
use super::groups::Groups;
use crate::config::{DataConfig, Overlong};
use crate::data::corpus::Corpus;
use crate::data::finding::FindingKind;

/// Adds why `train` would refuse the data, and what deserves attention.
pub fn fill(checkup: &mut Checkup, config: &DataConfig, corpus: &Corpus, groups: &Groups) {
    let bad = groups.records(FindingKind::BadRecord);
    if bad > config.max_bad_rows {
        let (some, most) = (said(bad, "record"), config.max_bad_rows);
        let refusal = format!(
            "{some} cannot be used, and `data.max_bad_rows` is {most}: correct them, or set it to \
             {bad} to skip them"
        );
        checkup.refusals.insert(0, refusal);
    }
    let mut concerns = Vec::new();
    let mut say = |holds: bool, text: String| concerns.extend(holds.then_some(text));
    of_records(checkup, config, groups, &mut say);
    of_the_whole(checkup, corpus, &mut say);
    let unsaid = |text: &&String| !FOUND_BETTER.iter().any(|known| text.contains(known));
    concerns.extend(corpus.warnings.iter().filter(unsaid).cloned());
    checkup.concerns = concerns;
}

/// What is odd about single records.
fn of_records(
    checkup: &Checkup,
    config: &DataConfig,
    groups: &Groups,
    say: &mut impl FnMut(bool, String),
) {
    let records = |kind| groups.records(kind);
    let (bad, none) = (records(FindingKind::BadRecord), records(FindingKind::NoTargets));
    let read = checkup.statistics.records + checkup.validation.records;
    say(bad > 0, format!("{bad} of {} cannot be used", said(read, "record")));
    let what = format!("{} without target tokens", said(none, "record"));
    say(none > 0, format!("{what}: nothing is trained on them"));
    let both = records(FindingKind::InValidation);
    let what = format!("{} also in the validation data", said(both, "training record"));
    say(both > 0, format!("{what}: left out of the training data"));
    near(checkup, say);
    let empty = records(FindingKind::EmptyAnswer);
    let what = format!("{} with an empty answer", said(empty, "record"));
    say(empty > 0, format!("{what}, which teaches the model to say nothing: remove them"));
    let open = checkup.without_end;
    let what = format!("{} of the assistant without an end-of-turn token", said(open, "turn"));
    let why = "among the targets: the model does not learn to stop there; look at the template";
    say(open > 0, format!("{what} {why}"));
    let (cut, lost) = (records(FindingKind::TargetsCut), checkup.targets_cut);
    let where_to = match config.overlong {
        Overlong::Drop => "are left out with records that are longer than",
        _ => "lie beyond",
    };
    let what = format!("{} of {} {where_to}", said(lost, "target token"), said(cut, "record"));
    let max = config.max_seq_len;
    let what = format!("{what} `data.max_seq_len` ({max}); raise it, or shorten the records");
    say(lost > 0, what);
    let control = records(FindingKind::ControlToken);
    let what = format!("special tokens in the texts of {}", said(control, "record"));
    let why = "which can end a turn or begin another: remove them unless they are meant";
    say(control > 0, format!("{what}, {why}"));
}

/// What is odd about the data as a whole.
#[expect(clippy::cast_precision_loss)] // shares for people
fn of_the_whole(checkup: &Checkup, corpus: &Corpus, say: &mut impl FnMut(bool, String)) {
    let counts = &checkup.statistics;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let targets = counts.target_tokens as f64 / counts.tokens.max(1) as f64;
    let repeated = said(checkup.duplicates, "example");
    say(
        checkup.duplicates > 0 && counts.duplicates == 0,
        format!("{repeated} repeated; `data.deduplicate` trains on them once"),
    );
    say(
        targets < 0.05 && counts.tokens > 0,
        format!("only {} of the tokens are targets", percent(targets)),
    );
    say(
        is_chat(corpus) && targets > 0.95,
        format!("{} of the tokens are targets, prompts too", percent(targets)),
    );
    say(
        checkup.validation.examples == 0,
        "there is no validation data: `data.val_size` or `[[data.validation]]`".to_owned(),
    );
    say(
        checkup.filled < 0.7 && counts.examples > 0,
        format!("rows are only {} full", percent(checkup.filled)),
    );
}

/// Warnings of a run of which the findings say more.
const FOUND_BETTER: [&str; 6] = [
    ": skipped: ",
    "more unusable records were skipped",
    "are longer than `data.max_seq_len`",
    "have no target tokens",
    "have no target tokens",
    "training records are also validation records",
];

fn near(checkup: &Checkup, say: &mut impl FnMut(bool, String)) {
    let near = &checkup.near_duplicates;
    let places: Vec<String> = near
        .pairs
        .iter()
        .map(|pair| format!("{} and {}", pair.training, pair.validation))
        .collect();
    say(
        near.records > 0,
        format!(
            "{} almost in the validation data, which makes its loss look too good (likeness of \
             at least {:.0} %): {}",
            said(near.records, "training record"),
            100.0 * near.similarity,
            places.join("; ")
        ),
    );
    say(
        near.compared < near.validation_records,
        format!(
            "near-duplicates were looked for of {} of {} validation records",
            near.compared, near.validation_records
        ),
    );
}

fn is_chat(corpus: &Corpus) -> bool {
    let files = corpus.train.files();
    let chat = |file| corpus.train.ready(file).is_some_and(|opened| opened.about().chat);
    files.into_iter().any(chat)
}

/// A number of things.
fn said(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
