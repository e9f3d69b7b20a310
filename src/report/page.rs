//! A run on one page: curves, settings, answers, history and the ancestry, in one HTML file that
//! needs nothing from elsewhere and runs nothing.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use minijinja::context;
use minijinja::value::Value;
use serde_json::Value as Json;

use super::markup::render;
use super::picture::picture;
use crate::artifact::score_head::{StatedCalibration, stated_calibration};
use crate::error::{Context, Result};
use crate::event::{StepReport, bytes};
use crate::files::{ROLLOUTS, folder_of, remove_file, write_atomic};
use crate::rollouts::{Rollout, RolloutGroup};
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
/// So many evaluations are shown, the newest.
const EVALUATIONS: usize = 50;

const TEMPLATE: &str = include_str!("templates/page.html");
const BLUE: &str = "#2563ae";
const GREY: &str = "#57606a";
const ORANGE: &str = "#c2410c";
/// Completions of the newest step that are shown.
const COMPLETIONS: usize = 16;
/// So much of what was written is read for that.
const TAIL: u64 = 1 << 20;
/// What is drawn of what objectives report, where they do, under these titles.
const METRICS: &[(&str, &str)] = &[
    ("Reward", "reward"),
    ("Completion length in tokens", "completions/mean_length"),
    ("Pairs preferred rightly", "rewards/accuracies"),
    ("Margin of rewards", "rewards/margins"),
    ("Accuracy", "accuracy"),
    ("Mean absolute error", "mean_absolute_error"),
];

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
    write_atomic(out, render(TEMPLATE, page(&found, run, trust)?)?.as_bytes())
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

fn page(found: &Details, run: &Path, trust: &Trust) -> Result<Value> {
    let artifact = run.join("artifact");
    let shown = artifact.is_dir().then(|| family(&artifact, trust));
    let (picture, no_picture) = match shown {
        Some(Ok(family)) => (Some(picture(&family)), None),
        Some(Err(error)) => (None, Some(error.into_what())),
        None => (None, None),
    };
    let history = found.history.iter().map(|entry| {
        let why = entry.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let what = format!("{}{why}", entry.what);
        context! { time => entry.time.clone(), step => entry.step, what }
    });
    let checkpoints = found.checkpoints.iter().map(|checkpoint| {
        let state = checkpoint.problem.as_deref().unwrap_or("every byte as it was written");
        let loss = checkpoint.eval_loss.map_or_else(String::new, |loss| {
            let best = if checkpoint.best { ", the best" } else { "" };
            format!("; validation loss {loss:.4}{best}")
        });
        let state = format!("{state}{loss}");
        context! { name => checkpoint.name.clone(), size => bytes(checkpoint.bytes), state }
    });
    let settings = fs::read_to_string(run.join("config.toml")).unwrap_or_default();
    Ok(context! {
        name => found.summary.name.clone(),
        state => found.summary.status.line(found.summary.step, found.summary.steps),
        size => bytes(found.summary.bytes),
        plots => plots(found, &steps(run)?),
        reliability => reliability(&artifact),
        rollouts => rollouts(run),
        answers => answers(found),
        evaluations => evaluations(run),
        history => history.collect::<Vec<_>>(),
        checkpoints => checkpoints.collect::<Vec<_>>(),
        settings => settings.lines().map(Value::from).collect::<Vec<_>>(),
        picture,
        no_picture,
    })
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
fn plots(found: &Details, steps: &[StepReport]) -> Vec<Value> {
    let of = |value: fn(&StepReport) -> f64| -> Vec<[f64; 2]> {
        thinned(steps.iter().map(|step| [step.step as f64, value(step)]).collect())
    };
    let judged = found.newest.iter().flat_map(|state| &state.evaluations);
    let validation = judged.map(|it| [it.step as f64, it.eval_loss]).collect();
    let loss = [
        Curve { name: "training", colour: BLUE, points: of(|step| step.loss) },
        Curve { name: "validation", colour: ORANGE, points: validation },
    ];
    let rate = of(|step| step.learning_rate);
    let rate = Curve { name: "learning rate", colour: BLUE, points: rate };
    let norm = of(|step| step.grad_norm);
    let norm = Curve { name: "gradient norm", colour: GREY, points: norm };
    let mut all = vec![plot(Some("Loss"), "step", &loss)];
    for (title, name) in METRICS {
        let training =
            steps.iter().filter_map(|step| Some([step.step as f64, *step.metrics.get(*name)?]));
        let judged = found.newest.iter().flat_map(|state| &state.evaluations);
        let validation = judged.filter_map(|it| Some([it.step as f64, *it.metrics.get(*name)?]));
        let curves = [
            Curve { name: "training", colour: BLUE, points: thinned(training.collect()) },
            Curve { name: "validation", colour: ORANGE, points: validation.collect() },
        ];
        if curves.iter().any(|curve| !curve.points.is_empty()) {
            all.push(plot(Some(title), "step", &curves));
        }
    }
    all.push(plot(Some("Learning rate and gradient norm"), "step", &[rate]));
    all.push(plot(None, "step", &[norm]));
    all
}

/// How often the labels of an artifact are right, by how confident it is of them.
fn reliability(artifact: &Path) -> Option<Value> {
    let StatedCalibration { temperature, calibration } = stated_calibration(artifact)?;
    let points = |number: usize| -> Vec<[f64; 2]> {
        calibration.bins[number].iter().map(|bin| [bin.confidence, bin.accuracy]).collect()
    };
    let curves = [
        Curve { name: "calibrated", colour: GREY, points: vec![[0.0, 0.0], [1.0, 1.0]] },
        Curve { name: "before", colour: ORANGE, points: points(0) },
        Curve { name: "after", colour: BLUE, points: points(1) },
    ];
    let [before, after] = calibration.calibration_error;
    let note = format!(
        "Accuracy by confidence on {} validation texts, before and after the scores are divided by \
         a temperature of {temperature:.4} that was fitted on the others. The calibration error is \
         {before:.4} before and {after:.4} after.",
        calibration.records
    );
    Some(context! { plot => plot(Some("Reliability"), "confidence", &curves), note })
}

/// What the model wrote for the newest step, in a run that learns from it.
fn rollouts(run: &Path) -> Vec<Value> {
    let text = tail(&run.join(ROLLOUTS)).unwrap_or_default();
    let groups: Vec<RolloutGroup> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let Some(newest) = groups.last().map(|group| group.step) else { return Vec::new() };
    let of_step = groups.iter().filter(|group| group.step == newest);
    let all = of_step.flat_map(|group| group.completions.iter().map(move |it| (group, it)));
    let row = |(group, completion): (&RolloutGroup, &Rollout)| {
        context! {
            step => group.step,
            record => format!("{}:{}", group.file, group.line),
            text => completion.text.as_str(),
            reward => short(completion.reward),
            advantage => short(f64::from(completion.advantage)),
        }
    };
    all.take(COMPLETIONS).map(row).collect()
}

/// The last lines of a file, which may be long: those within its last [`TAIL`] bytes.
fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The first line may have lost its beginning.
    Ok(if length > TAIL {
        text.split_once('\n').map_or("", |(_, rest)| rest).to_owned()
    } else {
        text
    })
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

/// Some curves in one frame; none where nothing was measured.
fn plot(title: Option<&str>, across: &str, curves: &[Curve]) -> Value {
    let finite = |point: &&[f64; 2]| point.iter().all(|value| value.is_finite());
    let all: Vec<&[f64; 2]> = curves.iter().flat_map(|c| &c.points).filter(finite).collect();
    let Some(first) = all.first() else { return context! { title } };
    let (mut low, mut high) = (**first, **first);
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
        let x = MARGIN[0] + share(0) * (SIZE[0] - MARGIN[0] - 8.0);
        let y = 8.0 + (1.0 - share(1)) * (SIZE[1] - MARGIN[1] - 8.0);
        format!("{x:.1},{y:.1}")
    };
    let label = |x: f64, y: f64, anchor: &str, colour: &str, text: &str| {
        context! { x, y, anchor, colour, text }
    };
    let (bottom, foot) = (SIZE[1] - MARGIN[1], SIZE[1] - 6.0);
    let mut labels = vec![
        label(MARGIN[0] - 6.0, 16.0, "end", GREY, &short(high[1])),
        label(MARGIN[0] - 6.0, bottom, "end", GREY, &short(low[1])),
        label(MARGIN[0], foot, "start", GREY, &format!("{across} {}", short(low[0]))),
        label(SIZE[0] - 8.0, foot, "end", GREY, &short(high[0])),
    ];
    let mut left = SIZE[0] / 2.0;
    for curve in curves.iter().filter(|curve| !curve.points.is_empty()) {
        labels.push(label(left, foot, "middle", curve.colour, curve.name));
        left += 110.0;
    }
    let curves = curves.iter().map(|curve| {
        let points: Vec<String> = curve.points.iter().filter(finite).map(place).collect();
        context! { colour => curve.colour, points => points.join(" ") }
    });
    let curves: Vec<Value> = curves.collect();
    context! { title, width => SIZE[0], height => SIZE[1], labels, curves }
}

/// A number in a few digits.
fn short(value: f64) -> String {
    if value == 0.0 || (0.01..1e6).contains(&value.abs()) {
        let text = format!("{value:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    format!("{value:.2e}")
}

fn answers(found: &Details) -> Vec<Value> {
    let samples = found.newest.as_ref().map_or(&[][..], |state| &state.samples);
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Vec::new() };
    let of = |step: u64| samples.iter().filter(move |sample| sample.step == step);
    let both = of(first.step).zip(of(last.step)).map(|(before, after)| {
        let [prompt, before, after] =
            [&before.prompt, &before.answer, &after.answer].map(|text| Value::from(text.as_str()));
        context! { prompt, before, after }
    });
    both.collect()
}

/// The evaluations of the run, newest first.
fn evaluations(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join(crate::evaluation::HISTORY)).unwrap_or_default();
    let lines: Vec<Json> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let number = |(name, value): (&String, &Json)| {
        format!("{name} {:.4}", value["value"].as_f64().unwrap_or(f64::NAN))
    };
    let newest = lines.iter().rev().take(EVALUATIONS).map(|line| {
        let numbers = line["metrics"].as_object().into_iter().flatten().map(number);
        let numbers: Vec<String> = numbers.collect();
        context! { time => line["time"].as_str(), suite => line["suite"]["name"].as_str(), numbers }
    });
    newest.collect()
}

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
            let plots = [plot(None, "step", &[Curve { name: "<b>", colour: "red", points }])];
            let out = render(TEMPLATE, minijinja::context! { plots }).unwrap();
            assert!(!out.contains("NaN") && !out.contains("inf") && !out.contains("<b>"), "{out}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.5, 1234.0, 2e-5, 3e9].map(short);
        assert_eq!(all, ["0", "0.5", "1234", "2.00e-5", "3.00e9"]);
    }
}
