//! Whole commands about whether a model may be used: a good candidate, a worse one, and everything
//! that a gate must not let through.

use std::path::Path;
use std::process::Command;

use crate::common::Run;
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
    assert!(stdout.contains("ok    slice:lang=fr/loss"), "{stdout}");
    assert!(stdout.ends_with("PASSED: all of 13 tests hold\n"), "{stdout}");
    assert!(stderr.contains("checkpoints/again/artifact.sigstore.jsonl"), "{stderr}");

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
    assert!(code == 1 && stdout.contains("is above 0.01"), "{stdout}");

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
    assert!(stdout.contains("ok    metric:loss"), "{stdout}");
    assert!(stdout.contains("FAIL  slice:lang=fr/loss"), "{stdout}");
    assert!(stdout.contains("ok    slice:lang=en/loss"), "{stdout}");
    assert!(stdout.contains("REFUSED: 1 of 13 tests fail"), "{stdout}");
    let sarif: Value = serde_json::from_str(&run.read("a.sarif")).unwrap();
    let [result] = &sarif["runs"][0]["results"].as_array().unwrap()[..] else { panic!("{sarif}") };
    assert!(result["message"]["text"].as_str().unwrap().starts_with("slice:lang=fr/loss: "));
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
    assert!(code == 1 && stdout.contains("FAIL  gap:lang/loss"), "{stdout}");
    assert!(stdout.contains("`fr` has"), "{stdout}");
}

#[test]
fn what_may_not_pass_does_not_and_says_why() {
    let run = repository();
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    assert_eq!(by(&run, POLICY).0, 0, "{}", by(&run, POLICY).1);

    // A policy with a typo is told with its place, and nothing is evaluated.
    let (code, said) = by(&run, &POLICY.replace("max_regression", "max_regresion"));
    assert!(code == 2 && said.contains("gate-other.toml:6:1"), "{said}");
    let (code, said) = by(&run, &POLICY.replace("\"fr\"", "\"de\""));
    assert!(code == 2 && said.contains("there is no slice `de`"), "{said}");

    // A slice that the data lacks, and one of too few records.
    run.write("eval.toml", &SUITE.replace("values = [\"en\", \"fr\"]\n", ""));
    let (code, said) = by(&run, &POLICY.replace("\"fr\"", "\"de\""));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("FAIL  slice:lang=de/loss") && said.contains("slice is missing"));
    run.write("eval.toml", SUITE);
    let (code, said) = by(&run, &POLICY.replace("min_records = 5", "min_records = 16"));
    assert!(code == 1 && said.contains("only 15 records, 16 are needed"), "{said}");

    // Inputs that no trusted allowlist has.
    let (code, said) = by(&run, &format!("{POLICY}[checks]\nrequire_approved = true\n"));
    assert!(code == 1 && said.contains("FAIL  check:model_pinned"), "{said}");
    assert!(said.contains("no trusted allowlist has `data.jsonl`"), "{said}");

    // Speed, measured in processes of their own.
    let speed = "[performance]\nmax_regression = 0.95\nrepeats = 1\n";
    let (code, said) = by(&run, &format!("{POLICY}{speed}"));
    assert!(code == 0 && said.contains("ok    performance:tokens_per_second"), "{said}");
    assert!(said.contains("ok    performance:memory"), "{said}");

    // A dirty source.
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
    assert!(code == 1 && said.contains("FAIL  check:source_clean"), "{said}");
    run.write("gate-dirty.toml", &format!("{POLICY}[checks]\nsource_clean = false\n"));
    let call = ["--policy", "gate-dirty.toml", "--candidate", "checkpoints/dirty", "--no-attest"];
    let (code, said, _) = gate(&run, &call);
    assert!(code == 0 && !said.contains("source_clean"), "{said}");

    // Unsigned, and signed by a stranger.
    let artifact = run.path("checkpoints/dirty/artifact");
    let signature = std::fs::read(artifact.join("model.sig")).unwrap();
    std::fs::remove_file(artifact.join("model.sig")).unwrap();
    let before = run.read("checkpoints/dirty/artifact.sigstore.jsonl");
    let call = ["--policy", "gate-dirty.toml", "--candidate", "checkpoints/dirty/artifact"];
    let (code, said, stderr) = gate(&run, &call);
    assert!(code == 1 && said.contains("FAIL  check:signature"), "{said}");
    assert!(stderr.contains("no trusted key has signed a verdict on these bytes"), "{stderr}");
    assert_eq!(run.read("checkpoints/dirty/artifact.sigstore.jsonl"), before);
    std::fs::write(artifact.join("model.sig"), signature).unwrap();
    std::fs::write(artifact.join("README.md"), "other words").unwrap();
    let (code, said, _) = gate(&run, &call);
    assert!(code == 1 && said.contains("changed: `README.md`"), "{said}");

    // A key that would count for nothing is refused before anything is evaluated.
    run.succeeds(&["keygen", "other.pem"]);
    let (code, _, stderr) = gate(&run, &[&call[..], &["--key", "other.pem"]].concat());
    assert!(code == 2 && stderr.contains("would count for nothing here"), "{stderr}");
    let (code, _, stderr) = gate(&run, &["--policy", "gate.toml", "--candidate", "nowhere"]);
    assert!(code == 2 && stderr.contains("there is no such artifact"), "{stderr}");
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
    let (code, said) = judged_on(&sums(0..60, false));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("FAIL  check:evaluation_apart/files"), "{said}");
    assert!(said.contains("`judged.jsonl` is the training file `data.jsonl`"), "{said}");
    // One of its records.
    let (code, said) = judged_on(&format!("{fresh}{}", sums(8..9, false)));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("ok    check:evaluation_apart/files"), "{said}");
    assert!(said.contains("1 of 31 records stand among 60 training records"), "{said}");
    // The words of one, written otherwise: another record with the same text.
    let record: Value = serde_json::from_str(&sums(8..9, false)).unwrap();
    let question = record["messages"][0]["content"].as_str().unwrap().to_uppercase();
    let answer = record["messages"][1]["content"].as_str().unwrap().replace('.', " !");
    let turns = json!([
        {"role": "user", "content": question}, {"role": "assistant", "content": answer},
    ]);
    let copied = format!("{}\n", json!({"messages": turns, "lang": "en"}));
    let (code, said) = judged_on(&format!("{fresh}{copied}"));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("ok    check:evaluation_apart/records"), "{said}");
    assert!(said.contains("FAIL  check:evaluation_apart/words"), "{said}");
    // What the run measured on was not trained on, and may be evaluated on.
    assert_eq!(judged_on(&sums(100..110, false)).0, 0, "{}", judged_on(&fresh).1);
    run.write("judged.jsonl", &fresh);
    // Training data that is gone: nothing can be said, unless the policy takes that.
    std::fs::rename(run.path("data.jsonl"), run.path("moved.bin")).unwrap();
    let (code, said) = by(&run, POLICY);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("`data.jsonl` is not on this machine"), "{said}");
    assert!(said.contains("UNDECIDED: 2 of 13 tests could not be made"), "{said}");
    let allowed = format!("{POLICY}[checks]\nmissing_training_data = \"allow\"\n");
    let (code, said) = by(&run, &allowed);
    assert!(code == 0 && said.contains("WARNED"), "{said}");
    // What could not be decided is not signed.
    let before = run.read("checkpoints/tiny/artifact.sigstore.jsonl");
    let call = ["--policy", "gate.toml", "--candidate", "checkpoints/tiny"];
    let (code, _, stderr) = gate(&run, &call);
    assert!(code == 2 && stderr.contains("nothing is signed"), "{stderr}");
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
    assert!(test.detail.contains("incomparable: measured on"), "{}", test.detail);
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
    assert!(stdout.contains("PASSED"), "{stdout}");
    run.succeeds(&["eval", "checkpoints/tiny", "--config", "eval.toml", "--device", "cpu"]);
    // Short conversations, as many begin with: there is no part above the only band.
    run.write("judged.jsonl", &sums(70..80, false));
    let (code, stdout, stderr) =
        gate(&run, &[&call[..], &["--baseline", "checkpoints/tiny"]].concat());
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("ok    slice:length=0-128/loss"), "{stdout}");
    assert!(stdout.contains("-     slice:length=129+/loss"), "{stdout}");
    assert!(stdout.contains("no record of the evaluation is in it"), "{stdout}");
    // And the first release of all.
    let (code, stdout, stderr) = gate(&run, &call);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("WARNED"), "{stdout}");
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
    assert!(stderr.contains("there is no suite `rules/eval.toml`"), "{stderr}");
    assert!(stderr.contains("relative to the folder that it lies in"), "{stderr}");
    run.write("rules/eval.toml", &run.read("eval.toml"));
    let (code, stdout, stderr) = gate(&run, &call);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("PASSED"), "{stdout}");
    // A model of that name that lies elsewhere is not taken for it.
    run.write("rules/gate.toml", &text.replace("../checkpoints", "checkpoints"));
    let (code, stdout, stderr) = gate(&run, &call);
    assert_eq!(code, 2, "{stdout}{stderr}");
    assert!(stderr.contains("there is no model `rules/checkpoints/tiny`"), "{stderr}");
}
