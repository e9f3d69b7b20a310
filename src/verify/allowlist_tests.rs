//! Tests of registries: when one counts, and when it does not.

use std::path::PathBuf;

use super::*;
use crate::error::Kind as ErrorKind;
use crate::snapshots::says;

fn timestamp(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn entry(name: &str, kind: InputKind, content: &[u8]) -> Approved {
    let file = ApprovedFile { path: "a".into(), size: 1, sha256: Digest::of(content) };
    Approved { name: name.into(), kind, commit: None, files: vec![file] }
}

struct Case {
    folder: tempfile::TempDir,
    path: PathBuf,
    key: SigningKey,
    allowlist: Allowlist,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allowlist.toml");
        let key = SigningKey::generate().unwrap();
        let mut allowlist = Allowlist::new("acme", timestamp("2027-01-01T00:00:00Z"));
        allowlist.put(entry("owner/set", InputKind::Dataset, b"rows"));
        allowlist.put(entry("owner/\"model\"", InputKind::Model, b"weights"));
        allowlist.publish(&path, &key).unwrap();
        Self { folder, path, key, allowlist }
    }

    fn trust(&self) -> Trust {
        Trust::only(self.key.public(), &self.path).at(timestamp("2026-06-01T00:00:00Z"))
    }

    fn seen(&self) -> Seen {
        Seen::of_user(self.folder.path())
    }

    fn open(&self) -> Result<OpenedAllowlist> {
        Allowlist::open(&self.path, &self.trust(), Some(&self.seen()))
    }

    fn refused(&self) -> String {
        let error = self.open().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        error.to_string()
    }
}

#[test]
fn what_is_published_is_read_again_and_found_by_digest_and_kind() {
    let case = Case::new();
    let opened = case.open().unwrap();
    assert_eq!(opened.allowlist, case.allowlist);
    assert_eq!(opened.allowlist.serial, 1);
    assert_eq!(opened.find(InputKind::Dataset, &Digest::of(b"rows")), Some("owner/set"));
    assert_eq!(opened.find(InputKind::Model, &Digest::of(b"weights")), Some("owner/\"model\""));
    assert_eq!(opened.find(InputKind::Model, &Digest::of(b"rows")), None, "data is no model");
    assert_eq!(opened.find(InputKind::Dataset, &Digest::of(b"other")), None);
}

#[test]
fn an_entry_replaces_its_older_one_and_can_be_taken_away() {
    let mut case = Case::new();
    case.allowlist.put(entry("owner/set", InputKind::Dataset, b"new rows"));
    case.allowlist.publish(&case.path, &case.key).unwrap();
    let opened = case.open().unwrap();
    assert_eq!(opened.allowlist.serial, 2);
    assert_eq!(opened.find(InputKind::Dataset, &Digest::of(b"rows")), None);
    assert!(opened.find(InputKind::Dataset, &Digest::of(b"new rows")).is_some());
    assert!(case.allowlist.remove(InputKind::Dataset, "owner/set"));
    assert!(!case.allowlist.remove(InputKind::Dataset, "owner/set"));
}

#[test]
fn a_changed_allowlist_is_refused() {
    let case = Case::new();
    let text = std::fs::read_to_string(&case.path).unwrap();
    std::fs::write(&case.path, text.replace("owner/set", "owner/other")).unwrap();
    says(
        case.refused(),
        snapbox::str![[r#"
error[file-changed]: the allowlist was changed after it was signed
  at [FOLDER]/allowlist.toml.sigstore.json
"#]],
    );
}

#[test]
fn an_unsigned_one_and_one_by_a_stranger_are_refused() {
    let case = Case::new();
    let bundle = bundle_beside(&case.path);
    let kept = std::fs::read(&bundle).unwrap();
    std::fs::remove_file(&bundle).unwrap();
    says(
        case.refused(),
        snapbox::str![[r#"
error[signature]: the allowlist is not signed
  at [FOLDER]/allowlist.toml
  because there is no [FOLDER]/allowlist.toml.sigstore.json

hint: `firebrand allowlist` signs what it writes
"#]],
    );
    let stranger = SigningKey::generate().unwrap();
    case.allowlist.clone().publish(&case.path, &stranger).unwrap();
    says(
        case.refused(),
        snapbox::str![[r#"
error[untrusted]: the allowlist is signed by a key that is not trusted for it
  at [FOLDER]/allowlist.toml.sigstore.json
  because the key [SHA256] is not among the keys that you trust (1)

hint: if you know whose key it is, name its public key in `trust.allowlist_keys`
"#]],
    );
    // The stranger's signature under the trusted key's name.
    let mut forged: Value = serde_json::from_slice(&std::fs::read(&bundle).unwrap()).unwrap();
    let own: Value = serde_json::from_slice(&kept).unwrap();
    forged["verificationMaterial"] = own["verificationMaterial"].clone();
    forged["dsseEnvelope"]["signatures"][0]["keyid"] =
        own["dsseEnvelope"]["signatures"][0]["keyid"].clone();
    std::fs::write(&bundle, forged.to_string()).unwrap();
    says(
        case.refused(),
        snapbox::str![[r#"
error[signature]: the allowlist's signature does not hold
  at [FOLDER]/allowlist.toml.sigstore.json
"#]],
    );
}

#[test]
fn an_expired_one_is_refused_from_its_date_on() {
    let case = Case::new();
    let later = case.trust().at(timestamp("2027-01-01T00:00:01Z"));
    let error = Allowlist::open(&case.path, &later, None).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[untrusted]: the allowlist expired on 2027-01-01T00:00:00Z
  at [FOLDER]/allowlist.toml

hint: `firebrand allowlist approve` renews it
"#]],
    );
}

#[test]
fn an_older_copy_is_refused_once_a_newer_one_was_seen() {
    let mut case = Case::new();
    let bundle = bundle_beside(&case.path);
    let old = [&case.path, &bundle].map(|path| std::fs::read(path).unwrap());
    case.open().unwrap();
    case.allowlist.publish(&case.path, &case.key).unwrap();
    case.open().unwrap();
    std::fs::write(&case.path, &old[0]).unwrap();
    std::fs::write(&bundle, &old[1]).unwrap();
    says(
        case.refused(),
        snapbox::str![[r#"
error[untrusted]: `registry acme` has the serial number 1, but 2 was seen before
  at [FOLDER]/allowlist.toml
  because an older copy was put in the place of the newer one

hint: get the newest copy; the serial numbers that were seen are in [FOLDER]/seen-serials.json
"#]],
    );
}

#[test]
fn a_signature_over_something_else_is_no_allowlist() {
    let case = Case::new();
    let sha256 = Digest::of(&std::fs::read(&case.path).unwrap());
    let statement = json!({
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "x", "digest": {"sha256": sha256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {},
    });
    let bundle = Bundle::sign(IN_TOTO, statement.to_string().into_bytes(), &case.key).unwrap();
    std::fs::write(bundle_beside(&case.path), bundle.to_json()).unwrap();
    says(
        case.refused(),
        snapbox::str![[r#"
error[signature]: the signed statement is not an allowlist
  at [FOLDER]/allowlist.toml.sigstore.json
"#]],
    );
}

#[test]
fn what_no_reader_would_accept_is_not_written() {
    let mut case = Case::new();
    let before = std::fs::read(&case.path).unwrap();
    case.allowlist.artifacts.reverse();
    assert!(case.allowlist.publish(&case.path, &case.key).is_err());
    assert_eq!(std::fs::read(&case.path).unwrap(), before);
}
