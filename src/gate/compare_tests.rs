//! Tests of numbers against limits: a table of every rule.

use super::super::fixture::{DRAWS, record, records};
use super::super::limits::MetricKind;
use super::*;

fn limits(kind: MetricKind) -> MetricLimits {
    MetricLimits::usual(kind)
}

fn both<'a>(candidate: &'a [Record], baseline: Option<&'a [Record]>) -> Both<'a> {
    Both { candidate, baseline, draws: DRAWS }
}

fn tested(name: &str, limits: MetricLimits, both: &Both) -> Test {
    metric(&MetricRule { name: name.to_owned(), limits, line: Some(3) }, both)
}

#[test]
fn limits_are_kept_or_not() {
    let usual = limits(MetricKind::Loss);
    let with = |min: Option<f64>, max: Option<f64>, max_regression: f64| MetricLimits {
        min,
        max,
        max_regression,
        ..usual
    };
    use TestOutcome::{Failed, Passed};
    for (candidate, baseline, limits, outcome, part) in [
        (2.0, 2.0, usual, Passed, "0.00 % better"),
        (2.1, 2.0, usual, Passed, "5.00 % worse"), // exactly as much as is allowed
        (2.1001, 2.0, usual, Failed, "5.0 % allowed"),
        (1.0, 2.0, usual, Passed, "50.00 % better"),
        (1.95, 2.0, with(None, None, -0.05), Failed, "5.0 % better is demanded"),
        (1.8, 2.0, with(None, None, -0.05), Passed, "demanded"),
        (2.0, 2.0, with(None, Some(1.9), 0.05), Failed, "above 1.9"),
        (2.0, 2.0, with(Some(2.5), None, 0.05), Failed, "below 2.5"),
        (9.0, 2.0, with(None, Some(9.5), f64::INFINITY), Passed, "within its limits"),
        (f64::NAN, 2.0, usual, Failed, "not a number"),
        (f64::INFINITY, 2.0, usual, Failed, "not a number"),
        (2.0, f64::NAN, usual, Failed, "baseline's is not a number"),
        (0.5, 0.0, usual, Failed, "give the metric a `min` or `max`"),
        (0.0, 0.0, usual, Failed, "no share of which"),
        (0.5, 1e-13, with(None, Some(1.0), 0.05), Passed, "absolute limits"),
        (1.5, 0.0, with(None, Some(1.0), 0.05), Failed, "above 1"),
    ] {
        let (ours, theirs) = (records(&[candidate; 3]), records(&[baseline; 3]));
        let test = tested("loss", limits, &both(&ours, Some(&theirs)));
        assert_eq!(test.outcome, outcome, "{candidate} {baseline}: {}", test.detail);
        assert!(test.detail.contains(part), "{candidate} {baseline}: {}", test.detail);
        assert_eq!((test.name().as_str(), test.line), ("metric:loss", Some(3)));
    }
}

#[test]
fn numbers_are_told_as_they_are() {
    let (ours, theirs) = (records(&[2.0, 4.0]), records(&[2.0, 2.0]));
    let test = tested("loss", limits(MetricKind::Loss), &both(&ours, Some(&theirs)));
    let numbers = test.numbers.unwrap();
    assert_eq!((numbers.candidate, numbers.baseline), (Some(3.0), Some(2.0)));
    assert_eq!((numbers.delta, numbers.ratio), (Some(1.0), Some(1.5)));
    assert_eq!((numbers.regression, numbers.records), (Some(0.5), 2));
    let interval = numbers.interval.unwrap();
    assert!(interval.low <= 0.5 && 0.5 <= interval.high);
    // Higher is better: fewer correct tokens are worse.
    let (ours, theirs) = ([record(0, 1.0, 4, &[])], [record(0, 1.0, 5, &[])]);
    let test = tested("accuracy", limits(MetricKind::Share), &both(&ours, Some(&theirs)));
    assert!((test.numbers.unwrap().regression.unwrap() - 0.2).abs() < 1e-12);
    assert_eq!(test.outcome, TestOutcome::Failed);
}

#[test]
fn intervals_are_told_in_the_direction_of_the_word() {
    let told = |ours: &[f64], theirs: &[f64]| {
        let (ours, theirs) = (records(ours), records(theirs));
        tested("loss", limits(MetricKind::Loss), &both(&ours, Some(&theirs))).detail
    };
    // Every record is half as bad: the interval is a point.
    let better = told(&[1.0; 4], &[2.0; 4]);
    assert!(better.contains("50.00 % better (50.00 … 50.00 % better)"), "{better}");
    let worse = told(&[3.0; 4], &[2.0; 4]);
    assert!(worse.contains("50.00 % worse (50.00 … 50.00 % worse)"), "{worse}");
    let same = told(&[2.0; 4], &[2.0; 4]);
    assert!(same.contains("0.00 % better (0.00 … 0.00 % better)"), "{same}");
    // Better on the whole, and perhaps not: the lower end is on the other side.
    let doubtful = told(&[1.0, 1.0, 1.0, 2.5], &[2.0; 4]);
    let low = doubtful.split_once(" better (").unwrap().1.split_once(" … ").unwrap().0;
    let high = doubtful.split_once(" … ").unwrap().1.split_once(" %").unwrap().0;
    let [low, high] = [low, high].map(|text| text.parse::<f64>().unwrap());
    assert!(low < 31.25 && 31.25 < high, "{doubtful}");
}

#[test]
fn a_doubtful_difference_only_fails_where_doubt_is_no_excuse() {
    // Six per cent worse on average, by one record out of many.
    let base = vec![2.0; 20];
    let mut worse = base.clone();
    worse[0] = 4.4;
    let (ours, theirs) = (records(&worse), records(&base));
    let both_ = both(&ours, Some(&theirs));
    let strict = limits(MetricKind::Loss);
    assert_eq!(tested("loss", strict, &both_).outcome, TestOutcome::Failed);
    let patient = MetricLimits { significant: true, ..strict };
    let test = tested("loss", patient, &both_);
    assert_eq!(test.outcome, TestOutcome::Passed, "{}", test.detail);
    assert!(test.detail.contains("beyond doubt"), "{}", test.detail);
    // Every record is worse: there is no doubt.
    let ours = records(&[2.2; 20]);
    assert_eq!(tested("loss", patient, &both(&ours, Some(&theirs))).outcome, TestOutcome::Failed);
    // Without intervals the number decides.
    let none = Both { draws: Draws { samples: 0, ..DRAWS }, ..both_ };
    assert_eq!(tested("loss", patient, &none).outcome, TestOutcome::Failed);
}

#[test]
fn a_first_release_is_held_to_absolute_limits_only() {
    let ours = records(&[2.0]);
    let usual = limits(MetricKind::Loss);
    let alone = both(&ours, None);
    let test = tested("loss", usual, &alone);
    assert_eq!(test.outcome, TestOutcome::Warned);
    assert!(test.detail.contains("no baseline"), "{}", test.detail);
    let limited = MetricLimits { max: Some(1.5), ..usual };
    assert_eq!(tested("loss", limited, &alone).outcome, TestOutcome::Failed);
    let absolute = MetricLimits { max: Some(2.5), max_regression: f64::INFINITY, ..usual };
    assert_eq!(tested("loss", absolute, &alone).outcome, TestOutcome::Passed);
}

#[test]
fn missing_numbers_fail_and_incomparable_ones_decide_nothing() {
    let ours = records(&[2.0]);
    let share = limits(MetricKind::Share);
    let test = tested("form", share, &both(&ours, Some(&ours)));
    assert_eq!(test.outcome, TestOutcome::Failed);
    assert!(test.detail.contains("no such number"), "{}", test.detail);
    let mut theirs = ours.clone();
    theirs[0].score.targets = 12;
    let usual = limits(MetricKind::Loss);
    let test = tested("loss", usual, &both(&ours, Some(&theirs)));
    assert_eq!(test.outcome, TestOutcome::Undecided);
    assert!(test.detail.contains("different tokens"), "{}", test.detail);
    // Tasks do not depend on tokens.
    let (ours, mut theirs) = ([record(0, 1.0, 1, &[("form", 1.0)])], [record(0, 1.0, 1, &[])]);
    let test = tested("form", share, &both(&ours, Some(&theirs)));
    assert_eq!(test.outcome, TestOutcome::Undecided, "{}", test.detail);
    theirs[0] = record(0, 1.0, 1, &[("form", 1.0)]);
    theirs[0].score.targets = 12;
    assert_eq!(tested("form", share, &both(&ours, Some(&theirs))).outcome, TestOutcome::Passed);
}

fn by_language(of: &[Option<usize>]) -> Slices {
    let names = ["en", "fr", "de"].map(str::to_owned).into();
    Slices { by: "lang".to_owned(), names, of: of.to_vec() }
}

fn rule(values: &[&str], min_records: u64, max_gap: Option<f64>) -> SliceRule {
    SliceRule {
        by: "lang".to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        min_records,
        metric: "loss".to_owned(),
        limits: limits(MetricKind::Loss),
        max_gap,
        line: 9,
    }
}

#[test]
fn every_slice_is_held_to_the_limits_and_a_missing_one_fails() {
    let theirs = records(&[2.0; 5]);
    let ours = records(&[2.0, 2.0, 2.0, 3.0, 1.0]);
    let parts = by_language(&[Some(0), Some(0), Some(0), Some(1), None]);
    let both = both(&ours, Some(&theirs));
    let outcomes = |rule: &SliceRule| -> Vec<(String, TestOutcome)> {
        slices(rule, &both, &parts).into_iter().map(|it| (it.name(), it.outcome)).collect()
    };
    let named = |name: &str, outcome| (name.to_owned(), outcome);
    use TestOutcome::{Failed, Passed, Skipped};
    // All that the evaluation has; what is empty is told.
    assert_eq!(
        outcomes(&rule(&[], 1, None)),
        [
            named("slice:lang=en/loss", Passed),
            named("slice:lang=fr/loss", Failed),
            named("slice:lang=de/loss", Skipped)
        ]
    );
    assert_eq!(outcomes(&rule(&["de"], 1, None)), [named("slice:lang=de/loss", Failed)]);
    // A gap needs two: of parts that nobody named, one may be all.
    let alone = by_language(&[Some(0); 5]);
    let gap = |rule: &SliceRule| slices(rule, &both, &alone).pop().unwrap();
    assert_eq!(gap(&rule(&[], 1, Some(0.5))).outcome, Skipped);
    assert_eq!(gap(&rule(&["en", "fr"], 1, Some(0.5))).outcome, Failed);
    let found = slices(&rule(&["en", "es"], 3, None), &both, &parts);
    assert_eq!((found[0].outcome, found[1].outcome), (Passed, Failed));
    assert!(found[1].detail.contains("no such slice"), "{}", found[1].detail);
    let found = slices(&rule(&["en"], 4, None), &both, &parts);
    assert!(found[0].detail.contains("only 3 records, 4 are needed"), "{}", found[0].detail);
    assert_eq!(found[0].outcome, Failed);
}

#[test]
fn the_worst_slice_may_be_so_far_from_the_best() {
    let parts = by_language(&[Some(0), Some(1), Some(2)]);
    let gap = |losses: &[f64], rule: &SliceRule| {
        let ours = records(losses);
        slices(rule, &both(&ours, None), &parts).pop().unwrap()
    };
    let of = |max_gap: f64| rule(&["en", "fr"], 1, Some(max_gap));
    let test = gap(&[2.0, 2.2, 9.0], &of(0.1));
    assert_eq!((test.outcome, test.name().as_str()), (TestOutcome::Passed, "gap:lang/loss"));
    let test = gap(&[2.0, 2.2, 9.0], &of(0.09));
    assert_eq!(test.outcome, TestOutcome::Failed);
    assert!(test.detail.contains("`fr` has 2.2000, `en` has 2.0000"), "{}", test.detail);
    let test = gap(&[2.0, 2.2, 9.0], &rule(&[], 1, Some(0.5)));
    assert!(test.outcome == TestOutcome::Failed && test.detail.contains("`de`"), "{}", test.detail);
    assert_eq!(gap(&[0.0, 0.0, 0.0], &of(0.0)).outcome, TestOutcome::Passed, "no gap");
    assert_eq!(gap(&[0.0, 1.0, 0.0], &of(9.0)).outcome, TestOutcome::Failed, "of nothing");
    assert_eq!(gap(&[f64::NAN, 1.0, 0.0], &of(9.0)).outcome, TestOutcome::Failed);
    let test = gap(&[1.0, 1.0, 1.0], &rule(&["en"], 1, Some(0.5)));
    assert!(test.outcome == TestOutcome::Failed && test.detail.contains("two slices"));
    // Higher is better: the worst is the lowest.
    let mut shares = of(0.3);
    (shares.metric, shares.limits) = ("accuracy".to_owned(), limits(MetricKind::Share));
    let ours = [record(0, 1.0, 10, &[]), record(1, 1.0, 6, &[])];
    let test = slices(&shares, &both(&ours, None), &by_language(&[Some(0), Some(1)])).pop();
    let test = test.unwrap();
    assert_eq!(test.outcome, TestOutcome::Failed);
    assert!((test.numbers.unwrap().candidate.unwrap() - 0.4).abs() < 1e-12);
}
