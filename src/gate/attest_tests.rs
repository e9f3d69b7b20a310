//! Tests of signed verdicts: what they say, and which of them count.

use std::fs;

use super::super::fixture::{Folder, evaluation, records};
use super::super::{Test, TestKind};
use super::*;
use crate::artifact::keys::tests::known_key;
use crate::artifact::signature::attestations_of;
use crate::snapshots::says;
use crate::verify::{self, verify};

/// A signed model, and a report about it.
struct Fixture {
    folder: tempfile::TempDir,
    home: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture =
            Self { folder: tempfile::tempdir().unwrap(), home: tempfile::tempdir().unwrap() };
        fs::create_dir(fixture.model()).unwrap();
        fs::write(fixture.model().join("config.json"), "{}").unwrap();
        signature::sign(&fixture.model(), &known_key()).unwrap();
        fixture.trust_with("");
        fixture
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    /// Trusts the test's key with further words of `trusted-keys.toml`.
    fn trust_with(&self, words: &str) -> Trust {
        let pem = known_key().public().pem().to_owned();
        let text = format!("[[key]]\npem = '''\n{pem}'''\n{words}\n");
        fs::write(self.home.path().join(verify::TRUSTED_KEYS_FILE), text).unwrap();
        Trust::of_user(self.home.path()).unwrap()
    }

    fn report(&self, outcome: TestOutcome) -> Report {
        let policies = Folder::new();
        let policy = policies.policy("[eval]\nPLAIN\n").unwrap();
        let judged = evaluation(&records(&[2.0, 3.0]), &[("lang", "fr", 2.5)]);
        let verified = verify(&self.model(), &self.trust_with(""));
        let tests = vec![
            Test::new(TestKind::Metric, "loss", outcome, "why"),
            Test::new(TestKind::Check, "signature", TestOutcome::Passed, "fine"),
            Test::new(TestKind::Check, "output_schema", TestOutcome::Skipped, "none"),
        ];
        Report::new(
            &policy,
            &judged,
            Some(&judged),
            (&verified, crate::gate::checks::is_signed(&verified)),
            tests,
        )
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("model.sigstore.jsonl")).unwrap();
        let payload = |line: &str| Bundle::parse(line.as_bytes()).unwrap().payload;
        text.lines().map(|line| parse_json(&payload(line)).unwrap()).collect()
    }
}

/// The verdicts that count for a model, line by line.
fn verdicts(model: &Path, trust: &Trust) -> Vec<Verdict> {
    let Ok(text) = fs::read_to_string(attestations_of(model).unwrap()) else { return Vec::new() };
    let files = crate::files::hash_tree(model).unwrap();
    let read = |(number, line)| verdict(line, number, &files, trust)?.ok();
    (1..).zip(text.lines()).filter_map(read).collect()
}

#[test]
fn a_verdict_is_two_statements_about_every_file() {
    for (outcome, result, summary, level) in [
        (TestOutcome::Passed, "PASSED", "PASSED", "SLSA_BUILD_LEVEL_0"),
        (TestOutcome::Warned, "WARNED", "PASSED", "SLSA_BUILD_LEVEL_0"),
        (TestOutcome::Failed, "FAILED", "FAILED", "FAILED"),
    ] {
        let fixture = Fixture::new();
        let report = fixture.report(outcome);
        attest(&report, &fixture.model(), &known_key()).unwrap();
        let [tests, vsa] = &fixture.lines()[..] else { panic!("two lines") };
        assert_eq!(
            (&tests["predicateType"], &vsa["predicateType"]),
            (&json!(TEST_RESULT), &json!(VSA))
        );
        for statement in [tests, vsa] {
            let names: Vec<&str> = statement["subject"]
                .as_array()
                .unwrap()
                .iter()
                .map(|subject| subject["name"].as_str().unwrap())
                .collect();
            assert_eq!(names, ["config.json", "model.sig"]);
        }
        let tests = &tests["predicate"];
        assert_eq!(tests["result"], result);
        let mut all: Vec<&str> = Vec::new();
        for list in ["passedTests", "warnedTests", "failedTests"] {
            all.extend(tests[list].as_array().unwrap().iter().map(|name| name.as_str().unwrap()));
        }
        all.sort_unstable();
        assert_eq!(all, ["check:signature", "metric:loss"]);
        let roles: Vec<&Value> = tests["configuration"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| &entry["annotations"]["role"])
            .collect();
        assert_eq!(roles, ["policy", "suite", "baseline"]);
        let vsa = &vsa["predicate"];
        assert_eq!(vsa["verificationResult"], summary);
        assert_eq!(vsa["verifiedLevels"], json!([level]));
        assert_eq!(vsa["verifier"]["id"], VERIFIER);
        assert_eq!(vsa["policy"]["digest"]["sha256"], json!(report.policy.1));
        assert_eq!(vsa["firebrand_metrics"]["loss"], 2.5);
        assert_eq!(vsa["firebrand_slices"]["lang=fr"]["loss"], 2.5);
        assert_eq!(vsa["inputAttestations"][0]["uri"], "model.sig");
        // The model is as good as it was, with these lines beside it.
        let trust = fixture.trust_with("");
        assert_eq!(verify(&fixture.model(), &trust).verdict, verify::Verdict::Verified);
        let [verdict] = &verdicts(&fixture.model(), &trust)[..] else { panic!("one") };
        assert_eq!((verdict.passed, verdict.line), (summary == "PASSED", 2));
        assert_eq!(verdict.signer, known_key().public().hint());
        assert_eq!(verdict.policy_sha256, Some(report.policy.1));
        assert_eq!(verdict.metrics["loss"], 2.5);
    }
}

#[test]
fn levels_say_that_the_lineage_was_looked_at() {
    let fixture = Fixture::new();
    let mut report = fixture.report(TestOutcome::Passed);
    report.tests.push(Test::new(TestKind::Check, "lineage", TestOutcome::Passed, "fine"));
    assert_eq!(summary(&report)["verifiedLevels"], json!(["SLSA_BUILD_LEVEL_1"]));
    report.signed = false;
    assert_eq!(summary(&report)["verifiedLevels"], json!(["SLSA_BUILD_LEVEL_0"]));
}

#[test]
fn verdicts_count_for_exactly_these_files_by_someone_with_the_role() {
    let fixture = Fixture::new();
    let trust = |words: &str| fixture.trust_with(words);
    assert!(verdicts(&fixture.model(), &trust("")).is_empty(), "no file at all");
    let passed = fixture.report(TestOutcome::Passed);
    attest(&passed, &fixture.model(), &known_key()).unwrap();
    attest(&fixture.report(TestOutcome::Failed), &fixture.model(), &known_key()).unwrap();
    let of = |trust: &Trust| -> Vec<bool> {
        verdicts(&fixture.model(), trust).iter().map(|verdict| verdict.passed).collect()
    };
    assert_eq!(of(&trust("")), [true, false], "the newest last");
    assert_eq!(of(&trust("roles = [\"gate\", \"train\"]")), [true, false]);
    for words in [
        "roles = [\"train\", \"promote\"]",
        "revoked = true",
        "not_after = \"2020-01-01T00:00:00Z\"",
    ] {
        assert!(of(&trust(words)).is_empty(), "{words}");
        assert!(objection(&known_key(), &trust(words)).is_some(), "{words}");
    }
    assert!(of(&Trust::default()).is_empty(), "nobody is trusted");
    assert!(objection(&known_key(), &Trust::default()).unwrap().contains("none that you trust"));
    assert_eq!(objection(&known_key(), &trust("")), None);

    let path = fixture.folder.path().join("model.sigstore.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let last = text.lines().nth(3).unwrap();
    // Another signature, another line, another verifier: none of them counts.
    let mut bundle = Bundle::parse(last.as_bytes()).unwrap();
    bundle.payload = String::from_utf8(bundle.payload).unwrap().replace("FAILED", "PASSED").into();
    let forged = bundle.to_json();
    let other = statements(&passed)[1].replace(VERIFIER, "urn:example:gate");
    let other = Bundle::sign(IN_TOTO, other.into_bytes(), &known_key()).unwrap().to_json();
    let fewer = {
        let mut report = fixture.report(TestOutcome::Passed);
        report.files.pop();
        statements(&report)[1].clone()
    };
    let fewer = Bundle::sign(IN_TOTO, fewer.into_bytes(), &known_key()).unwrap().to_json();
    fs::write(&path, format!("{text}{forged}\n{other}\n{fewer}\nnonsense\n")).unwrap();
    assert_eq!(of(&trust("")), [true, false]);
    // Another file in the model: they are about something else.
    fs::write(fixture.model().join("more.txt"), "x").unwrap();
    assert!(of(&trust("")).is_empty());
    fs::remove_file(fixture.model().join("more.txt")).unwrap();
    fs::write(fixture.model().join("config.json"), "{ }").unwrap();
    assert!(of(&trust("")).is_empty());
    let error = attest(&passed, &fixture.model(), &known_key()).unwrap_err();
    says(
        error,
        snapbox::str![[r#"
error[file-changed]: the model was changed while it was evaluated
  at [FOLDER]/model
"#]],
    );
}
