//! The table of results as text, CSV and Markdown.

use super::collect::Collected;
use crate::artifact::markup::code;

/// Whether a cell is a number, be it with its interval: no id, whatever digits that has.
fn is_number(cell: &str) -> bool {
    let first = cell.split(' ').next().unwrap_or_default();
    first == "-" || (first.len() < 16 && first.parse::<f64>().is_ok())
}

/// For people: aligned.
pub fn text(collected: &Collected) -> Vec<String> {
    let columns = collected.columns();
    let rows = || collected.points.iter().map(|point| collected.cells(point));
    let mut widths: Vec<usize> = columns.iter().map(|name| name.chars().count()).collect();
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<String>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| match is_number(cell) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    std::iter::once(columns.clone()).chain(rows()).map(line).collect()
}

/// For spreadsheets (RFC 4180).
pub fn csv(collected: &Collected) -> Vec<String> {
    let quoted = |cell: String| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    };
    let rows = collected.points.iter().map(|point| collected.cells(point));
    let line = |cells: Vec<String>| cells.into_iter().map(quoted).collect::<Vec<_>>().join(",");
    std::iter::once(collected.columns()).chain(rows).map(line).collect()
}

/// For pull requests.
pub fn markdown(collected: &Collected) -> Vec<String> {
    let columns = collected.columns();
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let rule = line(columns.iter().map(|_| "---".to_owned()).collect());
    let cell = |cell: String| match is_number(&cell) || cell.is_empty() {
        true => cell,
        false => code(&cell),
    };
    let rows = collected
        .points
        .iter()
        .map(|point| line(collected.cells(point).into_iter().map(cell).collect()));
    [line(columns.into_iter().map(|name| code(&name)).collect()), rule]
        .into_iter()
        .chain(rows)
        .collect()
}
