//! `firebrand data --doctor`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::output::data_pieces;
use crate::cli::{data_json, data_line, talk};
use crate::config::Loaded;
use crate::data::{Checkup, FindingGroup, FindingKind, checkup};
use crate::error::{Context, Result};
use crate::files::{Digest, cache_home};
use crate::hub::Supply;

/// The longest bar of the histogram, in characters.
const BAR: usize = 40;
/// So many reasons of a kind are shown; the report has all.
const REASONS: usize = 8;

/// Where and how the findings are told.
pub struct Telling<'a> {
    /// The configuration file.
    pub config: &'a Path,
    /// Where the list of all findings goes; into the cache where nothing is named.
    pub report: Option<&'a Path>,
    /// As one JSON object.
    pub json: bool,
}

/// Looks at the data, and prints the findings. Exit code 1: `train` would not begin with it.
pub fn run(loaded: &Loaded, supply: &Arc<Supply>, telling: &Telling) -> Result<ExitCode> {
    let cache = cache_home()?;
    let base = supply.base(&loaded.config.model)?;
    let report = match telling.report {
        Some(path) => path.to_owned(),
        None => report_in(&cache, telling.config)?,
    };
    let found = checkup(&loaded.config, &base.path, supply, &cache, &report)?;
    if telling.json {
        data_json(&serde_json::to_string_pretty(&found).context("cannot encode the findings")?)?;
    } else {
        found.notes.iter().for_each(|note| talk(note));
        tell(&found)?;
    }
    Ok(ExitCode::from(u8::from(!found.refusals.is_empty())))
}

/// The report of a configuration in the cache: one each, replaced by the next examination.
fn report_in(cache: &Path, config: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(config).context_at("cannot tell where it is", config)?;
    let stem = config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let digest = Digest::of(whole.to_string_lossy().as_bytes()).to_string();
    Ok(cache.join("doctor").join(format!("{stem}-{}.jsonl", &digest[..8])))
}

fn tell(found: &Checkup) -> Result<()> {
    numbers(found)?;
    data_line("\nlengths in tokens")?;
    let most = found.lengths.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    for (edge, count) in &found.lengths {
        let length = usize::try_from(count * BAR as u64 / most).unwrap_or(BAR);
        data_line(format!("  up to {edge:>6}  {count:>9}  {}", "▇".repeat(length)).trim_end())?;
    }
    for (place, pieces) in &found.examples {
        data_line(&format!("\n{place}"))?;
        data_pieces(pieces)?;
    }
    findings(found)?;
    data_line("")?;
    for concern in &found.concerns {
        data_line(&format!("look at this: {concern}"))?;
    }
    if found.report_lines > 0 {
        let (lines, path) = (found.report_lines, found.report.display());
        data_line(&format!("all {lines} findings, one a line: {path}"))?;
    }
    for refusal in &found.refusals {
        data_line(&format!("`train` refuses this data: {refusal}"))?;
    }
    match (found.refusals.is_empty(), found.concerns.is_empty()) {
        (true, true) => data_line("nothing needs attention"),
        (true, false) => data_line("`train` takes this data as it is"),
        (false, _) => Ok(()),
    }
}

/// The findings by kind and reason, each with its first place.
fn findings(found: &Checkup) -> Result<()> {
    let mut groups = found.findings.as_slice();
    while let Some(first) = groups.first() {
        let kind = first.finding;
        let (of_kind, rest) = groups.split_at(groups.partition_point(|it| it.finding <= kind));
        groups = rest;
        data_line(&format!("\n{}", title(kind)))?;
        for group in &of_kind[..of_kind.len().min(REASONS)] {
            data_line(&line(group))?;
        }
        if of_kind.len() > REASONS {
            let records: u64 = of_kind[REASONS..].iter().map(|it| it.records).sum();
            let more = of_kind.len() - REASONS;
            data_line(&format!("  {records:>7}  for {more} more reasons"))?;
        }
        if kind == FindingKind::BadRecord {
            let rule = |rule: &String| data_line(&format!("           {rule}"));
            found.rules.iter().try_for_each(rule)?;
        }
    }
    Ok(())
}

fn title(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::BadRecord => "records that cannot be used",
        FindingKind::NoTargets => "records without target tokens",
        FindingKind::InValidation => "training records that are also validation records",
        FindingKind::NearDuplicate => "training records that are almost validation records",
        FindingKind::EmptyAnswer => "records with empty answers",
        FindingKind::MissingEnd => "records with turns that do not end",
        FindingKind::TargetsCut => "records of which target tokens are cut away",
        FindingKind::ControlToken => "records with special tokens in their texts",
        FindingKind::Duplicate => "records that are copies of earlier ones",
    }
}

fn line(group: &FindingGroup) -> String {
    let FindingGroup { reason, records, count, first, varies, .. } = group;
    let often = match (group.finding, *count > *records) {
        (FindingKind::TargetsCut, _) => format!(" ({count} tokens)"),
        (FindingKind::MissingEnd | FindingKind::EmptyAnswer, true) => format!(" ({count} turns)"),
        _ => String::new(),
    };
    let like = if *varies { ", and the like" } else { "" };
    format!("  {records:>7}  {reason}{like}{often}, first {first}")
}

fn numbers(found: &Checkup) -> Result<()> {
    let counts = &found.statistics;
    #[expect(clippy::cast_precision_loss)] // for people
    let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
    let lines = [
        ("records", format!("{}, {} unusable", counts.records, counts.bad_rows)),
        (
            "examples",
            format!(
                "{}, {} cut off, {} left out as too long, {} without target tokens, {} repeated",
                counts.examples,
                counts.truncated,
                counts.dropped,
                counts.no_targets,
                found.duplicates
            ),
        ),
        (
            "tokens",
            format!(
                "{}, {} target tokens ({:.1} %); median example {}, 95 of 100 up to {}, longest {}",
                counts.tokens,
                counts.target_tokens,
                percent(counts.target_tokens, counts.tokens),
                found.median,
                found.percentile_95,
                counts.longest
            ),
        ),
        ("rows", format!("{}, {:.1} % full", found.rows, 100.0 * found.filled)),
        (
            "validation",
            format!(
                "{} examples, {} target tokens; {} of the training records are in it too, {} \
                 almost",
                found.validation.examples,
                found.validation.target_tokens,
                counts.overlapping,
                found.near_duplicates.records
            ),
        ),
    ];
    lines.iter().try_for_each(|(label, text)| data_line(&format!("{label:>12}  {text}")))
}
