//! What is stated of the making of an artifact, twice: in the artifact what is the same wherever
//! and whenever it is made again, and beside it the whole provenance with place, time and
//! checkpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::attestations::{self, BYTES_MAX};
use super::envelope::Bundle;
use super::lineage::{BUILDER, Inputs, PREDICATE_TYPE, sorted_json};
use super::parent::STATEMENT_FILE;
use super::resource::dependency;
use super::signature::{self, STATEMENT_TYPE};
use crate::files::{Digest, FileEntry, parse_json, read_bytes};

/// How the file with the provenance of an artifact that nobody signs ends, beside the artifact.
pub const UNSIGNED: &str = ".provenance.json";

/// How a model came to be.
#[derive(Debug, Clone)]
pub struct Lineage {
    /// What decided it.
    pub inputs: Inputs,
    /// The same in the words of the user, and where it lay.
    pub asked: Inputs,
    /// What was done.
    pub facts: RunFacts,
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
    /// What the model wrote itself to learn from, if it did.
    pub rollouts_log: Option<FileEntry>,
    /// Checkpoints written, by step.
    pub checkpoints: Vec<CheckpointRecord>,
    /// Checkpoints that a session of the run started from.
    pub resumed: Vec<CheckpointRecord>,
    /// Steps of other runs that it began with; the name is the run's.
    pub reused: Vec<CheckpointRecord>,
    /// The file with what the comparison of gradients before the first step found, if it was made.
    pub gradient_check: Option<(FileEntry, Value)>,
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

impl Lineage {
    /// The text of [`STATEMENT_FILE`]: `subjects` are the artifact's files, without this one and
    /// without the signature. Whoever makes the artifact again gets the same.
    pub fn statement(&self, subjects: &[FileEntry]) -> String {
        let details = json!({
            "builder": self.builder(),
            "byproducts": self.facts.repeatable(),
        });
        stated(subjects, &self.inputs, details)
    }

    /// The provenance of this very making: place, time, and what lay on the way.
    pub fn provenance(&self, subjects: &[FileEntry]) -> String {
        let facts = &self.facts;
        let byproducts = [facts.repeatable(), facts.of_sessions()].concat();
        let details = json!({
            "builder": self.builder(),
            "metadata": {
                "invocationId": facts.invocation_id,
                "startedOn": facts.started,
                "finishedOn": facts.finished,
            },
            "byproducts": byproducts,
        });
        stated(subjects, &self.asked, details)
    }

    fn builder(&self) -> Value {
        let mut versions = self.facts.versions.clone();
        versions.insert("firebrand".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        json!({"id": BUILDER, "version": versions})
    }
}

fn stated(subjects: &[FileEntry], inputs: &Inputs, details: Value) -> String {
    let subjects: BTreeMap<_, _> = subjects
        .iter()
        .filter(|file| file.path != STATEMENT_FILE && !signature::is_ignored(&file.path))
        .map(|file| (&file.path, file.sha256))
        .collect();
    let subjects: Vec<_> = subjects
        .iter()
        .map(|(name, sha256)| json!({"name": name, "digest": {"sha256": sha256}}))
        .collect();
    sorted_json(json!({
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {"buildDefinition": inputs.to_value(), "runDetails": details},
    }))
}

impl CheckpointRecord {
    fn dependency(&self, role: &str) -> Value {
        let notes = json!({"role": role, "step": self.step.to_string()});
        dependency(&format!("{}/MANIFEST.json", self.name), &self.manifest, notes)
    }
}

impl RunFacts {
    /// Numbers and their log, whose weights they are, and what was changed on the way.
    fn repeatable(&self) -> Vec<Value> {
        let metrics: Map<_, _> =
            self.metrics.iter().map(|(name, value)| (name.clone(), finite(*value))).collect();
        let log = &self.metrics_log;
        let mut list = vec![dependency(&log.path, &log.sha256, metrics.into())];
        let rollouts = self.rollouts_log.iter();
        list.extend(
            rollouts.map(|log| dependency(&log.path, &log.sha256, json!({"role": "rollouts"}))),
        );
        list.extend(self.result.iter().map(|result| result.dependency("result")));
        for change in &self.changes {
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

    /// A resumed run has the same inputs as an uninterrupted one and gives the same artifact, so
    /// what it saved, was resumed from and began with is told beside it.
    fn of_sessions(&self) -> Vec<Value> {
        let all = [
            ("checkpoint", self.checkpoints.as_slice()),
            ("resume-from", &self.resumed),
            ("reuse-from", &self.reused),
        ];
        let mut list = Vec::new();
        if let Some((file, found)) = &self.gradient_check {
            // Or why there was none.
            let told = ["tokens", "tensors", "device", "reference", "left_out"];
            let told = told.into_iter().filter_map(|name| {
                let text = |value: &Value| value.as_str().map(str::to_owned);
                let value = found.get(name)?;
                Some((name.to_owned(), text(value).unwrap_or_else(|| value.to_string()).into()))
            });
            let role = ("role".to_owned(), "gradient-check".into());
            let notes = Value::Object(std::iter::once(role).chain(told).collect());
            list.push(dependency(&file.path, &file.sha256, notes));
        }
        for (role, checkpoints) in all {
            list.extend(checkpoints.iter().map(|checkpoint| checkpoint.dependency(role)));
        }
        list
    }
}

/// JSON has no infinity: such a number is given as text.
fn finite(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

/// Where the provenance of an unsigned artifact lies.
pub fn unsigned_of(directory: &Path) -> Option<PathBuf> {
    let name = directory.file_name()?.to_string_lossy();
    Some(directory.with_file_name(format!("{name}{UNSIGNED}")))
}

/// The provenance that lies beside an artifact, if it is about the same files as the statement in
/// it. Whether its signature holds is for `verify` to say.
pub fn beside(directory: &Path, statement: &Value) -> Option<Value> {
    let of_the_same = |found: &Value| {
        found["predicateType"] == PREDICATE_TYPE
            && found["predicate"]["runDetails"]["metadata"].is_object()
            && found["subject"] == statement["subject"]
    };
    let lines = attestations::lines(directory).unwrap_or_default();
    let mut statements = lines.iter().filter_map(|line| {
        let payload = Bundle::parse(line.as_bytes()).ok()?.payload;
        parse_json(&payload).ok()
    });
    // Beside a signed artifact, what nobody signed says nothing.
    let unsigned = !directory.join(signature::FILE).exists();
    statements.find(of_the_same).or_else(|| {
        let directory = unsigned.then_some(directory)?;
        let text = read_bytes(&unsigned_of(&directory.canonicalize().ok()?)?, BYTES_MAX).ok()?;
        parse_json(&text).ok().filter(of_the_same)
    })
}

#[cfg(test)]
#[path = "provenance_tests.rs"]
pub(crate) mod tests;
