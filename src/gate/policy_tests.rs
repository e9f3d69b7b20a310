//! Tests of policies: what they mean, and mistakes in them.

use super::super::fixture::Folder;
use super::super::{Check, Direction, Measure};
use super::*;
use crate::snapshots::each_says;

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
    let off: Vec<Check> =
        Check::ALL.into_iter().filter(|check| !policy.checks.has(*check)).collect();
    assert_eq!(off, [Check::ReproducedBy]);
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
             max_overlap = 0.01\nmissing_training_data = \"allow\"\nreproduced_by = 2\n",
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
    assert_eq!((checks.reproduced_by, checks.line(Check::ReproducedBy)), (2, Some(39)));
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
        "[eval]\nSUITE\n[cheks]\n".to_owned(),
        metric("nam = \"loss\""),
        metric("name = \"los\""),
        metric("name = \"loss\"\nmin = 0.0"),
        metric("name = \"loss\"\nmax_regresion = 0.1"),
        metric("name = \"loss\"\n[[metric]]\nname = \"loss\""),
        metric("name = \"loss\"\nmax_regression = inf"),
        slice("by = \"lan\"\nmetric = \"loss\""),
        slice("by = \"lang\"\nvalues = [\"de\"]\nmetric = \"loss\""),
        slice("by = \"lang\"\nmetric = \"quality\""),
        slice("by = \"lang\"\nmetric = \"loss\"\nmin_records = 0"),
        slice("by = \"lang\"\nmetric = \"loss\"\nmax_gap = -0.1"),
        slice("by = \"lang\"\nmetric = \"form\"\nmax_gap = 1.0"),
        slice("by = \"lang\"\nmetric = \"loss\"\n[[slice]]\nby = \"lang\"\nmetric = \"loss\""),
        speed("metrics = [\"speed\"]"),
        speed("metrics = []"),
        speed("repeats = 0"),
        speed("max_regression = 1.0"),
        speed("max_regression = nan"),
        "[eval]\nPLAIN\n[performance]\nmetrics = [\"first_token_seconds\"]\n".to_owned(),
        "[eval]\nPLAIN\n[[metric]]\nname = \"loss\"\nsignificant = true\n".to_owned(),
        "[eval]\nPLAIN\n[checks]\nmin_valid = 0.5\n".to_owned(),
        "[eval]\nPLAIN\n[checks]\noutput_schema = true\n".to_owned(),
        checks("min_valid = 1.5"),
        checks("min_valid = 0.0"),
        checks("ngram = 2"),
        checks("ngram_share = 1.0"),
        checks("max_overlap = 1.0"),
        checks("missing_training_data = \"ignore\""),
        checks("output_schema = false\nmin_valid = 0.5"),
        checks("evaluation_apart = false\nngram = 9"),
        checks("tokenizer = false\nallow_tokenizer_change = true"),
        checks("model_pinned = false\ndata_pinned = false\nrequire_approved = true"),
        checks("reproduced_by = true"),
        checks("signature = false\nreproduced_by = 1"),
        "[eval]\nsuite = \"nowhere.toml\"\n".to_owned(),
        metric("name = \"perplexit\""),
    ];
    let folder = Folder::new();
    let mut errors = Vec::from(cases.map(|text| folder.policy(&text).unwrap_err().to_string()));
    // A mistake in the suite is told as one of the suite.
    folder.write("plain.toml", "[data]\npath = \"d\"\nfromat = \"text\"\n");
    errors.push(folder.policy("[eval]\nPLAIN\n").unwrap_err().to_string());
    each_says(
        errors,
        snapbox::str![[r#"
error[config]: unknown section `[cheks]`
  at [FOLDER]/gate.toml:3:2

hint: did you mean `[checks]`?
error[config]: unknown key `nam` in `[[metric]]`
  at [FOLDER]/gate.toml:4:1

hint: did you mean `name`?
error[config]: there is no metric `los`
  at [FOLDER]/gate.toml:4:8

hint: did you mean `loss`?
error[config]: `min = 0` can never matter: every value of the metric is within it
  at [FOLDER]/gate.toml:5:7
error[config]: unknown key `max_regresion` in `[[metric]]`
  at [FOLDER]/gate.toml:5:1

hint: did you mean `max_regression`?
error[config]: the metric `loss` appears twice
  at [FOLDER]/gate.toml:6:8
error[config]: the entry sets no limit: `max_regression` is `inf`
  at [FOLDER]/gate.toml:5:18

hint: give `min` or `max`, or remove the entry
error[config]: there is no slice by `lan`
  at [FOLDER]/gate.toml:4:6

hint: did you mean `lang`?
error[config]: there is no slice `de`
  at [FOLDER]/gate.toml:5:10

hint: there are `en`, `fr`
error[config]: there is no metric `quality`
  at [FOLDER]/gate.toml:5:10

hint: there are `loss`, `perplexity`, `accuracy`, `f1_macro`, `f1_micro`, `auroc`, `calibration_error`, `mean_absolute_error`, `form`, `ours`
error[config]: `slice.0.min_records` must be an integer from 1 to 1000000000, not `0`
  at [FOLDER]/gate.toml:6:15
error[config]: `slice.0.max_gap` must be a finite number of at least 0, not `-0.1`
  at [FOLDER]/gate.toml:6:11
error[config]: `max_gap = 1` can never matter: no share is below 0
  at [FOLDER]/gate.toml:6:11
error[config]: slices by `lang` have limits for `loss` twice
  at [FOLDER]/gate.toml:7:6
error[config]: `performance.metrics.0` must be one of `tokens_per_second`, `first_token_seconds`, `memory`, not `"speed"`
  at [FOLDER]/gate.toml:4:12
error[config]: `performance.metrics` must be an array of at least one of `tokens_per_second`, `first_token_seconds`, `memory`, not an empty array
  at [FOLDER]/gate.toml:4:11
error[config]: `performance.repeats` must be an integer from 1 to 100, not `0`
  at [FOLDER]/gate.toml:4:11
error[config]: `max_regression = 1` can never matter for `tokens_per_second`, which never loses more than all
  at [FOLDER]/gate.toml:4:18
error[config]: `performance.max_regression` must be a finite number, not `nan`
  at [FOLDER]/gate.toml:4:18
error[config]: the suite has no task, so there is no first token to wait for
  at [FOLDER]/gate.toml:4:11
error[config]: `significant` needs intervals, and the suite has `bootstrap = 0`
  at [FOLDER]/gate.toml:5:15
error[config]: the suite has no task of the kind `json_schema`
  at [FOLDER]/gate.toml:4:13

hint: add one to the suite, or remove this line
error[config]: the suite has no task of the kind `json_schema`
  at [FOLDER]/gate.toml:4:17

hint: add one to the suite, or remove this line
error[config]: `checks.min_valid` must be a number above 0 and at most 1, not `1.5`
  at [FOLDER]/gate.toml:4:13
error[config]: `checks.min_valid` must be a number above 0 and at most 1, not `0.0`
  at [FOLDER]/gate.toml:4:13
error[config]: `checks.ngram` must be an integer from 4 to 100, not `2`
  at [FOLDER]/gate.toml:4:9
error[config]: `checks.ngram_share` must be a number of at least 0 and below 1, not `1.0`
  at [FOLDER]/gate.toml:4:15
error[config]: `checks.max_overlap` must be a number of at least 0 and below 1, not `1.0`
  at [FOLDER]/gate.toml:4:15
error[config]: `checks.missing_training_data` must be one of `undecided`, `allow`, not `"ignore"`
  at [FOLDER]/gate.toml:4:25
error[config]: `checks.min_valid` means nothing when `checks.output_schema` is `false`
  at [FOLDER]/gate.toml:5:13

hint: remove it, or set `output_schema` to `true`
error[config]: `checks.ngram` means nothing when `checks.evaluation_apart` is `false`
  at [FOLDER]/gate.toml:5:9

hint: remove it, or set `evaluation_apart` to `true`
error[config]: `checks.allow_tokenizer_change` means nothing when `checks.tokenizer` is `false`
  at [FOLDER]/gate.toml:5:26

hint: remove it, or set `tokenizer` to `true`
error[config]: `require_approved` means nothing without `model_pinned` or `data_pinned`
  at [FOLDER]/gate.toml:6:20
error[config]: `checks.reproduced_by` must be an integer from 0 to 1000, not `true`
  at [FOLDER]/gate.toml:4:17
error[config]: `checks.reproduced_by` means nothing when `checks.signature` is `false`
  at [FOLDER]/gate.toml:5:17

hint: remove it, or set `signature` to `true`
error[config]: there is no suite `[FOLDER]/nowhere.toml`
  at [FOLDER]/gate.toml:2:9

hint: paths in a policy are relative to the folder that it lies in
error[config]: there is no metric `perplexit`
  at [FOLDER]/gate.toml:4:8

hint: did you mean `perplexity`?
error[config]: unknown key `fromat` in `[data]`
  at [FOLDER]/plain.toml:3:1

hint: did you mean `format`?
"#]],
    );
}

/// No key is accepted and ignored.
#[test]
fn every_key_changes_the_policy() {
    use crate::document::key::ValueKind;
    let folder = Folder::new();
    for name in ["another.json", "coverage-training.json"] {
        folder.write(name, &no_coverage(name));
    }
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
                format!(
                    "[eval]\nSUITE\n[{section}]\n{} = {line}\n{}",
                    key.name(),
                    beside(key.path)
                ),
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

/// The coverage of a model without layers, by data of this name.
fn no_coverage(name: &str) -> String {
    let value = serde_json::json!({
        "version": 1,
        "firebrand": "0",
        "model": {"name": "m", "sha256": Digest::of(b""), "files": []},
        "data": {"name": name, "files": [], "records": 0, "tokens": 0, "truncated": 0},
        "thresholds": crate::coverage::Thresholds::default(),
        "totals": {},
        "layers": [],
    });
    value.to_string()
}

fn required(section: &str) -> &'static str {
    match section {
        "baseline" => "model = \"another\"\n",
        "coverage" => "training = \"another.json\"\n",
        _ => "",
    }
}

/// What a key is not without.
fn beside(path: &str) -> &'static str {
    if path == "coverage.min_share" { required("coverage") } else { "" }
}
