//! Tests of keyless signatures on bundles that `tests/reference/keyless.py` made, which the official
//! verifiers accept, and on what becomes of them.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::signer::who_signed;
use super::super::trust::Trust;
use super::super::trusted_keys::{KeyLimits, TrustedIdentity};
use super::super::trusted_keys_table::Role;
use super::*;
use crate::artifact::envelope::{Bundle as Envelope, Defect, Material, parse_message_bundle};
use crate::snapshots::says;
use snapbox::data::Inline;
use snapbox::str;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keyless").join(name)
}

fn value(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture(&format!("{name}.sigstore.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn identity() -> TrustedIdentity {
    TrustedIdentity {
        identity: "release@example.com".to_owned(),
        issuer: "https://accounts.example.com".to_owned(),
        root: SigstoreRoot::from_file(&fixture("trusted_root.json")).unwrap(),
        file: "trusted_root.json".into(),
        limits: KeyLimits::default(),
    }
}

/// Why a bundle does not count; nothing if it does.
fn objection_to(bundle: &Value, identity: TrustedIdentity) -> Option<String> {
    let bundle = Envelope::parse(bundle.to_string().as_bytes()).unwrap();
    let trust = Trust::default().and_identity(identity);
    who_signed(&bundle, &trust, Role::Train, None).objection
}

#[track_caller]
fn refused(bundle: &Value, why: Inline) {
    says(objection_to(bundle, identity()).expect("it is refused"), why);
}

/// The bundle with a member at a pointer changed.
fn bent(name: &str, pointer: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut bundle = value(name);
    change(bundle.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")));
    bundle
}

/// Base64 text with the lowest bit of one byte turned around.
fn flipped(text: &mut Value, byte: usize) {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let mut bytes = engine.decode(text.as_str().unwrap()).unwrap();
    bytes[byte] ^= 1;
    *text = json!(engine.encode(bytes));
}

#[test]
fn what_the_official_verifiers_accept_counts() {
    for name in ["model", "model-rekor2"] {
        assert_eq!(objection_to(&value(name), identity()), None, "{name}");
    }
    // The time is proven, and it is what bounds of the identity are about, not the present.
    let until =
        |text: &str| KeyLimits { not_after: Some(text.parse().unwrap()), ..Default::default() };
    let later = TrustedIdentity { limits: until("2026-11-01T12:01:00Z"), ..identity() };
    assert_eq!(objection_to(&value("model"), later), None);
    let before = TrustedIdentity { limits: until("2026-11-01T11:59:00Z"), ..identity() };
    let why = objection_to(&value("model"), before).unwrap();
    says(
        why,
        str![
            "the identity `release@example.com` (https://accounts.example.com) expired on 2026-11-01T11:59:00Z, and it signed on 2026-11-01T12:00:05Z"
        ],
    );
}

#[test]
fn others_do_not_count() {
    let other = TrustedIdentity { identity: "release@example.org".to_owned(), ..identity() };
    says(
        objection_to(&value("model"), other).unwrap(),
        str![
            "the identity `release@example.com` (https://accounts.example.com) is not among the identities that you trust (1)"
        ],
    );
    let other = TrustedIdentity { issuer: "https://example.org".to_owned(), ..identity() };
    says(
        objection_to(&value("model"), other).unwrap(),
        str![
            "the identity `release@example.com` (https://accounts.example.com) has another issuer than you trust with it, `https://example.org`"
        ],
    );
    let root = SigstoreRoot::from_file(&fixture("other_root.json")).unwrap();
    let other = TrustedIdentity { root: root.clone(), ..identity() };
    says(
        objection_to(&value("model"), other).unwrap(),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its signature is not proven to be in a transparency log of the trusted root (invalid inclusion promise: No log key valid at integrated time 2026-11-01T12:00:05Z for log ID f64cPCmVyeAmiVN3RKiXaUAj4uV3hsQpHFeLMKbQ9V4=)"
        ],
    );
    let other = TrustedIdentity { root, ..identity() };
    says(
        objection_to(&value("model-rekor2"), other).unwrap(),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its time stamp does not hold (invalid RFC 3161 timestamp: TSA timestamp verification failed: Failed to verify timestamp signature: CMS signer does not match any trusted TSA certificate)"
        ],
    );
    let revoked = KeyLimits { revoked: Some("left us".to_owned()), ..Default::default() };
    let revoked = TrustedIdentity { limits: revoked, ..identity() };
    says(
        objection_to(&value("model"), revoked).unwrap(),
        str![
            "the identity `release@example.com` (https://accounts.example.com) was revoked: left us"
        ],
    );
    let gate = KeyLimits { roles: Some(vec![Role::Gate]), ..Default::default() };
    let gate = TrustedIdentity { limits: gate, ..identity() };
    says(
        objection_to(&value("model"), gate).unwrap(),
        str![
            "the identity `release@example.com` (https://accounts.example.com) has the role `gate`, and `train` is needed"
        ],
    );
}

#[test]
fn a_signature_outside_of_the_certificates_minutes_does_not_count() {
    refused(
        &value("expired"),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its certificate does not lead to the trusted root at the proven time (certificate chain is invalid: certificate chain validation failed: CertExpired { time: UnixTime(1793535060), not_after: UnixTime(1793535000) })"
        ],
    );
    refused(
        &value("expired-rekor2"),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its certificate does not lead to the trusted root at the proven time (certificate chain is invalid: certificate chain validation failed: CertExpired { time: UnixTime(1793535060), not_after: UnixTime(1793535000) })"
        ],
    );
}

#[test]
fn a_certificate_that_was_not_logged_does_not_count() {
    refused(
        &value("no-sct"),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its certificate is not proven to be in a certificate log of the trusted root (invalid signed certificate timestamp: certificate is missing SCT extension (Signed Certificate Timestamp))"
        ],
    );
}

const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

#[test]
fn a_log_entry_that_was_changed_does_not_count() {
    let entry = |rest: &str| format!("{ENTRY}{rest}");
    let proof = |rest: &str| format!("{ENTRY}/inclusionProof{rest}");
    refused(
        &bent("model", &entry("/integratedTime"), |it| *it = json!("1793534406")),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its signature is not proven to be in a transparency log of the trusted root (invalid inclusion promise: SET verification failed: Verification error: ECDSA_P256_SHA256 signature invalid)"
        ],
    );
    refused(
        &bent("model", &entry("/canonicalizedBody"), |it| flipped(it, 40)),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its signature is not proven to be in a transparency log of the trusted root (invalid inclusion promise: SET verification failed: Verification error: ECDSA_P256_SHA256 signature invalid)"
        ],
    );
    refused(
        &bent("model-rekor2", &entry("/canonicalizedBody"), |it| flipped(it, 40)),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its signature is not proven to be in a transparency log of the trusted root (invalid inclusion proof: inclusion proof verification failed: root hash mismatch: expected [SHA256], computed [SHA256])"
        ],
    );
    refused(
        &bent("model", &proof("/hashes/0"), |it| flipped(it, 3)),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its signature is not proven to be in a transparency log of the trusted root (invalid inclusion proof: inclusion proof verification failed: root hash mismatch: expected [SHA256], computed [SHA256])"
        ],
    );
    refused(
        &bent("model", &proof("/checkpoint/envelope"), |it| {
            *it =
                json!(it.as_str().unwrap().replace("rekor.example.com\n6", "rekor.example.com\n7"));
        }),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its signature is not proven to be in a transparency log of the trusted root (invalid checkpoint: No valid Rekor signature found on checkpoint)"
        ],
    );
    refused(
        &bent("model", &entry("/inclusionPromise/signedEntryTimestamp"), |it| flipped(it, 20)),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its signature is not proven to be in a transparency log of the trusted root (invalid inclusion promise: SET verification failed: Verification error: ECDSA_P256_SHA256 signature invalid)"
        ],
    );
    // An entry that is in the log, about another signature.
    let other = value("model-rekor2").pointer(ENTRY).unwrap().clone();
    refused(
        &bent("model", ENTRY, |it| *it = other),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its time stamp does not hold (no verified timestamp: V2 bundle requires RFC3161 timestamp but none could be verified. V2 tlog entries have no integrated time by design. Ensure TSA certificates are present in the trusted root.)"
        ],
    );
    refused(
        &bent("model", ENTRY, |it| drop(it.as_object_mut().unwrap().remove("inclusionProof"))),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its log entry has no proof of inclusion"
        ],
    );
}

#[test]
fn a_time_stamp_that_was_changed_does_not_count() {
    let stamps = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
    let stamp = format!("{stamps}/0/signedTimestamp");
    refused(
        &bent("model-rekor2", &stamp, |it| flipped(it, 120)),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its time stamp does not hold (invalid RFC 3161 timestamp: TSA timestamp verification failed: Timestamp message hash mismatch: expected [SHA256], got [SHA256])"
        ],
    );
    refused(
        &bent("model-rekor2", stamps, |it| *it = json!([])),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its time stamp does not hold (no verified timestamp: V2 bundle requires RFC3161 timestamp but none could be verified. V2 tlog entries have no integrated time by design. Ensure TSA certificates are present in the trusted root.)"
        ],
    );
    // One of another signature.
    let other = value("data-rekor2").pointer(&stamp).unwrap().clone();
    refused(
        &bent("model-rekor2", &stamp, |it| *it = other),
        str![
            "the identity `release@example.com` (https://accounts.example.com) does not count: its time stamp does not hold (invalid RFC 3161 timestamp: TSA timestamp verification failed: Timestamp message hash mismatch: expected [SHA256], got [SHA256])"
        ],
    );
}

#[test]
fn a_signature_over_something_else_does_not_hold() {
    let mut bundle = value("model");
    flipped(bundle.pointer_mut("/dsseEnvelope/payload").unwrap(), 200);
    let bundle = Envelope::parse(bundle.to_string().as_bytes()).unwrap();
    let signed = who_signed(&bundle, &Trust::default().and_identity(identity()), Role::Train, None);
    assert_eq!(signed.holds, Some(false));
    assert!(signed.objection.is_some());
}

#[test]
fn evidence_has_a_shape_and_a_size() {
    let defect = |pointer: &str, change: &dyn Fn(&mut Value)| match Envelope::parse(
        bent("model-rekor2", pointer, change).to_string().as_bytes(),
    ) {
        Err(Defect::Malformed(why) | Defect::Unsupported(why)) => why,
        other => panic!("{pointer}: {other:?}"),
    };
    let material = "/verificationMaterial";
    let all = [
        defect(material, &|it| drop(it.as_object_mut().unwrap().remove("tlogEntries"))),
        defect(&format!("{material}/tlogEntries"), &|it| *it = json!(vec![it[0].clone(); 9])),
        defect(&format!("{material}/tlogEntries"), &|it| *it = json!({})),
        defect(material, &|it| it["more"] = json!(1)),
        defect(material, &|it| it["publicKey"] = json!({"hint": ""})),
        defect(&format!("{material}/certificate"), &|it| it["rawBytes"] = json!("MAA=")),
        defect(&format!("{material}/timestampVerificationData"), &|it| it["more"] = json!(1)),
    ];
    says(
        all.join("\n"),
        str![[r#"
a short-lived `certificate` without an entry of a transparency log
9 of `tlogEntries`, more than 8
`tlogEntries` is not a list
`verificationMaterial` has the unknown key `more`
`verificationMaterial` has the unknown key `publicKey`
a certificate is damaged: ASN.1 DER message is incomplete: expected 3, actual 2 at DER byte 2
`timestampVerificationData` has the unknown key `more`
"#]],
    );
}

#[test]
fn a_certificate_whose_key_is_not_for_ecdsa_is_refused_by_name() {
    use base64::Engine as _;
    let rsa = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/certificates/rsa-root.pem");
    let rsa = Certificate::all_from_file(Path::new(rsa)).unwrap();
    let rsa = base64::engine::general_purpose::STANDARD.encode(rsa[0].der());
    let with_it =
        |name| bent(name, "/verificationMaterial/certificate/rawBytes", |it| *it = json!(rsa));
    let why = Defect::Unsupported("the key of its certificate is not for ECDSA".to_owned());
    let model = with_it("model").to_string();
    assert_eq!(Envelope::parse(model.as_bytes()), Err(why.clone()));
    assert_eq!(parse_message_bundle(&with_it("data")), Err(why));
}

#[test]
fn hostile_evidence_is_an_answer_and_no_panic() {
    // Every text of the evidence, cut, empty, and with each of some bytes turned around.
    let texts = |value: &Value| {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), value.clone())];
        while let Some((path, value)) = open.pop() {
            match value {
                Value::Object(map) => {
                    open.extend(map.into_iter().map(|(key, it)| (format!("{path}/{key}"), it)));
                }
                Value::Array(list) => {
                    open.extend(
                        list.into_iter().enumerate().map(|(i, it)| (format!("{path}/{i}"), it)),
                    );
                }
                Value::String(text) => found.push((path, text)),
                _ => {}
            }
        }
        found
    };
    let identity = identity();
    let mut answers = 0;
    for name in ["model", "model-rekor2"] {
        let whole = value(name);
        for (path, text) in texts(&whole["verificationMaterial"]) {
            let path = format!("/verificationMaterial{path}");
            let step = (text.len() / 12).max(1);
            let cut = (0..text.len()).step_by(step).map(|end| text[..end].to_owned());
            let turned = (0..text.len()).step_by(step).map(|at| {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                String::from_utf8_lossy(&bytes).into_owned()
            });
            for other in cut.chain(turned).filter(|other| *other != text) {
                let bundle = bent(name, &path, |it| *it = json!(other));
                let Ok(bundle) = Envelope::parse(bundle.to_string().as_bytes()) else { continue };
                let Material::Keyless(keyless) = &bundle.material else { panic!("{path}") };
                let content = SignedContent::Statement(&bundle.payload);
                // Fields that nothing vouches for may change, such as those that Rekor 2 repeats.
                let _ = identity.root.check(keyless, content);
                answers += 1;
            }
        }
    }
    assert!(answers > 200, "{answers}");
}

#[test]
fn a_root_that_is_none_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.json");
    let text = std::fs::read_to_string(fixture("trusted_root.json")).unwrap();
    let root: Value = serde_json::from_str(&text).unwrap();
    let mut said = String::new();
    let bent = |pointer: &str, other: Value| {
        let mut root = root.clone();
        *root.pointer_mut(pointer).unwrap() = other;
        root.to_string()
    };
    for text in [
        "{}".to_owned(),
        "[".to_owned(),
        bent("/certificateAuthorities/0/certChain/certificates", json!([])),
        bent("/certificateAuthorities/0/certChain/certificates/0/rawBytes", json!("MAA=")),
        bent("/tlogs/1", root["tlogs"][0].clone()),
    ] {
        std::fs::write(&path, text).unwrap();
        said += &format!("{}\n", SigstoreRoot::from_file(&path).unwrap_err());
    }
    says(
        said,
        str![[r#"
error[key]: this is no trusted root of Sigstore
  at [FOLDER]/root.json
  because `mediaType` does not begin with `application/vnd.dev.sigstore.trustedroot`

hint: `cosign trusted-root create` and `gh attestation trusted-root` write one
error[file]: not valid JSON
  at [FOLDER]/root.json
  because EOF while parsing a list at line 1 column 1
error[key]: the trusted root cannot be used
  at [FOLDER]/root.json
  because invalid trusted root: trusted authority has an empty certificate chain
error[key]: the trusted root cannot be used
  at [FOLDER]/root.json
  because invalid trusted certificate: BadDer
error[key]: the trusted root cannot be used
  at [FOLDER]/root.json
  because invalid trusted root: duplicate trusted log ID: [SHA256]

"#]],
    );
    // As the reference program wants it, within the configuration of a client.
    let config = json!({"mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": root});
    std::fs::write(&path, config.to_string()).unwrap();
    assert!(SigstoreRoot::from_file(&path).is_ok());
}

#[test]
fn what_a_keyless_signature_covers_may_be_read_by_name() {
    use super::super::signed_files;
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    std::fs::copy(fixture("model.sigstore.json"), model.join("model.sig")).unwrap();
    let files = signed_files(&model, &Trust::default().and_identity(identity())).unwrap();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["config.json", "notes/read.txt"]);
    let other = TrustedIdentity { identity: "nobody@example.com".to_owned(), ..identity() };
    assert!(signed_files(&model, &Trust::default().and_identity(other)).is_err());
}
