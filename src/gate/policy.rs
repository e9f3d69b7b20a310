//! `gate.toml`: what a candidate must keep to before it may take the place of the baseline.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::checks_config::{Checks, Entries};
use super::limits::{MetricKind, MetricLimits, Written, unknown};
use super::performance_config::{PerformanceEntry, PerformanceRule, performance};
use crate::error::{Error, Result};
use crate::evaluation::{SliceBy, Suite};
use crate::files::{Digest, Placed, TomlText};

/// A policy has some dozens of lines; a larger file is something else.
const BYTES_MAX: u64 = 1 << 20;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    baseline: Option<Baseline>,
    eval: Eval,
    #[serde(default)]
    metric: Vec<Spanned<MetricEntry>>,
    #[serde(default)]
    slice: Vec<Spanned<SliceEntry>>,
    performance: Option<Spanned<PerformanceEntry>>,
    #[serde(default)]
    checks: Entries,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    model: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Eval {
    suite: Spanned<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricEntry {
    name: Spanned<String>,
    direction: Option<Spanned<String>>,
    max_regression: Option<Spanned<f64>>,
    min: Option<Spanned<f64>>,
    max: Option<Spanned<f64>>,
    significant: Option<Spanned<bool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SliceEntry {
    by: Spanned<String>,
    #[serde(default)]
    values: Vec<Spanned<String>>,
    min_records: Option<Spanned<u64>>,
    metric: Spanned<String>,
    max_regression: Option<Spanned<f64>>,
    min: Option<Spanned<f64>>,
    max: Option<Spanned<f64>>,
    significant: Option<Spanned<bool>>,
    max_gap: Option<Spanned<f64>>,
}

impl Policy {
    /// Reads a policy and the suite that it names. Paths in a policy are relative to the folder
    /// that it lies in.
    ///
    /// # Errors
    /// With line and column, when it is no policy, or demands what can never matter.
    pub fn read(path: &Path) -> Result<Self> {
        let text = TomlText::read(path, "the policy", BYTES_MAX)?;
        let mut document: Document = text.parse()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let suite = folder.join(document.eval.suite.get_ref());
        if !suite.is_file() {
            let error = Error::new(format!("there is no suite `{}`", suite.display()));
            return Err(text.place(error.hint(RELATIVE), document.eval.suite.span()));
        }
        if let Some(baseline) = &mut document.baseline {
            let span = baseline.model.span();
            let model = beside(baseline.model.get_ref(), folder);
            *baseline.model.get_mut() = model.map_err(|error| text.place(error, span))?;
        }
        let suite = Suite::read(&suite)?;
        Self::of(document, suite, path, &text).map_err(|(error, span)| text.place(error, span))
    }

    fn of(document: Document, suite: Suite, path: &Path, text: &TomlText) -> Placed<Self> {
        let mut metrics: Vec<MetricRule> = Vec::new();
        for entry in document.metric {
            let (whole, entry) = (entry.span(), entry.into_inner());
            let span = entry.name.span();
            let rule = metric(entry, &suite, &whole, text.line(&whole))?;
            if metrics.iter().any(|known| known.name == rule.name) {
                let what = format!("the metric `{}` stands here twice", rule.name);
                return Err((Error::new(what), span));
            }
            metrics.push(rule);
        }
        let mut slices: Vec<SliceRule> = Vec::new();
        for entry in document.slice {
            let (whole, entry) = (entry.span(), entry.into_inner());
            let span = entry.by.span();
            let rule = slice(entry, (&suite, &metrics), &whole, text.line(&whole))?;
            if slices.iter().any(|known| (&known.by, &known.metric) == (&rule.by, &rule.metric)) {
                let what =
                    format!("slices by `{}` have limits for `{}` twice", rule.by, rule.metric);
                return Err((Error::new(what), span));
            }
            slices.push(rule);
        }
        if metrics.is_empty() {
            metrics = usual(&suite);
        }
        let performance = document.performance.map(|entry| {
            let (whole, entry) = (entry.span(), entry.into_inner());
            performance(entry, &suite, text.line(&whole))
        });
        Ok(Self {
            path: path.to_path_buf(),
            sha256: Digest::of(text.text().as_bytes()),
            baseline: document.baseline.map(|baseline| baseline.model.into_inner()),
            metrics,
            slices,
            performance: performance.transpose()?,
            checks: document.checks.understand(&suite, &|span| text.line(span))?,
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
        return Err(Error::new(format!("there is no model `{}`", path.display())).hint(RELATIVE));
    }
    Ok(model.to_owned())
}

/// Every metric of a suite, with the usual limits.
fn usual(suite: &Suite) -> Vec<MetricRule> {
    let rule = |name: &str| {
        let limits = MetricLimits::usual(MetricKind::of(name, suite)?);
        Some(MetricRule { name: name.to_owned(), limits, line: None })
    };
    names(suite).into_iter().filter_map(rule).collect()
}

/// The metrics of a suite.
fn names(suite: &Suite) -> Vec<&str> {
    let tasks = suite.tasks.iter().map(|task| task.name.as_str());
    ["loss", "perplexity", "accuracy"].into_iter().chain(tasks).collect()
}

fn kind_of(name: &Spanned<String>, suite: &Suite) -> Placed<MetricKind> {
    MetricKind::of(name.get_ref(), suite)
        .ok_or_else(|| (unknown("metric", name.get_ref(), names(suite)), name.span()))
}

fn metric(
    entry: MetricEntry,
    suite: &Suite,
    whole: &Range<usize>,
    line: usize,
) -> Placed<MetricRule> {
    let kind = kind_of(&entry.name, suite)?;
    let written = Written {
        direction: entry.direction,
        max_regression: entry.max_regression,
        min: entry.min,
        max: entry.max,
        significant: entry.significant,
        more: false,
    };
    let limits = written.understand(kind, suite.bootstrap, whole)?;
    Ok(MetricRule { name: entry.name.into_inner(), limits, line: Some(line) })
}

fn slice(
    entry: SliceEntry,
    (suite, metrics): (&Suite, &[MetricRule]),
    whole: &Range<usize>,
    line: usize,
) -> Placed<SliceRule> {
    let by = entry.by.get_ref();
    let Some(known) = suite.slices.iter().find(|slice| slice.name() == by) else {
        let names = suite.slices.iter().map(SliceBy::name);
        return Err((unknown("slice by", by, names), entry.by.span()));
    };
    if let SliceBy::Column { values, .. } = known
        && !values.is_empty()
        && let Some(typo) = entry.values.iter().find(|value| !values.contains(value.get_ref()))
    {
        let values = values.iter().map(String::as_str);
        return Err((unknown("slice", typo.get_ref(), values), typo.span()));
    }
    // What the suite names must be there, whether or not it is said here again.
    let named: Vec<String> = match known {
        SliceBy::Column { values, .. } if entry.values.is_empty() => values.clone(),
        _ => entry.values.into_iter().map(Spanned::into_inner).collect(),
    };
    let kind = kind_of(&entry.metric, suite)?;
    let written = Written {
        direction: None,
        max_regression: entry.max_regression,
        min: entry.min,
        max: entry.max,
        significant: entry.significant,
        more: entry.max_gap.is_some(),
    };
    let mut limits = written.understand(kind, suite.bootstrap, whole)?;
    // Which way is better is a matter of the metric and not of the slice.
    if let Some(metric) = metrics.iter().find(|rule| rule.name == *entry.metric.get_ref()) {
        limits.direction = metric.limits.direction;
    }
    let min_records = match entry.min_records {
        Some(least) if *least.get_ref() == 0 => {
            let what = "`min_records = 0` can never matter: a slice without records fails anyway";
            return Err((Error::new(what), least.span()));
        }
        least => least.map_or(1, Spanned::into_inner),
    };
    let max_gap = entry.max_gap.map(|gap| max_gap(&gap, kind)).transpose()?;
    Ok(SliceRule {
        by: entry.by.into_inner(),
        values: named,
        min_records,
        metric: entry.metric.into_inner(),
        limits,
        max_gap,
        line,
    })
}

fn max_gap(gap: &Spanned<f64>, kind: MetricKind) -> Placed<f64> {
    let allowed = *gap.get_ref();
    let what = if !allowed.is_finite() || allowed < 0.0 {
        "`max_gap` must be 0 or above, such as 0.1".to_owned()
    } else if kind == MetricKind::Share && allowed >= 1.0 {
        format!("`max_gap = {allowed}` can never matter: no share is below 0")
    } else {
        return Ok(allowed);
    };
    Err((Error::new(what), gap.span()))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
