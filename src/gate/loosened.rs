//! What a policy demands less of than another one did.

use std::fmt::Display;

use super::checks_config::Check;
use super::limits::{Direction, MetricKind, MetricLimits};
use super::policy::{Policy, usual};
use super::policy_keys::KEYS;
use crate::document::{Document, Value, Values};
use crate::error::Result;
use crate::evaluation::Suite;

/// One thing that is demanded less of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loosened {
    /// The key in the policy.
    pub key: String,
    /// What it was.
    pub was: String,
    /// What it is.
    pub is: String,
    /// The line that says so now, if one does.
    pub line: Option<usize>,
}

/// What became of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyChange {
    /// All that it demands less of.
    pub loosened: Vec<Loosened>,
    /// The suite that it names, before and now, if that is another one.
    pub suites: Option<[String; 2]>,
}

/// Numbers of `[checks]`, the check that they are part of, and whether more of it demands less.
const NUMBERS: [(&str, Option<Check>, bool); 5] = [
    ("reproduced_by", None, false),
    ("min_valid", Some(Check::OutputSchema), false),
    ("ngram", Some(Check::EvaluationApart), true),
    ("ngram_share", Some(Check::EvaluationApart), true),
    ("max_overlap", Some(Check::EvaluationApart), true),
];

/// Compares a policy with the bytes that it had before.
///
/// # Errors
/// When those were no policy, or it cannot be read again.
pub fn loosened(before: &[u8], now: &Policy) -> Result<PolicyChange> {
    let was = Document::parse(&KEYS, &now.path, before)?;
    let is = Document::read(&KEYS, &now.path)?;
    let mut found = Comparison { now: &is, loosened: Vec::new() };
    found.metrics(&was.values, &now.suite);
    found.slices(&was.values, now);
    found.sections(&was.values);
    found.checks(&was.values);
    let suites = [&was.values, &is.values].map(|values| values.text("eval.suite"));
    let suites = (suites[0] != suites[1]).then_some(suites);
    Ok(PolicyChange { loosened: found.loosened, suites })
}

const NOTHING: &str = "no limit";

struct Comparison<'a> {
    now: &'a Document,
    loosened: Vec<Loosened>,
}

impl Comparison<'_> {
    fn add(&mut self, key: &str, was: &dyn Display, is: &dyn Display, line: Option<usize>) {
        let (key, was, is) = (key.to_owned(), was.to_string(), is.to_string());
        self.loosened.push(Loosened { key, was, is, line });
    }

    /// A limit that may be gone; `more` tells whether a greater one demands less.
    fn limit(&mut self, key: &str, limits: [Option<f64>; 2], more: bool, line: Option<usize>) {
        match limits {
            [Some(was), None] => self.add(key, &was, &NOTHING, line),
            [Some(was), Some(is)] if (if more { is > was } else { is < was }) => {
                self.add(key, &was, &is, line);
            }
            _ => {}
        }
    }

    /// The line of a key, where it is given.
    fn line(&self, key: &str) -> Option<usize> {
        let values = &self.now.values;
        values.is_given(key).then(|| self.now.line(values.place(key))).flatten()
    }

    fn limits(&mut self, name: &str, limits: [&MetricLimits; 2], line: Option<usize>) {
        let [was, is] = limits;
        let key = |part: &str| format!("{name}.{part}");
        if was.direction != is.direction {
            self.add(&key("direction"), &was.direction.name(), &is.direction.name(), line);
        }
        let worse = [Some(was.max_regression), Some(is.max_regression)];
        self.limit(&key("max_regression"), worse, true, line);
        self.limit(&key("min"), [was.min, is.min], false, line);
        self.limit(&key("max"), [was.max, is.max], true, line);
        if is.significant && !was.significant {
            self.add(&key("significant"), &false, &true, line);
        }
    }

    fn metrics(&mut self, before: &Values, suite: &Suite) {
        let (was, is) = (metrics(before, suite), metrics(&self.now.values, suite));
        for (name, limits) in &was {
            let key = format!("metric.{name}");
            match is.iter().find(|(other, _)| other == name) {
                None => self.add(&key, &"limited", &NOTHING, None),
                Some((_, now)) => {
                    let mut entries = self.now.values.tables("metric").iter();
                    let entry = entries.find(|entry| entry.text("name") == *name);
                    let line = entry.and_then(|entry| self.now.line(entry.table_place()));
                    self.limits(&key, [limits, now], line);
                }
            }
        }
    }

    fn slices(&mut self, before: &Values, policy: &Policy) {
        for was in before.tables("slice") {
            let (by, metric) = (was.text("by"), was.text("metric"));
            let key = format!("slice.{by}.{metric}");
            let part = |name: &str| format!("{key}.{name}");
            let mut entries = self.now.values.tables("slice").iter();
            let same = |it: &&Values| it.text("by") == by && it.text("metric") == metric;
            let Some(is) = entries.find(same).cloned() else {
                self.add(&key, &"limited", &NOTHING, None);
                continue;
            };
            let line = self.now.line(is.table_place());
            let both = [was, &is].map(|entry| limits(entry, &metric, &policy.suite));
            self.limits(&key, [&both[0], &both[1]], line);
            let gaps = [was, &is].map(|entry| entry.optional_number("max_gap"));
            self.limit(&part("max_gap"), gaps, true, line);
            let [least, now] = [was, &is].map(|entry| entry.integer("min_records"));
            if now < least {
                self.add(&part("min_records"), &least, &now, line);
            }
            let rule = policy.slices.iter().find(|it| it.by == by && it.metric == metric);
            let there = rule.map_or(&[][..], |rule| rule.values.as_slice());
            let named = was.optional_texts("values").unwrap_or_default();
            if named.iter().any(|value| !there.contains(value)) {
                self.add(&part("values"), &listed(&named), &listed(there), line);
            }
        }
    }

    /// What is demanded beside numbers and checks.
    fn sections(&mut self, was: &Values) {
        let now = self.now.values.clone();
        if let (Some(model), false) =
            (was.optional_text("baseline.model"), now.has_section("baseline"))
        {
            self.add("baseline.model", &model, &"no baseline", None);
        }
        for (section, key, more) in [
            ("performance", "performance.max_regression", true),
            ("coverage", "coverage.min_share", false),
        ] {
            match (was.has_section(section), now.has_section(section)) {
                (true, false) => self.add(section, &"demanded", &"not demanded", None),
                (true, true) => {
                    let both = [was, &now].map(|values| Some(values.number(key)));
                    self.limit(key, both, more, self.line(key));
                }
                (false, _) => {}
            }
        }
        let measured = "performance.metrics";
        if let (true, Some(is)) = (was.has_section("performance"), now.optional_texts(measured)) {
            let named = was.optional_texts(measured);
            let kept = named.as_ref().is_some_and(|named| named.iter().all(|it| is.contains(it)));
            if !kept {
                let named = named.map_or("all".to_owned(), |named| listed(&named));
                self.add(measured, &named, &listed(&is), self.line(measured));
            }
        }
    }

    fn checks(&mut self, was: &Values) {
        let now = self.now.values.clone();
        let key = |name: &str| format!("checks.{name}");
        let has = |values: &Values, check: Check| values.boolean(&key(check.name()));
        let counted = |check: &Check| *check == Check::ReproducedBy;
        for check in Check::ALL.into_iter().filter(|check| !counted(check)) {
            if has(was, check) && !has(&now, check) {
                let key = key(check.name());
                self.add(&key, &true, &false, self.line(&key));
            }
        }
        for (name, of, more) in NUMBERS {
            // What is part of a check that is off demands nothing.
            if of.is_none_or(|check| has(was, check) && has(&now, check)) {
                let key = key(name);
                let both = [was, &now].map(|values| Some(number(values, &key)));
                self.limit(&key, both, more, self.line(&key));
            }
        }
        let approved = key("require_approved");
        if was.boolean(&approved) && !now.boolean(&approved) {
            self.add(&approved, &true, &false, self.line(&approved));
        }
        let other = key("allow_tokenizer_change");
        let on = has(was, Check::Tokenizer) && has(&now, Check::Tokenizer);
        if on && now.boolean(&other) && !was.boolean(&other) {
            self.add(&other, &false, &true, self.line(&other));
        }
        let missing = key("missing_training_data");
        let both = [was, &now].map(|values| values.text(&missing));
        let on = has(was, Check::EvaluationApart) && has(&now, Check::EvaluationApart);
        if on && both[0] != both[1] && both[1] == "allow" {
            self.add(&missing, &both[0], &both[1], self.line(&missing));
        }
    }
}

/// A number of either kind.
fn number(values: &Values, key: &str) -> f64 {
    match values.get(key) {
        #[expect(clippy::cast_precision_loss)] // counts of words and people
        Some(Value::Integer(count)) => *count as f64,
        _ => values.number(key),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none by name".to_owned() } else { names.join(", ") }
}

/// Limits by metric; of a policy that names none, the usual ones of the suite.
fn metrics(values: &Values, suite: &Suite) -> Vec<(String, MetricLimits)> {
    let named = values.tables("metric").iter();
    let named = named.map(|entry| {
        let name = entry.text("name");
        let limits = limits(entry, &name, suite);
        (name, limits)
    });
    let named: Vec<_> = named.collect();
    match named.is_empty() {
        true => usual(suite).into_iter().map(|rule| (rule.name, rule.limits)).collect(),
        false => named,
    }
}

/// The limits of an entry as they stand there.
fn limits(entry: &Values, metric: &str, suite: &Suite) -> MetricLimits {
    let usual = MetricKind::of(metric, suite).unwrap_or(MetricKind::Free);
    let named = entry.optional_text("direction");
    let direction = named.as_deref().and_then(Direction::from_name);
    let usual = MetricLimits::usual(usual);
    MetricLimits {
        direction: direction.unwrap_or(usual.direction),
        max_regression: entry.number("max_regression"),
        min: entry.optional_number("min"),
        max: entry.optional_number("max"),
        significant: entry.boolean("significant"),
    }
}
