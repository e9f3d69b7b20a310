//! What a careful person would look at before spending a night on a data set.
//!
//! - `collect`, `groups`: what is odd about single records, counted and listed in a file
//! - `near`: records on both sides of the split between training and validation
//! - `repeats`: equal records, and lengths, from the facts of all examples
//! - `concerns`: what deserves attention, in sentences

mod collect;
mod concerns;
mod groups;
mod near;
mod repeats;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use self::collect::Collector;
use self::near::{NearDuplicates, near_duplicates};
use self::repeats::Lengths;
use super::codec::Codec;
use super::corpus::{Corpus, Extent, open_watched};
use super::finding::FindingKind;
use super::labels_found::with_labels;
use super::plan::Plan;
use super::show::{ExampleSpan, pieces};
use super::statistics::Statistics;
use super::survey::each;
use super::tokens::AddedTokens;
use super::watch::RecordWatch;
use crate::config::RunConfig;
use crate::error::Result;
use crate::hub::Supply;

pub use self::groups::FindingGroup;

/// So many examples are shown.
const SHOWN: usize = 5;

/// The findings.
#[derive(Debug, Serialize)]
pub struct Checkup {
    /// What was counted in the training data.
    pub statistics: Statistics,
    /// What was counted in the validation data.
    pub validation: Statistics,
    /// Lengths of the examples that are trained: up to so many tokens, so many examples.
    pub lengths: Vec<(u32, u64)>,
    /// The median length and the one that 95 of 100 do not exceed.
    pub median: u32,
    /// See `median`.
    pub percentile_95: u32,
    /// Examples of which an equal record stands before.
    pub duplicates: u64,
    /// Turns of the assistant without an end-of-turn token among their targets.
    pub without_end: u64,
    /// Target tokens that `data.max_seq_len` cuts away.
    pub targets_cut: u64,
    /// Rows of the first epoch, and the share of their tokens that is no padding.
    pub rows: u64,
    /// See `rows`.
    pub filled: f64,
    /// Records almost equal to validation records.
    pub near_duplicates: NearDuplicates,
    /// What is odd about records, by kind and reason.
    pub findings: Vec<FindingGroup>,
    /// What holds for all records of a shape, of those that unusable records break.
    pub rules: Vec<String>,
    /// A file with one line for each finding, and how many lines.
    pub report: PathBuf,
    /// See `report`.
    pub report_lines: u64,
    /// Why `train` would not begin with this data; empty if it would.
    pub refusals: Vec<String>,
    /// What deserves attention, worst first.
    pub concerns: Vec<String>,
    /// Places and texts of examples spread over the data.
    #[serde(skip)]
    pub examples: Vec<(String, Vec<ExampleSpan>)>,
    /// What was chosen and why, a sentence each.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// Looks at everything once. `report` is where the list of all findings goes.
///
/// # Errors
/// When files cannot be read at all: what is wrong with records is no error here.
pub fn checkup(
    config: &RunConfig,
    base: &Path,
    supply: &Arc<Supply>,
    cache: &Path,
    report: &Path,
) -> Result<Checkup> {
    let data = &with_labels(&config.data, supply)?;
    let template = data.chat_template.as_deref().map(Path::new);
    let added = AddedTokens::of(&config.model)?;
    let codec = Arc::new(Codec::load_with(&added, base, template)?);
    let collector = Arc::new(Collector::new(&codec, report, &cache.join("doctor"))?);
    let watch: Arc<dyn RecordWatch> = collector.clone();
    let extent = Extent::Everything;
    let most = config.eval.max_records;
    let corpus = open_watched(data, &codec, supply, cache, extent, most, Some(&watch))?;
    let statistics = corpus.statistics.clone().unwrap_or_default();
    let lengths = Lengths::of(&corpus, data.max_seq_len)?;
    let near_duplicates = collector.with(|found| near_duplicates(found, corpus.filter()))?;
    let duplicates = collector.with(|found| repeats::duplicates(found, &corpus))?;
    let rows = rows(&corpus.plan(config.seed), &statistics)?;
    #[expect(clippy::cast_precision_loss)] // for people
    let filled = statistics.tokens as f64 / (rows * data.max_seq_len as u64).max(1) as f64;
    let (findings, rules, report_lines) = collector.with(|found| {
        found.keep_report(report)?;
        Ok((found.groups.all(), found.rules.clone(), found.lines))
    })?;
    let count = |kind| findings.iter().filter(|it| it.finding == kind).map(|it| it.count).sum();
    let mut checkup = Checkup {
        lengths: lengths.histogram(),
        median: lengths.percentile(50),
        percentile_95: lengths.percentile(95),
        duplicates,
        without_end: count(FindingKind::MissingEnd),
        targets_cut: count(FindingKind::TargetsCut),
        rows,
        filled,
        near_duplicates,
        rules,
        report: report.to_owned(),
        report_lines,
        refusals: corpus.refusals.clone(),
        validation: corpus.validation.statistics.clone(),
        concerns: Vec::new(),
        examples: examples(&corpus, lengths.count())?,
        notes: corpus.notes.clone(),
        findings,
        statistics,
    };
    collector.with(|found| concerns::fill(&mut checkup, data, &corpus, &found.groups));
    Ok(checkup)
}

/// Rows of the first epoch.
fn rows(plan: &Plan, statistics: &Statistics) -> Result<u64> {
    if statistics.examples == 0 { Ok(0) } else { plan.rows_in_epoch(0) }
}

/// Examples spread evenly over the data, of which so many are trained.
fn examples(corpus: &Corpus, count: u64) -> Result<Vec<(String, Vec<ExampleSpan>)>> {
    let wanted = (SHOWN as u64).min(count);
    let wanted: BTreeSet<u64> = (0..wanted).map(|number| number * count / wanted).collect();
    let (mut number, mut places) = (0, Vec::new());
    for file in corpus.train.files() {
        each(&corpus.train, file, |place, facts| {
            if corpus.keeps(place, &facts.digest) {
                places.extend(wanted.contains(&number).then_some(place));
                number += 1;
            }
            Ok(())
        })?;
    }
    let (mut shown, mut seen) = (Vec::new(), BTreeSet::new());
    for (file, block, place) in places {
        let entry = super::layout::Blocks::read(&*corpus.train, file, block)?;
        let Some(entry) = entry.into_iter().nth(place as usize) else { continue };
        if seen.insert(entry.record.clone()) {
            shown.push((entry.record.to_string(), pieces(&corpus.codec, &entry.example)?));
        }
    }
    Ok(shown)
}
