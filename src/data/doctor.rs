//! What a careful person would look at before spending a night on a data set.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::corpus::{Corpus, Entry, Statistics};
use super::filter::Place;
use super::layout::Blocks;
use super::plan::Plan;
use super::show::{Piece, pieces};
use super::survey::each;
use crate::error::Result;
use crate::files::Digest;

/// So many examples are shown.
const SHOWN: usize = 5;
/// Edges of the length histogram, as shares of `max_seq_len`.
const EDGES: [f64; 6] = [0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0];

/// The findings.
#[derive(Debug, Serialize)]
pub struct Checkup {
    /// What was counted in the training data.
    pub statistics: Statistics,
    /// What was counted in the validation data.
    pub validation: Statistics,
    /// Lengths of the examples that are learnt: up to so many tokens, so many examples.
    pub lengths: Vec<(u32, u64)>,
    /// The median length and the one that 95 of 100 do not exceed.
    pub median: u32,
    /// See `median`.
    pub percentile_95: u32,
    /// Examples of which an equal record stands before.
    pub duplicates: u64,
    /// Conversations whose last learnt token does not end the turn; cut ones included.
    pub without_end: u64,
    /// Rows of the first epoch, and the share of their tokens that is no padding.
    pub rows: u64,
    /// See `rows`.
    pub filled: f64,
    /// What deserves attention, worst first.
    pub concerns: Vec<String>,
    /// Places and texts of examples spread over the data.
    #[serde(skip)]
    pub examples: Vec<(String, Vec<Piece>)>,
}

/// Looks at everything once.
pub fn checkup(corpus: &Corpus, plan: &Plan, max_seq_len: usize) -> Result<Checkup> {
    let statistics = corpus.statistics.clone().unwrap_or_default();
    let mut found = Found::default();
    for file in corpus.train.files() {
        each(&corpus.train, file, |place, facts| {
            let first = found.records.entry(facts.digest).or_insert((place.0, facts.line));
            found.duplicates += u64::from(*first != (place.0, facts.line));
            if corpus.keeps(place, &facts.digest) {
                found.lengths.push(facts.tokens);
                found.kept.push(place);
            }
            Ok(())
        })?;
    }
    found.lengths.sort_unstable();
    let rows = plan.rows_in_epoch(0)?;
    #[expect(clippy::cast_precision_loss)] // for people
    let filled = statistics.tokens as f64 / (rows * max_seq_len as u64).max(1) as f64;
    let mut checkup = Checkup {
        lengths: histogram(&found.lengths, max_seq_len),
        median: found.percentile(50),
        percentile_95: found.percentile(95),
        duplicates: found.duplicates,
        without_end: without_end(corpus)?,
        rows,
        filled,
        validation: corpus.validation.statistics.clone(),
        concerns: Vec::new(),
        examples: examples(corpus, &found.kept)?,
        statistics,
    };
    checkup.concerns = concerns(corpus, &checkup);
    Ok(checkup)
}

#[derive(Default)]
struct Found {
    records: BTreeMap<Digest, (super::layout::FileId, u64)>,
    duplicates: u64,
    lengths: Vec<u32>,
    kept: Vec<Place>,
}

impl Found {
    fn percentile(&self, percent: usize) -> u32 {
        let place = (self.lengths.len() * percent).div_ceil(100).max(1) - 1;
        self.lengths.get(place).copied().unwrap_or(0)
    }
}

fn histogram(sorted: &[u32], max: usize) -> Vec<(u32, u64)> {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // lengths of rows
    let edges = EDGES.map(|share| (share * max as f64).ceil() as u32);
    let mut before = 0;
    let bar = |edge: u32| {
        let through = sorted.partition_point(|length| *length <= edge);
        let count = (through - before) as u64;
        before = through;
        (edge, count)
    };
    edges.map(bar).to_vec()
}

/// Conversations whose learnt part does not end with the token that ends a turn.
fn without_end(corpus: &Corpus) -> Result<u64> {
    let ends = corpus.codec.turn_ends();
    if ends.is_empty() {
        return Ok(0);
    }
    let mut count = 0;
    for file in corpus.train.files() {
        if !corpus.train.open(file)?.about().chat {
            continue;
        }
        for block in 0..corpus.train.count_of_blocks(file)? {
            let open = |entry: &&Entry| {
                let example = &entry.example;
                let last = example.learn.iter().rposition(|learnt| *learnt);
                last.is_some_and(|place| !ends.contains(&example.tokens[place]))
            };
            count += corpus.train.read(file, block)?.iter().filter(open).count() as u64;
        }
    }
    Ok(count)
}

/// Examples spread evenly over the data.
fn examples(corpus: &Corpus, kept: &[Place]) -> Result<Vec<(String, Vec<Piece>)>> {
    let count = SHOWN.min(kept.len());
    let mut shown = Vec::new();
    let mut seen = BTreeSet::new();
    for number in 0..count {
        let (file, block, place) = kept[number * kept.len() / count];
        let entry = corpus.train.read(file, block)?.swap_remove(place as usize);
        if seen.insert(entry.record.clone()) {
            shown.push((entry.record.to_string(), pieces(&corpus.codec, &entry.example)?));
        }
    }
    Ok(shown)
}

#[expect(clippy::cast_precision_loss)] // shares for people
fn concerns(corpus: &Corpus, checkup: &Checkup) -> Vec<String> {
    let counts = &checkup.statistics;
    let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut concerns = Vec::new();
    let mut say = |holds: bool, text: String| {
        if holds {
            concerns.push(text);
        }
    };
    let learnt = share(counts.learnt_tokens, counts.tokens);
    say(counts.bad_rows > 0, format!("{} records cannot be used", counts.bad_rows));
    say(
        counts.overlapping > 0,
        format!("{} training records are also validation records", counts.overlapping),
    );
    say(
        counts.nothing_to_learn > 0,
        format!("{} records hold nothing to learn", counts.nothing_to_learn),
    );
    let cut = share(counts.truncated, counts.records);
    say(
        counts.truncated > 0,
        format!(
            "{} records ({}) are cut off; raise `data.max_seq_len`",
            counts.truncated,
            percent(cut)
        ),
    );
    let open = checkup.without_end.saturating_sub(counts.truncated);
    say(open > 0, format!("{open} conversations do not end with the end of a turn"));
    say(
        checkup.duplicates > 0 && counts.duplicates == 0,
        format!(
            "{} examples are repeated; `data.deduplicate` learns them once",
            checkup.duplicates
        ),
    );
    say(learnt < 0.05, format!("only {} of the tokens are learnt", percent(learnt)));
    let chat = corpus
        .train
        .files()
        .iter()
        .any(|file| corpus.train.ready(*file).is_some_and(|opened| opened.about().chat));
    say(
        chat && learnt > 0.95,
        format!("{} of the tokens are learnt, prompts too", percent(learnt)),
    );
    say(
        checkup.validation.examples == 0,
        "there is no validation data: `data.val_size` or `[[data.validation]]`".to_owned(),
    );
    say(checkup.filled < 0.7, format!("rows are only {} full", percent(checkup.filled)));
    concerns.extend(corpus.warnings.iter().filter(|text| text.contains("template")).cloned());
    concerns
}
