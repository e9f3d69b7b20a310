//! A run on one page: curves, settings, answers, history and the ancestry, in one HTML file that
//! needs nothing from elsewhere and runs nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::picture::{escaped, picture};
use crate::error::{Context, Result};
use crate::event::{Sample, StepReport, bytes};
use crate::files::{folder_of, remove_file, write_atomic};
use crate::train::runs::{Details, details};
use crate::verify::{Trust, family};

/// The page's file name in the directory of a run.
pub const FILE: &str = "report.html";
/// Size of a curve.
const SIZE: [f64; 2] = [860.0, 240.0];
/// Room for the numbers beside it.
const MARGIN: [f64; 2] = [64.0, 24.0];
/// So many points are drawn at most: a long run's steps are averaged.
const POINTS: usize = 800;

/// One line of a curve.
struct Curve<'a> {
    name: &'a str,
    colour: &'a str,
    points: Vec<[f64; 2]>,
}

/// Writes the page of a run into its directory, or elsewhere.
///
/// # Errors
/// When it is no run, or the page cannot be written.
pub fn write_page(run: &Path, out: &Path, trust: &Trust) -> Result<()> {
    let found = details(run)?;
    remove_leftovers(out)?;
    write_atomic(out, page(&found, run, trust)?.as_bytes())
}

/// Removes what processes that were killed have left of earlier pages.
fn remove_leftovers(out: &Path) -> Result<()> {
    let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for entry in fs::read_dir(folder_of(out)).into_iter().flatten().flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        if found.starts_with(&format!(".{name}.")) && found.ends_with(".tmp") {
            remove_file(&entry.path()).context_at("cannot remove the leftover", entry.path())?;
        }
    }
    Ok(())
}

fn page(found: &Details, run: &Path, trust: &Trust) -> Result<String> {
    let steps = steps(run)?;
    let mut out = String::new();
    let name = escaped(&found.summary.name);
    let state = escaped(&found.summary.status.line(found.summary.step));
    // Writing into a string cannot fail.
    let _ = writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta \
         http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n<title>{name}</title>\n<style>{STYLE}</style></head><body>\n\
         <h1>{name}</h1>\n<p>{state}; {}.</p>",
        bytes(found.summary.bytes)
    );
    curves(found, &steps, &mut out);
    if let Some(state) = &found.newest {
        answers(&state.samples, &mut out);
    }
    judged(run, &mut out);
    history(found, &mut out);
    checkpoints(found, &mut out);
    if let Ok(settings) = fs::read_to_string(run.join("config.toml")) {
        let lines: Vec<String> = settings.lines().map(escaped).collect();
        let _ = writeln!(out, "<h2>Settings</h2>\n<pre>{}</pre>", lines.join("\n"));
    }
    let artifact = run.join("artifact");
    if artifact.is_dir() {
        out += "<h2>Lineage</h2>\n";
        match family(&artifact, trust) {
            Ok(found) => out += &picture(&found),
            Err(error) => {
                let _ = writeln!(out, "<p>It cannot be shown: {}</p>", escaped(&error.what));
            }
        }
    }
    out += "</body></html>\n";
    Ok(out)
}

/// The steps of the run, as its metrics have them.
fn steps(run: &Path) -> Result<Vec<StepReport>> {
    let path = run.join("metrics.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).context_at("cannot read the metrics", &path)?;
    // The last line of a run that is at work may be half written.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[expect(clippy::cast_precision_loss)] // step numbers, for people
fn curves(found: &Details, steps: &[StepReport], out: &mut String) {
    let of = |value: fn(&StepReport) -> f64| -> Vec<[f64; 2]> {
        thinned(steps.iter().map(|step| [step.step as f64, value(step)]).collect())
    };
    let evaluations = found.newest.iter().flat_map(|state| &state.evaluations);
    let validation = evaluations.map(|it| [it.step as f64, it.eval_loss]).collect();
    out.push_str("<h2>Loss</h2>\n");
    draw(
        &[
            Curve { name: "training", colour: "#2563ae", points: of(|step| step.loss) },
            Curve { name: "validation", colour: "#c2410c", points: validation },
        ],
        out,
    );
    out.push_str("<h2>Learning rate and gradient norm</h2>\n");
    let rate = of(|step| step.learning_rate);
    draw(&[Curve { name: "learning rate", colour: "#2563ae", points: rate }], out);
    let norm = of(|step| step.grad_norm);
    draw(&[Curve { name: "gradient norm", colour: "#57606a", points: norm }], out);
}

/// At most [`POINTS`] points, each the mean of its neighbours.
#[expect(clippy::cast_precision_loss)] // thousands
fn thinned(points: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    let each = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[[f64; 2]]| {
        let count = part.len() as f64;
        [0, 1].map(|axis| part.iter().map(|point| point[axis]).sum::<f64>() / count)
    };
    points.chunks(each).map(mean).collect()
}

fn draw(curves: &[Curve], out: &mut String) {
    let finite = |point: &&[f64; 2]| point.iter().all(|value| value.is_finite());
    let all: Vec<&[f64; 2]> = curves.iter().flat_map(|c| &c.points).filter(finite).collect();
    let Some(first) = all.first() else {
        out.push_str("<p>Nothing was measured yet.</p>\n");
        return;
    };
    let mut low = **first;
    let mut high = **first;
    for point in &all {
        for axis in 0..2 {
            low[axis] = low[axis].min(point[axis]);
            high[axis] = high[axis].max(point[axis]);
        }
    }
    let place = |point: &[f64; 2]| {
        let share = |axis: usize| match high[axis] - low[axis] {
            0.0 => 0.5,
            width => (point[axis] - low[axis]) / width,
        };
        [
            MARGIN[0] + share(0) * (SIZE[0] - MARGIN[0] - 8.0),
            8.0 + (1.0 - share(1)) * (SIZE[1] - MARGIN[1] - 8.0),
        ]
    };
    let _ = writeln!(
        out,
        "<svg viewBox=\"0 0 {} {}\" width=\"{}\" role=\"img\">",
        SIZE[0], SIZE[1], SIZE[0]
    );
    let bottom = SIZE[1] - MARGIN[1];
    let mut text = |x: f64, y: f64, anchor: &str, colour: &str, words: &str| {
        let _ = writeln!(
            out,
            "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>",
            escaped(words)
        );
    };
    text(MARGIN[0] - 6.0, 16.0, "end", "#57606a", &short(high[1]));
    text(MARGIN[0] - 6.0, bottom, "end", "#57606a", &short(low[1]));
    text(MARGIN[0], SIZE[1] - 6.0, "start", "#57606a", &format!("step {}", short(low[0])));
    text(SIZE[0] - 8.0, SIZE[1] - 6.0, "end", "#57606a", &short(high[0]));
    let mut left = SIZE[0] / 2.0;
    for curve in curves.iter().filter(|curve| !curve.points.is_empty()) {
        text(left, SIZE[1] - 6.0, "middle", curve.colour, curve.name);
        left += 110.0;
    }
    for curve in curves {
        let points: Vec<String> = curve
            .points
            .iter()
            .filter(finite)
            .map(|point| {
                let [x, y] = place(point);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"/>",
            curve.colour,
            points.join(" ")
        );
    }
    out.push_str("</svg>\n");
}

/// A number in a few digits.
fn short(value: f64) -> String {
    if value == 0.0 || (0.01..1e6).contains(&value.abs()) {
        let text = format!("{value:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    format!("{value:.2e}")
}

fn answers(samples: &[Sample], out: &mut String) {
    let Some(last) = samples.last().map(|sample| sample.step) else { return };
    let first = samples[0].step;
    out.push_str(
        "<h2>Answers</h2>\n<table><tr><th>prompt</th><th>before</th><th>after</th></tr>\n",
    );
    let of = |step: u64| samples.iter().filter(move |sample| sample.step == step);
    for (before, after) in of(first).zip(of(last)) {
        let cells = [&before.prompt, &before.answer, &after.answer].map(|text| escaped(text));
        let _ = writeln!(out, "<tr><td>{}</td></tr>", cells.join("</td><td>"));
    }
    out.push_str("</table>\n");
}

/// The evaluations of the run, newest first.
fn judged(run: &Path, out: &mut String) {
    let Ok(text) = fs::read_to_string(run.join(crate::evaluation::HISTORY)) else { return };
    let lines: Vec<serde_json::Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if lines.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Evaluations</h2>\n<table><tr><th>when</th><th>suite</th><th>numbers</th></tr>\n",
    );
    for line in lines.iter().rev().take(50) {
        let numbers: Vec<String> = line["metrics"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, metric)| {
                let value = metric["value"].as_f64().unwrap_or(f64::NAN);
                format!("{} {value:.4}", escaped(name))
            })
            .collect();
        let word = |value: &serde_json::Value| escaped(value.as_str().unwrap_or_default());
        let (time, suite) = (word(&line["time"]), word(&line["suite"]["name"]));
        let _ = writeln!(
            out,
            "<tr><td>{time}</td><td>{suite}</td><td>{}</td></tr>",
            numbers.join("<br>")
        );
    }
    out.push_str("</table>\n");
}

fn history(found: &Details, out: &mut String) {
    out.push_str("<h2>History</h2>\n<table><tr><th>when</th><th>step</th><th>what</th></tr>\n");
    for entry in &found.history {
        let why = entry.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let what = escaped(&format!("{}{why}", entry.what));
        let (time, step) = (escaped(&entry.time), entry.step);
        let _ = writeln!(out, "<tr><td>{time}</td><td>{step}</td><td>{what}</td></tr>");
    }
    out.push_str("</table>\n");
}

fn checkpoints(found: &Details, out: &mut String) {
    if found.checkpoints.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Checkpoints</h2>\n<table><tr><th>name</th><th>size</th><th>state</th></tr>\n",
    );
    for checkpoint in &found.checkpoints {
        let state = checkpoint.problem.as_deref().unwrap_or("every byte as it was written");
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&checkpoint.name),
            bytes(checkpoint.bytes),
            escaped(state)
        );
    }
    out.push_str("</table>\n");
}

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:960px;margin:2em auto;padding:0 1em;\
     color:#1f2328}table{border-collapse:collapse}td,th{border:1px solid #d0d7de;padding:4px 8px;\
     text-align:left;vertical-align:top}pre{background:#f6f8fa;padding:1em;overflow:auto}\
     svg{max-width:100%;height:auto;font-size:12px}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_thinned_to_the_means_of_neighbours() {
        let points: Vec<[f64; 2]> =
            (0..2000).map(|at| [f64::from(at), f64::from(at % 2)]).collect();
        let found = thinned(points);
        assert!(found.len() <= POINTS);
        assert_eq!(found[0], [1.0, 1.0 / 3.0]);
        assert_eq!(thinned(vec![[1.0, 2.0]]), [[1.0, 2.0]]);
    }

    #[test]
    fn a_curve_stays_inside_its_frame_whatever_the_numbers() {
        for points in [
            vec![[0.0, 1.0], [5.0, -3.0], [9.0, f64::NAN], [10.0, 1e300]],
            vec![[3.0, 3.0]],
            vec![[0.0, f64::INFINITY]],
        ] {
            let mut out = String::new();
            draw(&[Curve { name: "<b>", colour: "red", points }], &mut out);
            assert!(!out.contains("NaN") && !out.contains("inf") && !out.contains("<b>"), "{out}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.5, 1234.0, 2e-5, 3e9].map(short);
        assert_eq!(all, ["0", "0.5", "1234", "2.00e-5", "3.00e9"]);
    }
}
