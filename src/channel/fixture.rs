//! For tests: signed folders that stand for models, verdicts, keys with roles.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::artifact::attestations;
use crate::artifact::envelope::{Bundle, IN_TOTO};
use crate::artifact::keys::SigningKey;
use crate::artifact::signature::{self, STATEMENT_TYPE};
use crate::error::Result;
use crate::files::{FileEntry, hash_tree};
use crate::gate::attest::{VERIFIER, VSA};
use crate::verify::{SEEN_FILE, Seen, TRUSTED_KEYS_FILE, Trust};

/// A folder with settings, a registry and models, and a key for each role.
pub struct Place {
    folder: tempfile::TempDir,
    keys: BTreeMap<&'static str, SigningKey>,
    more: String,
}

impl Place {
    pub fn new() -> Self {
        let keys = ["train", "gate", "promote"].map(|role| (role, SigningKey::generate().unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder, keys: BTreeMap::from(keys), more: String::new() };
        fs::create_dir(place.path("settings")).unwrap();
        place.trust_with(|_| String::new());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn key(&self, role: &str) -> &SigningKey {
        &self.keys[role]
    }

    /// Writes the trusted keys, each with its role and with more.
    pub fn trust_with(&self, more: impl Fn(&str) -> String) {
        let entry = |(role, key): (&&str, &SigningKey)| {
            let pem = key.public().pem();
            format!("[[key]]\npem = '''{pem}'''\nroles = [\"{role}\"]\n{}\n", more(role))
        };
        let text: String = self.keys.iter().map(entry).collect();
        let path = self.path("settings").join(TRUSTED_KEYS_FILE);
        fs::write(path, text + &self.more).unwrap();
    }

    /// Makes a new key for a role; gives back the old one, which is not trusted any more.
    pub fn replace(&mut self, role: &'static str) -> SigningKey {
        let old = self.keys.insert(role, SigningKey::generate().unwrap()).unwrap();
        self.trust_with(|_| String::new());
        old
    }

    /// Says that a key which promoted is revoked.
    pub fn revoke(&mut self, key: &SigningKey) {
        self.know(key, "revoked = true\nreason = \"stolen\"");
    }

    /// Lets a key promote up to a time.
    pub fn trust_until(&mut self, key: &SigningKey, time: jiff::Timestamp) {
        self.know(key, &format!("not_after = \"{time:.0}\""));
    }

    fn know(&mut self, key: &SigningKey, limit: &str) {
        let pem = key.public().pem();
        self.more = format!("[[key]]\npem = '''{pem}'''\nroles = [\"promote\"]\n{limit}\n");
        self.trust_with(|_| String::new());
    }

    pub fn trust(&self) -> Trust {
        Trust::of_user(&self.path("settings")).unwrap()
    }

    pub fn seen(&self) -> Seen {
        Seen::of_user(&self.path("settings"))
    }

    /// As a machine that has never seen the channel.
    pub fn forget(&self) {
        let _ = fs::remove_file(self.path("settings").join(SEEN_FILE));
    }

    /// A signed folder whose bytes are its name's.
    pub fn model(&self, name: &str) -> PathBuf {
        let model = self.path(name);
        fs::create_dir_all(model.join("inside")).unwrap();
        fs::write(model.join("weights"), name).unwrap();
        fs::write(model.join("inside/more"), "more").unwrap();
        signature::sign(&model, self.key("train")).unwrap();
        model
    }

    /// A model that passed.
    pub fn passed(&self, name: &str) -> PathBuf {
        let model = self.model(name);
        self.verdict(&model, "PASSED", "2026-01-01T00:00:00Z");
        model
    }

    /// Adds a verdict by the gate's key.
    pub fn verdict(&self, model: &Path, result: &str, time: &str) {
        self.attest(model, &summary(model, result, time), "gate");
    }

    /// Adds a statement by the key of a role.
    pub fn attest(&self, model: &Path, statement: &Value, role: &str) {
        let payload = statement.to_string().into_bytes();
        let bundle = Bundle::sign(IN_TOTO, payload, self.key(role)).unwrap();
        attestations::append(model, &[bundle]).unwrap();
    }

    pub fn channel(&self) -> Channel {
        Channel::new(&self.path("registry"), "production").unwrap()
    }

    pub fn promote(&self, model: &Path) -> Result<ChannelEntry> {
        self.promote_with(&promotion(model))
    }

    pub fn promote_with(&self, promotion: &Promotion) -> Result<ChannelEntry> {
        let (trust, seen) = (self.trust(), self.seen());
        let by = Authority { key: self.key("promote"), trust: &trust, seen: &seen };
        self.channel().promote(promotion, &by)
    }

    pub fn roll_back(&self, to: Option<u64>) -> Result<(ChannelEntry, Vec<String>)> {
        let (trust, seen) = (self.trust(), self.seen());
        let by = Authority { key: self.key("promote"), trust: &trust, seen: &seen };
        let back = Return { from: None, to, model: None, reason: "it is worse", days: 30 };
        self.channel().roll_back(&back, &by)
    }

    pub fn resolve(&self) -> Result<Resolved> {
        self.channel().resolve(None, &self.trust(), &self.seen())
    }
}

pub fn promotion(model: &Path) -> Promotion<'_> {
    Promotion { artifact: model, copy: false, uri: None, reason: None, days: 30 }
}

/// The gate's statement about a model.
pub fn summary(model: &Path, result: &str, time: &str) -> Value {
    let subject = |file: FileEntry| json!({"name": file.path, "digest": {"sha256": file.sha256}});
    let subjects: Vec<Value> = hash_tree(model).unwrap().into_iter().map(subject).collect();
    json!({
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": VSA,
        "predicate": {
            "verifier": {"id": VERIFIER},
            "timeVerified": time,
            "policy": {"uri": "gate.toml"},
            "verificationResult": result,
            "firebrand_metrics": {"loss": 1.25, "accuracy": 0.5},
        },
    })
}
