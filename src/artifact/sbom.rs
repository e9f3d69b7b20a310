//! `bom.cdx.json`: a bill of materials of a model in CycloneDX 1.6, for tools that collect those of
//! all kinds of software. It says nothing that the lineage does not say; equal lineages give equal
//! bytes, so it has no time: that stands in the provenance beside the artifact.

use std::path::Path;

use serde_json::{Value, json};

use super::base_adapters;
use super::card::{Card, Relation};
use super::licenses;
use super::lineage::{Inputs, sorted_json};
use super::provenance::{Lineage, RunFacts};
use crate::error::Result;
use crate::files::{Digest, FileEntry, hash_tree, read_json, write_synced};

/// The file's name.
pub const FILE: &str = "bom.cdx.json";
/// Largest `config.json` that is read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Writes the bill of materials of what lies in `scratch` so far.
pub fn write(scratch: &Path, card: &Card, lineage: &Lineage) -> Result<()> {
    let files = hash_tree(scratch)?;
    let architecture = architecture(scratch)?;
    let text = bom(card, &lineage.inputs, &lineage.facts, &files, architecture.as_deref());
    write_synced(&scratch.join(FILE), text.as_bytes())
}

/// The class of the model, where it brings its `config.json`.
fn architecture(directory: &Path) -> Result<Option<String>> {
    let path = directory.join("config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let config = read_json(&path, CONFIG_BYTES_MAX)?;
    Ok(config["architectures"][0].as_str().map(str::to_owned))
}

fn bom(
    card: &Card,
    inputs: &Inputs,
    outcome: &RunFacts,
    files: &[FileEntry],
    architecture: Option<&str>,
) -> String {
    let data = data_components(card);
    let references: Vec<_> = data.iter().map(|component| component["bom-ref"].clone()).collect();
    let mut bom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": tools(outcome)},
            "component": model(card, inputs, outcome, files, architecture),
        },
        "components": data,
        "dependencies": [{"ref": "model", "dependsOn": references}],
    });
    bom.sort_all_objects();
    bom["serialNumber"] = json!(serial_number(&Digest::of(bom.to_string().as_bytes())));
    sorted_json(bom)
}

/// A name for a content, in the form of a UUID of version 8 (RFC 9562: of one's own making).
fn serial_number(digest: &Digest) -> String {
    let hex = digest.to_string();
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    format!("urn:uuid:{a}-{b}-8{c}-8{d}-{e}")
}

fn tools(outcome: &RunFacts) -> Vec<Value> {
    let own = ("firebrand".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let mut versions = outcome.versions.clone();
    versions.extend([own]);
    let tool = |(name, version)| json!({"type": "application", "name": name, "version": version});
    versions.iter().map(tool).collect()
}

/// The model itself.
fn model(
    card: &Card,
    inputs: &Inputs,
    outcome: &RunFacts,
    files: &[FileEntry],
    architecture: Option<&str>,
) -> Value {
    let parts: Vec<_> = files.iter().map(|file| file_component("artifact", file)).collect();
    let mut model = json!({
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": card.name,
        "components": parts,
        "pedigree": pedigree(card, inputs),
        "modelCard": model_card(card, inputs, outcome, architecture),
        "properties": properties(inputs),
    });
    // Several files have no digest of their own kind together; each has its own below.
    let weights: Vec<_> = files.iter().filter(|file| is_weights(&file.path)).collect();
    if let [only] = weights[..] {
        model["hashes"] = hashes(&only.sha256);
    }
    if let Some(license) = &card.license {
        model["licenses"] = licenses::cyclonedx(license);
    }
    model
}

fn is_weights(name: &str) -> bool {
    [".safetensors", ".gguf"].iter().any(|ending| name.ends_with(ending))
}

fn hashes(sha256: &Digest) -> Value {
    json!([{"alg": "SHA-256", "content": sha256}])
}

fn file_component(whose: &str, file: &FileEntry) -> Value {
    json!({
        "type": "file",
        "bom-ref": format!("{whose}:{}", file.path),
        "name": file.path,
        "hashes": hashes(&file.sha256),
    })
}

fn pedigree(card: &Card, inputs: &Inputs) -> Value {
    let of_role = |role: &'static str| {
        let list = inputs.resolved_dependencies.iter();
        list.filter(move |entry| entry["annotations"]["role"] == role)
    };
    let commits: Vec<_> =
        of_role("source").map(|entry| json!({"uid": entry["digest"]["gitCommit"]})).collect();
    let mut pedigree = json!({});
    if !commits.is_empty() {
        pedigree["commits"] = json!(commits);
    }
    if card.relation == Relation::Scratch {
        let shape = format!("random weights in the shape of {}", card.base);
        pedigree["notes"] = json!(shape);
        return pedigree;
    }
    let files: Vec<_> = card.base_files.iter().map(|file| file_component("base", file)).collect();
    let mut base = json!({
        "type": "machine-learning-model",
        "bom-ref": "base",
        "name": card.base,
        "components": files,
    });
    if let [only] = card.base_files.iter().filter(|f| is_weights(&f.path)).collect::<Vec<_>>()[..] {
        base["hashes"] = hashes(&only.sha256);
    }
    if let Some(revision) = &card.revision {
        base["version"] = json!(revision);
        base["purl"] = json!(format!("pkg:huggingface/{}@{revision}", card.base));
    }
    pedigree["ancestors"] = json!([base]);
    pedigree
}

fn model_card(
    card: &Card,
    inputs: &Inputs,
    outcome: &RunFacts,
    architecture: Option<&str>,
) -> Value {
    let datasets: Vec<_> =
        (0..card.datasets.len()).map(|number| json!({"ref": reference(number)})).collect();
    let mut parameters = json!({
        "task": "text-generation",
        "architectureFamily": "transformer",
        "datasets": datasets,
    });
    if let Some(architecture) = architecture {
        parameters["modelArchitecture"] = json!(architecture);
    }
    let formats = inputs.external_parameters["datasets"].as_array();
    let plain = |formats: &Vec<Value>| formats.iter().all(|set| set["format"] == "text");
    if let Some(formats) = formats.filter(|formats| !formats.is_empty()) {
        let approach = if plain(formats) { "self-supervised" } else { "supervised" };
        parameters["approach"] = json!({"type": approach});
    }
    let mut metrics: Vec<_> = outcome
        .metrics
        .iter()
        .map(|(name, value)| json!({"type": name, "value": value.to_string()}))
        .collect();
    if let Some(loss) = card.loss.as_ref().filter(|_| !outcome.metrics.contains_key("eval_loss")) {
        metrics.push(json!({"type": "eval_loss", "value": loss.after.to_string()}));
    }
    json!({
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": metrics},
    })
}

fn properties(inputs: &Inputs) -> Vec<Value> {
    let asked = &inputs.external_parameters;
    let mut list = vec![("inputs_sha256", inputs.digest().to_string())];
    for (name, value) in [("method", &asked["method"]), ("seed", &asked["seed"])] {
        list.extend(value.as_str().map(|text| (name, text.to_owned())));
    }
    for entry in &inputs.resolved_dependencies {
        let name = match entry["annotations"]["role"].as_str() {
            Some("base-lineage") => "parent_statement_sha256",
            Some(base_adapters::LINEAGE_ROLE) => "base_adapter_statement_sha256",
            Some("adapter-lineage") => "start_adapter_statement_sha256",
            Some("teacher-lineage") => "teacher_statement_sha256",
            Some("lock") => "lock_sha256",
            Some("config") => "config_sha256",
            Some("source-diff") => "source_changes_sha256",
            _ => continue,
        };
        list.extend(entry["digest"]["sha256"].as_str().map(|text| (name, text.to_owned())));
    }
    list.iter()
        .map(|(name, value)| json!({"name": format!("firebrand:{name}"), "value": value}))
        .collect()
}

fn reference(number: usize) -> String {
    format!("data:{number}")
}

fn data_components(card: &Card) -> Vec<Value> {
    let component = |(number, set): (usize, &super::past::CardDataset)| {
        let mut component = json!({
            "type": "data",
            "bom-ref": reference(number),
            "name": set.name,
            "hashes": hashes(&set.sha256),
            "data": [{"type": "dataset", "name": format!("{}, {} records", set.split, set.rows)}],
        });
        if let Some((_, commit)) = set.on_hub() {
            component["version"] = json!(commit);
        }
        if let Some(uri) = &set.uri {
            component["externalReferences"] = json!([{"type": "distribution", "url": uri}]);
        }
        component
    };
    card.datasets.iter().enumerate().map(component).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::card::tests::card;
    use crate::artifact::lineage::tests::run;
    use crate::artifact::provenance::tests::outcome;

    fn parsed(card: &Card) -> (String, Value) {
        let (inputs, outcome) = (Inputs::as_asked(&run()), outcome());
        let digest = Digest::of(b"weights");
        let files = ["adapter_config.json", "adapter_model.safetensors"].map(|name| FileEntry {
            path: name.into(),
            size: 7,
            sha256: digest,
        });
        let text = bom(card, &inputs, &outcome, &files, Some("LlamaForCausalLM"));
        let value = serde_json::from_str(&text).unwrap();
        (text, value)
    }

    #[test]
    fn it_says_what_the_lineage_says() {
        let (text, bom) = parsed(&card());
        assert_eq!(text, parsed(&card()).0, "equal inputs, equal bytes");
        let model = &bom["metadata"]["component"];
        let weights = Digest::of(b"weights").to_string();
        assert_eq!(model["hashes"][0]["content"], weights);
        assert_eq!(model["licenses"][0]["license"]["id"], "Apache-2.0");
        let base = &model["pedigree"]["ancestors"][0];
        assert_eq!(base["name"], "acme/base-tiny");
        assert_eq!(base["components"][0]["hashes"][0]["content"], Digest::of(b"x").to_string());
        let commit = "d20ace7968ba43c0219f62d71334c1095bab1602";
        assert_eq!(model["pedigree"]["commits"][0]["uid"], commit);
        assert_eq!(bom["components"][0]["name"], "datasets/facts.jsonl");
        assert_eq!(bom["dependencies"][0]["dependsOn"], json!(["data:0"]));
        assert_eq!(model["modelCard"]["modelParameters"]["approach"]["type"], "supervised");
        let inputs = Inputs::as_asked(&run()).digest().to_string();
        let property = |name: &str| {
            let list = model["properties"].as_array().unwrap();
            list.iter().find(|p| p["name"] == name).unwrap()["value"].clone()
        };
        assert_eq!(property("firebrand:inputs_sha256"), inputs);
        assert_eq!(property("firebrand:parent_statement_sha256"), Digest::of(b"x").to_string());
        let metrics = &model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"];
        assert_eq!(metrics[0], json!({"type": "eval/loss", "value": "1.5"}));
    }

    #[test]
    fn another_content_has_another_serial_number() {
        let (_, one) = parsed(&card());
        let (_, two) = parsed(&Card { license: None, ..card() });
        let number = one["serialNumber"].as_str().unwrap();
        assert_ne!(number, two["serialNumber"].as_str().unwrap());
        assert_eq!((number.len(), &number[..9], &number[23..24]), (45, "urn:uuid:", "8"));
        let (_, scratch) = parsed(&Card { relation: Relation::Scratch, ..card() });
        assert!(scratch["metadata"]["component"]["pedigree"]["ancestors"].is_null());
    }

    #[test]
    fn a_base_of_the_hub_has_its_purl() {
        let (_, bom) = parsed(&Card { revision: Some("0a1b".into()), ..card() });
        let base = &bom["metadata"]["component"]["pedigree"]["ancestors"][0];
        assert_eq!(base["purl"], "pkg:huggingface/acme/base-tiny@0a1b");
        assert_eq!(base["version"], "0a1b");
    }
}
