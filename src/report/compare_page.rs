//! Two runs on one page: their curves over each other, and the settings that differ.

use std::path::Path;

use minijinja::context;
use minijinja::value::Value;

use super::chart::{Curve, chart};
use super::markup::render;
use crate::error::Result;
use crate::event::bytes;
use crate::files::write_atomic;
use crate::train::comparison::{Comparison, LossCurves};

const TEMPLATE: &str =
    concat!(include_str!("templates/parts.html"), include_str!("templates/compare.html"));
/// Classes of the style for the two.
const CLASSES: [&str; 2] = ["a", "b"];

/// Writes the page.
///
/// # Errors
/// When it cannot be written.
pub fn write_compare_page(both: &Comparison, out: &Path) -> Result<()> {
    write_atomic(out, compare_page(both)?.as_bytes())
}

fn compare_page(both: &Comparison) -> Result<String> {
    let runs = both.runs.iter().zip(CLASSES).map(|(run, class)| {
        let state = run.status.line(run.step, run.steps);
        context! { name => run.name.clone(), class, state, size => bytes(run.bytes) }
    });
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let settings = both.settings.iter().map(|(key, [one, other])| {
        context! { key, one => shown(one), other => shown(other) }
    });
    let charts = [
        curves("Training loss", both, |curves| &curves.training),
        curves("Validation loss", both, |curves| &curves.validation),
    ];
    render(
        TEMPLATE,
        context! {
            runs => runs.collect::<Vec<_>>(),
            settings => settings.collect::<Vec<_>>(),
            charts,
        },
    )
}

#[expect(clippy::cast_precision_loss)] // step numbers, for people
fn curves(
    title: &str,
    both: &Comparison,
    of: impl Fn(&LossCurves) -> &std::collections::BTreeMap<u64, f64>,
) -> Value {
    let points = |curves| -> Vec<[f64; 2]> {
        of(curves).iter().map(|(step, loss)| [*step as f64, *loss]).collect()
    };
    // Two runs of one name are told apart by their places.
    let [one, other] = [&both.runs[0], &both.runs[1]];
    let names = match one.name == other.name {
        true => [one, other].map(|run| run.path.display().to_string()),
        false => [one, other].map(|run| run.name.clone()),
    };
    let numbered = names.iter().zip(CLASSES).zip(&both.curves);
    let all =
        numbered.map(|((name, class), curves)| Curve::new(name, class, points(curves)).smoothed());
    chart(title, "step", &all.collect::<Vec<_>>())
}
