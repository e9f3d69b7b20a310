//! Whole commands about whether a model may be used: a good candidate, a worse one, and everything
//! that a gate must not let through.

use snapbox::data::Inline;
use snapbox::str;
use std::path::Path;
use std::process::Command;

use crate::common::{Run, says};
use firebrand::channel::Verdicts;
use firebrand::files::hash_tree;
use firebrand::gate::attest::Verdict;
use firebrand::verify::Trust;
use serde_json::{Value, json};

const SUITE: &str = "
[data]
path = \"judged.jsonl\"
max_seq_len = 96
[[slice]]
by = \"lang\"
values = [\"en\", \"fr\"]
[[slice]]
by = \"length\"
bands = [30]
";

const POLICY: &str = "
[eval]
suite = \"eval.toml\"
[[metric]]
name = \"loss\"
max_regression = 0.05
[[slice]]
by = \"lang\"
values = [\"en\", \"fr\"]
min_records = 5
metric = \"loss\"
max_regression = 0.05
";

/// Sums in two languages; where `corrupt`, the French answers are wrong and in no language.
fn sums(numbers: std::ops::Range<usize>, corrupt: bool) -> String {
    let line = |number: usize| {
        let (a, b) = (number % 11, number / 11);
        let (lang, question, answer) = match number % 2 {
            0 => ("en", format!("What is {a} plus {b}?"), format!("{a} plus {b} is {}.", a + b)),
            _ if corrupt => {
                ("fr", format!("Combien font {a} et {b} ?"), format!("zq {b}{a} #{number}% kx"))
            }
            _ => {
                ("fr", format!("Combien font {a} et {b} ?"), format!("{a} et {b} font {}.", a + b))
            }
        };
        let turns = json!([
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]);
        format!("{}\n", json!({"messages": turns, "lang": lang}))
    };
    numbers.map(line).collect()
}

/// A repository with a configuration that trains on sums, and what to judge models on.
fn repository() -> Run {
    let run = Run::new();
    run.write("data.jsonl", &sums(0..60, false));
    run.write("validation.jsonl", &sums(100..110, false));
    run.write("judged.jsonl", &sums(70..100, false));
    let tiny = crate::common::TINY.replace("max_steps = 6", "max_steps = 60");
    run.write("tiny.toml", &tiny);
    run.write("bad.toml", &tiny.replace("data.jsonl", "corrupted.jsonl"));
    run.write("corrupted.jsonl", &sums(0..60, true));
    run.write("eval.toml", SUITE);
    run.write("gate.toml", POLICY);
    let ignored = "checkpoints\nsettings\ncache\nhub\n*.xml\n*.sarif\n*.md\n*.json\ngate-*.toml\n";
    run.write(".gitignore", ignored);
    shell(
        &run,
        "git init --quiet . && git add -f . && \
         git -c user.name=a -c user.email=a@b commit --quiet -m first",
    );
    run
}

fn shell(run: &Run, script: &str) {
    let status =
        Command::new("bash").args(["-ec", script]).current_dir(run.path(".")).status().unwrap();
    assert!(status.success(), "{script}");
}

/// Exit code, stdout and stderr of a gate.
fn gate(run: &Run, more: &[&str]) -> (i32, String, String) {
    let call = [&["gate", "--device", "cpu", "--offline"], more].concat();
    let output = run.command(&call).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

const SAME: [&str; 6] = [
    "--candidate",
    "checkpoints/tiny",
    "--baseline",
    "checkpoints/tiny",
    "--no-attest",
    "--policy",
];

/// The gate between a model and itself, by a policy of these lines.
fn by(run: &Run, policy: &str) -> (i32, String) {
    run.write("gate-other.toml", policy);
    let (code, stdout, stderr) = gate(run, &[&SAME[..], &["gate-other.toml"]].concat());
    (code, format!("{stdout}{stderr}"))
}

/// Fails unless a gate ended with this code, and said this besides the tests that hold.
#[track_caller]
fn ends((found, said): (i32, String), code: i32, snapshot: Inline) {
    assert_eq!(found, code, "{said}");
    let told = said.lines().filter(|line| !line.starts_with("ok    "));
    says(told.flat_map(|line| [line, "\n"]).collect::<String>(), snapshot);
}

/// The verdicts that count for a model.
fn counted(artifact: &Path, trust: &Trust) -> Vec<Verdict> {
    Verdicts::read(artifact, &hash_tree(artifact).unwrap(), trust).unwrap().valid
}

#[test]
fn a_good_candidate_passes_and_its_verdict_is_signed_and_read_back() {
    let run = repository();
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    run.succeeds(&[
        "train",
        "tiny.toml",
        "--quiet",
        "--set",
        "train.max_steps=90",
        "--set",
        "name=again",
    ]);
    let call = ["--policy", "gate.toml", "--candidate", "checkpoints/again"];
    let (code, stdout, stderr) = gate(
        &run,
        &[
            &call[..],
            &["--baseline", "checkpoints/tiny", "--json", "a.json", "--junit", "a.xml"],
            &["--sarif", "a.sarif", "--markdown", "a.md"],
        ]
        .concat(),
    );
    assert_eq!(code, 0, "{stdout}{stderr}");
    says(
        &stdout,
        str![[r#"
ok    metric:loss                     [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 5.0 % allowed
ok    slice:lang=en/loss              [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 5.0 % allowed
ok    slice:lang=fr/loss              [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 5.0 % allowed
ok    check:signature                 signed by key [HEX], 11 files
ok    check:lineage                   1 generation, made by `from-random-weights`
ok    check:model_pinned              1 files of `base`
ok    check:data_pinned               2 files
ok    check:source_clean              commit [HEX]
-     check:output_schema             the suite has no task of the kind `json_schema`
ok    check:tokenizer                 362 tokens, 90 texts written and read again, the file that it was trained with
ok    check:evaluation_apart/files    no file of the evaluation was trained on
ok    check:evaluation_apart/records  0 of 30 records stand among 60 training records
ok    check:evaluation_apart/words    0 of 30 records have more than 80 % of their 13-grams in the training data
PASSED: all of 13 tests hold

"#]],
    );
    says(
        &stderr,
        str![[r#"
signed by key [HEX]: [FOLDER]/checkpoints/again/artifact.sigstore.jsonl

"#]],
    );

    // The numbers are those of `eval`.
    let report: Value = serde_json::from_str(&run.read("a.json")).unwrap();
    assert_eq!((&report["decision"], &report["rubber_stamp"]), (&json!("PASSED"), &json!(false)));
    let test = |name: &str| -> Value {
        let all = report["tests"].as_array().unwrap();
        all.iter().find(|test| test["name"] == name).unwrap_or(&Value::Null).clone()
    };
    for (model, side) in [("checkpoints/again", "candidate"), ("checkpoints/tiny", "baseline")] {
        let eval = ["eval", model, "--config", "eval.toml", "--json", "--device", "cpu"];
        let eval: Value = serde_json::from_str(&run.succeeds(&eval)).unwrap();
        assert_eq!(test("metric:loss")["numbers"][side], eval["metrics"]["loss"]["value"]);
        let french = &eval["slices"][0]["slices"][1];
        assert_eq!(test("slice:lang=fr/loss")["numbers"][side], french["metrics"]["loss"]["value"]);
        assert_eq!(report[side]["sha256"], eval["model"]["sha256"]);
    }
    let numbers = &test("slice:lang=fr/loss")["numbers"];
    assert_eq!(numbers["records"], 15);
    let interval = &numbers["interval"];
    let regression = numbers["regression"].as_f64().unwrap();
    assert!(interval["low"].as_f64().unwrap() <= regression);
    assert!(regression <= interval["high"].as_f64().unwrap());
    assert!(run.read("a.xml").contains("<testcase classname=\"gate.slice\" name=\"lang=fr/loss\""));
    let sarif: Value = serde_json::from_str(&run.read("a.sarif")).unwrap();
    assert_eq!(sarif["runs"][0]["results"], json!([]), "nothing to tell");
    assert!(run.read("a.md").starts_with("### Gate: PASSED\n"));

    // The verdict counts, and the artifact is as good as it was.
    run.succeeds(&["verify", "checkpoints/again"]);
    let artifact = run.path("checkpoints/again/artifact");
    let trust = Trust::of_user(&run.path("settings/firebrand")).unwrap();
    let verdicts = counted(&artifact, &trust);
    assert_eq!(verdicts.len(), 1);
    assert!(verdicts[0].passed && verdicts[0].line == 3);
    assert_eq!(json!(verdicts[0].metrics["loss"]), test("metric:loss")["numbers"]["candidate"]);
    assert_eq!(json!(verdicts[0].policy_sha256), report["policy"]["sha256"]);

    // Without a baseline it is a first release: passed with a warning, and marked.
    let (code, stdout, _) = gate(&run, &[&call[..], &["--json", "-"]].concat());
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 0, "{stdout}");
    assert_eq!((&report["decision"], &report["rubber_stamp"]), (&json!("WARNED"), &json!(true)));
    assert_eq!(counted(&artifact, &trust).len(), 2);
    run.succeeds(&["verify", "checkpoints/again"]);
    // Even then absolute limits hold.
    run.write("gate-first.toml", &POLICY.replace("max_regression = 0.05\n[[", "max = 0.01\n[["));
    let first = ["--policy", "gate-first.toml", "--candidate", "checkpoints/again"];
    let (code, stdout, _) = gate(&run, &[&first[..], &["--no-attest"]].concat());
    assert_eq!(code, 1, "{stdout}");
    says(
        &stdout,
        str![[r#"
FAIL  metric:loss                     [NUMBER] is above 0.01
warn  slice:lang=en/loss              [NUMBER]: there is no baseline to compare with, untested
warn  slice:lang=fr/loss              [NUMBER]: there is no baseline to compare with, untested
ok    check:signature                 signed by key [HEX], 11 files
ok    check:lineage                   1 generation, made by `from-random-weights`
ok    check:model_pinned              1 files of `base`
ok    check:data_pinned               2 files
ok    check:source_clean              commit [HEX]
-     check:output_schema             the suite has no task of the kind `json_schema`
ok    check:tokenizer                 362 tokens, 90 texts written and read again, the file that it was trained with
ok    check:evaluation_apart/files    no file of the evaluation was trained on
ok    check:evaluation_apart/records  0 of 30 records stand among 60 training records
ok    check:evaluation_apart/words    0 of 30 records have more than 80 % of their 13-grams in the training data
REFUSED: 1 of 13 tests fail

"#]],
    );

    // A file that was added later: the verdicts are about another model.
    std::fs::write(artifact.join("note.txt"), "x").unwrap();
    assert!(counted(&artifact, &trust).is_empty());
}

#[test]
fn a_candidate_that_learnt_wrong_answers_in_one_language_is_refused_with_its_name() {
    let run = repository();
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    run.succeeds(&["train", "bad.toml", "--quiet"]);
    // Over all records that much would be allowed.
    run.write(
        "gate-loose.toml",
        &POLICY.replacen("max_regression = 0.05", "max_regression = 9", 1),
    );
    let call = [
        "--policy",
        "gate-loose.toml",
        "--candidate",
        "checkpoints/bad",
        "--baseline",
        "checkpoints/tiny",
        "--sarif",
        "a.sarif",
        "--junit",
        "a.xml",
        "--markdown",
        "a.md",
    ];
    let (code, stdout, stderr) = gate(&run, &call);
    assert_eq!(code, 1, "{stdout}{stderr}");
    says(
        &stdout,
        str![[r#"
ok    metric:loss                     [NUMBER], baseline [NUMBER]: [N] % worse ([N] … [N] % worse), 900.0 % allowed
ok    slice:lang=en/loss              [NUMBER], baseline [NUMBER]: [N] % worse ([N] … [N] % worse), 5.0 % allowed
FAIL  slice:lang=fr/loss              [NUMBER], baseline [NUMBER]: [N] % worse ([N] … [N] % worse), 5.0 % allowed
ok    check:signature                 signed by key [HEX], 11 files
ok    check:lineage                   1 generation, made by `from-random-weights`
ok    check:model_pinned              1 files of `base`
ok    check:data_pinned               2 files
ok    check:source_clean              commit [HEX]
-     check:output_schema             the suite has no task of the kind `json_schema`
ok    check:tokenizer                 362 tokens, 90 texts written and read again, the file that it was trained with
ok    check:evaluation_apart/files    no file of the evaluation was trained on
ok    check:evaluation_apart/records  0 of 30 records stand among 60 training records
ok    check:evaluation_apart/words    0 of 30 records have more than 80 % of their 13-grams in the training data
REFUSED: 1 of 13 tests fail

"#]],
    );
    let sarif: Value = serde_json::from_str(&run.read("a.sarif")).unwrap();
    let [result] = &sarif["runs"][0]["results"].as_array().unwrap()[..] else { panic!("{sarif}") };
    says(
        result["message"]["text"].as_str().unwrap(),
        str![
            "slice:lang=fr/loss: [NUMBER], baseline [NUMBER]: [N] % worse ([N] … [N] % worse), 5.0 % allowed"
        ],
    );
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "gate-loose.toml");
    assert_eq!(place["region"]["startLine"], 7);
    assert!(run.read("a.xml").contains("failures=\"1\""));
    assert!(run.read("a.md").contains("| ❌ | `slice:lang=fr/loss` |"));

    // The refusal is signed as well, and the artifact is still what it was.
    let trust = Trust::of_user(&run.path("settings/firebrand")).unwrap();
    let artifact = run.path("checkpoints/bad/artifact");
    let verdicts = counted(&artifact, &trust);
    assert!(verdicts.len() == 1 && !verdicts[0].passed, "{verdicts:?}");
    run.succeeds(&["verify", "checkpoints/bad"]);
    // The gap between the languages is one, whoever it is compared with.
    let policy = format!("{}max_gap = 0.3\n", POLICY.replace("max_regression = 0.05", "max = 99"));
    run.write("gate-gap.toml", &policy);
    let gap = ["--policy", "gate-gap.toml", "--candidate", "checkpoints/bad", "--no-attest"];
    let (code, stdout, _) = gate(&run, &gap);
    assert_eq!(code, 1, "{stdout}");
    says(
        &stdout,
        str![[r#"
warn  metric:loss                     [NUMBER]: there is no baseline to compare with, only its absolute limits were tested
warn  slice:lang=en/loss              [NUMBER]: there is no baseline to compare with, only its absolute limits were tested
warn  slice:lang=fr/loss              [NUMBER]: there is no baseline to compare with, only its absolute limits were tested
FAIL  gap:lang/loss                   `fr` has [NUMBER], `en` has [NUMBER]: [N] % apart, 30.0 % allowed
ok    check:signature                 signed by key [HEX], 11 files
ok    check:lineage                   1 generation, made by `from-random-weights`
ok    check:model_pinned              1 files of `base`
ok    check:data_pinned               2 files
ok    check:source_clean              commit [HEX]
-     check:output_schema             the suite has no task of the kind `json_schema`
ok    check:tokenizer                 362 tokens, 90 texts written and read again, the file that it was trained with
ok    check:evaluation_apart/files    no file of the evaluation was trained on
ok    check:evaluation_apart/records  0 of 30 records stand among 60 training records
ok    check:evaluation_apart/words    0 of 30 records have more than 80 % of their 13-grams in the training data
REFUSED: 1 of 14 tests fail

"#]],
    );
}

#[test]
fn a_policy_that_asks_for_what_is_not_there_is_not_met() {
    let run = repository();
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    assert_eq!(by(&run, POLICY).0, 0, "{}", by(&run, POLICY).1);

    // A policy with a typo is told with its place, and nothing is evaluated.
    ends(
        by(&run, &POLICY.replace("max_regression", "max_regresion")),
        2,
        str![[r#"
error[config]: unknown key `max_regresion` in `[[metric]]`
  at gate-other.toml:6:1

hint: did you mean `max_regression`?

error[config]: unknown key `max_regresion` in `[[slice]]`
  at gate-other.toml:12:1

hint: did you mean `max_regression`?

"#]],
    );
    ends(
        by(&run, &POLICY.replace("\"fr\"", "\"de\"")),
        2,
        str![[r#"
error[config]: there is no slice `de`
  at gate-other.toml:9:10

hint: there are `en`, `fr`

"#]],
    );

    // A slice that the data lacks, and one of too few records.
    run.write("eval.toml", &SUITE.replace("values = [\"en\", \"fr\"]\n", ""));
    ends(
        by(&run, &POLICY.replace("\"fr\"", "\"de\"")),
        1,
        str![[r#"
FAIL  slice:lang=de/loss              the slice is missing: the evaluation has no such slice
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 1 of 13 tests fail

"#]],
    );
    run.write("eval.toml", SUITE);
    ends(
        by(&run, &POLICY.replace("min_records = 5", "min_records = 16")),
        1,
        str![[r#"
FAIL  slice:lang=en/loss              only 15 records, 16 are needed
FAIL  slice:lang=fr/loss              only 15 records, 16 are needed
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 2 of 13 tests fail

"#]],
    );

    // Inputs that no trusted allowlist has.
    ends(
        by(&run, &format!("{POLICY}[checks]\nrequire_approved = true\n")),
        1,
        str![[r#"
FAIL  check:model_pinned              no trusted allowlist has `config.json`
FAIL  check:data_pinned               no trusted allowlist has `data.jsonl`; no trusted allowlist has `validation.jsonl`
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 2 of 13 tests fail

"#]],
    );

    // Speed, measured in processes of their own.
    let speed = "[performance]\nmax_regression = 0.95\nrepeats = 1\n";
    let (code, said) = by(&run, &format!("{POLICY}{speed}"));
    for held in ["ok    performance:tokens_per_second ", "ok    performance:memory "] {
        assert!(said.lines().any(|line| line.starts_with(held)), "{said}");
    }
    ends(
        (code, said),
        0,
        str![[r#"
-     check:output_schema             the suite has no task of the kind `json_schema`
PASSED: all of 15 tests hold

"#]],
    );
}

#[test]
fn a_dirty_source_a_changed_artifact_and_a_strange_key_do_not_pass() {
    let run = repository();
    run.write("notes.txt", "not committed");
    run.succeeds(&[
        "train",
        "tiny.toml",
        "--quiet",
        "--set",
        "name=dirty",
        "--set",
        "train.max_steps=2",
    ]);
    let call = ["--policy", "gate.toml", "--candidate", "checkpoints/dirty", "--no-attest"];
    let (code, said, _) = gate(&run, &call);
    ends(
        (code, said),
        1,
        str![[r#"
warn  metric:loss                     [NUMBER]: there is no baseline to compare with, untested
warn  slice:lang=en/loss              [NUMBER]: there is no baseline to compare with, untested
warn  slice:lang=fr/loss              [NUMBER]: there is no baseline to compare with, untested
FAIL  check:source_clean              it was trained with changes that are not in the commit [HEX]
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 1 of 13 tests fail

"#]],
    );
    run.write("gate-dirty.toml", &format!("{POLICY}[checks]\nsource_clean = false\n"));
    let call = ["--policy", "gate-dirty.toml", "--candidate", "checkpoints/dirty", "--no-attest"];
    let (code, said, _) = gate(&run, &call);
    ends(
        (code, said),
        0,
        str![[r#"
warn  metric:loss                     [NUMBER]: there is no baseline to compare with, untested
warn  slice:lang=en/loss              [NUMBER]: there is no baseline to compare with, untested
warn  slice:lang=fr/loss              [NUMBER]: there is no baseline to compare with, untested
-     check:output_schema             the suite has no task of the kind `json_schema`
WARNED: first release: nothing to compare with, and what 12 tests could see holds

"#]],
    );

    // Unsigned, and signed by a stranger.
    let artifact = run.path("checkpoints/dirty/artifact");
    let signature = std::fs::read(artifact.join("model.sig")).unwrap();
    std::fs::remove_file(artifact.join("model.sig")).unwrap();
    let before = run.read("checkpoints/dirty/artifact.sigstore.jsonl");
    let call = ["--policy", "gate-dirty.toml", "--candidate", "checkpoints/dirty/artifact"];
    let (code, said, stderr) = gate(&run, &call);
    ends(
        (code, said),
        1,
        str![[r#"
warn  metric:loss                     [NUMBER]: there is no baseline to compare with, untested
warn  slice:lang=en/loss              [NUMBER]: there is no baseline to compare with, untested
warn  slice:lang=fr/loss              [NUMBER]: there is no baseline to compare with, untested
FAIL  check:signature                 signature file: there is no `model.sig`
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 1 of 12 tests fail

"#]],
    );
    says(
        &stderr,
        str![[r#"
the verdict is not signed: no trusted key has signed a verdict on these bytes

"#]],
    );
    assert_eq!(run.read("checkpoints/dirty/artifact.sigstore.jsonl"), before);
    std::fs::write(artifact.join("model.sig"), signature).unwrap();
    std::fs::write(artifact.join("README.md"), "other words").unwrap();
    let (code, said, _) = gate(&run, &call);
    ends(
        (code, said),
        1,
        str![[r#"
warn  metric:loss                     [NUMBER]: there is no baseline to compare with, untested
warn  slice:lang=en/loss              [NUMBER]: there is no baseline to compare with, untested
warn  slice:lang=fr/loss              [NUMBER]: there is no baseline to compare with, untested
FAIL  check:signature                 files unchanged: changed: `README.md`; attestation: line 1: the statement is about other files: `README.md`
FAIL  check:lineage                   lineage files: the statement is about other files: `README.md`
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 2 of 12 tests fail

"#]],
    );

    // A key that would count for nothing is refused before anything is evaluated.
    run.succeeds(&["keygen", "other.pem"]);
    let (code, _, stderr) = gate(&run, &[&call[..], &["--key", "other.pem"]].concat());
    assert_eq!(code, 2, "{stderr}");
    says(
        &stderr,
        str![[r#"
error[untrusted]: a verdict signed with this key would count for nothing here
  because key [HEX] is none that you trust

hint: trust its public key with the role `gate`, or use `--no-attest`

"#]],
    );
    let (code, _, stderr) = gate(&run, &["--policy", "gate.toml", "--candidate", "nowhere"]);
    assert_eq!(code, 2, "{stderr}");
    says(
        &stderr,
        str![[r#"
error[file]: there is no such artifact
  at nowhere

"#]],
    );
}

/// Whoever signed the model, a key that nobody trusts, and one that is trusted with something else,
/// are none of those who got the same bytes.
#[test]
fn a_policy_can_ask_for_others_who_got_the_same_bytes() {
    let run = repository();
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    let demanded = |count: u32| by(&run, &format!("{POLICY}[checks]\nreproduced_by = {count}\n"));
    let reproduced = |more: &[&str]| {
        run.succeeds(&[&["reproduce", "checkpoints/tiny", "--json"], more].concat());
    };
    ends(
        demanded(1),
        1,
        str![[r#"
FAIL  check:reproduced_by             0 of 1 others got the same bytes; 1 more must make it again (`firebrand reproduce`), signed by a key that you trust with the role `reproduce`
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 1 of 14 tests fail

"#]],
    );
    reproduced(&[]);
    ends(
        demanded(1),
        1,
        str![[r#"
FAIL  check:reproduced_by             0 of 1 others got the same bytes; not counted: line 2: the key [HEX] has signed the model itself; 1 more must make it again (`firebrand reproduce`), signed by a key that you trust with the role `reproduce`
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 1 of 14 tests fail

"#]],
    );
    run.succeeds(&["keygen", "auditor.pem"]);
    reproduced(&["--key", "auditor.pem"]);
    ends(
        demanded(1),
        1,
        str![[r#"
FAIL  check:signature                 attestation: line 3: signed by the key [SHA256], which you do not trust
FAIL  check:reproduced_by             0 of 1 others got the same bytes; not counted: line 2: the key [HEX] has signed the model itself; line 3: the key [HEX] is not among the keys that you trust (1); 1 more must make it again (`firebrand reproduce`), signed by a key that you trust with the role `reproduce`
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 2 of 14 tests fail

"#]],
    );

    let keys = "settings/firebrand/trusted-keys";
    std::fs::create_dir_all(run.path(keys)).unwrap();
    run.write(&format!("{keys}/auditor.pem"), &run.read("auditor.pub.pem"));
    let entry = "[[key]]\nfile = \"trusted-keys/auditor.pem\"\nroles = [\"gate\"]\n";
    run.write("settings/firebrand/trusted-keys.toml", entry);
    ends(
        demanded(1),
        1,
        str![[r#"
FAIL  check:reproduced_by             0 of 1 others got the same bytes; not counted: line 2: the key [HEX] has signed the model itself; line 3: the key [HEX] has the role `gate`, and `reproduce` is needed; 1 more must make it again (`firebrand reproduce`), signed by a key that you trust with the role `reproduce`
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 1 of 14 tests fail

"#]],
    );
    run.write("settings/firebrand/trusted-keys.toml", &entry.replace("gate", "reproduce"));
    let (code, said) = demanded(1);
    assert_eq!(code, 0, "{said}");
    let line = said.lines().find(|line| line.contains("check:reproduced_by")).unwrap();
    says(line, str!["ok    check:reproduced_by             same bytes by key [HEX]"]);
    // One is not two, and twice the same is one.
    reproduced(&["--key", "auditor.pem"]);
    ends(
        demanded(2),
        1,
        str![[r#"
FAIL  check:reproduced_by             1 of 2 others got the same bytes: key [HEX]; not counted: line 2: the key [HEX] has signed the model itself; 1 more must make it again (`firebrand reproduce`), signed by a key that you trust with the role `reproduce`
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 1 of 14 tests fail

"#]],
    );
    // Nobody is asked for.
    assert_eq!(by(&run, POLICY).0, 0, "{}", by(&run, POLICY).1);
}

#[test]
fn what_was_learnt_is_not_judged_on() {
    let run = repository();
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    let judged_on = |lines: &str| {
        run.write("judged.jsonl", lines);
        by(&run, POLICY)
    };
    let fresh = sums(70..100, false);
    assert_eq!(judged_on(&fresh).0, 0, "{}", judged_on(&fresh).1);
    // The training file itself, under another name.
    ends(
        judged_on(&sums(0..60, false)),
        1,
        str![[r#"
-     check:output_schema             the suite has no task of the kind `json_schema`
FAIL  check:evaluation_apart/files    `judged.jsonl` is the training file `data.jsonl`
FAIL  check:evaluation_apart/records  60 of 60 records stand among 60 training records
FAIL  check:evaluation_apart/words    60 of 60 records have more than 80 % of their 13-grams in the training data
REFUSED: 3 of 13 tests fail

"#]],
    );
    // One of its records.
    ends(
        judged_on(&format!("{fresh}{}", sums(8..9, false))),
        1,
        str![[r#"
-     check:output_schema             the suite has no task of the kind `json_schema`
FAIL  check:evaluation_apart/records  1 of 31 records stand among 60 training records
FAIL  check:evaluation_apart/words    1 of 31 records have more than 80 % of their 13-grams in the training data
REFUSED: 2 of 13 tests fail

"#]],
    );
    // The words of one, written otherwise: another record with the same text.
    let record: Value = serde_json::from_str(&sums(8..9, false)).unwrap();
    let question = record["messages"][0]["content"].as_str().unwrap().to_uppercase();
    let answer = record["messages"][1]["content"].as_str().unwrap().replace('.', " !");
    let turns = json!([
        {"role": "user", "content": question}, {"role": "assistant", "content": answer},
    ]);
    let copied = format!("{}\n", json!({"messages": turns, "lang": "en"}));
    ends(
        judged_on(&format!("{fresh}{copied}")),
        1,
        str![[r#"
-     check:output_schema             the suite has no task of the kind `json_schema`
FAIL  check:evaluation_apart/words    1 of 31 records have more than 80 % of their 13-grams in the training data
REFUSED: 1 of 13 tests fail

"#]],
    );
    // What the run measured on was not trained on, and may be evaluated on.
    assert_eq!(judged_on(&sums(100..110, false)).0, 0, "{}", judged_on(&fresh).1);
    run.write("judged.jsonl", &fresh);
    // Training data that is gone: nothing can be said, unless the policy takes that.
    std::fs::rename(run.path("data.jsonl"), run.path("moved.bin")).unwrap();
    ends(
        by(&run, POLICY),
        2,
        str![[r#"
-     check:output_schema             the suite has no task of the kind `json_schema`
?     check:evaluation_apart/records  0 of 30 records stand among 0 training records; could not look at everything: `data.jsonl` is not on this machine
?     check:evaluation_apart/words    0 of 30 records have more than 80 % of their 13-grams in the training data; could not look at everything: `data.jsonl` is not on this machine
UNDECIDED: 2 of 13 tests could not be made, none fails

"#]],
    );
    let allowed = format!("{POLICY}[checks]\nmissing_training_data = \"allow\"\n");
    ends(
        by(&run, &allowed),
        0,
        str![[r#"
-     check:output_schema             the suite has no task of the kind `json_schema`
warn  check:evaluation_apart/records  0 of 30 records stand among 0 training records; could not look at everything: `data.jsonl` is not on this machine
warn  check:evaluation_apart/words    0 of 30 records have more than 80 % of their 13-grams in the training data; could not look at everything: `data.jsonl` is not on this machine
WARNED: what 13 tests could see holds

"#]],
    );
    // What could not be decided is not signed.
    let before = run.read("checkpoints/tiny/artifact.sigstore.jsonl");
    let call = ["--policy", "gate.toml", "--candidate", "checkpoints/tiny"];
    let (code, _, stderr) = gate(&run, &call);
    assert_eq!(code, 2, "{stderr}");
    says(
        &stderr,
        str![[r#"
nothing is signed: there is no verdict

"#]],
    );
    assert_eq!(run.read("checkpoints/tiny/artifact.sigstore.jsonl"), before);
    let report = run.read("gate.toml");
    assert_eq!(report, POLICY);
}

/// A program in place of ours, which says that the candidate was measured elsewhere.
#[cfg(unix)]
#[test]
fn speed_on_another_kind_of_device_decides_nothing() {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use firebrand::gate::{Decision, Meter, Policy, Request, TestOutcome, judge};
    use firebrand::hub::{Policy as SupplyPolicy, Supply};

    let run = repository();
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    let at = |name: &str| run.path(name).display().to_string();
    run.write("eval.toml", &SUITE.replace("judged.jsonl", &at("judged.jsonl")));
    let policy = format!("{POLICY}[performance]\nrepeats = 1\nmax_regression = 0.99\n");
    run.write("gate-speed.toml", &policy.replace("eval.toml", &at("eval.toml")));
    let script = format!(
        "#!/bin/sh\nexport FIREBRAND_CACHE='{}'\ncd '{}'\n'{}' \"$@\" > out.$$\n\
         case \"$2\" in *artifact) sed 's/\"class\":\"flex/\"class\":\"other/' out.$$;; \
         *) cat out.$$;; esac\n",
        at("cache"),
        at("."),
        env!("CARGO_BIN_EXE_firebrand")
    );
    run.write("other", &script);
    std::fs::set_permissions(run.path("other"), PermissionsExt::from_mode(0o755)).unwrap();
    let policy = Policy::read(&run.path("gate-speed.toml")).unwrap();
    let extensions = firebrand::data::extensions();
    let allowed = SupplyPolicy { offline: true, extensions, ..SupplyPolicy::default() };
    let silence = Arc::new(firebrand::event::Silence);
    let supply = Arc::new(Supply::new(allowed, silence, Arc::new(|| false), &run.path("cache")));
    let device =
        firebrand::device::open(firebrand::config::DeviceChoice::from_name("cpu").unwrap(), 0);
    let meter = |program: &Path| Meter {
        program: program.to_owned(),
        suite: run.path("eval.toml"),
        device: "cpu".to_owned(),
        offline: true,
    };
    let trust = Trust::of_user(&run.path("settings/firebrand")).unwrap();
    let baseline = at("checkpoints/tiny");
    let (artifact, device, cache) =
        (run.path("checkpoints/tiny/artifact"), device.unwrap(), run.path("cache"));
    let decide = |program: &Path| {
        let request = Request {
            policy: &policy,
            candidate: &artifact,
            baseline: Some(&baseline),
            device: &device,
            supply: &supply,
            trust: &trust,
            meter: &meter(program),
            cache: &cache,
            watcher: &firebrand::evaluation::Unwatched,
        };
        judge(&request).unwrap()
    };
    let other = decide(&run.path("other"));
    assert_eq!(other.decision, Decision::Undecided);
    let names = other.names(TestOutcome::Undecided);
    assert_eq!(names, ["performance:tokens_per_second", "performance:memory"]);
    let test = other.tests.iter().find(|test| test.outcome == TestOutcome::Undecided).unwrap();
    says(
        &test.detail,
        str![
            "incomparable: measured on CPU, [DEVICE] (other [..]) and on CPU, [DEVICE] (flex [..])"
        ],
    );
    assert_eq!(decide(Path::new(env!("CARGO_BIN_EXE_firebrand"))).decision, Decision::Passed);
    let history = run.path("checkpoints/tiny/evaluations.jsonl");
    assert!(!history.exists(), "measuring is no part of a run's history");
}

#[test]
fn the_policy_and_the_suite_of_the_examples_work_as_they_are() {
    let run = repository();
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    // Only the data is another.
    for name in ["gate.toml", "eval.toml"] {
        let text =
            std::fs::read_to_string(crate::common::repository("examples/ci").join(name)).unwrap();
        let data = "path = \"your-name/your-conversations\"\nsplit = \"validation\"";
        assert!(name == "gate.toml" || text.contains(data));
        run.write(name, &text.replace(data, "path = \"judged.jsonl\""));
    }
    let long =
        sums(80..90, false).replace("?\"", &format!("?{}\"", " And take your time".repeat(8)));
    let long = long.replace(" ?", &format!(" ?{}", " Prenez votre temps".repeat(10)));
    run.write("judged.jsonl", &format!("{}{long}", sums(70..80, false)));
    let call = ["--policy", "gate.toml", "--candidate", "checkpoints/tiny"];
    let (code, stdout, stderr) =
        gate(&run, &[&call[..], &["--baseline", "checkpoints/tiny"]].concat());
    assert_eq!(code, 0, "{stdout}{stderr}");
    for part in ["slice:length=0-128/loss", "slice:length=129+/loss"] {
        assert!(stdout.contains(&format!("ok    {part}")), "{stdout}");
    }
    says(
        &stdout,
        str![[r#"
ok    metric:loss                     [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 5.0 % allowed beyond doubt
ok    metric:accuracy                 [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 5.0 % allowed beyond doubt
ok    slice:length=0-128/loss         [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 10.0 % allowed beyond doubt
ok    slice:length=129+/loss          [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 10.0 % allowed beyond doubt
ok    check:signature                 signed by key [HEX], 11 files
ok    check:lineage                   1 generation, made by `from-random-weights`
ok    check:model_pinned              1 files of `base`
ok    check:data_pinned               2 files
ok    check:source_clean              commit [HEX]
-     check:output_schema             the suite has no task of the kind `json_schema`
ok    check:tokenizer                 362 tokens, 60 texts written and read again, the file that it was trained with
ok    check:evaluation_apart/files    no file of the evaluation was trained on
ok    check:evaluation_apart/records  0 of 20 records stand among 60 training records
ok    check:evaluation_apart/words    0 of 20 records have more than 80 % of their 13-grams in the training data
PASSED: all of 14 tests hold

"#]],
    );
    run.succeeds(&["eval", "checkpoints/tiny", "--config", "eval.toml", "--device", "cpu"]);
    // Short conversations, as many begin with: there is no part above the only band.
    run.write("judged.jsonl", &sums(70..80, false));
    let (code, stdout, stderr) =
        gate(&run, &[&call[..], &["--baseline", "checkpoints/tiny"]].concat());
    assert_eq!(code, 0, "{stdout}{stderr}");
    says(
        &stdout,
        str![[r#"
ok    metric:loss                     [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 5.0 % allowed beyond doubt
ok    metric:accuracy                 [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 5.0 % allowed beyond doubt
ok    slice:length=0-128/loss         [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 10.0 % allowed beyond doubt
-     slice:length=129+/loss          no record of the evaluation is in it
ok    check:signature                 signed by key [HEX], 11 files
ok    check:lineage                   1 generation, made by `from-random-weights`
ok    check:model_pinned              1 files of `base`
ok    check:data_pinned               2 files
ok    check:source_clean              commit [HEX]
-     check:output_schema             the suite has no task of the kind `json_schema`
ok    check:tokenizer                 362 tokens, 30 texts written and read again, the file that it was trained with
ok    check:evaluation_apart/files    no file of the evaluation was trained on
ok    check:evaluation_apart/records  0 of 10 records stand among 60 training records
ok    check:evaluation_apart/words    0 of 10 records have more than 80 % of their 13-grams in the training data
PASSED: all of 14 tests hold

"#]],
    );
    // And the first release of all.
    let (code, stdout, stderr) = gate(&run, &call);
    assert_eq!(code, 0, "{stdout}{stderr}");
    says(
        &stdout,
        str![[r#"
warn  metric:loss                     [NUMBER]: there is no baseline to compare with, untested
warn  metric:accuracy                 [NUMBER]: there is no baseline to compare with, untested
warn  slice:length=0-128/loss         [NUMBER]: there is no baseline to compare with, untested
-     slice:length=129+/loss          no record of the evaluation is in it
ok    check:signature                 signed by key [HEX], 11 files
ok    check:lineage                   1 generation, made by `from-random-weights`
ok    check:model_pinned              1 files of `base`
ok    check:data_pinned               2 files
ok    check:source_clean              commit [HEX]
-     check:output_schema             the suite has no task of the kind `json_schema`
ok    check:tokenizer                 362 tokens, 30 texts written and read again, the file that it was trained with
ok    check:evaluation_apart/files    no file of the evaluation was trained on
ok    check:evaluation_apart/records  0 of 10 records stand among 60 training records
ok    check:evaluation_apart/words    0 of 10 records have more than 80 % of their 13-grams in the training data
WARNED: first release: nothing to compare with, and what 14 tests could see holds

"#]],
    );
}

/// What a policy names lies beside it, wherever the command is given.
#[test]
fn paths_in_a_policy_are_relative_to_its_folder() {
    let run = repository();
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    std::fs::create_dir_all(run.path("rules/models")).unwrap();
    let text = run.read("gate.toml") + "[baseline]\nmodel = \"../checkpoints/tiny\"\n";
    run.write("rules/gate.toml", &text);
    let call = ["--policy", "rules/gate.toml", "--candidate", "checkpoints/tiny", "--no-attest"];
    let (code, stdout, stderr) = gate(&run, &call);
    assert_eq!(code, 2, "{stdout}{stderr}");
    says(
        &stderr,
        str![[r#"
error[config]: there is no suite `rules/eval.toml`
  at rules/gate.toml:3:9

hint: paths in a policy are relative to the folder that it lies in

"#]],
    );
    run.write("rules/eval.toml", &run.read("eval.toml"));
    let (code, stdout, stderr) = gate(&run, &call);
    assert_eq!(code, 0, "{stdout}{stderr}");
    says(
        &stdout,
        str![[r#"
ok    metric:loss                     [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 5.0 % allowed
ok    slice:lang=en/loss              [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 5.0 % allowed
ok    slice:lang=fr/loss              [NUMBER], baseline [NUMBER]: [N] % better ([N] … [N] % better), 5.0 % allowed
ok    check:signature                 signed by key [HEX], 11 files
ok    check:lineage                   1 generation, made by `from-random-weights`
ok    check:model_pinned              1 files of `base`
ok    check:data_pinned               2 files
ok    check:source_clean              commit [HEX]
-     check:output_schema             the suite has no task of the kind `json_schema`
ok    check:tokenizer                 362 tokens, 90 texts written and read again, the file that it was trained with
ok    check:evaluation_apart/files    no file of the evaluation was trained on
ok    check:evaluation_apart/records  0 of 30 records stand among 60 training records
ok    check:evaluation_apart/words    0 of 30 records have more than 80 % of their 13-grams in the training data
PASSED: all of 13 tests hold

"#]],
    );
    // A model of that name that lies elsewhere is not taken for it.
    run.write("rules/gate.toml", &text.replace("../checkpoints", "checkpoints"));
    let (code, stdout, stderr) = gate(&run, &call);
    assert_eq!(code, 2, "{stdout}{stderr}");
    says(
        &stderr,
        str![[r#"
error[config]: there is no model `rules/checkpoints/tiny`
  at rules/gate.toml:14:9

hint: paths in a policy are relative to the folder that it lies in

"#]],
    );
}

#[test]
fn what_init_writes_of_a_run_judges_its_models() {
    let run = Run::new();
    for (file, numbers) in [("data.jsonl", 0..60), ("validation.jsonl", 100..110)] {
        run.write(file, &sums(numbers, false));
    }
    let tiny = crate::common::TINY.replace("max_steps = 6", "max_steps = 60");
    run.write("tiny.toml", &tiny);
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    let written = run.succeeds(&["init", "--gate", "checkpoints/tiny"]);
    assert_eq!(written, "gate/eval.toml\ngate/gate.toml\n");
    let more = ["--policy", "gate/gate.toml", "--candidate", "checkpoints/tiny", "--no-attest"];
    let (code, stdout, stderr) = gate(&run, &more);
    ends(
        (code, format!("{stdout}{stderr}")),
        0,
        str![[r#"
warn  metric:loss                     [NUMBER]: there is no baseline to compare with, untested
-     slice:length=0-24/loss          no record of the evaluation is in it
warn  slice:length=25+/loss           [NUMBER]: there is no baseline to compare with, untested
-     check:output_schema             the suite has no task of the kind `json_schema`
WARNED: first release: nothing to compare with, and what 12 tests could see holds

"#]],
    );
    // One that was trained on wrong answers is refused, and it says for what.
    run.write("data.jsonl", &sums(0..60, true));
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=worse"]);
    let more = [
        &["--policy", "gate/gate.toml", "--candidate", "checkpoints/worse", "--no-attest"][..],
        &["--baseline", "checkpoints/tiny"],
    ];
    let (code, stdout, stderr) = gate(&run, &more.concat());
    ends(
        (code, format!("{stdout}{stderr}")),
        1,
        str![[r#"
FAIL  metric:loss                     [NUMBER], baseline [NUMBER]: [N] % worse ([N] … [N] % worse), 5.0 % allowed beyond doubt
-     slice:length=0-24/loss          no record of the evaluation is in it
FAIL  slice:length=25+/loss           [NUMBER], baseline [NUMBER]: [N] % worse ([N] … [N] % worse), 10.0 % allowed beyond doubt
-     check:output_schema             the suite has no task of the kind `json_schema`
REFUSED: 2 of 12 tests fail

"#]],
    );
    // What is there is never replaced, and what cannot be known is asked for.
    run.fails_with(
        2,
        &["init", "--gate", "checkpoints/tiny"],
        str![[r#"
error[exists]: refusing to replace what is already there
  at gate/eval.toml

"#]],
    );
    run.fails_with(
        2,
        &["init", "--gate", "data.jsonl", "other"],
        str![[r#"
error[file]: there is no such run or artifact
  at data.jsonl

"#]],
    );
    run.fails_with(
        2,
        &["init", "--data", "data.jsonl"],
        str![[r#"
error[usage]: `--data` goes with `--preset` or `--gate`

"#]],
    );
    run.succeeds(&["init", "--gate", "checkpoints/tiny", "other", "--data", "judged.jsonl"]);
    assert!(run.read("other/eval.toml").contains("path = \"judged.jsonl\""));
}
