//! All results in one table, the best first.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::keys::Direction;
use super::manifest::{Manifest, PlannedPoint, SweepFolder};
use super::results::{PointResult, PointStatus, values_at};
use super::spec::better;
use super::stopping::{Limit, Progress};
use crate::error::{Error, Result};
use crate::evaluation::{Interval, Metric};

/// A point with what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct CollectedPoint {
    /// Its place among those that have the metric, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// What was planned.
    pub point: PlannedPoint,
    /// What came of it.
    pub result: PointResult,
}

/// A sweep with its results.
#[derive(Debug)]
pub struct Collected {
    /// What was planned.
    pub manifest: Manifest,
    /// What points are compared by.
    pub metric: String,
    /// Which values of it are better.
    pub direction: Direction,
    /// The points: those with the metric by it, then the others in their order.
    pub points: Vec<CollectedPoint>,
}

/// Reads the results of a sweep from one or several copies of its folder, such as those of several
/// machines.
///
/// # Errors
/// When a folder is not one of a sweep, or of another one.
pub fn collect(folders: &[SweepFolder], metric: Option<&str>) -> Result<Collected> {
    let (first, others) = folders.split_first().expect("at least one folder is named");
    let manifest = first.manifest.clone();
    for other in others {
        if other.manifest.sweep_sha256 != manifest.sweep_sha256 {
            return Err(Error::file("this is the folder of another sweep")
                .at(other.root())
                .because(format!("{} has another digest", first.root().display())));
        }
    }
    let (metric, direction) = match metric {
        Some(metric) if metric != manifest.metric => (metric.to_owned(), better(metric)),
        _ => (manifest.metric.clone(), manifest.better()),
    };
    let read = |point: &PlannedPoint| CollectedPoint {
        rank: None,
        result: PointResult::read(folders, point),
        // How fast another machine was thought to be is no part of what came of a run.
        point: PlannedPoint { seconds: None, ..point.clone() },
    };
    let mut points: Vec<CollectedPoint> = manifest.points.iter().map(read).collect();
    tell_stopped(&manifest, &mut points);
    let key = |point: &CollectedPoint| {
        let value = point.value(&metric).filter(|metric| metric.value.is_finite());
        let value = value.filter(|_| point.result.status == PointStatus::Finished);
        value.map_or(f64::INFINITY, |metric| match direction {
            Direction::Lower => metric.value,
            Direction::Higher => -metric.value,
        })
    };
    points.sort_by(|one, other| key(one).total_cmp(&key(other)));
    for (place, point) in points.iter_mut().enumerate() {
        if key(point) < f64::INFINITY {
            point.rank = Some(place + 1);
        }
    }
    Ok(Collected { manifest, metric, direction, points })
}

/// Points that go no further, since others were better: what `sweep run` decides, from what was
/// measured.
fn tell_stopped(manifest: &Manifest, points: &mut [CollectedPoint]) {
    let Some(stopping) = &manifest.stopping else { return };
    let progress = |it: &CollectedPoint| Progress {
        total: it.point.steps,
        reached: it.result.step,
        failed: matches!(it.result.status, PointStatus::Failed { .. }),
        values: values_at(&it.result.run, &manifest.metric, &stopping.steps),
    };
    let progress: Vec<Progress> = points.iter().map(progress).collect();
    let limits = stopping.limits(manifest.better(), &progress);
    for (point, limit) in points.iter_mut().zip(limits) {
        if let (Limit::Stopped(at), PointStatus::Interrupted) = (limit, &point.result.status) {
            point.result.status = PointStatus::Stopped { at };
        }
    }
}

impl CollectedPoint {
    /// A number of it.
    pub fn value(&self, metric: &str) -> Option<&Metric> {
        self.result.metrics.get(metric)
    }
}

impl Collected {
    /// The best finished point.
    ///
    /// # Errors
    /// When none has the metric.
    pub fn best(&self) -> Result<&CollectedPoint> {
        let best = self.points.first().filter(|point| point.rank.is_some());
        best.ok_or_else(|| {
            let mut names: BTreeMap<&str, ()> = BTreeMap::new();
            let all = self.points.iter().flat_map(|point| point.result.metrics.keys());
            names.extend(all.map(|name| (name.as_str(), ())));
            let names: Vec<&str> = names.into_keys().collect();
            let what = format!("no finished point has the metric `{}`", self.metric);
            let error = Error::evaluation(what);
            match names.is_empty() {
                true => error.hint("`firebrand sweep run` runs the points"),
                false => error.hint(format!("there are `{}`", names.join("`, `"))),
            }
        })
    }

    /// Points whose interval reaches into that of the best one: by this metric it is not known
    /// whether they are worse.
    pub fn not_worse(&self) -> usize {
        let interval = |point: &CollectedPoint| point.value(&self.metric)?.interval;
        let ranked = self.points.iter().filter(|point| point.rank.is_some());
        let mut intervals = ranked.map(interval);
        let Some(Some(best)) = intervals.next() else { return 0 };
        let meets = |other: &Interval| other.low <= best.high && best.low <= other.high;
        intervals.flatten().filter(meets).count()
    }

    /// How many points are in which state, in the order of the states.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for point in &self.points {
            *counts.entry(point.result.status.word()).or_default() += 1;
        }
        counts
    }

    /// What a table has in its columns.
    pub fn columns(&self) -> Vec<String> {
        let mut columns = vec!["rank".to_owned(), "point".to_owned()];
        if self.has_datasets() {
            columns.push("dataset".to_owned());
        }
        if self.has_configs() {
            columns.push("config".to_owned());
        }
        columns.extend(self.manifest.parameters.iter().cloned());
        columns.extend(["status", "step"].map(str::to_owned));
        columns.push(self.metric.clone());
        columns.extend(self.other_metrics());
        columns
    }

    /// A point in these columns.
    pub fn cells(&self, point: &CollectedPoint) -> Vec<String> {
        let planned = &point.point;
        let rank = point.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string());
        let mut cells = vec![rank, planned.id.clone()];
        if self.has_datasets() {
            cells.push(planned.dataset.clone().unwrap_or_default());
        }
        if self.has_configs() {
            cells.push(planned.from.clone());
        }
        for key in &self.manifest.parameters {
            cells.push(planned.settings.get(key).map_or_else(|| "-".to_owned(), plain));
        }
        cells.push(point.result.status.word().to_owned());
        cells.push(point.result.step.to_string());
        for name in std::iter::once(self.metric.clone()).chain(self.other_metrics()) {
            cells.push(point.value(&name).map_or_else(|| "-".to_owned(), number));
        }
        cells
    }

    fn has_datasets(&self) -> bool {
        self.manifest.points.iter().any(|point| point.dataset.is_some())
    }

    fn has_configs(&self) -> bool {
        let first = self.manifest.points.first().map(|point| &point.from);
        self.manifest.points.iter().any(|point| Some(&point.from) != first)
    }

    /// The losses that are shown beside the metric, where there are some.
    fn other_metrics(&self) -> Vec<String> {
        let there = |name: &&str| {
            let known = self.points.iter().any(|point| point.value(name).is_some());
            known && **name != *self.metric
        };
        ["eval_loss", "loss"].iter().filter(|name| there(name)).map(ToString::to_string).collect()
    }

    /// Everything, for programs.
    pub fn to_json(&self) -> Json {
        let best = self.best().ok().map(|best| &best.point.id);
        json!({
            "sweep": self.manifest.name,
            "sweep_sha256": self.manifest.sweep_sha256,
            "metric": self.metric,
            "direction": self.direction.to_string(),
            "counts": self.counts(),
            "best": best,
            "points": self.points,
        })
    }
}

/// A value as it is shown: strings without quotes.
pub fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(metric: &Metric) -> String {
    match metric.interval {
        Some(Interval { low, high }) => format!("{:.4} ({low:.4} … {high:.4})", metric.value),
        None => format!("{:.4}", metric.value),
    }
}
