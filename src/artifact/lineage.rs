//! Lineage: how a model came to be, as an in-toto Statement with a SLSA provenance predicate.
//!
//! What goes in is known before training and is hashed into the weights' header, so it holds no
//! times, no places and no run identifier: equal inputs give equal bytes wherever they lie. Where
//! they lay, and how the user asked for them, stands in the provenance beside the artifact.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::base_adapters;
use super::base_record::BaseRecord;
use super::resource::dependency;
use super::source::Source;
use crate::files::{Digest, FileEntry, name_anywhere, name_within};
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
    /// The adapters that are merged into that, in their order.
    pub base_adapters: Vec<BaseRecord>,
    /// The adapter that it starts from, if it starts from one.
    pub start_adapter: Option<BaseRecord>,
    /// The model that it learns from, if it learns from one.
    pub teacher: Option<BaseRecord>,
    /// Every data file that is read.
    pub datasets: Vec<DatasetRecord>,
    /// Where the chat templates came from, and their digests.
    pub templates: Vec<(String, Digest)>,
    /// The tokenizer's files.
    pub tokenizer: Vec<FileEntry>,
    /// The resolved config, flattened.
    pub resolved: BTreeMap<String, String>,
    /// What of it shapes the artifact, whatever the place.
    pub settings: BTreeMap<String, String>,
    /// The run's seed.
    pub seed: u64,
    /// Where it computes: for instance `name`, `backend`, `driver`.
    pub device: BTreeMap<String, String>,
    /// What of that decides bits: the kind of machine, and the number formats.
    pub arithmetic: BTreeMap<String, String>,
    /// Whether the same inputs give the same bytes on this device.
    pub deterministic: bool,
    /// The lock beside the config, where there is one.
    pub lock: Option<FileEntry>,
    /// The list that approved what goes in, where one was asked.
    pub allowlist: Option<AllowlistRecord>,
    /// The state of the user's repository.
    pub source: Option<Source>,
}

impl RunRecord {
    /// Where files may lie that are called by a folder: what the configuration names as data, and
    /// the base model with its template.
    fn folders(&self) -> impl Iterator<Item = &str> {
        let named = self.resolved.iter();
        let named = named.filter(|(key, _)| key.starts_with("data.") && key.ends_with(".path"));
        named.map(|(_, value)| value.as_str()).chain([self.base.id.as_str()])
    }
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
    /// What decides the result of a run, and nothing that is only about place and time: no path
    /// from a root, no configuration file but what it says, and nobody's trust.
    pub fn of_run(run: &RunRecord) -> Self {
        let settings = settings_digest(&run.settings);
        let placeless = |record: &BaseRecord| {
            let mut name = record.name();
            name["id"] = json!(name_anywhere(&record.id));
            name
        };
        let name = |id: &str| name_within(id, run.folders());
        let sets = run
            .datasets
            .iter()
            .map(|set| json!({"id": name(&set.id), "split": set.split, "format": set.format}));
        let mut asked = json!({
            "config": {"digest": {"sha256": settings}},
            "baseModel": placeless(&run.base),
            "datasets": sets.collect::<Vec<_>>(),
            "method": run.method,
            // As text: JSON readers turn 64-bit numbers into floating point.
            "seed": run.seed.to_string(),
        });
        if !run.base_adapters.is_empty() {
            asked[base_adapters::ASKED] = run.base_adapters.iter().map(placeless).collect();
        }
        if let Some(start) = &run.start_adapter {
            asked["startAdapter"] = placeless(start);
        }
        if let Some(teacher) = &run.teacher {
            asked["teacher"] = placeless(teacher);
        }
        Self {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: asked,
            internal_parameters: json!({
                "resolvedConfig": run.settings,
                "device": run.arithmetic,
                "deterministic": run.deterministic,
            }),
            resolved_dependencies: files(run)
                .into_iter()
                .map(|entry| without_place(entry, run))
                .collect(),
        }
    }

    /// Everything that was asked for, in the words of the user, and everything that was read.
    pub fn as_asked(run: &RunRecord) -> Self {
        let (path, sha256) = &run.config;
        let datasets: Vec<_> = run
            .datasets
            .iter()
            .map(|set| json!({"id": set.id, "split": set.split, "format": set.format}))
            .collect();
        let mut asked = json!({
            "config": {"path": path, "digest": {"sha256": sha256}},
            "baseModel": run.base.name(),
            "datasets": datasets,
            "method": run.method,
            "overrides": run.overrides,
            "seed": run.seed.to_string(),
        });
        if !run.base_adapters.is_empty() {
            let all = run.base_adapters.iter();
            asked[base_adapters::ASKED] = all.map(BaseRecord::name).collect();
        }
        if let Some(start) = &run.start_adapter {
            asked["startAdapter"] = start.name();
        }
        if let Some(teacher) = &run.teacher {
            asked["teacher"] = teacher.name();
        }
        Self {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: asked,
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

/// What the weights' header and the lineage call a configuration by: the digest of its settings.
pub fn settings_digest(settings: &BTreeMap<String, String>) -> Digest {
    Digest::of(sorted_json(json!(settings)).as_bytes())
}

/// An entry of the dependencies as it is on whatever machine. Whom the user trusts, and what its
/// folder is called, says nothing about the bytes.
fn without_place(mut entry: Value, run: &RunRecord) -> Value {
    if let Some(name) = entry["name"].as_str().map(|name| name_within(name, run.folders())) {
        entry["name"] = json!(name);
    }
    if let Some(notes) = entry["annotations"].as_object_mut() {
        if notes["role"].as_str().is_some_and(|role| role.ends_with("-lineage")) {
            notes.remove("signature");
        }
        notes.remove("trust");
    }
    entry
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
    list.extend(files(run));
    list
}

/// Base model, tokenizer, templates and data: what decides the result.
fn files(run: &RunRecord) -> Vec<Value> {
    let mut list = run.base.dependencies("base-model");
    list.extend(run.base.parent.as_ref().map(|parent| parent.to_dependency("base-lineage")));
    list.extend(base_adapters::dependencies(&run.base_adapters));
    if let Some(start) = &run.start_adapter {
        list.extend(start.dependencies("start-adapter"));
        list.extend(start.parent.as_ref().map(|parent| parent.to_dependency("adapter-lineage")));
    }
    if let Some(teacher) = &run.teacher {
        list.extend(teacher.dependencies("teacher"));
        list.extend(teacher.parent.as_ref().map(|parent| parent.to_dependency("teacher-lineage")));
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

/// Sorted keys, two spaces, a line end: one form for equal content.
pub(super) fn sorted_json(mut value: Value) -> String {
    value.sort_all_objects();
    format!("{value:#}\n")
}

#[cfg(test)]
#[path = "lineage_tests.rs"]
pub(crate) mod tests;
