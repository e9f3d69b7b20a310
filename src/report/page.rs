//! A run on one page: curves, settings, answers, history and the ancestry, in one HTML file that
//! needs nothing from elsewhere and runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use minijinja::context;
use minijinja::value::Value;
use serde_json::Value as Json;

use super::chart::{Curve, chart, short};
use super::markup::render;
use super::picture::picture;
use crate::artifact::score_head::{StatedCalibration, stated_calibration};
use crate::error::{Context, Result};
use crate::event::{Evaluation, StepReport, Timing, bytes, duration};
use crate::files::{ROLLOUTS, folder_of, remove_file, write_atomic};
use crate::rollouts::{OnPolicyAnswer, Rollout, RolloutGroup};
use crate::train::runs::{Details, details, glance};
use crate::verify::{Trust, family};

/// The page's file name in the directory of a run.
pub const FILE: &str = "report.html";
/// After so many seconds a browser loads the page of a run at work again.
const REFRESH: u64 = 30;
/// So many evaluations are shown, the newest.
const EVALUATIONS: usize = 50;

const TEMPLATE: &str =
    concat!(include_str!("templates/parts.html"), include_str!("templates/page.html"));
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

/// Writes the page of a run into its directory, or elsewhere.
///
/// # Errors
/// When it is no run, or the page cannot be written.
pub fn write_page(run: &Path, out: &Path, trust: &Trust) -> Result<()> {
    let found = details(run)?;
    remove_leftovers(out)?;
    write_atomic(out, render(TEMPLATE, page(&found, run, Some(trust))?)?.as_bytes())
}

/// Writes the page of a run that is at work: it loads itself again in a browser. Checkpoints are
/// not checked for it.
///
/// # Errors
/// As [`write_page`].
pub(super) fn write_live_page(run: &Path) -> Result<()> {
    let found = glance(run)?;
    write_atomic(&run.join(FILE), render(TEMPLATE, page(&found, run, None)?)?.as_bytes())
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

/// What the page says; of a run at work where nobody is trusted.
fn page(found: &Details, run: &Path, trust: Option<&Trust>) -> Result<Value> {
    let artifact = run.join("artifact");
    let (steps, timings) = (lines(run, "metrics.jsonl")?, lines(run, "timings.jsonl")?);
    let live = trust.is_none();
    let shown = trust.filter(|_| artifact.is_dir()).map(|trust| family(&artifact, trust));
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
        let whole = if live { "not checked" } else { "every byte as it was written" };
        let state = checkpoint.problem.as_deref().unwrap_or(whole);
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
        charts => charts(found, &steps, &timings),
        numbers => numbers(&steps, &timings),
        validations => validations(found),
        refresh => live.then_some(REFRESH),
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

/// The lines of a file of the run; none where it is not there.
fn lines<T: serde::de::DeserializeOwned>(run: &Path, name: &str) -> Result<Vec<T>> {
    let path = run.join(name);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).context_at("cannot read what was measured", &path)?;
    // The last line of a run that is at work may be half written.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The curves of a run.
#[expect(clippy::cast_precision_loss)] // step numbers and bytes, for people
fn charts(found: &Details, steps: &[StepReport], timings: &[Timing]) -> Vec<Value> {
    let of = |value: &dyn Fn(&StepReport) -> Option<f64>| -> Vec<[f64; 2]> {
        steps.iter().filter_map(|step| Some([step.step as f64, value(step)?])).collect()
    };
    let judged = |value: &dyn Fn(&Evaluation) -> Option<f64>| -> Vec<[f64; 2]> {
        let all = found.newest.iter().flat_map(|state| &state.evaluations);
        all.filter_map(|it| Some([it.step as f64, value(it)?])).collect()
    };
    let mut all = Vec::new();
    let mut of_both = |title: &str, training, validation| {
        let curves = [
            Curve::new("training", "a", training).smoothed(),
            Curve::new("validation", "b", validation),
        ];
        all.push(chart(title, "step", &curves));
    };
    of_both("Loss", of(&|step| Some(step.loss)), judged(&|it| Some(it.eval_loss)));
    for (title, name) in METRICS {
        let training = of(&|step| step.metrics.get(*name).copied());
        let validation = judged(&|it| it.metrics.get(*name).copied());
        if !training.is_empty() || !validation.is_empty() {
            of_both(title, training, validation);
        }
    }
    let single = |title, points| chart(title, "step", &[Curve::new(title, "a", points)]);
    all.push(single("Learning rate", of(&|step| Some(step.learning_rate))));
    all.push(single("Gradient norm", of(&|step| Some(step.grad_norm))));
    let tokens: BTreeMap<u64, u64> = steps.iter().map(|step| (step.step, step.tokens)).collect();
    let speed = timings.iter().filter_map(|timing| {
        let tokens = *tokens.get(&timing.step)? as f64;
        Some([timing.step as f64, tokens / timing.step_seconds])
    });
    let speed = Curve::new("Tokens a second", "a", speed.collect()).smoothed();
    all.push(chart("Tokens a second", "step", &[speed]));
    let memory = |of: fn(&Timing) -> Option<u64>| -> Vec<[f64; 2]> {
        let each = timings.iter();
        each.filter_map(|it| Some([it.step as f64, of(it)? as f64 / 1e9])).collect()
    };
    let memory = [
        Curve::new("process", "a", memory(|it| it.memory_bytes)),
        Curve::new("GPU", "b", memory(|it| it.device_bytes_in_use)),
    ];
    all.push(chart("Memory in GB", "step", &memory));
    all
}

/// What a run has done, in numbers.
#[expect(clippy::cast_precision_loss)] // for people
fn numbers(steps: &[StepReport], timings: &[Timing]) -> Vec<Value> {
    let Some(last) = steps.last() else { return Vec::new() };
    let sum = |of: fn(&StepReport) -> u64| steps.iter().map(of).sum::<u64>();
    let seconds: f64 = timings.iter().map(|timing| timing.step_seconds).sum();
    let peak = timings.iter().filter_map(|timing| timing.memory_bytes_peak).max();
    let mut all = vec![
        ("steps", last.step.to_string()),
        ("epochs", short(last.epoch)),
        ("tokens", sum(|step| step.tokens).to_string()),
        ("target tokens", sum(|step| step.target_tokens).to_string()),
    ];
    if seconds > 0.0 {
        let timed: BTreeSet<u64> = timings.iter().map(|timing| timing.step).collect();
        let of_timed = steps.iter().filter(|step| timed.contains(&step.step));
        let tokens = of_timed.map(|step| step.tokens).sum::<u64>() as f64;
        all.push(("time of all steps", duration(seconds)));
        all.push(("tokens a second", short((tokens / seconds).round())));
    }
    all.extend(peak.map(|peak| ("peak memory", bytes(peak))));
    all.into_iter().map(|(name, value)| context! { name, value }).collect()
}

/// All validations, newest first: the names of what was measured, and rows.
fn validations(found: &Details) -> Option<Value> {
    let all: Vec<&Evaluation> =
        found.newest.iter().flat_map(|state| &state.evaluations).rev().take(EVALUATIONS).collect();
    let names: BTreeSet<&String> = all.iter().flat_map(|it| it.metrics.keys()).collect();
    let rows = all.iter().map(|it| {
        let loss = [it.step.to_string(), format!("{:.4}", it.eval_loss)].into_iter();
        let perplexity = it.perplexity().map_or_else(String::new, |it| format!("{it:.3}"));
        let more =
            names.iter().map(|name| it.metrics.get(*name).map_or(String::new(), |x| short(*x)));
        loss.chain([perplexity]).chain(more).collect::<Vec<_>>()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let fixed = ["step", "loss", "perplexity"].map(str::to_owned).into_iter();
    let names = fixed.chain(names.iter().map(|name| (*name).clone()));
    (!rows.is_empty()).then(|| context! { names => names.collect::<Vec<_>>(), rows })
}

/// How often the labels of an artifact are right, by how confident it is of them.
fn reliability(artifact: &Path) -> Option<Value> {
    let StatedCalibration { temperature, calibration } = stated_calibration(artifact)?;
    let points = |number: usize| -> Vec<[f64; 2]> {
        calibration.bins[number].iter().map(|bin| [bin.confidence, bin.accuracy]).collect()
    };
    let curves = [
        Curve::new("calibrated", "c", vec![[0.0, 0.0], [1.0, 1.0]]),
        Curve::new("before", "b", points(0)),
        Curve::new("after", "a", points(1)),
    ];
    let [before, after] = calibration.calibration_error;
    let note = format!(
        "Accuracy by confidence on {} validation texts, before and after the scores are divided by \
         a temperature of {temperature:.4} that was fitted on the others. The calibration error is \
         {before:.4} before and {after:.4} after.",
        calibration.records
    );
    Some(context! { chart => chart("Reliability", "confidence", &curves), note })
}

/// What the model wrote for the newest step, in a run that learns from it.
fn rollouts(run: &Path) -> Vec<Value> {
    let text = tail(&run.join(ROLLOUTS)).unwrap_or_default();
    let groups: Vec<RolloutGroup> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let Some(newest) = groups.last().map(|group| group.step) else { return answers_to(&text) };
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

/// The same for a teacher to score, without rewards.
fn answers_to(lines: &str) -> Vec<Value> {
    let all: Vec<OnPolicyAnswer> =
        lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let newest = all.last().map(|answer| answer.step);
    let row = |answer: &OnPolicyAnswer| {
        context! {
            step => answer.step,
            record => format!("{}:{}", answer.file, answer.line),
            text => answer.text.as_str(),
        }
    };
    let of_step = all.iter().filter(|answer| Some(answer.step) == newest);
    of_step.take(COMPLETIONS).map(row).collect()
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
    fn a_curve_stays_inside_its_frame_whatever_the_numbers() {
        for points in [
            vec![[0.0, 1.0], [5.0, -3.0], [9.0, f64::NAN], [10.0, 1e300]],
            vec![[0.0, -1e308], [1.0, 1e308]],
            vec![[3.0, 3.0]],
            vec![[0.0, f64::INFINITY]],
        ] {
            let charts = [chart("Loss", "step", &[Curve::new("<b>", "a", points)])];
            let out = render(TEMPLATE, minijinja::context! { charts }).unwrap();
            assert!(!out.contains("NaN") && !out.contains("inf") && !out.contains("<b>"), "{out}");
        }
    }
}
