//! What an artifact says of how to make it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::artifact::base_adapters::BaseAdapter;
use crate::artifact::lineage::{BUILD_TYPE, INPUTS_FILE};
use crate::artifact::parent::{LINEAGE_BYTES_MAX, STATEMENT_FILE};
use crate::artifact::provenance;
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry, has_file, hash_file, read_json};
use crate::verify::{CheckVerdict, Trust, verify};

/// A file that a run has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// As the artifact calls it.
    pub name: String,
    /// As the user called it, where that is known.
    pub asked: Option<String>,
    /// What it was for: `dataset`, `base-model`, `tokenizer`, …
    pub role: String,
    /// Its bytes.
    pub sha256: Digest,
    /// Where anyone finds these bytes, if they came from a hub.
    pub uri: Option<String>,
}

/// Everything that is needed to make an artifact again, and what came of it then.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The artifact.
    pub directory: PathBuf,
    /// All its files, as they were checked.
    pub files: Vec<FileEntry>,
    /// The digest of its inputs.
    pub inputs: Digest,
    /// The settings, by path.
    pub settings: BTreeMap<String, String>,
    /// The same as the user gave them, where that is known.
    pub asked: BTreeMap<String, String>,
    /// What the base is called; the commit, if it came from a hub.
    pub base: (String, Option<String>),
    /// The base as the user called it, where that is known.
    pub base_asked: Option<String>,
    /// The adapter that it starts from, if it does, by both names.
    pub start: Option<(String, Option<String>)>,
    /// The adapters that are merged into the base.
    pub base_adapters: Vec<BaseAdapter>,
    /// The model that the run learns from, likewise.
    pub teacher: Option<(String, Option<String>)>,
    /// Every file that was read.
    pub dependencies: Vec<Input>,
    /// The programs that made it.
    pub versions: BTreeMap<String, String>,
    /// The kind of machine that did.
    pub device: Option<String>,
    /// The digest of its metrics.
    pub metrics: Option<Digest>,
    /// Digests of the manifests of its checkpoints, by step, where they are attested.
    pub checkpoints: BTreeMap<u64, Digest>,
}

impl Recipe {
    /// Reads the lineage of an artifact, whose files must be those that it is about.
    ///
    /// # Errors
    /// When it has none, was not trained, or is not what its lineage says.
    pub fn read(directory: &Path) -> Result<Self> {
        let files = sound_files(directory)?;
        let read = |name: &str| read_json(&directory.join(name), LINEAGE_BYTES_MAX);
        let (inputs, statement) = (read(INPUTS_FILE)?, read(STATEMENT_FILE)?);
        let asked_for = &inputs["externalParameters"];
        let method = asked_for["method"].as_str().unwrap_or_default();
        let settings = texts(&inputs["internalParameters"]["resolvedConfig"]);
        if inputs["buildType"] != BUILD_TYPE || settings.is_empty() {
            let error = Error::lineage("only what was trained can be made again from its lineage");
            return Err(error
                .at(directory)
                .because(format!("its method is `{method}`"))
                .hint("reproduce the adapter or model that it was made of, then make it of that"));
        }
        let whole = provenance::beside(directory, &statement);
        let build = whole.as_ref().map(|it| &it["predicate"]["buildDefinition"]);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let base = text(&asked_for["baseModel"]["id"]).unwrap_or_default();
        let named = |role: &str| {
            let asked = build.map(|it| &it["externalParameters"][role]["id"]);
            text(&asked_for[role]["id"]).map(|id| (id, asked.and_then(text)))
        };
        let details = &statement["predicate"]["runDetails"];
        let whole_details = whole.as_ref().map_or(details, |it| &it["predicate"]["runDetails"]);
        Ok(Self {
            directory: directory.to_path_buf(),
            inputs: hash_file(&directory.join(INPUTS_FILE), INPUTS_FILE)?.sha256,
            files,
            settings,
            asked: build.map_or_else(BTreeMap::new, |build| {
                texts(&build["internalParameters"]["resolvedConfig"])
            }),
            base: (base, text(&asked_for["baseModel"]["revision"])),
            base_asked: build.and_then(|it| text(&it["externalParameters"]["baseModel"]["id"])),
            start: named("startAdapter"),
            base_adapters: BaseAdapter::all(&inputs, build.unwrap_or(&Value::Null)),
            teacher: named("teacher"),
            dependencies: dependencies(&inputs, build),
            versions: texts(&details["builder"]["version"]),
            device: text(&inputs["internalParameters"]["device"]["class"]),
            metrics: metrics(details),
            checkpoints: checkpoints(whole_details),
        })
    }

    /// Files of a role.
    pub fn of_role<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Input> {
        self.dependencies.iter().filter(move |input| input.role == role)
    }

    /// The files of the weights.
    pub fn weights(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().filter(|file| file.path.ends_with(".safetensors"))
    }
}

/// The files of an artifact, of which the lineage tells the truth. Who signed them is of no matter:
/// whoever makes it again finds out by itself.
fn sound_files(directory: &Path) -> Result<Vec<FileEntry>> {
    for name in [INPUTS_FILE, STATEMENT_FILE] {
        if !has_file(&directory.join(name))? {
            let what = format!("there is no lineage: `{name}` is not here");
            return Err(Error::lineage(what)
                .at(directory)
                .hint("name the artifact of a run; only its lineage says how it was made"));
        }
    }
    let report = verify(directory, &Trust::default());
    let failed = |it: &&crate::verify::Finding| {
        it.check.is_of_contents() && it.verdict == CheckVerdict::Fail
    };
    match report.checks.iter().find(failed) {
        None => Ok(report.files),
        Some(finding) => Err(Error::lineage("the artifact is not what its lineage is about")
            .at(directory)
            .because(&finding.detail)),
    }
}

fn texts(map: &Value) -> BTreeMap<String, String> {
    let all = map.as_object().into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Files with their names in the artifact; those that the user gave have the same digest and role
/// in the provenance beside it.
fn dependencies(inputs: &Value, build: Option<&Value>) -> Vec<Input> {
    let list = |of: &Value| -> Vec<Input> {
        let all = of["resolvedDependencies"].as_array().into_iter().flatten();
        let input = |entry: &Value| {
            Some(Input {
                name: entry["name"].as_str()?.to_owned(),
                asked: None,
                role: entry["annotations"]["role"].as_str()?.to_owned(),
                sha256: entry["digest"]["sha256"].as_str()?.parse().ok()?,
                uri: entry["uri"].as_str().map(str::to_owned),
            })
        };
        all.filter_map(input).collect()
    };
    let asked = build.map(list).unwrap_or_default();
    let mut all = list(inputs);
    for input in &mut all {
        let same = |it: &&Input| it.role == input.role && it.sha256 == input.sha256;
        input.asked = asked.iter().find(same).map(|it| it.name.clone());
    }
    all
}

fn byproducts(details: &Value) -> impl Iterator<Item = &Value> {
    details["byproducts"].as_array().into_iter().flatten()
}

fn digest(entry: &Value) -> Option<Digest> {
    entry["digest"]["sha256"].as_str()?.parse().ok()
}

fn metrics(details: &Value) -> Option<Digest> {
    byproducts(details).find(|entry| entry["name"] == "metrics.jsonl").and_then(digest)
}

fn checkpoints(details: &Value) -> BTreeMap<u64, Digest> {
    let of_checkpoint = |entry: &&Value| entry["annotations"]["role"] == "checkpoint";
    let all = byproducts(details).filter(of_checkpoint);
    all.filter_map(|entry| {
        Some((entry["annotations"]["step"].as_str()?.parse().ok()?, digest(entry)?))
    })
    .collect()
}
