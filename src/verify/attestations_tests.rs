//! Tests of the attestations beside a model: true ones, bent ones, and those of strangers.

use super::*;
use crate::snapshots::says;
use crate::verify::TRUSTED_KEYS_FILE;

/// An artifact with one attestation beside it, which goes with the test.
struct Beside {
    fixture: Fixture,
    path: PathBuf,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Beside {
    fn new() -> Self {
        let fixture = Fixture::artifact();
        let root = fixture.folder.path().canonicalize().unwrap();
        let name = root.file_name().unwrap().to_str().unwrap();
        let beside = Self { path: root.with_file_name(format!("{name}.sigstore.jsonl")), fixture };
        beside.write(&[beside.line(|_| {})]);
        beside
    }

    fn write(&self, lines: &[String]) {
        fs::write(&self.path, lines.iter().map(|line| format!("{line}\n")).collect::<String>())
            .unwrap();
    }

    /// The lineage statement, changed and truly signed.
    fn line(&self, change: impl FnOnce(&mut Value)) -> String {
        self.line_by(&self.fixture.key, change)
    }

    fn line_by(&self, key: &SigningKey, change: impl FnOnce(&mut Value)) -> String {
        let bytes = fs::read(self.fixture.path(crate::artifact::parent::STATEMENT_FILE)).unwrap();
        let mut statement: Value = serde_json::from_slice(&bytes).unwrap();
        change(&mut statement);
        Bundle::sign(IN_TOTO, statement.to_string().into_bytes(), key).unwrap().to_json()
    }

    #[track_caller]
    fn expect(&self, verdict: Verdict, part: &str) {
        self.fixture.expect(verdict, Check::Attestation, part);
    }
}

#[test]
fn true_attestations_are_told_line_by_line() {
    let beside = Beside::new();
    let other = beside.line(|statement| {
        statement["predicateType"] = json!("https://in-toto.io/attestation/test-result/v0.1");
        statement["subject"].as_array_mut().unwrap().truncate(1);
    });
    beside.write(&[beside.line(|_| {}), other]);
    let report = beside.fixture.report();
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
    let lines: Vec<&str> = report
        .checks
        .iter()
        .filter(|finding| finding.check == Check::Attestation)
        .map(|finding| finding.detail.as_str())
        .collect();
    assert!(lines[0].starts_with("line 1: https://slsa.dev/provenance/v1, "), "{lines:?}");
    says(
        lines[1],
        snapbox::str![
            "line 2: https://in-toto.io/attestation/test-result/v0.1, 1 files as stated, by key [HEX]"
        ],
    );
    assert_eq!(lines.len(), 2);
}

#[test]
fn tampered_attestations_fail() {
    let beside = Beside::new();
    let good = beside.line(|_| {});
    let mut bundle = Bundle::parse(good.as_bytes()).unwrap();
    bundle.payload =
        String::from_utf8(bundle.payload).unwrap().replace("\"lora\"", "\"full\"").into();
    beside.write(&[good.clone(), bundle.to_json()]);
    beside.expect(Verdict::Tampered, "line 2: the key 4975c03dd2ad did not sign this");

    beside.write(&[good.clone(), String::new()]);
    beside.expect(Verdict::Tampered, "line 2: ");
    beside.write(&[]);
    beside.expect(Verdict::Tampered, "the file is empty");
    beside.write(&[good.replacen('{', "{\"mediaType\":\"x\",", 1)]);
    beside.expect(Verdict::Tampered, "appears twice");
    let mut value: Value = serde_json::from_str(&good).unwrap();
    value["dsseEnvelope"]["signatures"] = json!([]);
    beside.write(&[value.to_string()]);
    beside.expect(Verdict::Tampered, "holds no signature");
    let text = Bundle::sign("text/plain", b"{}".to_vec(), &beside.fixture.key).unwrap();
    beside.write(&[text.to_json()]);
    beside.expect(Verdict::Tampered, "`payloadType` is not");
}

#[test]
fn statements_must_be_whole_and_about_these_files() {
    let beside = Beside::new();
    let bent = |part: &str, change: &dyn Fn(&mut Value)| {
        beside.write(&[beside.line(change)]);
        beside.expect(Verdict::Tampered, part);
    };
    bent("`_type` is not", &|s| s["_type"] = json!("https://in-toto.io/Statement/v0.1"));
    bent("unknown key `x`", &|s| s["x"] = json!(1));
    bent("`predicate` is not an object", &|s| s["predicate"] = json!([]));
    bent("`predicateType` is missing", &|s| {
        s.as_object_mut().unwrap().remove("predicateType");
    });
    bent("about no file", &|s| s["subject"] = json!([]));
    bent("other files: `config.json`", &|s| {
        let subjects = s["subject"].as_array_mut().unwrap();
        let config = subjects.iter_mut().find(|s| s["name"] == "config.json").unwrap();
        config["digest"]["sha256"] = json!(Digest::of(b"other"));
    });
    bent("other files: `none`", &|s| s["subject"][0]["name"] = json!("none"));
    bent("stated twice", &|s| {
        let subjects = s["subject"].as_array_mut().unwrap();
        subjects.push(subjects[0].clone());
    });
}

#[test]
fn attestations_of_strangers_and_of_keys_that_count_no_more_are_untrusted() {
    let beside = Beside::new();
    let stranger = SigningKey::generate().unwrap();
    beside.write(&[beside.line(|_| {}), beside.line_by(&stranger, |_| {})]);
    beside.expect(Verdict::Untrusted, "which you do not trust");

    // A key for gates may say how tests went, but not how a model was made.
    let mut beside = Beside::new();
    let home = tempfile::tempdir().unwrap();
    let inline = |key: &SigningKey, role: &str| {
        let pem = key.public().pem().replace('\n', "\\n");
        format!("[[key]]\npem = \"{pem}\"\nroles = [\"{role}\"]\n")
    };
    let text = inline(&stranger, "gate") + &inline(&beside.fixture.key, "train");
    fs::write(home.path().join(TRUSTED_KEYS_FILE), text).unwrap();
    beside.fixture.trust = Trust::of_user(home.path()).unwrap();
    beside.write(&[beside.line_by(&stranger, |_| {})]);
    beside.expect(Verdict::Untrusted, "has the role `gate`, and `train` is needed");
    beside.write(&[beside.line_by(&stranger, |statement| {
        statement["predicateType"] = json!("https://in-toto.io/attestation/test-result/v0.1");
    })]);
    assert_eq!(beside.fixture.report().verdict, Verdict::Verified);
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let beside = Beside::new();
    fs::remove_file(&beside.path).unwrap();
    std::os::unix::fs::symlink("/etc/hosts", &beside.path).unwrap();
    beside.expect(Verdict::CouldNotCheck, "not a regular file");
}
