//! Tests of limits: which way is better, and numbers that cannot be meant.

use super::super::policy_keys;
use super::*;
use crate::document::Document;

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
    for (text, kind, part) in [
        ("min = 0", Loss, "can never matter"),
        ("min = -1.0", Share, "can never matter"),
        ("max = 1", Share, "can never matter"),
        ("min = 1.0", Perplexity, "can never matter"),
        ("min = 1.5", Share, "can never be kept"),
        ("max = 0.5", Perplexity, "can never be kept"),
        ("max = -2", Loss, "can never be kept"),
        ("min = 0.9\nmax = 0.5", Share, "nothing can pass"),
        ("min = nan", Free, "must be a finite number"),
        ("max = inf", Loss, "must be a finite number"),
        ("max_regression = nan", Loss, "must be a number, or `inf`"),
        ("max_regression = 1.0", Share, "can never matter"),
        ("max_regression = -1.5", Loss, "can never be kept"),
        ("max_regression = inf", Loss, "demands nothing"),
        ("direction = \"up\"", Free, "not `\"up\"`"),
        ("max_regression = inf\nmax = 3\nsignificant = true", Loss, "means nothing without"),
    ] {
        let error = read(text, kind, 10).unwrap_err();
        assert!(error.what.contains(part), "{text}: {error}");
    }
    let error = read("significant = true", Loss, 0).unwrap_err();
    assert!(error.what.contains("`bootstrap = 0`"), "{error}");
    // For a number that may be anything, all of them can matter.
    for text in ["min = 0", "max = 0", "max_regression = 3.0", "max_regression = -3.0"] {
        read(text, Free, 0).unwrap();
    }
}
