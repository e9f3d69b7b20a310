//! The results of a sweep on one page: parallel coordinates, curves of the best runs, and the
//! table.

use minijinja::context;
use minijinja::value::Value;
use serde_json::Value as Json;

use super::markup::render;
use crate::error::Result;
use crate::sweep::{Collected, CollectedPoint, Direction, curve, plain};

const TEMPLATE: &str = include_str!("templates/sweep.html");
/// Size of a picture, and the room beside it.
const SIZE: [f64; 2] = [900.0, 320.0];
const MARGIN: [f64; 2] = [50.0, 36.0];
/// So many lines are drawn, and rows shown: the best, so that a page of many points can be opened.
const LINES: usize = 1000;
/// So many curves are drawn.
const CURVES: usize = 12;
const CURVE_POINTS: usize = 200;

/// One axis of the parallel coordinates.
struct Axis<'a> {
    name: &'a str,
    /// The place of a point on it, in [0, 1].
    place: Box<dyn Fn(&CollectedPoint) -> Option<f64> + 'a>,
    ends: [String; 2],
}

/// The page.
///
/// # Errors
/// When the template does not fit its values.
pub fn sweep_page(collected: &Collected) -> Result<String> {
    let ranked: Vec<&CollectedPoint> =
        collected.points.iter().filter(|point| point.rank.is_some()).take(LINES).collect();
    let counts = collected.counts();
    let counts: Vec<String> =
        counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let rows = collected.points.iter().take(LINES).map(|point| collected.cells(point));
    let failed = collected.points.iter().filter_map(|point| match &point.result.status {
        crate::sweep::PointStatus::Failed { why } => {
            Some(context! { id => point.point.id.clone(), why => why.clone() })
        }
        _ => None,
    });
    let values = context! {
        name => collected.manifest.name.clone(),
        counts => counts.join(", "),
        metric => collected.metric.clone(),
        better => match collected.direction {
            Direction::Lower => "lower",
            Direction::Higher => "higher",
        },
        best => collected.best().ok().map(|best| best.point.id.clone()),
        not_worse => collected.not_worse(),
        coordinates => coordinates(collected, &ranked),
        curves => curves(&ranked),
        columns => collected.columns(),
        rows => rows.collect::<Vec<_>>(),
        left_out => collected.points.len().saturating_sub(LINES),
        failed => failed.take(LINES).collect::<Vec<_>>(),
    };
    render(TEMPLATE, values)
}

/// Colours from the best to the worst: dark blue to light grey.
fn colour(share: f64) -> String {
    let mix = |best: f64, worst: f64| (best + share.clamp(0.0, 1.0) * (worst - best)).round();
    format!("rgb({},{},{})", mix(9.0, 208.0), mix(80.0, 215.0), mix(174.0, 222.0))
}

#[expect(clippy::cast_precision_loss)] // places among points
fn coordinates(collected: &Collected, ranked: &[&CollectedPoint]) -> Option<Value> {
    let axes = axes(collected, ranked);
    if ranked.len() < 2 || axes.len() < 2 {
        return None;
    }
    let last = (axes.len() - 1) as f64;
    let x = |axis: usize| MARGIN[0] + axis as f64 / last * (SIZE[0] - 2.0 * MARGIN[0]);
    let y = |place: f64| MARGIN[1] + (1.0 - place) * (SIZE[1] - 2.0 * MARGIN[1]);
    let line = |(number, point): (usize, &&CollectedPoint)| {
        let places = axes.iter().enumerate();
        let places = places.filter_map(|(axis, it)| Some((axis, (it.place)(point)?)));
        let places: Vec<String> =
            places.map(|(axis, place)| format!("{:.1},{:.1}", x(axis), y(place))).collect();
        let share = number as f64 / (ranked.len() - 1) as f64;
        let id = point.point.id.clone();
        context! { colour => colour(share), points => places.join(" "), id }
    };
    // The best are drawn last, above the others.
    let lines: Vec<Value> = ranked.iter().enumerate().rev().map(line).collect();
    let axes = axes.iter().enumerate().map(|(axis, it)| {
        context! {
            x => x(axis), top => MARGIN[1], bottom => SIZE[1] - MARGIN[1],
            name => it.name, low => it.ends[0].clone(), high => it.ends[1].clone(),
        }
    });
    let axes: Vec<Value> = axes.collect();
    Some(context! { width => SIZE[0], height => SIZE[1], lines, axes })
}

fn axes<'a>(collected: &'a Collected, ranked: &[&CollectedPoint]) -> Vec<Axis<'a>> {
    let mut axes = Vec::new();
    for key in &collected.manifest.parameters {
        let value = |point: &CollectedPoint| point.point.settings.get(key).cloned();
        let all: Vec<Json> = ranked.iter().filter_map(|point| value(point)).collect();
        axes.extend(axis(key, &all, Box::new(value)));
    }
    let metric = &collected.metric;
    let value = move |point: &CollectedPoint| Some(Json::from(point.value(metric)?.value));
    let all: Vec<Json> = ranked.iter().filter_map(|point| value(point)).collect();
    axes.extend(axis(metric, &all, Box::new(value)));
    axes
}

/// An axis of numbers, by their ratio where they span several powers of ten; of words, one beside
/// the other. None where all are the same.
fn axis<'a>(
    name: &'a str,
    all: &[Json],
    value: Box<dyn Fn(&CollectedPoint) -> Option<Json> + 'a>,
) -> Option<Axis<'a>> {
    let numbers: Option<Vec<f64>> = all.iter().map(Json::as_f64).collect();
    if let Some(numbers) = numbers {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !(low < high) {
            return None;
        }
        let by_ratio = low > 0.0 && high / low > 20.0;
        let scale = move |number: f64| if by_ratio { number.ln() } else { number };
        let place = move |point: &CollectedPoint| {
            let number = value(point)?.as_f64()?;
            Some((scale(number) - scale(low)) / (scale(high) - scale(low)))
        };
        return Some(Axis { name, place: Box::new(place), ends: [short(low), short(high)] });
    }
    let mut words: Vec<String> = all.iter().map(plain).collect();
    words.sort();
    words.dedup();
    let (first, last) = (words.first()?.clone(), words.last()?.clone());
    if words.len() < 2 {
        return None;
    }
    #[expect(clippy::cast_precision_loss)] // a few words
    let place = move |point: &CollectedPoint| {
        let word = plain(&value(point)?);
        let at = words.iter().position(|other| *other == word)?;
        Some(at as f64 / (words.len() - 1) as f64)
    };
    Some(Axis { name, place: Box::new(place), ends: [first, last] })
}

/// A number in a few digits.
fn short(value: f64) -> String {
    if value == 0.0 || (0.01..1e6).contains(&value.abs()) {
        let text = format!("{value:.4}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    format!("{value:.2e}")
}

/// The losses of the best runs.
#[expect(clippy::cast_precision_loss)] // places among points
fn curves(ranked: &[&CollectedPoint]) -> Option<Value> {
    let of = |point: &&CollectedPoint| curve(&point.result.run, CURVE_POINTS);
    let all: Vec<Vec<[f64; 2]>> = ranked.iter().take(CURVES).map(of).collect();
    let finite = |point: &&[f64; 2]| point.iter().all(|value| value.is_finite());
    let mut ends: Option<[[f64; 2]; 2]> = None;
    for point in all.iter().flatten().filter(finite) {
        let [low, high] = ends.get_or_insert([*point, *point]);
        for axis in 0..2 {
            low[axis] = low[axis].min(point[axis]);
            high[axis] = high[axis].max(point[axis]);
        }
    }
    let [low, high] = ends?;
    let share = |value: f64, axis: usize| match high[axis] - low[axis] {
        0.0 => 0.5,
        width => (value - low[axis]) / width,
    };
    let line = |(number, points): (usize, &Vec<[f64; 2]>)| {
        let place = |point: &[f64; 2]| {
            let x = MARGIN[0] + share(point[0], 0) * (SIZE[0] - 2.0 * MARGIN[0]);
            let y = MARGIN[1] + (1.0 - share(point[1], 1)) * (SIZE[1] - 2.0 * MARGIN[1]);
            format!("{x:.1},{y:.1}")
        };
        let points: Vec<String> = points.iter().filter(finite).map(place).collect();
        let share = number as f64 / (all.len().max(2) - 1) as f64;
        context! {
            colour => colour(share), points => points.join(" "),
            id => ranked[number].point.id.clone(),
        }
    };
    let lines: Vec<Value> = all.iter().enumerate().rev().map(line).collect();
    Some(context! {
        width => SIZE[0], height => SIZE[1], lines,
        low => low.map(short), high => high.map(short), count => all.len(),
        left => MARGIN[0], right => SIZE[0] - MARGIN[0],
        top => MARGIN[1], bottom => SIZE[1] - MARGIN[1], foot => SIZE[1] - 12.0,
    })
}
