//! Coverage over time on one page: a line for each criterion, and the numbers.

use minijinja::context;
use minijinja::value::Value;

use super::chart::{Curve, chart};
use super::markup::render;
use crate::coverage::{CRITERIA, CoverageHistory, HistoryPoint, percent};
use crate::error::Result;

const TEMPLATE: &str =
    concat!(include_str!("templates/parts.html"), include_str!("templates/history.html"));
/// Classes of the style, one for each criterion.
const CLASSES: [&str; CRITERIA.len()] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// The page.
///
/// # Errors
/// When the template does not fit its values.
pub fn history_page(history: &CoverageHistory) -> Result<String> {
    let days = history.days();
    let across = match history.points.first().and_then(|point| point.date) {
        Some(first) if days.is_some() => format!("days since {first}"),
        _ => "result".to_owned(),
    };
    #[expect(clippy::cast_precision_loss)] // results are few
    let at = |number: usize| match &days {
        Some(days) => f64::from(days[number]),
        None => (number + 1) as f64,
    };
    let curves = history.shares().zip(CLASSES).map(|((title, shares), class)| {
        let points = shares.iter().enumerate().map(|(n, share)| [at(n), 100.0 * share]);
        Curve::new(title, class, points.collect())
    });
    let curves: Vec<Curve> = curves.collect();
    let columns: Vec<String> = history.shares().map(|(title, _)| title.to_owned()).collect();
    let points: Vec<Value> = history.points.iter().map(|point| row(point, history)).collect();
    let chart = chart("Exercised, in %", &across, &curves);
    render(TEMPLATE, context! { chart, columns, points })
}

fn row(point: &HistoryPoint, history: &CoverageHistory) -> Value {
    let names = CRITERIA.into_iter().map(|it| it.name());
    let cells = names.filter(|name| history.titles.contains_key(name)).map(|name| {
        let Some(count) = point.totals.get(name) else { return "–".to_owned() };
        match point.since.as_ref().and_then(|since| since.get(name)) {
            Some(since) => format!("{}, +{} −{}", percent(count), since.only_b, since.only_a),
            None => percent(count),
        }
    });
    context! {
        name => point.name.clone(),
        date => point.date.map_or_else(String::new, |date| date.to_string()),
        model => point.model.clone(),
        data => point.data.clone(),
        records => point.records,
        cells => cells.collect::<Vec<_>>(),
    }
}
