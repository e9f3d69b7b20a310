//! Lineage: how a model came to be, as an in-toto Statement with a SLSA provenance predicate.
//!
//! What goes in is known before training and is hashed into the weights' header, so it holds no
//! times and no run identifier: equal inputs give equal bytes. What the run did is told apart.

use crate::artifact::parent::STATEMENT_FILE;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::base_record::BaseRecord;
use super::resource::dependency;
use super::signature::{self, STATEMENT_TYPE};
use super::source::Source;
use crate::files::{Digest, FileEntry};
use crate::hub::InputTrust;

/// What went in: the exact bytes of the statement's `buildDefinition`.
pub const INPUTS_FILE: &str = "lineage.inputs.json";

/// The key in the weights' metadata that holds the SHA-256 of [`INPUTS_FILE`].
pub const INPUTS_KEY: &str = "firebrand.inputs_sha256";
/// What kind of build a fine-tuning is; the parameters' meaning hangs on it.
pub const BUILD_TYPE: &str = "urn:firebrand:buildtype:finetune:v1";
/// Who built: the user's own machine, so this is SLSA Build level 1 and no more.
pub const BUILDER: &str = "urn:firebrand:builder:self-hosted:v1";
/// Under which name a merge records the adapter that the user named.
pub const ADAPTER_KEY: &str = "adapter";
/// The predicate type of SLSA provenance.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// Everything that goes into a run, known before its first step.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// The config file as the user named it, and the SHA-256 of its bytes.
    pub config: (String, Digest),
    /// What the command line changed in it.
    pub overrides: BTreeMap<String, String>,
    /// The kind of adapter, `full` or `from-random-weights`.
    pub method: String,
    /// The model that the run starts from.
    pub base: BaseRecord,
    /// Every data file that is read.
    pub datasets: Vec<DatasetRecord>,
    /// Where the chat templates came from, and their digests.
    pub templates: Vec<(String, Digest)>,
    /// The tokenizer's files.
    pub tokenizer: Vec<FileEntry>,
    /// The resolved config, flattened.
    pub resolved: BTreeMap<String, String>,
    /// The run's seed.
    pub seed: u64,
    /// Where it computes: for instance `name`, `backend`, `driver`.
    pub device: BTreeMap<String, String>,
    /// Whether the same inputs give the same bytes on this device.
    pub deterministic: bool,
    /// The lock beside the config, where there is one.
    pub lock: Option<FileEntry>,
    /// The list that approved what goes in, where one was asked.
    pub allowlist: Option<AllowlistRecord>,
    /// The state of the user's repository.
    pub source: Option<Source>,
}

/// A signed list of approved inputs.
#[derive(Debug, Clone)]
pub struct AllowlistRecord {
    /// The file as the user named it.
    pub path: String,
    /// Its bytes.
    pub sha256: Digest,
    /// Its own name.
    pub name: String,
    /// Its serial number.
    pub serial: u64,
    /// The hint of the key that signed it.
    pub signer: String,
}

/// One file of a data set.
#[derive(Debug, Clone)]
pub struct DatasetRecord {
    /// As the user named it.
    pub id: String,
    /// Where anyone finds these bytes again, if they came from a hub.
    pub uri: Option<String>,
    /// `train`, `validation`, or both.
    pub split: String,
    /// The shape of its records.
    pub format: String,
    /// How many records it has.
    pub rows: u64,
    /// Why it may be used.
    pub trust: InputTrust,
    /// Its bytes.
    pub file: FileEntry,
}

/// What went in, in SLSA's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// [`BUILD_TYPE`].
    pub build_type: String,
    /// Exactly what the user asked for.
    pub external_parameters: Value,
    /// What that came to.
    pub internal_parameters: Value,
    /// Every file that it resolved to, by digest.
    pub resolved_dependencies: Vec<Value>,
}

impl Inputs {
    /// The SLSA form of a run's record.
    pub fn new(run: &RunRecord) -> Self {
        let (path, sha256) = &run.config;
        let datasets: Vec<_> = run
            .datasets
            .iter()
            .map(|set| json!({"id": set.id, "split": set.split, "format": set.format}))
            .collect();
        let mut base = json!({"id": run.base.id});
        if let Some(revision) = &run.base.revision {
            base["revision"] = json!(revision);
        }
        Self {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: json!({
                "config": {"path": path, "digest": {"sha256": sha256}},
                "baseModel": base,
                "datasets": datasets,
                "method": run.method,
                "overrides": run.overrides,
                // As text: JSON readers turn 64-bit numbers into floating point.
                "seed": run.seed.to_string(),
            }),
            internal_parameters: json!({
                "resolvedConfig": run.resolved,
                "device": run.device,
                "deterministic": run.deterministic,
            }),
            resolved_dependencies: dependencies(run),
        }
    }

    /// The `buildDefinition`.
    pub fn to_value(&self) -> Value {
        json!({
            "buildType": self.build_type,
            "externalParameters": self.external_parameters,
            "internalParameters": self.internal_parameters,
            "resolvedDependencies": self.resolved_dependencies,
        })
    }

    /// The text of [`INPUTS_FILE`].
    pub fn to_json(&self) -> String {
        sorted_json(self.to_value())
    }

    /// What the weights' metadata holds under [`INPUTS_KEY`].
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_json().as_bytes())
    }
}

fn dependencies(run: &RunRecord) -> Vec<Value> {
    let mut list = Vec::new();
    if let Some(source) = &run.source {
        let notes = json!({
            "role": "source",
            "dirty": source.changes.is_some(),
            // Whether there is a signature, not whether it holds: that takes others' keys.
            "commitSigned": source.signed,
        });
        let digest = json!({"gitCommit": source.commit});
        list.push(json!({"name": "source", "digest": digest, "annotations": notes}));
        if let Some(changes) = &source.changes {
            let untracked = changes.untracked.to_string();
            let notes = json!({"role": "source-diff", "untracked": untracked});
            list.push(dependency("worktree.patch", &changes.digest, notes));
        }
    }
    let (path, sha256) = &run.config;
    list.push(dependency(path, sha256, json!({"role": "config"})));
    if let Some(lock) = &run.lock {
        list.push(dependency(&lock.path, &lock.sha256, json!({"role": "lock"})));
    }
    list.extend(run.allowlist.as_ref().map(AllowlistRecord::to_dependency));
    list.extend(run.base.dependencies());
    if let Some(parent) = &run.base.parent {
        let notes = json!({
            "role": "base-lineage",
            "signatureSha256": parent.signature,
            "signature": parent.state.name(),
        });
        let name = format!("{}/{STATEMENT_FILE}", parent.name);
        list.push(dependency(&name, &parent.statement, notes));
    }
    for file in &run.tokenizer {
        list.push(dependency(&file.path, &file.sha256, json!({"role": "tokenizer"})));
    }
    for (name, sha256) in &run.templates {
        list.push(dependency(name, sha256, json!({"role": "chat-template"})));
    }
    for set in &run.datasets {
        let notes = json!({
            "role": "dataset",
            "split": set.split,
            "rows": set.rows.to_string(),
            "size": set.file.size.to_string(),
            "trust": set.trust,
        });
        let mut entry = dependency(&set.file.path, &set.file.sha256, notes);
        if let Some(uri) = &set.uri {
            entry["uri"] = json!(uri);
        }
        list.push(entry);
    }
    list
}

impl AllowlistRecord {
    fn to_dependency(&self) -> Value {
        let notes = json!({
            "role": "allowlist",
            "name": self.name,
            "serial": self.serial.to_string(),
            "signer": self.signer,
        });
        dependency(&self.path, &self.sha256, notes)
    }
}

/// What the run did, known at its end.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// An identifier of this invocation.
    pub invocation_id: String,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339.
    pub finished: String,
    /// Versions beside this program's own: burn, rustc, …
    pub versions: BTreeMap<String, String>,
    /// Final numbers, by name.
    pub metrics: BTreeMap<String, f64>,
    /// The log that has them step by step.
    pub metrics_log: FileEntry,
    /// Checkpoints written, by step.
    pub checkpoints: Vec<CheckpointRecord>,
    /// Checkpoints that a session of the run started from.
    pub resumed: Vec<CheckpointRecord>,
    /// Steps of other runs that it began with; the name is the run's.
    pub reused: Vec<CheckpointRecord>,
    /// The checkpoint that the weights are of, where it is not the last one.
    pub result: Option<CheckpointRecord>,
    /// What was changed on the way.
    pub changes: Vec<ChangeRecord>,
}

/// A change that the user allowed in the middle of a run.
#[derive(Debug, Clone)]
pub struct ChangeRecord {
    /// After which step.
    pub step: u64,
    /// Whether the result is all the same that of a run which had been so from its beginning.
    pub exact: bool,
    /// What was what, and is what.
    pub what: Vec<String>,
    /// SHA-256 of the line about it in the run's history.
    pub entry: Digest,
}

/// One checkpoint.
#[derive(Debug, Clone)]
pub struct CheckpointRecord {
    /// The directory's name.
    pub name: String,
    /// The step after which it was written.
    pub step: u64,
    /// SHA-256 of its manifest, which holds the digests of its files.
    pub manifest: Digest,
}

/// The text of [`STATEMENT_FILE`]: `subjects` are the artifact's files, without this one and
/// without the signature.
pub fn statement(inputs: &Inputs, outcome: &RunFacts, subjects: &[FileEntry]) -> String {
    let subjects: BTreeMap<_, _> = subjects
        .iter()
        .filter(|file| file.path != STATEMENT_FILE && !signature::is_ignored(&file.path))
        .map(|file| (&file.path, file.sha256))
        .collect();
    let subjects: Vec<_> = subjects
        .iter()
        .map(|(name, sha256)| json!({"name": name, "digest": {"sha256": sha256}}))
        .collect();
    let mut versions = outcome.versions.clone();
    versions.insert("firebrand".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    sorted_json(json!({
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": inputs.to_value(),
            "runDetails": {
                "builder": {"id": BUILDER, "version": versions},
                "metadata": {
                    "invocationId": outcome.invocation_id,
                    "startedOn": outcome.started,
                    "finishedOn": outcome.finished,
                },
                "byproducts": byproducts(outcome),
            },
        },
    }))
}

fn byproducts(outcome: &RunFacts) -> Vec<Value> {
    let metrics: Map<_, _> =
        outcome.metrics.iter().map(|(name, value)| (name.clone(), finite(*value))).collect();
    let log = &outcome.metrics_log;
    let mut list = vec![dependency(&log.path, &log.sha256, metrics.into())];
    // A resumed run has the same inputs as an uninterrupted one and must give the same weights, so
    // what it was resumed from stands here and not among the dependencies.
    let all = [
        ("checkpoint", outcome.checkpoints.as_slice()),
        ("resume-from", &outcome.resumed),
        ("reuse-from", &outcome.reused),
        ("result", outcome.result.as_slice()),
    ];
    for (role, checkpoints) in all {
        for checkpoint in checkpoints {
            let notes = json!({"role": role, "step": checkpoint.step.to_string()});
            let name = format!("{}/MANIFEST.json", checkpoint.name);
            list.push(dependency(&name, &checkpoint.manifest, notes));
        }
    }
    for change in &outcome.changes {
        let notes = json!({
            "role": "change",
            "step": change.step.to_string(),
            "exact": change.exact,
            "changes": change.what,
        });
        list.push(dependency("history.jsonl", &change.entry, notes));
    }
    list
}

/// JSON has no infinity: such a number is given as text.
fn finite(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

/// Sorted keys, two spaces, a line end: one form for equal content.
pub(super) fn sorted_json(mut value: Value) -> String {
    value.sort_all_objects();
    format!("{value:#}\n")
}

#[cfg(test)]
#[path = "lineage_tests.rs"]
pub(crate) mod tests;
