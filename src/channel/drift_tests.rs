//! Tests of drift: limits, directions, and mistakes in the policy.

use super::*;
use crate::evaluation::Metric;
use crate::snapshots::{each_says, says};

fn suite(folder: &Path) -> Suite {
    let path = folder.join("eval.toml");
    let text = "[data]\npath = \"d\"\n[[task]]\nname = \"calls\"\nkind = \"exact\"\n\
                [[task]]\nname = \"cost\"\nkind = \"exact\"\n";
    std::fs::write(&path, text).unwrap();
    Suite::read(&path).unwrap()
}

fn policy(text: &str) -> Result<Policy> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watch.toml");
    std::fs::write(&path, text).unwrap();
    Policy::read(&path, &suite(folder.path()))
}

fn numbers(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

fn metrics(pairs: &[(&str, f64)]) -> Metrics {
    let metric = |value| Metric { value, records: 1, interval: None };
    pairs.iter().map(|(name, value)| ((*name).to_owned(), metric(*value))).collect()
}

fn beyond(policy: &Policy, before: &[(&str, f64)], now: &[(&str, f64)]) -> Vec<String> {
    let drifts = policy.compare(&numbers(before), &metrics(now)).unwrap();
    drifts.into_iter().filter(|drift| drift.beyond).map(|drift| drift.metric).collect()
}

#[test]
fn five_percent_worse_is_allowed_and_better_always() {
    let policy = Policy::default();
    let none: [String; 0] = [];
    assert_eq!(beyond(&policy, &[("loss", 2.0)], &[("loss", 2.09)]), none);
    assert_eq!(beyond(&policy, &[("loss", 2.0)], &[("loss", 2.11)]), ["loss"]);
    assert_eq!(beyond(&policy, &[("loss", 2.0)], &[("loss", 0.1)]), none);
    assert_eq!(beyond(&policy, &[("accuracy", 0.8)], &[("accuracy", 0.77)]), none);
    assert_eq!(beyond(&policy, &[("accuracy", 0.8)], &[("accuracy", 0.75)]), ["accuracy"]);
    assert_eq!(beyond(&policy, &[("accuracy", 0.8)], &[("accuracy", 0.99)]), none);
    assert_eq!(beyond(&policy, &[("calls", 0.0)], &[("calls", 0.0)]), none);
    assert_eq!(beyond(&policy, &[("loss", 2.0)], &[("loss", f64::NAN)]), ["loss"]);
    // What only one of the two has is not looked at, if something is left.
    let both = beyond(&policy, &[("loss", 2.0), ("old", 1.0)], &[("loss", 2.0), ("new", 9.0)]);
    assert_eq!(both, none);
}

#[test]
fn limits_and_directions_are_those_of_the_policy() {
    let text = "[watch]\nmax_drift = { loss = 0.5, cost = 0 }\ndirection = { cost = \"lower\" }\n\
                on_drift = \"report\"\nevery = \"30m\"\n";
    let policy = policy(text).unwrap();
    assert_eq!((policy.on_drift, policy.every), (OnDrift::Report, Some(Duration::from_secs(1800))));
    let before = [("loss", 2.0), ("cost", 10.0), ("accuracy", 0.9)];
    let drifted = beyond(&policy, &before, &[("loss", 2.9), ("cost", 10.1), ("accuracy", 0.1)]);
    assert_eq!(drifted, ["cost"], "accuracy is not named");
    let error = policy.compare(&numbers(&before), &metrics(&[("loss", 2.0)])).unwrap_err();
    says(error, snapbox::str!["error[evaluation]: the evaluation has no `cost`"]);
    let error = policy.compare(&numbers(&[("loss", 1.0)]), &metrics(&before)).unwrap_err();
    says(error, snapbox::str!["error[evaluation]: the model's verdict has no `cost`"]);
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let policy = Policy::default();
    let error = policy.compare(&numbers(&[("old", 1.0)]), &metrics(&[("loss", 1.0)])).unwrap_err();
    says(
        error,
        snapbox::str![[r#"
error[evaluation]: the model's verdict and the evaluation have no metric in common
  because the verdict has `old`
  because the evaluation has `loss`
"#]],
    );
    assert!(policy.compare(&numbers(&[]), &metrics(&[("loss", 1.0)])).is_err());
    let error = policy.compare(&numbers(&[("loss", 0.0)]), &metrics(&[("loss", 1.0)])).unwrap_err();
    says(
        error,
        snapbox::str![[r#"
error[evaluation]: `loss` was 0 and is 1 now
  because a change relative to 0 is not defined

hint: leave it out of `max_drift`
"#]],
    );
}

#[test]
fn mistakes_are_told_with_their_place() {
    let errors = [
        "[watch]\nmax_drfit = 0.1\n",
        "max_drift = 0.1\n",
        "[watch]\nmax_drift = -0.1\n",
        "[watch]\nmax_drift = nan\n",
        "[watch]\nmax_drift = \"5%\"\n",
        "[watch]\nmax_drift = {}\n",
        "[watch]\nmax_drift = { los = 0.1 }\n",
        "[watch]\nmax_drift = { loss = 0.1 }\ndirection = { calls = \"lower\" }\n",
        "[watch]\n\ndirection = { speed = \"lower\" }\n",
        "[watch]\non_drift = \"panic\"\n",
        "[watch]\nevery = \"1 hour\"\n",
        "[gate]\n",
    ];
    each_says(
        errors.map(|text| policy(text).unwrap_err().to_string()),
        snapbox::str![[r#"
error[config]: unknown key `max_drfit` in `[watch]`
  at [FOLDER]/watch.toml:2:1

hint: did you mean `max_drift`?
error[config]: unknown key `max_drift` at the top level
  at [FOLDER]/watch.toml:1:1

hint: `max_drift` belongs in `[watch]`; its full name is `watch.max_drift`
error[config]: `watch.max_drift` must be a finite number of at least 0, or a table of names with such numbers, not `-0.1`
  at [FOLDER]/watch.toml:2:13
error[config]: `watch.max_drift` must be a finite number of at least 0, or a table of names with such numbers, not `nan`
  at [FOLDER]/watch.toml:2:13
error[config]: `watch.max_drift` must be a finite number of at least 0, or a table of names with such numbers, not `"5%"`
  at [FOLDER]/watch.toml:2:13
error[config]: `watch.max_drift` must be a finite number of at least 0, or a table of names with such numbers, not a table
  at [FOLDER]/watch.toml:2:13
error[config]: the evaluation measures no `los`
  at [FOLDER]/watch.toml:2:13

hint: did you mean `loss`?
error[config]: `max_drift` does not name `calls`
  at [FOLDER]/watch.toml:3:13
error[config]: the evaluation measures no `speed`
  at [FOLDER]/watch.toml:3:13

hint: it measures `loss`, `perplexity`, `accuracy`, `f1_macro`, `f1_micro`, `auroc`, `calibration_error`, `mean_absolute_error`, `calls`, `cost`
error[config]: `watch.on_drift` must be one of `rollback`, `report`, not `"panic"`
  at [FOLDER]/watch.toml:2:12
error[config]: `watch.every` must be a time such as `90s`, `30m`, `1h` or `1d`, not `"1 hour"`
  at [FOLDER]/watch.toml:2:9
error[config]: unknown section `[gate]`
  at [FOLDER]/watch.toml:1:2

hint: the sections are `watch`
"#]],
    );
}

#[test]
fn times_are_short_and_plain() {
    for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172_800)] {
        assert_eq!(duration(text).unwrap(), Duration::from_secs(seconds));
    }
    for text in ["", "h", "0s", "-1h", "+1h", "1", "1.5h", "1w", "99999999999h", "1ħ"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn a_drift_is_told_in_a_line() {
    let drifts = Policy::default().compare(
        &numbers(&[("accuracy", 0.5), ("loss", 2.0), ("perplexity", 8.0)]),
        &metrics(&[("accuracy", 0.6), ("loss", 2.04), ("perplexity", 9.0)]),
    );
    let lines: Vec<String> = drifts.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "accuracy 0.5000 -> 0.6000: 20.0 % better",
            "loss 2.0000 -> 2.0400: 2.0 % worse, 5 % allowed",
            "perplexity 8.0000 -> 9.0000: 12.5 % worse, only 5 % allowed",
        ]
    );
}

/// No key is accepted and ignored.
#[test]
fn every_key_changes_the_policy() {
    let least = policy("[watch]\n").unwrap();
    assert_eq!(least, Policy::default());
    for key in KEYS.keys() {
        let changed = policy(&format!("[watch]\n{} = {}\n", key.name(), key.example)).unwrap();
        assert_ne!(changed, least, "{}", key.path);
    }
}
