//! Tests of limits: which way is better, and numbers that cannot be meant.

use super::super::policy_keys;
use super::*;
use crate::document::Document;
use crate::snapshots::each_says;

/// Reads the limits of an entry of a policy.
fn read(text: &str, kind: MetricKind, samples: u64) -> crate::error::Result<MetricLimits> {
    let text = format!("[eval]\nsuite = \"e\"\n[[metric]]\nname = \"m\"\n{text}\n");
    let path = std::path::Path::new("gate.toml");
    let document = Document::parse(&policy_keys::KEYS, path, text.as_bytes())?;
    let entry = &document.values.tables("metric")[0];
    MetricLimits::read(entry, kind, samples, false).map_err(|problem| document.place(problem))
}

#[test]
fn worse_is_told_by_the_direction_and_relative_to_the_size_of_the_baseline() {
    let lower = MetricLimits::usual(MetricKind::Loss);
    let higher = MetricLimits::usual(MetricKind::Share);
    assert_eq!((lower.direction, higher.direction), (Direction::Lower, Direction::Higher));
    for (limits, candidate, baseline, expected) in [
        (lower, 2.2, 2.0, 0.1),
        (lower, 1.8, 2.0, -0.1),
        (higher, 0.45, 0.5, 0.1),
        (higher, 0.55, 0.5, -0.1),
        (lower, -1.8, -2.0, 0.1),
        (higher, -2.2, -2.0, 0.1),
    ] {
        let found = limits.regression(candidate, baseline);
        assert!((found - expected).abs() < 1e-12, "{candidate} {baseline}: {found}");
    }
}

#[test]
fn limits_mean_what_is_written_and_the_usual_where_nothing_is() {
    let of = |text: &str, kind| read(text, kind, 10).unwrap();
    assert_eq!(of("", MetricKind::Loss), MetricLimits::usual(MetricKind::Loss));
    let all = of(
        "direction = \"lower\"\nmax_regression = -0.1\nmin = -3\nmax = 7.5\nsignificant = true",
        MetricKind::Free,
    );
    let expected = MetricLimits {
        direction: Direction::Lower,
        max_regression: -0.1,
        min: Some(-3.0),
        max: Some(7.5),
        significant: true,
    };
    assert_eq!(all, expected);
    assert!(of("max_regression = inf\nmin = 0.5", MetricKind::Share).max_regression.is_infinite());
    assert!(!of("significant = false", MetricKind::Loss).significant);
    // No limit is no number in JSON.
    let json = serde_json::to_value(of("max_regression = inf\nmax = 3", MetricKind::Loss)).unwrap();
    assert!(json["max_regression"].is_null() && json["max"] == 3.0, "{json}");
}

#[test]
fn what_can_never_matter_or_never_be_kept_is_a_mistake() {
    use MetricKind::{Free, Loss, Perplexity, Share};
    let errors = [
        ("min = 0", Loss),
        ("min = -1.0", Share),
        ("max = 1", Share),
        ("min = 1.0", Perplexity),
        ("min = 1.5", Share),
        ("max = 0.5", Perplexity),
        ("max = -2", Loss),
        ("min = 0.9\nmax = 0.5", Share),
        ("min = nan", Free),
        ("max = inf", Loss),
        ("max_regression = nan", Loss),
        ("max_regression = 1.0", Share),
        ("max_regression = -1.5", Loss),
        ("max_regression = inf", Loss),
        ("direction = \"up\"", Free),
        ("max_regression = inf\nmax = 3\nsignificant = true", Loss),
    ];
    let errors = errors.map(|(text, kind)| read(text, kind, 10)).into_iter();
    let errors = errors.chain([read("significant = true", Loss, 0)]);
    each_says(
        errors.map(|error| error.unwrap_err().to_string()),
        snapbox::str![[r#"
error[config]: `min = 0` can never matter: every value of the metric is within it
  at gate.toml:5:7
error[config]: `min = -1` can never matter: every value of the metric is within it
  at gate.toml:5:7
error[config]: `max = 1` can never matter: every value of the metric is within it
  at gate.toml:5:7
error[config]: `min = 1` can never matter: every value of the metric is within it
  at gate.toml:5:7
error[config]: `min = 1.5` can never be met: no value of the metric is within it
  at gate.toml:5:7
error[config]: `max = 0.5` can never be met: no value of the metric is within it
  at gate.toml:5:7
error[config]: `max = -2` can never be met: no value of the metric is within it
  at gate.toml:5:7
error[config]: `max` is below `min`: nothing can pass
  at gate.toml:6:7
error[config]: `metric.0.min` must be a finite number, not `nan`
  at gate.toml:5:7
error[config]: `metric.0.max` must be a finite number, not `inf`
  at gate.toml:5:7
error[config]: `metric.0.max_regression` must be a number, or `inf`, not `nan`
  at gate.toml:5:18
error[config]: `max_regression = 1` can never matter: a number that cannot be negative never loses more than all
  at gate.toml:5:18

hint: 0.05 allows 5 % of the baseline
error[config]: `max_regression = -1.5` can never be met: a number that cannot be negative never improves by more than all
  at gate.toml:5:18

hint: 0.05 allows 5 % of the baseline
error[config]: the entry sets no limit: `max_regression` is `inf`
  at gate.toml:5:18

hint: give `min` or `max`, or remove the entry
error[config]: `metric.0.direction` must be one of `lower`, `higher`, not `"up"`
  at gate.toml:5:13
error[config]: `significant` means nothing without a finite `max_regression`
  at gate.toml:7:15
error[config]: `significant` needs intervals, and the suite has `bootstrap = 0`
  at gate.toml:5:15
"#]],
    );
    // For a number that may be anything, all of them can matter.
    for text in ["min = 0", "max = 0", "max_regression = 3.0", "max_regression = -3.0"] {
        read(text, Free, 0).unwrap();
    }
}
