//! Tests of verification: a signed artifact, and every way to tamper with it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::artifact::envelope::{Bundle, IN_TOTO, Material};
use crate::artifact::keys::tests::known_key;
use crate::artifact::keys::{self, SigningKey};
use crate::artifact::provenance::{self, Lineage};
use crate::artifact::{lineage, signature};
use crate::files::{self, Digest};
use crate::snapshots::says;

/// A signed artifact with lineage, and the trust that its signature needs.
struct Fixture {
    folder: tempfile::TempDir,
    key: SigningKey,
    trust: Trust,
}

fn weights(inputs: &str) -> Vec<u8> {
    let header = json!({
        "__metadata__": {"format": "pt", (lineage::INPUTS_KEY): inputs},
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    })
    .to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat()
}

impl Fixture {
    /// A model without lineage.
    fn plain() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        fs::write(folder.path().join("more/notes.txt"), "a note").unwrap();
        let keys = tempfile::tempdir().unwrap();
        let pem = keys.path().join("key.pem");
        fs::write(&pem, known_key().public().pem()).unwrap();
        let fixture = Self { folder, key: known_key(), trust: Trust::key_file(&pem).unwrap() };
        fixture.sign();
        fixture
    }

    fn artifact() -> Self {
        let fixture = Self::plain();
        let inputs = lineage::Inputs::of_run(&lineage::tests::run());
        fixture.write(lineage::INPUTS_FILE, inputs.to_json());
        fixture.write("adapter_model.safetensors", weights(&inputs.digest().to_string()));
        fixture.state();
        fixture.sign();
        fixture
    }

    /// As earlier versions made it: with place and time in the artifact.
    fn of_before() -> Self {
        let fixture = Self::plain();
        let Lineage { asked, facts, .. } = provenance::tests::lineage();
        let before = Lineage { inputs: asked.clone(), asked, facts };
        fixture.write(lineage::INPUTS_FILE, before.inputs.to_json());
        let digest = before.inputs.digest().to_string();
        fixture.write("adapter_model.safetensors", weights(&digest));
        let subjects = files::hash_tree(fixture.folder.path()).unwrap();
        fixture.write(crate::artifact::parent::STATEMENT_FILE, before.provenance(&subjects));
        fixture.sign();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Writes the lineage statement over what lies there.
    fn state(&self) {
        let subjects = files::hash_tree(self.folder.path()).unwrap();
        let text = provenance::tests::lineage().statement(&subjects);
        self.write(crate::artifact::parent::STATEMENT_FILE, text);
    }

    fn sign(&self) {
        signature::sign_named(self.folder.path(), "tiny", &self.key).unwrap();
    }

    /// Signs a changed statement with the true key.
    fn sign_statement(&self, change: impl FnOnce(&mut Value)) {
        let mut statement = self.statement();
        change(&mut statement);
        self.sign_text(&statement.to_string());
    }

    fn statement(&self) -> Value {
        let bytes = fs::read(self.path(signature::FILE)).unwrap();
        serde_json::from_slice(&Bundle::parse(&bytes).unwrap().payload).unwrap()
    }

    fn sign_text(&self, text: &str) {
        let bundle = Bundle::sign(IN_TOTO, text.as_bytes().to_vec(), &self.key).unwrap();
        self.write(signature::FILE, bundle.to_json());
    }

    fn report(&self) -> Report {
        verify(self.folder.path(), &self.trust)
    }

    /// The verdict, and one check that fails with a detail that holds `part`.
    #[track_caller]
    fn expect(&self, verdict: Verdict, check: Check, part: &str) {
        let report = self.report();
        assert_eq!(report.verdict, verdict, "{report:#?}");
        let found = report.checks.iter().any(|finding| {
            finding.check == check
                && finding.verdict != CheckVerdict::Pass
                && finding.detail.contains(part)
        });
        assert!(found, "{check:?} {part}: {report:#?}");
    }
}

fn verdict_of(report: &Report, check: Check) -> CheckVerdict {
    report.checks.iter().find(|finding| finding.check == check).unwrap().verdict
}

#[test]
fn a_signed_artifact_is_verified() {
    let fixture = Fixture::artifact();
    let report = fixture.report();
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
    assert!(report.checks.iter().all(|finding| finding.verdict == CheckVerdict::Pass));
    assert_eq!(report.checks.len(), 13);
    assert_eq!(report.name.as_deref(), Some("tiny"));
    assert_eq!(report.signer.unwrap().hint, fixture.key.public().hint());
}

#[test]
fn a_model_without_lineage_is_verified_and_says_so() {
    let report = Fixture::plain().report();
    assert_eq!(report.verdict, Verdict::Verified, "{report:#?}");
    assert_eq!(verdict_of(&report, Check::LineageStatement), CheckVerdict::Unchecked);
    assert_eq!(verdict_of(&report, Check::Safetensors), CheckVerdict::Unchecked);
}

#[test]
fn changed_added_missing_and_renamed_files_are_named() {
    let fixture = Fixture::plain();
    fixture.write("config.json", "[]");
    fixture.expect(Verdict::Tampered, Check::Manifest, "changed: `config.json`");
    fixture.write("config.json", "{}");
    fixture.write("extra.py", "");
    fixture.expect(Verdict::UnsignedFiles, Check::Unsigned, "not signed: `extra.py`");
    assert_eq!(fixture.report().unsigned, ["extra.py"]);
    let ignoring = verify_signed_files(fixture.folder.path(), &fixture.trust);
    assert_eq!((ignoring.verdict, ignoring.unsigned), (Verdict::Verified, vec!["extra.py".into()]));
    fs::remove_file(fixture.path("extra.py")).unwrap();
    assert_eq!(fixture.report().verdict, Verdict::Verified);
    fs::rename(fixture.path("more/notes.txt"), fixture.path("more/other.txt")).unwrap();
    fixture.expect(Verdict::Tampered, Check::Manifest, "missing: `more/notes.txt`");
    fixture.expect(Verdict::Tampered, Check::Unsigned, "not signed: `more/other.txt`");
}

#[test]
fn names_are_compared_byte_by_byte() {
    let fixture = Fixture::plain();
    fixture.write("caf\u{e9}", "");
    fixture.sign();
    fs::rename(fixture.path("caf\u{e9}"), fixture.path("cafe\u{301}")).unwrap();
    fixture.expect(Verdict::Tampered, Check::Manifest, "missing");
}

#[test]
fn what_no_signature_covers_does_not_matter() {
    let fixture = Fixture::plain();
    fs::create_dir(fixture.path("empty")).unwrap();
    assert_eq!(fixture.report().verdict, Verdict::Verified);
}

#[cfg(unix)]
#[test]
fn links_are_refused_wherever_they_lie() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::plain();
    fs::create_dir(fixture.path(".git")).unwrap();
    symlink("/etc/hosts", fixture.path(".git/link")).unwrap();
    assert_eq!(fixture.report().verdict, Verdict::Verified, "git's own are not looked at");
    symlink("more/notes.txt", fixture.path("link")).unwrap();
    fixture.expect(Verdict::Tampered, Check::Files, "only regular files");
    fs::remove_file(fixture.path("link")).unwrap();
    symlink("more", fixture.path("directory")).unwrap();
    fixture.expect(Verdict::Tampered, Check::Files, "only regular files");
}

/// A snapshot as a hub's cache has it: every file a link into `blobs`.
#[cfg(unix)]
#[test]
fn links_of_a_hubs_cache_lead_into_its_store_and_nowhere_else() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::artifact();
    let cache = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (cache.path().join("blobs"), cache.path().join("snapshots/commit"));
    fs::create_dir(&blobs).unwrap();
    fs::create_dir_all(snapshot.join("more")).unwrap();
    let link = |name: &str, target: &Path| {
        let _ = fs::remove_file(snapshot.join(name));
        symlink(target, snapshot.join(name)).unwrap();
    };
    for (number, file) in files::hash_tree(fixture.folder.path()).unwrap().iter().enumerate() {
        let blob = blobs.join(number.to_string());
        fs::copy(fixture.path(&file.path), &blob).unwrap();
        link(&file.path, &blob);
    }
    let report = || verify(&snapshot, &fixture.trust);
    assert_eq!(report().verdict, Verdict::Verified, "{:#?}", report());
    let named = cache.path().join("snapshots/../snapshots/commit");
    assert_eq!(verify(&named, &fixture.trust).verdict, Verdict::Verified);

    // What the hub's cache does not fetch is no fault, and what a model needs is.
    fs::remove_file(snapshot.join("more/notes.txt")).unwrap();
    assert_eq!(report().verdict, Verdict::Verified);
    assert!(report().checks.iter().any(|it| it.detail.contains("not fetched: `more/notes.txt`")));
    for name in ["config.json", crate::artifact::parent::STATEMENT_FILE] {
        let target = fs::read_link(snapshot.join(name)).unwrap();
        fs::remove_file(snapshot.join(name)).unwrap();
        assert_eq!(report().verdict, Verdict::Tampered, "{name}");
        link(name, &target);
    }
    fs::write(fs::read_link(snapshot.join("config.json")).unwrap(), "[]").unwrap();
    assert_eq!(report().verdict, Verdict::Tampered);
    fs::write(fs::read_link(snapshot.join("config.json")).unwrap(), "{}").unwrap();
    assert_eq!(report().verdict, Verdict::Verified);

    // Equal bytes elsewhere are not followed, nor is anything but a file.
    let elsewhere = cache.path().join("elsewhere");
    fs::write(&elsewhere, "{}").unwrap();
    fs::create_dir(blobs.join("folder")).unwrap();
    fs::write(blobs.join("folder/file"), "{}").unwrap();
    symlink(&elsewhere, blobs.join("out")).unwrap();
    for target in ["elsewhere", "blobs/folder", "blobs/folder/file", "blobs/out", "blobs/none"] {
        link("config.json", &cache.path().join(target));
        assert_eq!(report().verdict, Verdict::Tampered, "{target}");
    }
}

#[test]
fn a_removed_or_emptied_signature_is_unsigned() {
    let fixture = Fixture::plain();
    let text = fs::read_to_string(fixture.path(signature::FILE)).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["dsseEnvelope"]["signatures"] = json!([]);
    fixture.write(signature::FILE, value.to_string());
    fixture.expect(Verdict::Unsigned, Check::Bundle, "no signature");
    fs::remove_file(fixture.path(signature::FILE)).unwrap();
    fixture.expect(Verdict::Unsigned, Check::Bundle, "there is no `model.sig`");
    assert_eq!(Verdict::Unsigned.exit_code(), 1);
}

#[test]
fn another_key_is_untrusted_and_a_false_signature_is_tampering() {
    let mut fixture = Fixture::plain();
    let own = fixture.key;
    fixture.key = SigningKey::generate().unwrap();
    fixture.sign();
    fixture.expect(Verdict::Untrusted, Check::Key, "not among the keys that you trust (1)");
    assert_eq!(verdict_of(&fixture.report(), Check::Manifest), CheckVerdict::Pass);

    // The other key's signature under the trusted key's name.
    let bytes = fs::read(fixture.path(signature::FILE)).unwrap();
    let mut bundle = Bundle::parse(&bytes).unwrap();
    bundle.material = Material::Key(own.public().hint().to_owned());
    fixture.write(signature::FILE, bundle.to_json());
    fixture.expect(Verdict::Tampered, Check::Signature, "did not sign");
}

#[test]
fn what_is_not_there_could_not_be_checked() {
    let report = verify(Path::new("does/not/exist"), &Trust::default());
    assert_eq!(report.verdict, Verdict::CouldNotCheck, "{report:#?}");
}

#[test]
fn the_users_own_key_and_the_trusted_folder_count() {
    let home = tempfile::tempdir().unwrap();
    assert!(Trust::of_user(home.path()).unwrap().keys().is_empty());
    let (own, _) = keys::load_or_create(home.path(), None, None, Vec::new()).unwrap();
    let folder = home.path().join(keys::TRUSTED_FOLDER);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("friend.pem"), known_key().public().pem()).unwrap();
    fs::write(folder.join("readme.txt"), "no key").unwrap();
    let trust = Trust::of_user(home.path()).unwrap();
    assert_eq!(trust.keys().len(), 2);
    assert!(trust.find(own.public().hint()).is_some());
    assert!(trust.find(known_key().public().hint()).is_some());
    fs::write(folder.join("bad.pem"), "nonsense").unwrap();
    says(
        Trust::of_user(home.path()).unwrap_err(),
        snapbox::str![[r#"
error[key]: there is no `PUBLIC KEY` block in the PEM text
  at [FOLDER]/trusted-keys/bad.pem
"#]],
    );
}

/// Earlier versions put place, time and checkpoints into the artifact itself.
#[test]
fn artifacts_that_say_when_and_where_they_were_made_verify_as_before() {
    let report = Fixture::of_before().report();
    assert_eq!(report.verdict, Verdict::Verified, "{:?}", report.checks);
}

#[test]
fn reports_are_machine_readable_and_lines_stay_lines() {
    let fixture = Fixture::plain();
    fixture.write("a\n\u{1b}[2J", "");
    let report = fixture.report();
    let json = report.to_json();
    assert_eq!(json["verdict"], "unsigned-files");
    assert_eq!(
        json["checks"][0],
        json!({
            "check": "files", "verdict": "pass", "detail": report.checks[0].detail,
        })
    );
    for finding in &report.checks {
        assert!(finding.to_string().chars().all(|c| !c.is_control()), "{finding}");
    }
    assert!(report.checks.iter().any(|f| f.to_string().starts_with("FAIL  nothing added")));
}

#[path = "attestations_tests.rs"]
mod attestations;
#[path = "reproductions_tests.rs"]
mod reproductions;
#[path = "tampering_tests.rs"]
mod tampering;
#[path = "trusted_keys_tests.rs"]
mod trusted_keys;
