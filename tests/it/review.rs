//! Reviews of changes in real git repositories, as whole commands.

use std::process::Command;

use crate::common::{Run, conversations, says};
use serde_json::{Value, json};
use snapbox::str;

const SUITE: &str = "bootstrap = 0\n[data]\npath = \"judged.jsonl\"\nmax_seq_len = 96\n";
const TASK: &str = "[[task]]\nname = \"form\"\nkind = \"json_schema\"\nschema = \"form.json\"\n";
const POLICY: &str = "[eval]\nsuite = \"eval.toml\"\n[checks]\nsource_clean = false\n";
const IGNORED: &str = "checkpoints\nsettings\ncache\nhub\nout\nprivate\n";

fn git(run: &Run, script: &str) {
    let script = format!(
        "export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b \
         GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b\n{script}"
    );
    let status = Command::new("bash").args(["-ec", &script]).current_dir(run.path(".")).status();
    assert!(status.unwrap().success(), "{script}");
}

/// Replaces a part of a file that must be there.
fn edit(run: &Run, name: &str, from: &str, to: &str) {
    let text = run.read(name);
    assert!(text.contains(from), "{name} has no {from}");
    run.write(name, &text.replacen(from, to, 1));
}

fn form(least: u64, more: &Value) -> String {
    let schema = json!({
        "type": "object",
        "properties": {"sum": {"type": "integer", "minimum": least, "maximum": 20}},
        "required": ["sum"],
        "additionalProperties": more,
    });
    schema.to_string()
}

/// A checkout of a branch that has changed nothing yet.
fn checkout(settings: &str) -> Run {
    let run = Run::new();
    std::fs::remove_file(run.path("lora.toml")).unwrap();
    run.write("judged.jsonl", &conversations(40)[conversations(30).len()..]);
    run.write("eval.toml", &format!("{SUITE}{TASK}"));
    run.write("form.json", &form(0, &json!(false)));
    run.write("code.json", &form(0, &json!(true)));
    run.write("gate.toml", POLICY);
    run.write("review.toml", settings);
    run.write(".gitignore", IGNORED);
    std::fs::create_dir_all(run.path("out")).unwrap();
    git(&run, "git init --quiet -b main . && git add . && git commit --quiet -m first");
    git(&run, "git checkout --quiet -b change");
    run
}

/// What needs no training, with what the code expects of answers.
const PAPERS: &str = "[[contract]]\ntask = \"form\"\nschema = \"code.json\"\n[checks]\n\
                      regression_test = false\ncoverage = false\n";

/// Exit code and stdout of a review.
fn review(run: &Run, more: &[&str]) -> (i32, String) {
    let output = run.command(&[&["review", "--base", "main"], more].concat()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), if text.is_empty() { said } else { text })
}

/// Outcome and detail of the findings of a check.
fn of(run: &Run, check: &str, more: &[&str]) -> Vec<(String, String)> {
    let (_, text) = review(run, &[&["--json", "-"], more].concat());
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    let findings = report["findings"].as_array().unwrap().iter();
    let own = findings.filter(|finding| finding["check"] == check);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    own.map(|finding| (text(&finding["outcome"]), text(&finding["detail"]))).collect()
}

#[test]
fn a_change_is_reviewed_by_what_it_touches() {
    let run = checkout(PAPERS);
    let (code, text) = review(&run, &[]);
    says(
        text,
        str![[r#"
PASSED: the change touches no configuration of a run, no policy and no suite

"#]],
    );
    assert_eq!(code, 0);
    let (code, all) = review(&run, &["--all"]);
    edit(&run, "tiny.toml", "max_steps = 6", "max_steps = 7");
    let (same, text) = review(&run, &[]);
    assert_eq!((code, same, &all), (0, 0, &text));
    says(
        text,
        str![[r#"
ok    model_pinned      tiny.toml: `base` is in the repository
ok    data_pinned       tiny.toml: `data.jsonl` is in the repository
ok    data_pinned       tiny.toml: `validation.jsonl` is in the repository
ok    output_schema     gate.toml: `form` by form.json; at least 99.0 % must fit
ok    policy_limits     gate.toml: it demands no less than before
ok    evaluation_apart  gate.toml: 0 of 10 records stand among 20 training records of `tiny.toml`, 0 have more than 80 % of their 13-grams there
ok    contract          gate.toml: every answer that form.json admits fits code.json
PASSED: all of 7 checks hold

"#]],
    );
    // Committed or not.
    git(&run, "git commit --quiet -am change");
    assert_eq!(review(&run, &[]), (0, all));
}

#[test]
fn an_answer_that_the_code_does_not_expect_is_shown() {
    let run = checkout(PAPERS);
    run.write("form.json", &form(0, &json!(true)));
    run.write("code.json", &form(0, &json!(false)));
    // The change cannot switch off what it is reviewed by.
    run.write("review.toml", "[checks]\ncontract = false\nregression_test = false\n");
    let files = ["--sarif", "out/a.sarif", "--comment", "out/a.md", "--json", "out/a.json"];
    let (code, text) = review(&run, &files);
    assert_eq!(code, 1);
    says(
        text,
        str![[r#"
ok    model_pinned      tiny.toml: `base` is in the repository
ok    data_pinned       tiny.toml: `data.jsonl` is in the repository
ok    data_pinned       tiny.toml: `validation.jsonl` is in the repository
ok    output_schema     gate.toml: `form` by form.json; at least 99.0 % must fit
ok    policy_limits     gate.toml: it demands no less than before
ok    evaluation_apart  gate.toml: 0 of 10 records stand among 20 training records of `tiny.toml`, 0 have more than 80 % of their 13-grams there
FAIL  contract          gate.toml: form.json admits {"sum":0,"another":"a"}, which code.json refuses
                        make the task's schema as narrow as the code's, or let the code read more
FAILED: 1 of 7 checks fail

"#]],
    );
    says(
        run.read("out/a.md"),
        str![[r#"
<!-- firebrand review -->
### Review: FAILED

1 of 7 checks fail.

Compared with `main` (`[HEX]`).

the change has another `review.toml`: it counts once it is merged.

| | check | file | what was found | what to do |
|---|---|---|---|---|
| ❌ | `contract` | `gate.toml` | form.json admits {"sum":0,"another":"a"}, which code.json refuses | make the task's schema as narrow as the code's, or let the code read more |
| ✅ | `model_pinned` | `tiny.toml` | `base` is in the repository |  |
| ✅ | `data_pinned` | `tiny.toml` | `data.jsonl` is in the repository |  |
| ✅ | `data_pinned` | `tiny.toml` | `validation.jsonl` is in the repository |  |
| ✅ | `output_schema` | `gate.toml` | `form` by form.json; at least 99.0 % must fit |  |
| ✅ | `policy_limits` | `gate.toml` | it demands no less than before |  |
| ✅ | `evaluation_apart` | `gate.toml` | 0 of 10 records stand among 20 training records of `tiny.toml`, 0 have more than 80 % of their 13-grams there |  |

"#]],
    );
    let sarif: Value = serde_json::from_str(&run.read("out/a.sarif")).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&json!("review/contract"), &json!("error")));
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "review.toml");
    assert_eq!(place["region"]["startLine"], 1);
    let report: Value = serde_json::from_str(&run.read("out/a.json")).unwrap();
    assert_eq!(report["decision"], "failed");

    // What the code expects is narrower by a pattern, of which nothing is decided.
    run.write("form.json", r#"{"type": "string", "pattern": "^(aa)+b{9}$"}"#);
    run.write("code.json", r#"{"type": "string", "pattern": "^a+b{9}$"}"#);
    let found = of(&run, "contract", &[]);
    assert_eq!(found[0].0, "undecided", "{found:?}");
    assert!(found[0].1.contains("`pattern` is not known to hold"), "{found:?}");
    // A number at the edge.
    run.write("form.json", &form(0, &json!(false)));
    run.write("code.json", &form(1, &json!(false)));
    let found = of(&run, "contract", &[]);
    assert!(found[0].1.contains(r#"admits {"sum":0}, which"#), "{found:?}");
}

#[test]
fn inputs_must_be_pinned_by_a_commit_a_lock_or_the_repository() {
    let run = checkout(PAPERS);
    let model = || of(&run, "model_pinned", &[]).remove(0);
    let commit = "0123456789abcdef0123456789abcdef01234567";
    edit(&run, "tiny.toml", "base = \"base\"", "base = \"acme/model\"");
    let (outcome, detail) = model();
    assert_eq!(outcome, "failed");
    assert!(detail.contains("is at `main`, which moves"), "{detail}");
    run.write(
        "tiny.lock",
        &format!(
            "version = 1\n[model]\nname = \"acme/model\"\nrevision = \"main\"\n\
             commit = \"{commit}\"\n[[model.files]]\npath = \"config.json\"\nsize = 2\n\
             oid = \"{commit}\"\n"
        ),
    );
    assert_eq!(
        model(),
        ("passed".into(), "`acme/model`: commit 0123456789ab, 1 files by digest".into())
    );
    // A lock that git ignores pins nothing for anybody else.
    run.write(".gitignore", &format!("{IGNORED}*.lock\n"));
    assert_eq!(model(), ("failed".into(), "the lock of `acme/model` is ignored by git".into()));
    std::fs::remove_file(run.path("tiny.lock")).unwrap();
    let revision = format!("base = \"acme/model\"\nrevision = \"{commit}\"");
    edit(&run, "tiny.toml", "base = \"acme/model\"", &revision);
    assert_eq!(model(), ("passed".into(), "`acme/model`: commit 0123456789ab".into()));
    std::fs::create_dir_all(run.path("private")).unwrap();
    edit(&run, "tiny.toml", &revision, "base = \"private\"");
    let (outcome, detail) = model();
    assert_eq!(outcome, "failed");
    assert!(detail.contains("`private` is a folder of this machine"), "{detail}");

    let data = || of(&run, "data_pinned", &[]).remove(0);
    assert_eq!(data(), ("passed".into(), "`data.jsonl` is in the repository".into()));
    std::fs::rename(run.path("data.jsonl"), run.path("private/data.jsonl")).unwrap();
    edit(&run, "tiny.toml", "\"data.jsonl\"", "\"private/data.jsonl\"");
    let (outcome, detail) = data();
    assert_eq!(outcome, "failed");
    assert!(detail.contains("is neither in the repository nor in the lock"), "{detail}");
    // The lock as the program writes it.
    run.write(".gitignore", IGNORED);
    edit(&run, "tiny.toml", "base = \"private\"", "base = \"base\"");
    run.succeeds(&["pull", "tiny.toml", "--quiet"]);
    let (outcome, detail) = data();
    assert_eq!(outcome, "passed", "{detail}");
    run.write("private/data.jsonl", &conversations(19));
    let (outcome, detail) = data();
    assert_eq!(outcome, "failed");
    assert!(detail.contains("has other bytes than the lock"), "{detail}");
}

#[test]
fn what_is_evaluated_on_must_not_be_trained_on() {
    let run = checkout(PAPERS);
    let apart = || of(&run, "evaluation_apart", &[]).remove(0);
    let trained = run.read("data.jsonl");
    let judged = run.read("judged.jsonl");
    run.write("judged.jsonl", &format!("{judged}{}", trained.lines().nth(4).unwrap()));
    let (outcome, detail) = apart();
    assert_eq!(outcome, "failed", "{detail}");
    assert!(detail.starts_with("1 of 11 records stand among 20 training records"), "{detail}");
    // What a run measures itself on is not trained on, wherever else it stands.
    run.write("validation.jsonl", &format!("{}\n", trained.lines().nth(4).unwrap()));
    let (_, detail) = apart();
    assert!(detail.starts_with("0 of 11 records stand among 19 training records"), "{detail}");
    // What is not here is not known to be apart.
    edit(&run, "tiny.toml", "\"data.jsonl\"", "\"acme/data\"");
    let (outcome, detail) = apart();
    assert_eq!(outcome, "undecided", "{detail}");
    assert!(detail.contains("the data of `tiny.toml` cannot be read here"), "{detail}");
}

#[test]
fn a_suite_must_validate_answers_and_a_policy_must_ask_for_it() {
    let run = checkout("[checks]\nregression_test = false\ncoverage = false\n");
    let schema = || of(&run, "output_schema", &[]).remove(0);
    edit(&run, "gate.toml", "[checks]", "[checks]\nmin_valid = 0.995");
    assert_eq!(schema(), ("passed".into(), "`form` by form.json; at least 99.5 % must fit".into()));
    // Nothing says what the code expects: that is not a pass.
    assert_eq!(of(&run, "contract", &[])[0].0, "undecided");
    assert_eq!(review(&run, &[]).0, 2);
    edit(&run, "gate.toml", "min_valid = 0.995", "output_schema = false");
    assert_eq!(schema().0, "failed");
    run.write("eval.toml", SUITE);
    run.write("gate.toml", POLICY);
    let (outcome, detail) = schema();
    assert_eq!(outcome, "failed");
    assert_eq!(detail, "no task of `eval.toml` validates answers by a JSON Schema");
}

/// A policy with limits of every kind.
const LIMITS: &str = "[[metric]]
name = \"loss\"
max_regression = 0.02
max = 3.0

[[metric]]
name = \"form\"
min = 0.5

[[slice]]
by = \"length\"
metric = \"loss\"
min_records = 2
max_gap = 0.5

[eval]
suite = \"eval.toml\"

[performance]
max_regression = 0.2

[checks]
source_clean = false
reproduced_by = 2
";

/// A checkout whose policy was this one before the change.
fn with_limits() -> Run {
    let run = checkout(PAPERS);
    let length = "[[slice]]\nby = \"length\"\nbands = [30]\n";
    run.write("eval.toml", &format!("{SUITE}{TASK}{length}"));
    run.write("gate.toml", LIMITS);
    git(&run, "git commit --quiet -am limits && git branch --force main");
    run
}

#[test]
fn a_policy_that_demands_less_is_named_with_its_keys() {
    let run = with_limits();
    let limits = || of(&run, "policy_limits", &["--all"]);
    assert_eq!(limits(), [("passed".into(), "it demands no less than before".into())]);
    // What is stricter, and what is only written otherwise, is nothing to tell.
    run.write("gate.toml", &LIMITS.replace("max = 3.0", "max = 2.5").replace("0.2", "0.1"));
    assert_eq!(limits(), [("passed".into(), "it demands no less than before".into())]);
    for (from, to, found) in [
        (
            "max_regression = 0.02\n",
            "max_regression = 0.1\n",
            "`metric.loss.max_regression` was 0.02 and is 0.1",
        ),
        ("max_regression = 0.02\n", "", "`metric.loss.max_regression` was 0.02 and is 0.05"),
        ("max = 3.0\n", "", "`metric.loss.max` was 3 and is no limit"),
        ("min = 0.5", "min = 0.25", "`metric.form.min` was 0.5 and is 0.25"),
        (
            "[[metric]]\nname = \"form\"\nmin = 0.5\n",
            "",
            "`metric.form` was limited and is no limit",
        ),
        ("min_records = 2\n", "", "`slice.length.loss.min_records` was 2 and is 1"),
        ("max_gap = 0.5", "max_gap = 0.6", "`slice.length.loss.max_gap` was 0.5 and is 0.6"),
        (
            "[performance]\nmax_regression = 0.2\n",
            "",
            "`performance` was demanded and is not demanded",
        ),
        ("= 0.2\n", "= 0.3\n", "`performance.max_regression` was 0.2 and is 0.3"),
        ("reproduced_by = 2", "reproduced_by = 1", "`checks.reproduced_by` was 2 and is 1"),
        ("reproduced_by = 2", "signature = false", "`checks.signature` was true and is false"),
        ("reproduced_by = 2", "reproduced_by = 2\nngram = 20", "`checks.ngram` was 13 and is 20"),
    ] {
        assert!(LIMITS.contains(from), "{from}");
        run.write("gate.toml", &LIMITS.replacen(from, to, 1));
        let all = limits();
        let told = all.iter().any(|(outcome, detail)| outcome == "failed" && detail == found);
        assert!(told, "{found}: {all:?}");
    }
    // Limits of another suite are others.
    run.write("other.toml", &run.read("eval.toml"));
    run.write("gate.toml", &LIMITS.replace("eval.toml", "other.toml"));
    assert_eq!(limits()[0].0, "undecided");
    // Nor is a policy removed without a word.
    std::fs::remove_file(run.path("gate.toml")).unwrap();
    run.write("own.toml", "[checks]\nregression_test = false\n");
    let gone = "the policy `gate.toml` was there before and is gone".to_owned();
    assert_eq!(of(&run, "policy_limits", &["--config", "own.toml"]), [("failed".into(), gone)]);
}

#[test]
fn a_policy_that_was_loosened_is_shown_in_every_form() {
    let run = with_limits();
    let less = LIMITS.replace("reproduced_by = 2", "reproduced_by = 1");
    run.write("gate.toml", &less.replace("max_regression = 0.02", "max_regression = 0.5"));
    let files = ["--sarif", "out/a.sarif", "--comment", "out/a.md", "--json", "out/a.json"];
    let (code, text) = review(&run, &files);
    assert_eq!(code, 1, "{text}");
    says(
        text,
        str![[r#"
ok    output_schema     gate.toml: `form` by form.json; at least 99.0 % must fit
FAIL  policy_limits     gate.toml: `metric.loss.max_regression` was 0.02 and is 0.5
                        put it back, or let whoever answers for the gate decide about it
FAIL  policy_limits     gate.toml: `checks.reproduced_by` was 2 and is 1
                        put it back, or let whoever answers for the gate decide about it
ok    evaluation_apart  gate.toml: 0 of 10 records stand among 20 training records of `tiny.toml`, 0 have more than 80 % of their 13-grams there
ok    contract          gate.toml: every answer that form.json admits fits code.json
FAILED: 2 of 5 checks fail

"#]],
    );
    says(
        run.read("out/a.md"),
        str![[r#"
<!-- firebrand review -->
### Review: FAILED

2 of 5 checks fail.

Compared with `main` (`[HEX]`).

| | check | file | what was found | what to do |
|---|---|---|---|---|
| ❌ | `policy_limits` | `gate.toml` | `metric.loss.max&#95;regression` was 0.02 and is 0.5 | put it back, or let whoever answers for the gate decide about it |
| ❌ | `policy_limits` | `gate.toml` | `checks.reproduced&#95;by` was 2 and is 1 | put it back, or let whoever answers for the gate decide about it |
| ✅ | `output_schema` | `gate.toml` | `form` by form.json; at least 99.0 % must fit |  |
| ✅ | `evaluation_apart` | `gate.toml` | 0 of 10 records stand among 20 training records of `tiny.toml`, 0 have more than 80 % of their 13-grams there |  |
| ✅ | `contract` | `gate.toml` | every answer that form.json admits fits code.json |  |

"#]],
    );
    let sarif: Value = serde_json::from_str(&run.read("out/a.sarif")).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let places = results.iter().map(|result| {
        assert_eq!(result["ruleId"], "review/policy_limits", "{result:#}");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "gate.toml");
        place["region"]["startLine"].as_u64().unwrap()
    });
    let line = |key: &str| 1 + less.lines().position(|line| line.starts_with(key)).unwrap() as u64;
    let wanted = [line("[[metric]]"), line("reproduced_by")];
    assert_eq!(places.collect::<Vec<_>>(), wanted);
    // The settings before the change say whether it is looked at.
    let settings = format!("{PAPERS}policy_limits = false\n");
    run.write("own.toml", &settings);
    let (code, text) = review(&run, &["--config", "own.toml"]);
    assert!(code == 0 && !text.contains("policy_limits"), "{text}");
}

#[test]
fn the_gate_must_have_passed_the_very_artifact_by_the_very_policy() {
    let run = checkout(
        "[review]\ncoverage = \"coverage.json\"\n[checks]\noutput_schema = false\n\
         contract = false\n",
    );
    run.write("eval.toml", SUITE);
    let verdict = |more: &[&str]| of(&run, "regression_test", more).remove(0);
    let starts = |(outcome, detail): (String, String), wanted: (&str, &str)| {
        assert!(outcome == wanted.0 && detail.contains(wanted.1), "{outcome}: {detail}");
    };
    starts(verdict(&[]), ("undecided", "no artifact of the change is here"));
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    starts(verdict(&[]), ("undecided", "no verdict of a trusted gate is about the files"));
    let gate = ["gate", "--policy", "gate.toml", "--candidate", "checkpoints/tiny"];
    let here = ["--device", "cpu", "--offline", "--quiet", "--json", "out/gate.json"];
    run.succeeds(&[&gate[..], &here].concat());
    starts(verdict(&[]), ("passed", "`checkpoints/tiny/artifact` passed at "));
    let report = ["--gate-report", "out/gate.json"];
    starts(verdict(&report), ("passed", "says so; a first release"));

    let coverage = |suite: &str| {
        let call = ["coverage", "checkpoints/tiny", "--config", suite, "--out", "coverage.json"];
        run.succeeds(&call);
    };
    starts(of(&run, "coverage", &[]).remove(0), ("undecided", "there is no `coverage.json`"));
    coverage("eval.toml");
    starts(of(&run, "coverage", &[]).remove(0), ("undecided", "there was no `coverage.json`"));
    git(&run, "git add . && git commit --quiet -m coverage && git branch -f main");
    let same = of(&run, "coverage", &["--all"]).remove(0);
    starts(same, ("passed", "100.0 % kept"));
    run.write("judged.jsonl", &conversations(31)[conversations(30).len()..]);
    coverage("eval.toml");
    starts(of(&run, "coverage", &[]).remove(0), ("failed", "paths before and after: "));
    git(&run, "git checkout --quiet .");

    edit(&run, "gate.toml", "source_clean", "min_valid = 0.9\nsource_clean");
    edit(&run, "gate.toml", "min_valid = 0.9\n", "ngram = 12\n");
    starts(verdict(&[]), ("undecided", "are by other policies than this one"));
    starts(verdict(&report), ("undecided", "is by another policy than this one"));
    git(&run, "git checkout --quiet .");
    edit(&run, "tiny.toml", "learning_rate = 5e-3", "learning_rate = 6e-3");
    starts(
        verdict(&[]),
        ("undecided", "was made by other settings (1 keys: `train.learning_rate`"),
    );
    // Named by hand, it is taken as what the change makes.
    starts(verdict(&["--candidate", "checkpoints/tiny"]), ("passed", "passed at "));
    let weights = run.path("checkpoints/tiny/artifact/README.md");
    std::fs::write(weights, "another").unwrap();
    let changed = verdict(&["--candidate", "checkpoints/tiny"]);
    starts(changed, ("undecided", "no verdict of a trusted gate is about the files"));
}

#[test]
fn what_cannot_be_reviewed_is_said() {
    let run = Run::new();
    run.fails_with(
        2,
        &["review", "--base", "main"],
        str![[r#"
error[file]: this folder is in no git repository

hint: run it in a checkout, where you run `firebrand train`

"#]],
    );
    let run = checkout(PAPERS);
    run.fails_with(
        2,
        &["review", "--base", "elsewhere"],
        str![[r#"
error[usage]: git does not know `elsewhere`

hint: fetch it first: `git fetch origin elsewhere`, and name `FETCH_HEAD`

"#]],
    );
    run.write("own.toml", "[[contract]]\ntask = \"fom\"\nschema = \"code.json\"\n[cheks]\n");
    run.fails_with(
        2,
        &["review", "--base", "main", "--config", "own.toml"],
        str![[r#"
error[config]: unknown section `[cheks]`
  at own.toml:4:2

hint: did you mean `[checks]`?

"#]],
    );
    run.write("own.toml", "[[contract]]\ntask = \"fom\"\nschema = \"code.json\"\n");
    run.fails_with(
        2,
        &["review", "--base", "main", "--config", "own.toml"],
        str![[r#"
error[config]: no suite has a task `fom` of the kind `json_schema`
  at own.toml:1:1

"#]],
    );
}

#[test]
fn the_example_is_one_to_start_from() {
    let run = checkout(PAPERS);
    let example = crate::common::repository("examples/ci/review.toml");
    edit(&run, "tiny.toml", "max_steps = 6", "max_steps = 7");
    let (code, text) = review(&run, &["--config", example.to_str().unwrap()]);
    // All that it asks of a repository without an artifact.
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("UNDECIDED: 1 of 6 checks cannot be judged"), "{text}");
    let template = run.succeeds(&["init", "--for", "review"]);
    run.write("own.toml", &template.replace("#regression_test = true", "regression_test = false"));
    let (code, text) = review(&run, &["--config", "own.toml"]);
    assert_eq!(code, 2, "{text}");
    assert!(!text.contains("regression_test"), "{text}");
}
