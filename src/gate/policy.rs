//! `gate.toml`: what a candidate must keep to before it may take the place of the baseline.

use std::path::{Path, PathBuf};

use super::checks_config::{Checks, checks};
use super::coverage_config::{CoverageRule, coverage};
use super::limits::{MetricKind, MetricLimits, unknown};
use super::performance_config::{PerformanceRule, performance};
use super::policy_keys;
use crate::document::{Document, Findings, Placed, Values};
use crate::error::{Error, Result};
use crate::evaluation::{LABEL_METRICS, SliceBy, Suite};
use crate::files::Digest;

/// What is demanded.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Where it was read.
    pub path: PathBuf,
    /// Of the file's bytes.
    pub sha256: Digest,
    /// The model to compare with; none for a first release.
    pub baseline: Option<String>,
    /// What both are evaluated on.
    pub suite: Suite,
    /// Limits of the numbers over all records.
    pub metrics: Vec<MetricRule>,
    /// Limits of the numbers of parts.
    pub slices: Vec<SliceRule>,
    /// How much slower it may be.
    pub performance: Option<PerformanceRule>,
    /// How much of what the training exercises the evaluation must exercise.
    pub coverage: Option<CoverageRule>,
    /// The checklist.
    pub checks: Checks,
}

/// Limits of one number over all records.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRule {
    /// The metric.
    pub name: String,
    /// Its limits.
    pub limits: MetricLimits,
    /// The line in the policy; none for what holds without being said.
    pub line: Option<usize>,
}

/// Limits of one number in every slice by a property.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceRule {
    /// The property.
    pub by: String,
    /// The slices that must be there; all that are, if empty.
    pub values: Vec<String>,
    /// A slice of fewer judged records fails.
    pub min_records: u64,
    /// The metric.
    pub metric: String,
    /// Its limits in each slice.
    pub limits: MetricLimits,
    /// How much worse the worst slice may be than the best, relative to the best.
    pub max_gap: Option<f64>,
    /// The line in the policy.
    pub line: usize,
}

impl Policy {
    /// Reads a policy and the suite that it names. Paths in a policy are relative to the folder
    /// that it lies in.
    ///
    /// # Errors
    /// All problems at once with line and column, when it is no policy, or demands what can never
    /// matter.
    pub fn read(path: &Path) -> Result<Self> {
        let document = Document::read(&policy_keys::KEYS, path)?;
        let values = &document.values;
        let folder = path.parent().unwrap_or(Path::new(""));
        let suite = folder.join(values.text("eval.suite"));
        if !suite.is_file() {
            let error = Error::config(format!("there is no suite `{}`", suite.display()));
            return Err(document.place((error.hint(RELATIVE), values.place("eval.suite"))));
        }
        let suite = Suite::read(&suite)?;
        let mut findings = document.findings();
        let baseline = values.optional_text("baseline.model").and_then(|model| {
            let model = beside(&model, folder);
            findings.take(model.map_err(|error| (error, values.place("baseline.model"))))
        });
        let metrics = metrics(&document, &suite, &mut findings);
        let slices = slices(&document, &suite, &metrics, &mut findings);
        let performance = values.has_section("performance").then(|| {
            let line = document.line(values.section_place("performance")).unwrap_or_default();
            findings.take(performance(values, &suite, line))
        });
        let coverage = values.has_section("coverage").then(|| {
            let line = document.line(values.section_place("coverage")).unwrap_or_default();
            findings.take(coverage(values, folder, line))
        });
        let checks = findings.take(checks(&document, &suite)).unwrap_or_default();
        findings.finish()?;
        Ok(Self {
            path: path.to_path_buf(),
            sha256: document.sha256,
            baseline,
            metrics: if metrics.is_empty() { usual(&suite) } else { metrics },
            slices,
            performance: performance.flatten(),
            coverage: coverage.flatten(),
            checks,
            suite,
        })
    }
}

const RELATIVE: &str = "paths in a policy are relative to the folder that it lies in";

/// A model as a policy in `folder` names it: one that lies there, or else one of a hub.
fn beside(model: &str, folder: &Path) -> Result<String> {
    let path = folder.join(model);
    if path.exists() {
        return Ok(path.to_string_lossy().into_owned());
    }
    // Seen from the current folder this would be another model than the policy means.
    if Path::new(model).exists() {
        return Err(Error::config(format!("there is no model `{}`", path.display())).hint(RELATIVE));
    }
    Ok(model.to_owned())
}

/// Every metric of a suite, with the usual limits.
pub(super) fn usual(suite: &Suite) -> Vec<MetricRule> {
    let rule = |name: &str| {
        let limits = MetricLimits::usual(MetricKind::of(name, suite)?);
        Some(MetricRule { name: name.to_owned(), limits, line: None })
    };
    let common = |name: &&str| !LABEL_METRICS.contains(name); // not every model has them
    names(suite).into_iter().filter(common).filter_map(rule).collect()
}

/// The metrics of a suite.
fn names(suite: &Suite) -> Vec<&str> {
    let tasks = suite.tasks.iter().map(|task| task.name.as_str());
    ["loss", "perplexity", "accuracy"].into_iter().chain(LABEL_METRICS).chain(tasks).collect()
}

fn kind_of(entry: &Values, key: &str, suite: &Suite) -> Placed<MetricKind> {
    let name = entry.text(key);
    MetricKind::of(&name, suite)
        .ok_or_else(|| (unknown("metric", &name, names(suite)), entry.place(key)))
}

fn metrics(document: &Document, suite: &Suite, findings: &mut Findings) -> Vec<MetricRule> {
    let mut metrics: Vec<MetricRule> = Vec::new();
    for entry in document.values.tables("metric") {
        let limits = kind_of(entry, "name", suite)
            .and_then(|kind| MetricLimits::read(entry, kind, suite.bootstrap, false));
        let Some(limits) = findings.take(limits) else { continue };
        let name = entry.text("name");
        if metrics.iter().any(|known| known.name == name) {
            let what = format!("the metric `{name}` appears twice");
            findings.report((Error::config(what), entry.place("name")));
        }
        metrics.push(MetricRule { name, limits, line: document.line(entry.table_place()) });
    }
    metrics
}

fn slices(
    document: &Document,
    suite: &Suite,
    metrics: &[MetricRule],
    findings: &mut Findings,
) -> Vec<SliceRule> {
    let mut slices: Vec<SliceRule> = Vec::new();
    for entry in document.values.tables("slice") {
        let line = document.line(entry.table_place()).unwrap_or_default();
        let rule = slice(entry, suite, metrics, line);
        let Some(rule) = findings.take(rule) else { continue };
        if slices.iter().any(|known| (&known.by, &known.metric) == (&rule.by, &rule.metric)) {
            let what = format!("slices by `{}` have limits for `{}` twice", rule.by, rule.metric);
            findings.report((Error::config(what), entry.place("by")));
        }
        slices.push(rule);
    }
    slices
}

fn slice(entry: &Values, suite: &Suite, metrics: &[MetricRule], line: usize) -> Placed<SliceRule> {
    let (by, metric) = (entry.text("by"), entry.text("metric"));
    let Some(known) = suite.slices.iter().find(|slice| slice.name() == by) else {
        let names = suite.slices.iter().map(SliceBy::name);
        return Err((unknown("slice by", &by, names), entry.place("by")));
    };
    let mut named = entry.optional_texts("values").unwrap_or_default();
    if let SliceBy::Column { values, .. } = known
        && !values.is_empty()
    {
        if let Some(typo) = named.iter().find(|value| !values.contains(value)) {
            let values = values.iter().map(String::as_str);
            return Err((unknown("slice", typo, values), entry.place("values")));
        }
        // What the suite names must be there, whether or not it is said here again.
        if named.is_empty() {
            named.clone_from(values);
        }
    }
    let kind = kind_of(entry, "metric", suite)?;
    let max_gap = max_gap(entry, kind)?;
    let mut limits = MetricLimits::read(entry, kind, suite.bootstrap, max_gap.is_some())?;
    // Which way is better is a matter of the metric and not of the slice.
    if let Some(rule) = metrics.iter().find(|rule| rule.name == metric) {
        limits.direction = rule.limits.direction;
    }
    let min_records = entry.integer("min_records");
    Ok(SliceRule { by, values: named, min_records, metric, limits, max_gap, line })
}

fn max_gap(entry: &Values, kind: MetricKind) -> Placed<Option<f64>> {
    match entry.optional_number("max_gap") {
        Some(allowed) if kind == MetricKind::Share && allowed >= 1.0 => {
            let what = format!("`max_gap = {allowed}` can never matter: no share is below 0");
            Err((Error::config(what), entry.place("max_gap")))
        }
        allowed => Ok(allowed),
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
