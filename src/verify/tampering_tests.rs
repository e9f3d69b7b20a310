//! Tests of bent bundles, statements, weights and lineage, some of them truly signed.

use super::*;

#[test]
fn a_changed_payload_breaks_the_signature() {
    let fixture = Fixture::plain();
    let bytes = fs::read(fixture.path(signature::FILE)).unwrap();
    let mut bundle = Bundle::parse(&bytes).unwrap();
    bundle.payload = String::from_utf8(bundle.payload).unwrap().replace("tiny", "tinY").into();
    fixture.write(signature::FILE, bundle.to_json());
    fixture.expect(Verdict::Tampered, Check::Signature, "did not sign");
}

#[test]
fn bent_bundles_are_tampering() {
    let fixture = Fixture::plain();
    let text = fs::read_to_string(fixture.path(signature::FILE)).unwrap();
    fixture.write(signature::FILE, text.replacen('{', "{\"mediaType\":\"x\",", 1));
    fixture.expect(Verdict::Tampered, Check::Bundle, "appears twice");
    let mut value: Value = serde_json::from_str(&text).unwrap();
    let signatures = value["dsseEnvelope"]["signatures"].as_array_mut().unwrap();
    signatures.push(signatures[0].clone());
    fixture.write(signature::FILE, value.to_string());
    fixture.expect(Verdict::Tampered, Check::Bundle, "more than one signature");
    let payload = fs::read(fixture.path("config.json")).unwrap();
    let bundle = Bundle::sign("application/json", payload, &fixture.key).unwrap();
    fixture.write(signature::FILE, bundle.to_json());
    fixture.expect(Verdict::Tampered, Check::Bundle, "payloadType");
}

#[test]
fn bent_statements_are_tampering_even_when_truly_signed() {
    let fixture = Fixture::plain();
    let original = fixture.statement();
    let bent = |part: &str, change: &dyn Fn(&mut Value)| {
        fixture.sign_text(&original.to_string());
        fixture.sign_statement(change);
        fixture.expect(Verdict::Tampered, Check::Statement, part);
    };
    bent("`_type`", &|s| s["_type"] = json!("https://in-toto.io/Statement/v0.1"));
    bent("`predicateType`", &|s| s["predicateType"] = json!("https://slsa.dev/provenance/v1"));
    bent("unknown key `x`", &|s| s["predicate"]["x"] = json!(1));
    bent("unknown key `x`", &|s| s["predicate"]["serialization"]["x"] = json!(1));
    bent("one subject", &|s| s["subject"] = json!([s["subject"][0], s["subject"][0]]));
    bent("`allow_symlinks`", &|s| {
        s["predicate"]["serialization"]["allow_symlinks"] = json!(true);
    });
    bent("`allow_symlinks` is missing", &|s| {
        s["predicate"]["serialization"].as_object_mut().unwrap().remove("allow_symlinks");
    });
    bent("lower-case", &|s| {
        let digest = &mut s["predicate"]["resources"][0]["digest"];
        *digest = json!(digest.as_str().unwrap().to_uppercase());
    });
    for name in ["./config.json", "../outside", "/etc/passwd", "a//b", "more/"] {
        bent("plain relative", &|s| s["predicate"]["resources"][0]["name"] = json!(name));
    }
    bent("listed twice", &|s| {
        let list = s["predicate"]["resources"].as_array_mut().unwrap();
        list.push(list[0].clone());
    });
    bent("no file is listed", &|s| s["predicate"]["resources"] = json!([]));
}

#[test]
fn a_statement_with_a_key_twice_is_tampering() {
    let fixture = Fixture::plain();
    let text = fixture.statement().to_string();
    fixture.sign_text(&text.replacen('{', "{\"_type\":\"x\",", 1));
    fixture.expect(Verdict::Tampered, Check::Statement, "appears twice");
}

#[test]
fn legal_variants_are_accepted() {
    let fixture = Fixture::plain();
    fixture.sign_statement(|s| {
        s["predicate"]["resources"][0]["annotations"] = json!({"x": 1});
        s["subject"][0]["uri"] = json!("urn:x");
        s["predicate"]["serialization"].as_object_mut().unwrap().remove("ignore_paths");
    });
    assert_eq!(fixture.report().verdict, Verdict::Verified);
    // Other programs sort by folder; the root digest goes over the order that is listed.
    fixture.sign_statement(|s| {
        let list = s["predicate"]["resources"].as_array_mut().unwrap();
        list.reverse();
        let digests: Vec<Digest> =
            list.iter().map(|file| file["digest"].as_str().unwrap().parse().unwrap()).collect();
        let root = signature::root_digest(digests.iter());
        s["subject"][0]["digest"]["sha256"] = json!(root);
    });
    assert_eq!(fixture.report().verdict, Verdict::Verified);
}

#[test]
fn other_hashes_are_legal_but_cannot_be_checked() {
    let fixture = Fixture::plain();
    fixture.sign_statement(|s| {
        s["predicate"]["serialization"]["hash_type"] = json!("blake3");
    });
    fixture.expect(Verdict::CouldNotCheck, Check::Statement, "only `sha256`");
    assert_eq!(Verdict::CouldNotCheck.exit_code(), 2);
}

#[test]
fn a_wrong_root_digest_is_tampering() {
    let fixture = Fixture::plain();
    fixture.sign_statement(|s| {
        s["subject"][0]["digest"]["sha256"] = json!(Digest::of(b"other"));
    });
    fixture.expect(Verdict::Tampered, Check::Root, "does not follow");
}

#[test]
fn the_signature_may_not_leave_files_out() {
    let fixture = Fixture::plain();
    fixture.sign_statement(|s| {
        let paths = s["predicate"]["serialization"]["ignore_paths"].as_array_mut().unwrap();
        paths.push(json!("more"));
        s["predicate"]["resources"].as_array_mut().unwrap().truncate(1);
    });
    // Its root digest is that of all files, so that the bent list shows.
    fixture.expect(Verdict::Tampered, Check::Unsigned, "not signed: `more/notes.txt`");
}

#[test]
fn bad_weights_are_refused_although_signed() {
    let fixture = Fixture::plain();
    fixture.write("model.SafeTensors", [&weights("x")[..], b"PK\x03\x04"].concat());
    fixture.sign();
    fixture.expect(
        Verdict::Tampered,
        Check::Safetensors,
        "`model.SafeTensors`: the tensors have 8",
    );
}

#[test]
fn lineage_must_agree_with_the_weights() {
    let fixture = Fixture::artifact();
    fixture.write("adapter_model.safetensors", weights(&Digest::of(b"other").to_string()));
    fixture.state();
    fixture.sign();
    fixture.expect(Verdict::Tampered, Check::LineageInputs, "made from other inputs");
}

#[test]
fn lineage_must_agree_with_itself() {
    let fixture = Fixture::artifact();
    let text = fs::read_to_string(fixture.path(lineage::INPUTS_FILE)).unwrap();
    let changed = text.replace("\"lora\"", "\"full\"");
    assert_ne!(changed, text);
    fixture.write(lineage::INPUTS_FILE, &changed);
    fixture
        .write("adapter_model.safetensors", weights(&Digest::of(changed.as_bytes()).to_string()));
    fixture.state();
    fixture.sign();
    fixture.expect(Verdict::Tampered, Check::LineageStatement, "its `buildDefinition` is not");
    fs::remove_file(fixture.path(lineage::INPUTS_FILE)).unwrap();
    fixture.sign();
    fixture.expect(Verdict::Tampered, Check::LineageStatement, "is missing beside");
    fixture.write(lineage::INPUTS_FILE, "{\"a\":1,\"a\":1}");
    fixture.sign();
    fixture.expect(Verdict::Tampered, Check::LineageStatement, "appears twice");
}

#[test]
fn lineage_must_be_about_these_files() {
    let fixture = Fixture::artifact();
    fixture.write("config.json", "[]");
    fixture.sign();
    fixture.expect(Verdict::Tampered, Check::LineageSubjects, "other files: `config.json`");
    fixture.write("config.json", "{}");
    fixture.write("note.txt", "added later");
    fixture.sign();
    assert_eq!(fixture.report().verdict, Verdict::Verified);
    fixture.write("model.safetensors", weights(&Digest::of(b"x").to_string()));
    fixture.sign();
    fixture.expect(Verdict::Tampered, Check::LineageSubjects, "know `model.safetensors`");
}
