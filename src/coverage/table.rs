//! Results for people, in Markdown.

use std::fmt::Write as _;

use super::criteria::{CRITERIA, Criterion};
use super::result::{Counts, Coverage, Covered, PartCoverage};
use super::suggest::Suggestions;
use crate::artifact::markup::code;

/// What a column is called.
pub fn title(criterion: Criterion, coverage: &Coverage) -> String {
    let of = &coverage.thresholds;
    match criterion {
        Criterion::Units => "units".to_owned(),
        Criterion::UnitsTopK => format!("units, top {}", of.unit_top_k),
        Criterion::UnitSections => format!("units, {} sections", of.unit_sections),
        Criterion::UnitBoundary => "units, boundary".to_owned(),
        Criterion::Heads => "heads".to_owned(),
        Criterion::HeadEntropy => format!("heads, {} entropies", of.entropy_buckets),
        Criterion::Experts => "experts".to_owned(),
        Criterion::ExpertUnits => "units of experts".to_owned(),
    }
}

/// The table of layers, and those of slices and tasks, if there are any.
pub fn markdown(coverage: &Coverage) -> String {
    let columns: Vec<Criterion> = CRITERIA
        .into_iter()
        .filter(|criterion| coverage.totals.contains_key(criterion.name()))
        .collect();
    let mut text = String::new();
    head("", coverage, &columns, &mut text);
    for layer in &coverage.layers {
        let mut name = layer.path.clone();
        if !layer.not_measured.is_empty() {
            let _ = write!(name, " ({} not measured)", layer.not_measured.join(", "));
        }
        row(&name, &layer.counts(), &columns, &mut text);
    }
    row("all layers", &coverage.totals, &columns, &mut text);
    let parts = coverage.slices.iter().flat_map(|slices| {
        slices.slices.iter().map(|part| (format!("{} = {}", slices.by, code(&part.name)), part))
    });
    let tasks = coverage.tasks.iter().map(|part| (format!("task {}", code(&part.name)), part));
    let parts: Vec<(String, &PartCoverage)> = parts.chain(tasks).collect();
    if parts.is_empty() {
        return text;
    }
    text.push('\n');
    head("records", coverage, &columns, &mut text);
    for (name, part) in &parts {
        row(&format!("{name}: {}", part.records), &part.totals, &columns, &mut text);
    }
    for (name, part) in &parts {
        text.push('\n');
        head(name, coverage, &columns, &mut text);
        for (layer, counts) in coverage.layers.iter().zip(&part.layers) {
            row(&layer.path, counts, &columns, &mut text);
        }
    }
    text
}

fn head(first: &str, coverage: &Coverage, columns: &[Criterion], text: &mut String) {
    let titles: Vec<String> = columns.iter().map(|column| title(*column, coverage)).collect();
    let _ = writeln!(text, "| {first} | {} |", titles.join(" | "));
    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(columns.len()));
}

fn row(name: &str, counts: &Counts, columns: &[Criterion], text: &mut String) {
    let cell = |column: &Criterion| counts.get(column.name()).map_or("–".to_owned(), shown);
    let cells: Vec<String> = columns.iter().map(cell).collect();
    let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
}

/// `12/64 (18.8 %)`.
pub fn shown(count: &Covered) -> String {
    let Covered { covered, total } = count;
    format!("{covered}/{total} ({})", percent(count))
}

/// `18.8 %`.
pub fn percent(count: &Covered) -> String {
    format!("{:.1} %", 100.0 * share(count))
}

/// The part that is exercised.
#[expect(clippy::cast_precision_loss)] // paths are far fewer than 2^53
pub fn share(count: &Covered) -> f64 {
    if count.total == 0 { 0.0 } else { count.covered as f64 / count.total as f64 }
}

/// The records to add, and what they come to.
pub fn suggestions_markdown(found: &Suggestions) -> String {
    let mut text = "| | record | variation | new paths | exercised |\n".to_owned();
    text.push_str("| ---: | --- | --- | ---: | ---: |\n");
    let total = found.before.total;
    let _ = writeln!(text, "| | as it is | | | {} |", shown(&found.before));
    for (number, it) in (1..).zip(&found.suggestions) {
        let variation = it.variation.map_or("", |kind| kind.name());
        let all = shown(&Covered { covered: it.covered, total });
        let record = code(&it.record);
        let _ = writeln!(text, "| {number} | {record} | {variation} | {} | {all} |", it.gain);
    }
    text
}
