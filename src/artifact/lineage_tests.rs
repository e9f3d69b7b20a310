//! Tests of lineage: its content, and that equal inputs give equal bytes.

use std::fs;

use super::*;
use crate::artifact::parent::Parent;
use crate::artifact::parent::ParentSignature;
use crate::artifact::source::Changes;

fn entry(path: &str) -> FileEntry {
    FileEntry { path: path.into(), size: 3, sha256: Digest::of(path.as_bytes()) }
}

pub(crate) fn run() -> RunRecord {
    let digest = Digest::of(b"x");
    RunRecord {
        config: ("configs/a.toml".into(), digest),
        overrides: [("train.max_steps".into(), "10".into())].into(),
        method: "lora".into(),
        base: BaseRecord {
            id: "checkpoints/base-tiny".into(),
            revision: None,
            files: vec![entry("model.safetensors")],
            gguf: None,
            trust: InputTrust::Signature,
            parent: Some(Parent {
                name: "base-tiny".into(),
                statement: digest,
                signature: digest,
                state: ParentSignature::Verified,
            }),
        },
        datasets: vec![DatasetRecord {
            id: "datasets/a.jsonl".into(),
            uri: None,
            split: "train".into(),
            format: "messages".into(),
            rows: 12,
            trust: InputTrust::Allowlist,
            file: entry("datasets/a.jsonl"),
        }],
        templates: vec![("chat_template.jinja".into(), digest)],
        tokenizer: vec![entry("tokenizer.json")],
        resolved: [("lora.r".into(), "16".into())].into(),
        seed: u64::MAX,
        device: [("name".into(), "cpu".into())].into(),
        deterministic: true,
        lock: Some(entry("configs/a.lock")),
        allowlist: Some(AllowlistRecord {
            path: "allowlist.toml".into(),
            sha256: digest,
            name: "acme".into(),
            serial: 7,
            signer: digest.to_string(),
        }),
        source: Some(Source {
            commit: "d20ace7968ba43c0219f62d71334c1095bab1602".into(),
            signed: true,
            changes: Some(Changes { digest, untracked: 3 }),
        }),
    }
}

pub(crate) fn outcome() -> RunFacts {
    let checkpoint = |step| CheckpointRecord {
        name: format!("step-{step:08}"),
        step,
        manifest: Digest::of(b"manifest"),
    };
    RunFacts {
        invocation_id: "run-1".into(),
        started: "2026-10-20T09:12:44Z".into(),
        finished: "2026-10-20T10:02:07Z".into(),
        versions: [("burn".into(), "0.22.1".into())].into(),
        metrics: [("eval/loss".into(), 1.5), ("eval/perplexity".into(), f64::INFINITY)].into(),
        metrics_log: entry("metrics.jsonl"),
        checkpoints: vec![checkpoint(10), checkpoint(20)],
        resumed: vec![checkpoint(10)],
        reused: Vec::new(),
        result: None,
        changes: Vec::new(),
    }
}

#[test]
fn equal_inputs_give_equal_bytes_without_times() {
    let (one, two) = (Inputs::new(&run()), Inputs::new(&run()));
    assert_eq!(one.to_json(), two.to_json());
    assert_eq!(one.digest(), Digest::of(one.to_json().as_bytes()));
    let text = one.to_json();
    assert!(!text.contains("2026") && !text.contains("run-1"), "{text}");
    assert!(text.ends_with("}\n"));
    let other = RunRecord { seed: 1, ..run() };
    assert_ne!(Inputs::new(&other).digest(), one.digest());
}

#[test]
fn keys_are_sorted_and_big_numbers_are_text() {
    let value = Inputs::new(&run()).to_value();
    assert_eq!(value["externalParameters"]["seed"], "18446744073709551615");
    let text = Inputs::new(&run()).to_json();
    let back = crate::files::parse_json(text.as_bytes()).unwrap();
    let mut sorted = back.clone();
    sorted.sort_all_objects();
    assert_eq!(back.to_string(), sorted.to_string());
    assert!(text.starts_with("{\n  \"buildType\": \"urn:firebrand:"), "{text}");
}

#[test]
fn every_dependency_has_a_role_and_a_digest() {
    let inputs = Inputs::new(&run());
    let roles: Vec<_> = inputs
        .resolved_dependencies
        .iter()
        .map(|entry| {
            assert!(entry["digest"].as_object().is_some_and(|digest| digest.len() == 1));
            entry["annotations"]["role"].as_str().unwrap()
        })
        .collect();
    let expected = [
        "source",
        "source-diff",
        "config",
        "lock",
        "allowlist",
        "base-model",
        "base-lineage",
        "tokenizer",
        "chat-template",
        "dataset",
    ];
    assert_eq!(roles, expected);
    assert_eq!(inputs.resolved_dependencies[0]["annotations"]["dirty"], true);
    assert_eq!(inputs.resolved_dependencies[0]["annotations"]["commitSigned"], true);
    assert_eq!(inputs.resolved_dependencies[9]["annotations"]["rows"], "12");
}

#[test]
fn a_hub_model_is_named_by_its_commit() {
    let mut record = run();
    record.source = None;
    record.base.id = "acme/tiny".into();
    record.base.revision = Some("060db6499f32faf8b98477b0a26969ef7d8b9987".into());
    let inputs = Inputs::new(&record);
    assert_eq!(
        inputs.resolved_dependencies[3]["uri"],
        "pkg:huggingface/acme/tiny@060db6499f32faf8b98477b0a26969ef7d8b9987#model.safetensors"
    );
}

#[test]
fn the_statement_holds_the_inputs_and_is_about_the_files() {
    let inputs = Inputs::new(&run());
    let subjects =
        ["b.json", "a.json", STATEMENT_FILE, signature::FILE, ".git/x", INPUTS_FILE].map(entry);
    let text = statement(&inputs, &outcome(), &subjects);
    let value = crate::files::parse_json(text.as_bytes()).unwrap();
    let names: Vec<_> =
        value["subject"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a.json", "b.json", INPUTS_FILE]);
    assert_eq!(value["predicate"]["buildDefinition"], inputs.to_value());
    let details = &value["predicate"]["runDetails"];
    assert_eq!(details["builder"]["version"]["firebrand"], env!("CARGO_PKG_VERSION"));
    assert_eq!(details["byproducts"][0]["annotations"]["eval/perplexity"], "inf");
    assert_eq!(details["byproducts"][3]["annotations"]["role"], "resume-from");
}

#[test]
fn a_parent_is_an_artifact_with_lineage_and_signature() {
    let folder = tempfile::tempdir().unwrap();
    let of = || Parent::of(folder.path(), ParentSignature::Unchecked).unwrap();
    assert_eq!(of(), None);
    fs::write(folder.path().join(STATEMENT_FILE), "{}").unwrap();
    assert_eq!(of(), None);
    fs::write(folder.path().join(signature::FILE), "sig").unwrap();
    let parent = of().unwrap();
    assert_eq!(parent.statement, Digest::of(b"{}"));
    assert_eq!(parent.signature, Digest::of(b"sig"));
    assert_eq!(parent.name, folder.path().file_name().unwrap().to_str().unwrap());
}
