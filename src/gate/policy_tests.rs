//! Tests of policies: what they mean, and mistakes in them.

use super::super::fixture::Folder;
use super::super::{Check, Direction, Measure};
use super::*;

#[test]
fn the_least_demands_every_metric_and_the_whole_checklist() {
    let policy = Folder::new().policy("[eval]\nSUITE\n").unwrap();
    let names: Vec<&str> = policy.metrics.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["loss", "perplexity", "accuracy", "form", "ours"]);
    assert!(policy.metrics.iter().all(|rule| rule.limits.max_regression == 0.05));
    assert_eq!(policy.metrics[0].limits.direction, Direction::Lower);
    assert_eq!(policy.metrics[4].limits.direction, Direction::Higher);
    assert!(policy.slices.is_empty() && policy.performance.is_none());
    assert!(policy.baseline.is_none());
    assert_eq!(policy.checks, Checks::default());
    assert!(Check::ALL.iter().all(|check| policy.checks.has(*check)));
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let policy = Folder::new()
        .policy(
            "[baseline]\nmodel = \"models/now\"\n[eval]\nSUITE\n\
             [[metric]]\nname = \"loss\"\nmax_regression = 0.02\nmax = 2.5\nsignificant = true\n\
             [[metric]]\nname = \"ours\"\ndirection = \"lower\"\nmin = -3.0\n\
             [[slice]]\nby = \"lang\"\nvalues = [\"fr\"]\nmin_records = 200\nmetric = \"ours\"\n\
             max_regression = 0.1\nmax_gap = 0.2\n\
             [[slice]]\nby = \"length\"\nmetric = \"accuracy\"\nmin = 0.3\n\
             [performance]\nmax_regression = 0.2\nmetrics = [\"memory\"]\nrepeats = 5\n\
             [checks]\nsource_clean = false\nsignature = true\nrequire_approved = true\n\
             min_valid = 0.9\nallow_tokenizer_change = true\nngram = 8\nngram_share = 0.5\n\
             max_overlap = 0.01\nmissing_training_data = \"allow\"\n",
        )
        .unwrap();
    assert_eq!(policy.baseline.as_deref(), Some("models/now"));
    let [loss, ours] = &policy.metrics[..] else { panic!("two metrics") };
    assert_eq!(
        (loss.line, loss.limits.max_regression, loss.limits.max),
        (Some(5), 0.02, Some(2.5))
    );
    assert!(loss.limits.significant);
    assert_eq!((ours.limits.direction, ours.limits.min), (Direction::Lower, Some(-3.0)));
    let [lang, length] = &policy.slices[..] else { panic!("two slices") };
    assert_eq!(
        (lang.by.as_str(), &*lang.values, lang.min_records),
        ("lang", &["fr".into()][..], 200)
    );
    assert_eq!((lang.limits.max_regression, lang.max_gap, lang.line), (0.1, Some(0.2), 14));
    assert_eq!(lang.limits.direction, Direction::Lower, "as the metric says");
    assert_eq!((length.limits.min, length.min_records, length.max_gap), (Some(0.3), 1, None));
    let performance = policy.performance.unwrap();
    assert_eq!((performance.max_regression, performance.repeats), (0.2, 5));
    assert_eq!(performance.measures, [Measure::Memory]);
    let checks = &policy.checks;
    assert!(!checks.has(Check::SourceClean) && checks.has(Check::Lineage));
    assert_eq!((checks.line(Check::Signature), checks.line(Check::Lineage)), (Some(31), None));
    assert!(checks.require_approved && checks.allow_tokenizer_change && checks.allow_missing_data);
    assert_eq!((checks.min_valid, checks.ngram), (0.9, 8));
    assert_eq!((checks.ngram_share, checks.max_overlap), (0.5, 0.01));
}

#[test]
fn speed_is_measured_of_what_there_is() {
    let folder = Folder::new();
    let of = |text: &str| folder.policy(text).unwrap().performance.unwrap();
    let all = of("[eval]\nSUITE\n[performance]\n");
    assert_eq!((all.measures, all.repeats, all.max_regression), (Measure::ALL.into(), 3, 0.05));
    let plain = of("[eval]\nPLAIN\n[performance]\n").measures;
    assert_eq!(plain, [Measure::TokensPerSecond, Measure::Memory], "nothing is answered");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let metric = |text: &str| format!("[eval]\nSUITE\n[[metric]]\n{text}\n");
    let slice = |text: &str| format!("[eval]\nSUITE\n[[slice]]\n{text}\n");
    let checks = |text: &str| format!("[eval]\nSUITE\n[checks]\n{text}\n");
    let speed = |text: &str| format!("[eval]\nSUITE\n[performance]\n{text}\n");
    let cases = [
        ("[eval]\nSUITE\n[cheks]\n".to_owned(), "cheks", 3),
        (metric("nam = \"loss\""), "nam", 4),
        (metric("name = \"los\""), "no metric `los`", 4),
        (metric("name = \"loss\"\nmin = 0.0"), "can never matter", 5),
        (metric("name = \"loss\"\nmax_regresion = 0.1"), "max_regresion", 5),
        (metric("name = \"loss\"\n[[metric]]\nname = \"loss\""), "stands here twice", 6),
        (metric("name = \"loss\"\nmax_regression = inf"), "demands nothing", 5),
        (slice("by = \"lan\"\nmetric = \"loss\""), "no slice by `lan`", 4),
        (slice("by = \"lang\"\nvalues = [\"de\"]\nmetric = \"loss\""), "no slice `de`", 5),
        (slice("by = \"lang\"\nmetric = \"quality\""), "no metric `quality`", 5),
        (
            slice("by = \"lang\"\nmetric = \"loss\"\nmin_records = 0"),
            "must be an integer from 1",
            6,
        ),
        (slice("by = \"lang\"\nmetric = \"loss\"\nmax_gap = -0.1"), "of at least 0", 6),
        (slice("by = \"lang\"\nmetric = \"form\"\nmax_gap = 1.0"), "can never matter", 6),
        (
            slice("by = \"lang\"\nmetric = \"loss\"\n[[slice]]\nby = \"lang\"\nmetric = \"loss\""),
            "twice",
            7,
        ),
        (speed("metrics = [\"speed\"]"), "must be one of `tokens_per_second`", 4),
        (speed("metrics = []"), "at least one of", 4),
        (speed("repeats = 0"), "from 1 to 100", 4),
        (speed("max_regression = 1.0"), "never loses more than all", 4),
        (speed("max_regression = nan"), "must be a finite number", 4),
        (
            "[eval]\nPLAIN\n[performance]\nmetrics = [\"first_token_seconds\"]\n".to_owned(),
            "no first token",
            4,
        ),
        (
            "[eval]\nPLAIN\n[[metric]]\nname = \"loss\"\nsignificant = true\n".to_owned(),
            "`bootstrap = 0`",
            5,
        ),
        ("[eval]\nPLAIN\n[checks]\nmin_valid = 0.5\n".to_owned(), "no task of the kind", 4),
        ("[eval]\nPLAIN\n[checks]\noutput_schema = true\n".to_owned(), "no task of the kind", 4),
        (checks("min_valid = 1.5"), "above 0 and at most 1", 4),
        (checks("min_valid = 0.0"), "above 0 and at most 1", 4),
        (checks("ngram = 2"), "from 4 to 100", 4),
        (checks("ngram_share = 1.0"), "of at least 0 and below 1", 4),
        (checks("max_overlap = 1.0"), "of at least 0 and below 1", 4),
        (checks("missing_training_data = \"ignore\""), "not `\"ignore\"`", 4),
        (
            checks("output_schema = false\nmin_valid = 0.5"),
            "when `checks.output_schema` is `false`",
            5,
        ),
        (
            checks("evaluation_apart = false\nngram = 9"),
            "when `checks.evaluation_apart` is `false`",
            5,
        ),
        (
            checks("tokenizer = false\nallow_tokenizer_change = true"),
            "when `checks.tokenizer` is `false`",
            5,
        ),
        (
            checks("model_pinned = false\ndata_pinned = false\nrequire_approved = true"),
            "without `model_pinned` or `data_pinned`",
            6,
        ),
        ("[eval]\nsuite = \"nowhere.toml\"\n".to_owned(), "nowhere.toml`\n", 2),
    ];
    let folder = Folder::new();
    for (text, part, line) in cases {
        let shown = folder.policy(&text).unwrap_err().to_string();
        assert!(shown.contains(part), "{text}\n{shown}");
        assert!(shown.contains(&format!("gate.toml:{line}:")), "{text}\n{shown}");
    }
    let shown = folder.policy(&metric("name = \"perplexit\"")).unwrap_err().to_string();
    assert!(shown.contains("did you mean `perplexity`?"), "{shown}");
    // A mistake in the suite is told as one of the suite.
    folder.write("plain.toml", "[data]\npath = \"d\"\nfromat = \"text\"\n");
    let shown = folder.policy("[eval]\nPLAIN\n").unwrap_err().to_string();
    assert!(shown.contains("plain.toml:3:"), "{shown}");
}

/// No key is accepted and ignored.
#[test]
fn every_key_changes_the_policy() {
    use crate::document::key::ValueKind;
    let folder = Folder::new();
    let shown = |text: &str| {
        let policy = folder.policy(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        format!("{:?}", Policy { sha256: Digest::of(b""), ..policy })
    };
    for key in policy_keys::KEYS.keys() {
        let (section, line) = (key.path.split_once('.').map(|it| it.0), key.example);
        let (least, changed) = match section {
            _ if key.path == "eval.suite" => {
                (shown("[eval]\nSUITE\n"), "[eval]\nPLAIN\n".to_owned())
            }
            Some(section) => (
                shown(&format!("[eval]\nSUITE\n[{section}]\n{}", required(section))),
                format!("[eval]\nSUITE\n[{section}]\n{} = {line}\n", key.name()),
            ),
            None => (
                shown("[eval]\nSUITE\n"),
                format!(
                    "{} = {}\n[eval]\nSUITE\n",
                    key.path,
                    line.replace("\"length\"", "\"lang\"")
                ),
            ),
        };
        assert_ne!(shown(&changed), least, "{}", key.path);
    }
    for (name, least) in
        [("metric", "name = \"accuracy\"\n"), ("slice", "by = \"lang\"\nmetric = \"accuracy\"\n")]
    {
        let ValueKind::Tables { keys, .. } = policy_keys::KEYS.key(name).unwrap().kind else {
            panic!("{name} is an array of tables")
        };
        let with = |entry: &str| shown(&format!("[eval]\nSUITE\n[[{name}]]\n{entry}"));
        for key in keys {
            let example = match key.path {
                "max" => "0.9",
                "values" => "[\"en\"]",
                _ => key.example,
            };
            let kept = least.lines().filter(|line| !line.starts_with(&format!("{} =", key.path)));
            let kept: String = kept.map(|line| format!("{line}\n")).collect();
            let changed = with(&format!("{kept}{} = {example}\n", key.path));
            assert_ne!(changed, with(least), "{name}.{}", key.path);
        }
    }
}

fn required(section: &str) -> &'static str {
    if section == "baseline" { "model = \"another\"\n" } else { "" }
}
