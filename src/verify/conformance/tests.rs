//! Tests of the standard's rules: signatures of every kind and version, and what must not pass.

use serde_json::{Value, json};

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/certificates").join(name)
}

/// A model beside its keys.
struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(case.path("model/more/.git")).unwrap();
        for name in ["model/a", "model/more/b", "model/ignored", "model/more/.git/c"] {
            fs::write(case.path(name), name).unwrap();
        }
        for name in ["release", "p384", "p521"] {
            let text = fs::read_to_string(fixture(&format!("{name}.key.pem"))).unwrap();
            let key = SigningKey::from_pem(&text, name).unwrap();
            fs::write(case.path(&format!("{name}.pub")), key.public().pem()).unwrap();
        }
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, key: &str, chain: Option<&str>, ignored: &[PathBuf]) -> Result<()> {
        let chain = chain.map(|name| Certificate::all_from_file(&fixture(name)).unwrap());
        sign_model(&Signing {
            model: &self.path("model"),
            private_key: &fixture(&format!("{key}.key.pem")),
            certificates: chain.unwrap_or_default(),
            ignored,
            output: &self.path("model/model.sig"),
        })
    }

    fn verify(&self, whom: Whom, ignored: &[PathBuf], ignore_unsigned: bool) -> Result<()> {
        self.verify_at("model", whom, ignored, ignore_unsigned)
    }

    fn verify_at(
        &self,
        model: &str,
        whom: Whom,
        ignored: &[PathBuf],
        ignore_unsigned: bool,
    ) -> Result<()> {
        verify_model(&Verifying {
            model: &self.path(model),
            bundle: &self.path("model/model.sig"),
            whom,
            ignored,
            ignore_unsigned,
        })
    }

    fn by(&self, key: &str) -> Whom {
        Whom::Key(self.path(&format!("{key}.pub")))
    }

    /// The bundle, changed.
    fn bend(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path("model/model.sig");
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(&path, value.to_string()).unwrap();
    }

    /// Signs a statement as it is, with a key on P-256.
    fn sign_statement(&self, statement: &Value) {
        let text = fs::read_to_string(fixture("release.key.pem")).unwrap();
        let key = SigningKey::from_pem(&text, "release").unwrap();
        let bundle = Bundle::sign(IN_TOTO, statement.to_string().into_bytes(), &key).unwrap();
        fs::write(self.path("model/model.sig"), bundle.to_json()).unwrap();
    }

    #[track_caller]
    fn fails(&self, result: Result<()>, part: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::Refused, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

fn authorities(name: &str) -> Whom {
    Whom::Authorities(Certificate::all_from_file(&fixture(name)).unwrap())
}

#[test]
fn keys_on_every_curve_sign_and_verify() {
    for key in ["release", "p384", "p521"] {
        let case = Case::new();
        case.sign(key, None, &[]).unwrap();
        case.verify(case.by(key), &[], false).unwrap();
        let other = if key == "p384" { "p521" } else { "p384" };
        case.fails(case.verify(case.by(other), &[], false), "names another key");
        fs::write(case.path("model/a"), "b").unwrap();
        case.fails(case.verify(case.by(key), &[], false), "`a` was changed");
    }
}

#[test]
fn certificates_sign_and_verify() {
    let case = Case::new();
    for (key, chain) in [("release", "good"), ("p384", "p384"), ("p521", "p521")] {
        case.sign(key, Some(&format!("{chain}.chain.pem")), &[]).unwrap();
        case.verify(authorities("root.pem"), &[], false).unwrap();
        case.fails(
            case.verify(authorities("rsa-root.pem"), &[], false),
            "not among the authorities that you trust (1)",
        );
        case.fails(case.verify(case.by(key), &[], false), "by a certificate, not a key");
    }
    assert!(case.sign("p384", Some("good.chain.pem"), &[]).is_err(), "another key's");
    case.sign("release", Some("self.chain.pem"), &[]).unwrap();
    case.verify(authorities("self.chain.pem"), &[], false).unwrap();
    case.sign("release", Some("expired.chain.pem"), &[]).unwrap();
    case.fails(case.verify(authorities("root.pem"), &[], false), "expired");
    case.sign("release", None, &[]).unwrap();
    case.fails(case.verify(authorities("root.pem"), &[], false), "by a key, not a certificate");
}

#[test]
fn what_is_left_out_does_not_matter() {
    let case = Case::new();
    let ignored = [case.path("model/ignored")];
    fs::create_dir(case.path("model/.git")).unwrap();
    case.sign("release", None, &ignored).unwrap();
    fs::write(case.path("model/ignored"), "changed").unwrap();
    fs::write(case.path("model/.git/HEAD"), "").unwrap();
    case.verify(case.by("release"), &ignored, false).unwrap();
    case.verify(case.by("release"), &[], false).unwrap(); // the signature says so itself
    fs::write(case.path("model/more/.git/c"), "changed").unwrap();
    case.fails(case.verify(case.by("release"), &[], false), "`more/.git/c` was changed");
    fs::write(case.path("model/more/.git/c"), "model/more/.git/c").unwrap();
    fs::write(case.path("model/extra"), "").unwrap();
    case.fails(case.verify(case.by("release"), &[], false), "no signature covers `extra`");
    case.verify(case.by("release"), &[case.path("model/extra")], false).unwrap();
    case.verify(case.by("release"), &[], true).unwrap();
    fs::remove_file(case.path("model/a")).unwrap();
    case.fails(case.verify(case.by("release"), &[], true), "`a` is missing");
}

#[cfg(unix)]
#[test]
fn links_and_empty_models_are_refused() {
    let case = Case::new();
    std::os::unix::fs::symlink(".", case.path("model/cycle")).unwrap();
    case.fails(case.sign("release", None, &[]), "only regular files");
    case.sign("release", None, &[case.path("model/cycle")]).unwrap();
    case.verify(case.by("release"), &[], false).unwrap();
    fs::remove_dir_all(case.path("model")).unwrap();
    fs::create_dir_all(case.path("model")).unwrap();
    fs::write(case.path("model/.gitignore"), "x").unwrap();
    case.fails(case.sign("release", None, &[]), "no file to sign");
}

#[test]
fn older_versions_verify() {
    let case = Case::new();
    // Up to 1.0 the key itself stood in the bundle, and nothing was said of what is left out.
    case.sign("release", None, &[]).unwrap();
    let pem = fs::read(case.path("release.pub")).unwrap();
    let raw = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    case.bend(|bundle| {
        bundle["verificationMaterial"] = json!({"publicKey": {"rawBytes": raw}});
        bundle["dsseEnvelope"]["signatures"][0]["keyid"] = Value::Null;
    });
    case.verify(case.by("release"), &[], false).unwrap();
    case.fails(case.verify(case.by("p384"), &[], false), "names another key");

    // Version 0.2 listed the files as subjects.
    let text = |name: &str| Digest::of(name.as_bytes()).to_string();
    let subject = |name: &str| {
        json!({"name": name, "digest": {"sha256": text(&format!("model/{name}"))},
               "annotations": {"actual_hash_algorithm": "file-sha256"}})
    };
    let old = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [subject("a"), subject("more/b"), subject("ignored"), subject("more/.git/c")],
        "predicateType": "https://model_signing/Digests/v0.1",
        "predicate": {"unused": "Unused"},
    });
    case.sign_statement(&old);
    case.verify(case.by("release"), &[], false).unwrap();
    fs::write(case.path("model/a"), "b").unwrap();
    case.fails(case.verify(case.by("release"), &[], false), "`a` was changed");

    // A single file was called `.`, and its folder did not matter.
    let digest = Digest::of(b"b");
    let single = |name: &str| {
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "a", "digest": {"sha256": root_digest([digest].iter())}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "resources": [{"name": name, "algorithm": "sha256", "digest": digest}],
                "serialization": {
                    "method": "files", "hash_type": "sha256", "allow_symlinks": false,
                },
            },
        })
    };
    for name in [".", "a"] {
        case.sign_statement(&single(name));
        case.verify_at("model/a", case.by("release"), &[], false).unwrap();
    }
    case.sign_statement(&single("b"));
    case.fails(
        case.verify_at("model/a", case.by("release"), &[], false),
        "no signature covers `a`",
    );
}

#[test]
fn bent_bundles_do_not_verify() {
    let case = Case::new();
    let refused = |part: &str, change: &dyn Fn(&mut Value)| {
        case.sign("release", None, &[]).unwrap();
        case.bend(change);
        case.fails(case.verify(case.by("release"), &[], false), part);
    };
    refused("`mediaType`", &|b| b["mediaType"] = json!("application/json"));
    refused("`dsseEnvelope` is not an object", &|b| {
        b.as_object_mut().unwrap().remove("dsseEnvelope");
    });
    refused("exactly one signature", &|b| b["dsseEnvelope"]["signatures"] = json!([]));
    refused("`payloadType`", &|b| b["dsseEnvelope"]["payloadType"] = json!("application/json"));
    refused("neither a key nor", &|b| b["verificationMaterial"] = json!({}));
    refused("is not a signature", &|b| {
        b["verificationMaterial"] = json!({"publicKey": {}});
        b["dsseEnvelope"]["payload"] = json!("e30=");
    });
    refused("unknown", &|b| b["x"] = json!(1));
    for text in ["", "{", "[]"] {
        fs::write(case.path("model/model.sig"), text).unwrap();
        assert!(case.verify(case.by("release"), &[], false).is_err());
    }
    let statement = |change: &dyn Fn(&mut Value), part: &str| {
        case.sign("release", None, &[]).unwrap();
        let bundle = Bundle::parse(&fs::read(case.path("model/model.sig")).unwrap()).unwrap();
        let mut statement = serde_json::from_slice(&bundle.payload).unwrap();
        change(&mut statement);
        case.sign_statement(&statement);
        case.fails(case.verify(case.by("release"), &[], false), part);
    };
    statement(&|s| s["_type"] = json!("https://in-toto.io/Statement/v0.1"), "`_type`");
    statement(&|s| s["predicateType"] = json!("https://slsa.dev/provenance/v1"), "predicateType");
    statement(&|s| s["subject"] = json!([]), "exactly one subject");
    statement(&|s| s["predicate"]["resources"] = json!([]), "root digest");
    statement(&|s| drop(s.as_object_mut().unwrap().remove("predicate")), "`method`");
    statement(
        &|s| s["subject"][0]["digest"]["sha256"] = json!(Digest::of(b"x")),
        "root digest does not follow",
    );
    statement(&|s| s["predicate"]["resources"][0]["algorithm"] = json!("md5"), "`algorithm`");
}
