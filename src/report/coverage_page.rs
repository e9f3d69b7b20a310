//! What a data set exercises of a model on one page: a picture of every layer, and the tables.

use minijinja::context;
use minijinja::value::Value;

use super::markup::render;
use crate::coverage::{CRITERIA, Coverage, Covered, LayerCoverage, PartCoverage};
use crate::error::Result;

const TEMPLATE: &str = include_str!("templates/coverage.html");
/// Width of a picture, the room for names, and the height of its lines.
const WIDTH: usize = 960;
const LEFT: usize = 60;
const LINE: usize = 16;
/// Cells of a line at most: where there are more units, a cell stands for several.
const CELLS: usize = 150;

/// A row of cells: how much of each is exercised, and what it says of itself.
struct Strip {
    name: &'static str,
    cells: Vec<(f64, String)>,
}

/// The page.
///
/// # Errors
/// When the template does not fit its values.
pub fn coverage_page(coverage: &Coverage) -> Result<String> {
    let criteria: Vec<&str> = CRITERIA.into_iter().map(|criterion| criterion.name()).collect();
    let columns: Vec<&str> =
        criteria.into_iter().filter(|name| coverage.totals.contains_key(*name)).collect();
    let cells = |counts: &crate::coverage::Counts| -> Vec<String> {
        columns.iter().map(|name| counts.get(*name).map_or("–".to_owned(), shown)).collect()
    };
    let layers = coverage.layers.iter().map(|layer| {
        context! {
            path => layer.path.clone(),
            not_measured => layer.not_measured.join(", "),
            cells => cells(&layer.counts()),
            picture => picture(layer, coverage.data.tokens),
        }
    });
    let part = |by: &str, part: &PartCoverage| {
        context! { by => by, name => part.name.clone(), records => part.records,
        cells => cells(&part.totals) }
    };
    let slices = coverage.slices.iter();
    let slices =
        slices.flat_map(|slices| slices.slices.iter().map(|slice| part(&slices.by, slice)));
    let parts: Vec<Value> =
        slices.chain(coverage.tasks.iter().map(|task| part("task", task))).collect();
    let values = context! {
        name => coverage.data.name.clone(),
        model => coverage.model.name.clone(),
        records => coverage.data.records,
        tokens => coverage.data.tokens,
        unit_threshold => coverage.thresholds.unit_threshold,
        head_share => coverage.thresholds.head_share,
        columns => columns.clone(),
        totals => cells(&coverage.totals),
        layers => layers.collect::<Vec<_>>(),
        parts,
    };
    render(TEMPLATE, values)
}

#[expect(clippy::cast_precision_loss)] // paths are far fewer than 2^53
fn shown(count: &Covered) -> String {
    let share = 100.0 * count.covered as f64 / count.total.max(1) as f64;
    format!("{}/{} ({share:.1} %)", count.covered, count.total)
}

/// The picture of a layer: a line each for units, heads, experts and the units within these. Units
/// stand in it beside each other as the model has them, several to a cell where there are many.
fn picture(layer: &LayerCoverage, tokens: u64) -> Value {
    let mut strips = Vec::new();
    if let Some(units) = &layer.units {
        strips.push(Strip { name: "units", cells: of_units(&units.tokens) });
    }
    if let Some(heads) = &layer.heads {
        let cells = heads.tokens.iter().zip(&heads.mean_share).enumerate();
        let cells = cells.map(|(head, (count, share))| {
            (part(*count, tokens), format!("head {head}: {count} tokens, mean share {share:.3}"))
        });
        strips.push(Strip { name: "heads", cells: cells.collect() });
    }
    if let Some(experts) = &layer.experts {
        let cells = experts.tokens.iter().enumerate();
        let cells = cells.map(|(expert, count)| {
            (part(*count, tokens), format!("expert {expert}: {count} tokens"))
        });
        strips.push(Strip { name: "experts", cells: cells.collect() });
        strips.extend(of_expert_units(&experts.tokens, &experts.unit_tokens));
    }
    let lines = strips.iter().enumerate().map(|(line, strip)| drawn(strip, line));
    let lines: Vec<Value> = lines.collect();
    context! { width => WIDTH, height => LINE * lines.len(), lines }
}

/// Each cell has the share of its units that are active at some token.
#[expect(clippy::cast_precision_loss)] // units of a cell
fn of_units(tokens: &[u64]) -> Vec<(f64, String)> {
    let size = tokens.len().div_ceil(CELLS).max(1);
    let cells = tokens.chunks(size).enumerate().map(|(cell, units)| {
        let active = units.iter().filter(|count| **count > 0).count();
        let first = cell * size;
        let name = format!("units {first} to {}: {active} active", first + units.len() - 1);
        (active as f64 / units.len() as f64, name)
    });
    cells.collect()
}

/// A cell for each expert has the share of its units that are active at some token.
#[expect(clippy::cast_precision_loss)] // units of an expert
fn of_expert_units(experts: &[u64], units: &[u64]) -> Option<Strip> {
    let size = units.len() / experts.len().max(1);
    if size == 0 {
        return None;
    }
    let cells = units.chunks(size).enumerate().map(|(expert, units)| {
        let active = units.iter().filter(|count| **count > 0).count();
        let name = format!("expert {expert}: {active} of {} units active", units.len());
        (active as f64 / units.len() as f64, name)
    });
    Some(Strip { name: "in them", cells: cells.collect() })
}

/// Of a path that every token exercises 1; those that few do are still told from none.
#[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
fn part(count: u64, tokens: u64) -> f64 {
    if count == 0 { 0.0 } else { 0.25 + 0.75 * (count as f64 / tokens.max(1) as f64).sqrt() }
}

#[expect(clippy::cast_precision_loss)] // places in a picture
fn drawn(strip: &Strip, line: usize) -> Value {
    let width = (WIDTH - LEFT) as f64 / strip.cells.len().max(1) as f64;
    let cells = strip.cells.iter().enumerate().map(|(number, (share, name))| {
        let x = format!("{:.2}", LEFT as f64 + number as f64 * width);
        context! { x, width => format!("{width:.2}"), colour => colour(*share), name => name }
    });
    let cells: Vec<Value> = cells.collect();
    context! { name => strip.name, y => line * LINE, height => LINE - 2,
    below => line * LINE + LINE - 5, cells }
}

/// White where nothing is exercised, dark blue where all is.
fn colour(share: f64) -> String {
    let mix = |none: f64, all: f64| (none + share.clamp(0.0, 1.0) * (all - none)).round();
    match share > 0.0 {
        true => format!("rgb({},{},{})", mix(221.0, 9.0), mix(235.0, 80.0), mix(247.0, 174.0)),
        false => "rgb(255,255,255)".to_owned(),
    }
}
