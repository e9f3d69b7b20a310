//! Verdicts as the gate writes them, signed by a key at hand.

use std::io::Write;
use std::path::Path;

use firebrand::artifact::envelope::{Bundle, IN_TOTO};
use firebrand::artifact::keys::SigningKey;
use firebrand::artifact::signature::attestations_of;
use firebrand::files::hash_tree;
use firebrand::gate::attest::{VERIFIER, VSA};
use serde_json::{Value, json};

/// Adds the verdict that a model passed or failed, with numbers.
pub fn add(model: &Path, key: &Path, result: &str, metrics: &Value) {
    let subject = |file: firebrand::files::FileEntry| json!({"name": file.path, "digest": {"sha256": file.sha256}});
    let subjects: Vec<Value> = hash_tree(model).unwrap().into_iter().map(subject).collect();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": VSA,
        "predicate": {
            "verifier": {"id": VERIFIER},
            "timeVerified": jiff::Timestamp::now().to_string(),
            "policy": {"uri": "gate.toml"},
            "verificationResult": result,
            "firebrand_metrics": metrics,
        },
    });
    let key = SigningKey::from_file(key).unwrap();
    let bundle = Bundle::sign(IN_TOTO, statement.to_string().into_bytes(), &key).unwrap();
    let path = attestations_of(model).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    writeln!(file, "{}", bundle.to_json()).unwrap();
}
