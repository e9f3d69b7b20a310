//! Two models on the same records: is the candidate too much worse, in all or in a part?

use super::decision::{Test, TestKind, TestNumbers, TestOutcome, shown};
use super::limits::{Direction, MetricLimits};
use super::policy::{MetricRule, SliceRule};
use crate::artifact::markup::code;
use crate::evaluation::{Draws, Interval, Record, Slices, judged, statistic};

/// Below this a baseline is no number to divide by.
const NOTHING: f64 = 1e-12;
/// What rounding may do to a ratio.
const ROUNDING: f64 = 1e-9;

/// The same records as both models were evaluated on them.
#[derive(Clone, Copy)]
pub struct Both<'a> {
    /// Every record, as the candidate was evaluated.
    pub candidate: &'a [Record],
    /// The same records in the same order, as the baseline was evaluated; none for a first release.
    pub baseline: Option<&'a [Record]>,
    /// How data sets are drawn for intervals.
    pub draws: Draws,
}

/// A number of both models.
struct PairedNumbers {
    numbers: TestNumbers,
    /// Why the two cannot be compared.
    incomparable: Option<&'static str>,
}

impl Both<'_> {
    /// The numbers of both over the records that `wanted` names.
    fn measure(
        &self,
        metric: &str,
        limits: &MetricLimits,
        wanted: &dyn Fn(usize) -> bool,
    ) -> PairedNumbers {
        let inside = |records: &'_ [Record]| -> Vec<usize> {
            let is_judged = |place: &usize| {
                !judged(metric, std::iter::once(&records[*place])).is_empty() && wanted(*place)
            };
            (0..records.len()).filter(is_judged).collect()
        };
        let places = inside(self.candidate);
        let ours: Vec<&Record> = places.iter().map(|place| &self.candidate[*place]).collect();
        let once = vec![1; ours.len()];
        let value = (!ours.is_empty()).then(|| statistic(metric, &ours, &once));
        let mut numbers = TestNumbers {
            candidate: value,
            records: ours.len() as u64,
            limits: Some(*limits),
            ..TestNumbers::default()
        };
        let Some(others) = self.baseline else {
            return PairedNumbers { numbers, incomparable: None };
        };
        if inside(others) != places {
            let incomparable = Some("they were not evaluated on the same records");
            return PairedNumbers { numbers, incomparable };
        }
        let theirs: Vec<&Record> = places.iter().map(|place| &others[*place]).collect();
        let of_tokens = ["loss", "perplexity", "accuracy"].contains(&metric);
        let same = |(a, b): (&&Record, &&Record)| a.score.targets == b.score.targets;
        let incomparable = (of_tokens && !ours.iter().zip(&theirs).all(same))
            .then_some("they cut the text into different tokens, of which these are means");
        let base = (!theirs.is_empty()).then(|| statistic(metric, &theirs, &once));
        numbers.baseline = base;
        if let (Some(value), Some(base)) = (value, base) {
            numbers.delta = Some(value - base);
            if base.abs() >= NOTHING {
                numbers.ratio = Some(value / base);
                numbers.regression = Some(limits.regression(value, base));
                numbers.interval = self.draws.interval(ours.len(), |times| {
                    let of = |records: &[&Record]| statistic(metric, records, times);
                    limits.regression(of(&ours), of(&theirs))
                });
            }
        }
        PairedNumbers { numbers, incomparable }
    }
}

/// Tests one number over all records.
pub fn metric(rule: &MetricRule, both: &Both) -> Test {
    let found = both.measure(&rule.name, &rule.limits, &|_| true);
    let (outcome, detail) = judge(&found, both.baseline.is_some());
    Test {
        line: rule.line,
        numbers: Some(found.numbers),
        ..Test::new(TestKind::Metric, &rule.name, outcome, detail)
    }
}

/// Tests one number in every slice that a rule names, and how far the slices are apart.
pub fn slices(rule: &SliceRule, both: &Both, slices: &Slices) -> Vec<Test> {
    let values = if rule.values.is_empty() { &slices.names } else { &rule.values };
    let mut tests = Vec::new();
    let mut found: Vec<(&str, f64)> = Vec::new();
    let mut untested = 0;
    for value in values {
        let place = slices.names.iter().position(|name| name == value);
        let inside = |record: usize| place.is_some() && slices.of[record] == place;
        let measured = both.measure(&rule.metric, &rule.limits, &inside);
        let records = measured.numbers.records;
        // Of parts that nobody named, those that are there are tested: bands of length are bounds,
        // and short conversations have none above them.
        let empty = place.is_some() && !slices.of.contains(&place);
        let (outcome, detail) = if empty && rule.values.is_empty() {
            untested += 1;
            (TestOutcome::Skipped, "no record of the evaluation is in it".to_owned())
        } else if records == 0 {
            let why = match place {
                Some(_) => "no record of the evaluation that this metric judges is in it",
                None => "the evaluation has no such slice",
            };
            (TestOutcome::Failed, format!("the slice is missing: {why}"))
        } else if records < rule.min_records {
            let least = rule.min_records;
            (TestOutcome::Failed, format!("only {records} records, {least} are needed"))
        } else {
            found.extend(measured.numbers.candidate.map(|number| (value.as_str(), number)));
            judge(&measured, both.baseline.is_some())
        };
        tests.push(Test {
            line: Some(rule.line),
            numbers: Some(measured.numbers),
            ..Test::new(
                TestKind::Slice,
                format!("{}={value}/{}", rule.by, rule.metric),
                outcome,
                detail,
            )
        });
    }
    if let Some(max_gap) = rule.max_gap {
        tests.push(match untested > 0 && values.len() - untested < 2 {
            true => no_gap(rule, max_gap),
            false => gap(rule, max_gap, &found),
        });
    }
    tests
}

/// All records are in one slice, since the others are empty: there is nothing to compare.
fn no_gap(rule: &SliceRule, max_gap: f64) -> Test {
    let numbers = TestNumbers { max_gap: Some(max_gap), ..TestNumbers::default() };
    let detail = "all records of the evaluation are in one slice";
    Test {
        line: Some(rule.line),
        numbers: Some(numbers),
        ..Test::new(
            TestKind::Gap,
            format!("{}/{}", rule.by, rule.metric),
            TestOutcome::Skipped,
            detail,
        )
    }
}

/// Tests how much worse the worst slice is than the best.
fn gap(rule: &SliceRule, max_gap: f64, found: &[(&str, f64)]) -> Test {
    let lower = rule.limits.direction == Direction::Lower;
    let finite: Vec<_> = found.iter().filter(|(_, number)| number.is_finite()).collect();
    let by_number = |a: &&&(&str, f64), b: &&&(&str, f64)| a.1.total_cmp(&b.1);
    let (least, most) = (finite.iter().min_by(by_number), finite.iter().max_by(by_number));
    let (best, worst) = if lower { (least, most) } else { (most, least) };
    let (outcome, detail, numbers) = match (best, worst) {
        (Some(best), Some(worst)) if finite.len() == found.len() && finite.len() > 1 => {
            let same = (best.1 - worst.1).abs() < NOTHING;
            let gap = if same { 0.0 } else { (worst.1 - best.1).abs() / best.1.abs() };
            let fits = gap <= max_gap + ROUNDING; // never true for what is divided by nothing
            let outcome = if fits { TestOutcome::Passed } else { TestOutcome::Failed };
            let detail = format!(
                "{} has {:.4}, {} has {:.4}: {:.1} % apart, {:.1} % allowed",
                code(worst.0),
                worst.1,
                code(best.0),
                best.1,
                100.0 * gap,
                100.0 * max_gap
            );
            let numbers = TestNumbers {
                candidate: gap.is_finite().then_some(gap),
                max_gap: Some(max_gap),
                ..TestNumbers::default()
            };
            (outcome, detail, numbers)
        }
        _ => {
            let what = "a gap needs a number of two slices at least";
            let detail = format!("{what}, there are {}", finite.len());
            let numbers = TestNumbers { max_gap: Some(max_gap), ..TestNumbers::default() };
            (TestOutcome::Failed, detail, numbers)
        }
    };
    Test {
        line: Some(rule.line),
        numbers: Some(numbers),
        ..Test::new(TestKind::Gap, format!("{}/{}", rule.by, rule.metric), outcome, detail)
    }
}

/// Whether a number keeps to its limits, and what there is to say.
fn judge(found: &PairedNumbers, compared: bool) -> (TestOutcome, String) {
    let numbers = &found.numbers;
    let Some(limits) = numbers.limits else { return (TestOutcome::Undecided, String::new()) };
    let Some(value) = numbers.candidate else {
        let detail = "the evaluation has no such number: it judged no record so";
        return (TestOutcome::Failed, detail.to_owned());
    };
    if !value.is_finite() {
        return (TestOutcome::Failed, format!("{value} is not a number"));
    }
    if let Some(min) = limits.min.filter(|min| value < *min) {
        return (TestOutcome::Failed, format!("{value:.4} is below {min}"));
    }
    if let Some(max) = limits.max.filter(|max| value > *max) {
        return (TestOutcome::Failed, format!("{value:.4} is above {max}"));
    }
    let absolute = limits.min.is_some() || limits.max.is_some();
    if limits.max_regression.is_infinite() {
        return (TestOutcome::Passed, format!("{value:.4} is within its limits"));
    }
    if !compared {
        let checked = if absolute { "only its absolute limits were tested" } else { "untested" };
        let detail = format!("{value:.4}: there is no baseline to compare with, {checked}");
        return (TestOutcome::Warned, detail);
    }
    if let Some(why) = found.incomparable {
        return (TestOutcome::Undecided, format!("the two models cannot be compared: {why}"));
    }
    let Some(base) = numbers.baseline.filter(|base| base.is_finite()) else {
        return (TestOutcome::Failed, "the baseline's is not a number".to_owned());
    };
    let Some(regression) = numbers.regression else {
        return match absolute {
            true => {
                let what = format!("{value:.4} is within its absolute limits");
                (TestOutcome::Passed, format!("{what}; the baseline is {base} and gives no other"))
            }
            false => {
                let what =
                    format!("{value:.4}: the baseline is {base}, no share of which can be lost");
                (TestOutcome::Failed, format!("{what}; give the metric a `min` or `max`"))
            }
        };
    };
    compare(value, base, regression, &limits, numbers.interval)
}

fn compare(
    value: f64,
    base: f64,
    regression: f64,
    limits: &MetricLimits,
    interval: Option<Interval>,
) -> (TestOutcome, String) {
    let sure = interval.filter(|_| limits.significant);
    // Where no interval could be drawn, the number itself decides.
    let least = sure.map_or(regression, |interval| interval.low);
    let too_much = least.is_nan() || least > limits.max_regression + ROUNDING;
    let word = if regression > 0.0 { "worse" } else { "better" };
    let mut detail = format!(
        "{}, baseline {}: {:.2} % {word}",
        shown(value),
        shown(base),
        100.0 * regression.abs()
    );
    if let Some(Interval { low, high }) = interval {
        // In the direction of the word: below zero is the other one.
        let (low, high) = if regression > 0.0 { (low, high) } else { (-high, -low) };
        let percent = |share: f64| 100.0 * share + 0.0; // no "-0.00"
        detail += &format!(" ({:.2} … {:.2} % {word})", percent(low), percent(high));
    }
    let allowed = limits.max_regression;
    detail += &match allowed < 0.0 {
        true => format!(", {:.1} % better is demanded", -100.0 * allowed),
        false => format!(", {:.1} % allowed", 100.0 * allowed),
    };
    if limits.significant {
        detail += " beyond doubt";
    }
    (if too_much { TestOutcome::Failed } else { TestOutcome::Passed }, detail)
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
