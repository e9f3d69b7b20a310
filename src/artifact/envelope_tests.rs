//! Tests of the envelope: the standard's vector, and every way to bend a bundle.

use super::super::keys::tests::known_key;
use super::*;

fn bundle() -> Value {
    let bundle = Bundle::sign(IN_TOTO, b"{}".to_vec(), &known_key()).unwrap();
    serde_json::from_str(&bundle.to_json()).unwrap()
}

fn parse(value: &Value) -> Result<Bundle, Defect> {
    Bundle::parse(value.to_string().as_bytes())
}

/// The bundle after `change` is malformed, and the reason names `part`.
fn refused(part: &str, change: impl FnOnce(&mut Value)) {
    let mut value = bundle();
    change(&mut value);
    match parse(&value) {
        Err(Defect::Malformed(reason)) => assert!(reason.contains(part), "{reason}"),
        other => panic!("{part}: {other:?}"),
    }
}

#[test]
fn the_signed_bytes_are_dsses() {
    // The vector of the DSSE protocol text.
    assert_eq!(
        pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
}

#[test]
fn a_bundle_comes_back_as_it_was_and_verifies() {
    let key = known_key();
    let one = Bundle::sign(IN_TOTO, b"payload".to_vec(), &key).unwrap();
    let back = Bundle::parse(one.to_json().as_bytes()).unwrap();
    assert_eq!(back, one);
    assert!(key.public().accepts(&back.signed_bytes(), &back.signature));
    let two = Bundle::sign(IN_TOTO, b"payload".to_vec(), &key).unwrap();
    assert_eq!(one.to_json(), two.to_json(), "signing is deterministic");
}

#[test]
fn the_key_identifier_is_absent_or_the_hint() {
    for keyid in [Value::Null, json!(""), json!(known_key().public().hint())] {
        let mut value = bundle();
        value["dsseEnvelope"]["signatures"][0]["keyid"] = keyid;
        assert!(parse(&value).is_ok());
    }
    let mut value = bundle();
    value["dsseEnvelope"]["signatures"][0].as_object_mut().unwrap().remove("keyid");
    assert!(parse(&value).is_ok());
    refused("keyid", |value| value["dsseEnvelope"]["signatures"][0]["keyid"] = json!("other"));
}

#[test]
fn bent_bundles_are_refused() {
    let old = "application/vnd.dev.sigstore.bundle+json;version=0.3";
    refused("mediaType", |value| value["mediaType"] = json!(old));
    refused("unknown key `more`", |value| value["more"] = json!(1));
    refused("unknown key `more`", |value| value["dsseEnvelope"]["more"] = json!(1));
    refused("unknown key `more`", |value| {
        value["dsseEnvelope"]["signatures"][0]["more"] = json!(1);
    });
    refused("unknown key `more`", |value| value["verificationMaterial"]["more"] = json!(1));
    refused("more than one", |value| {
        let signatures = value["dsseEnvelope"]["signatures"].as_array_mut().unwrap();
        signatures.push(signatures[0].clone());
    });
    refused("`publicKey` is missing", |value| value["verificationMaterial"] = json!({}));
    refused("`hint` is missing", |value| {
        value["verificationMaterial"]["publicKey"] = json!({});
    });
    refused("hint", |value| value["verificationMaterial"]["publicKey"]["hint"] = json!(""));
    refused("hint", |value| {
        let hint = &mut value["verificationMaterial"]["publicKey"]["hint"];
        *hint = json!(hint.as_str().unwrap().to_uppercase());
    });
}

#[test]
fn only_padded_standard_base64_is_read() {
    // `{}` is `e30=`; the others are without padding, with stray bits, URL-safe, with white space.
    for text in ["e30", "e31=", "-_-_", "e30=\n", ""] {
        let mut value = bundle();
        value["dsseEnvelope"]["payload"] = json!(text);
        assert_eq!(parse(&value).is_ok(), text.is_empty(), "{text:?}");
    }
}

#[test]
fn ambiguous_json_is_refused() {
    let text = bundle().to_string();
    let twice = text.replacen('{', "{\"mediaType\":\"x\",", 1);
    for text in [twice, format!("\u{feff}{text}"), format!("{text} x"), String::new()] {
        assert!(matches!(Bundle::parse(text.as_bytes()), Err(Defect::Malformed(_))), "{text}");
    }
}

#[test]
fn a_stripped_signature_is_told_from_a_bent_one() {
    let mut value = bundle();
    value["dsseEnvelope"]["signatures"] = json!([]);
    assert_eq!(parse(&value), Err(Defect::Unsigned));
}

#[test]
fn certificates_come_back_as_they_were() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| {
        std::fs::read_to_string(folder.join("tests/fixtures/certificates").join(name)).unwrap()
    };
    let chain = Certificate::all_from_pem(&read("good.chain.pem")).unwrap();
    let key = SigningKey::from_pem(&read("release.key.pem"), "").unwrap();
    let one = Bundle::sign(IN_TOTO, b"{}".to_vec(), &key.certified(chain).unwrap()).unwrap();
    assert!(matches!(&one.material, Material::Chain(chain) if chain.len() == 2));
    assert_eq!(Bundle::parse(one.to_json().as_bytes()).unwrap(), one);

    let bent = |part: &str, change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&one.to_json()).unwrap();
        change(&mut value);
        match parse(&value) {
            Err(Defect::Malformed(reason)) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{part}: {other:?}"),
        }
    };
    let list = |value: &mut Value, list: Value| {
        value["verificationMaterial"]["x509CertificateChain"]["certificates"] = list;
    };
    bent("0 certificates", &|v| list(v, json!([])));
    bent("11 certificates", &|v| list(v, json!(vec![json!({"rawBytes": ""}); 11])));
    bent("a certificate is damaged", &|v| list(v, json!([{"rawBytes": "MAA="}])));
    bent("unknown key `x`", &|v| list(v, json!([{"rawBytes": "", "x": 1}])));
    bent("both a key and certificates", &|v| {
        v["verificationMaterial"]["publicKey"] = json!({"hint": known_key().public().hint()});
    });
    bent("keyid", &|v| v["dsseEnvelope"]["signatures"][0]["keyid"] = json!("x"));
    bent("`publicKey` is missing", &|v| v["verificationMaterial"] = json!({}));
}

#[test]
fn entries_of_logs_beside_a_key_cannot_be_checked() {
    let mut value = bundle();
    value["verificationMaterial"]["tlogEntries"] = json!([{}]);
    assert!(matches!(parse(&value), Err(Defect::Unsupported(_))));
}
