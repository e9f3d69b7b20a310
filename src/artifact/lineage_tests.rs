//! Tests of lineage: its content, and that equal inputs give equal bytes.

use std::fs;

use super::*;
use crate::artifact::parent::Parent;
use crate::artifact::parent::ParentSignature;
use crate::artifact::parent::STATEMENT_FILE;
use crate::artifact::signature;
use crate::artifact::source::Changes;

pub(crate) fn entry(path: &str) -> FileEntry {
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
        base_adapters: Vec::new(),
        start_adapter: None,
        teacher: None,
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
        resolved: [("lora.r".into(), "16".into()), ("output.dir".into(), "out".into())].into(),
        settings: [("lora.r".into(), "16".into())].into(),
        seed: u64::MAX,
        device: [("name".into(), "cpu".into())].into(),
        arithmetic: [("precision".into(), "f32".into())].into(),
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

#[test]
fn equal_inputs_give_equal_bytes_without_times() {
    let (one, two) = (Inputs::as_asked(&run()), Inputs::as_asked(&run()));
    assert_eq!(one.to_json(), two.to_json());
    assert_eq!(one.digest(), Digest::of(one.to_json().as_bytes()));
    let text = one.to_json();
    assert!(!text.contains("2026") && !text.contains("run-1"), "{text}");
    assert!(text.ends_with("}\n"));
    let other = RunRecord { seed: 1, ..run() };
    assert_ne!(Inputs::as_asked(&other).digest(), one.digest());
}

#[test]
fn keys_are_sorted_and_big_numbers_are_text() {
    let value = Inputs::as_asked(&run()).to_value();
    assert_eq!(value["externalParameters"]["seed"], "18446744073709551615");
    let text = Inputs::as_asked(&run()).to_json();
    let back = crate::files::parse_json(text.as_bytes()).unwrap();
    let mut sorted = back.clone();
    sorted.sort_all_objects();
    assert_eq!(back.to_string(), sorted.to_string());
    assert!(text.starts_with("{\n  \"buildType\": \"urn:firebrand:"), "{text}");
}

#[test]
fn every_dependency_has_a_role_and_a_digest() {
    let inputs = Inputs::as_asked(&run());
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
    let inputs = Inputs::as_asked(&record);
    assert_eq!(
        inputs.resolved_dependencies[3]["uri"],
        "pkg:huggingface/acme/tiny@060db6499f32faf8b98477b0a26969ef7d8b9987#model.safetensors"
    );
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

/// Another folder, another path of the configuration, other people's trust, another machine of the
/// same kind, another repository: the same inputs.
#[test]
fn place_and_time_are_no_inputs() {
    let one = run();
    let mut two = run();
    two.config = ("/somewhere/b.toml".into(), Digest::of(b"with a comment"));
    two.overrides = BTreeMap::new();
    two.resolved.insert("output.dir".into(), "/elsewhere".into());
    two.base.id = "/models/base-tiny".into();
    two.base.trust = InputTrust::Tofu;
    two.datasets[0].trust = InputTrust::Tofu;
    two.datasets[0].id = "/data/datasets/a.jsonl".into();
    two.datasets[0].file.path = "/data/datasets/a.jsonl".into();
    two.templates[0].0 = "/models/base-tiny/chat_template.jinja".into();
    two.device = [("name".into(), "another cpu".into())].into();
    (two.lock, two.allowlist, two.source) = (None, None, None);
    if let Some(parent) = &mut two.base.parent {
        parent.state = ParentSignature::Untrusted;
    }
    let mut near = one.clone();
    near.base.id = "base-tiny".into();
    near.templates[0].0 = "base-tiny/chat_template.jinja".into();
    (near.datasets[0].id, near.datasets[0].file.path) = ("a.jsonl".into(), "a.jsonl".into());
    assert_eq!(Inputs::of_run(&near).to_json(), Inputs::of_run(&two).to_json());
    assert_ne!(Inputs::as_asked(&near).to_json(), Inputs::as_asked(&two).to_json());
    // What was asked for and found is told whole elsewhere.
    let told = Inputs::as_asked(&two).to_json();
    for part in ["/somewhere/b.toml", "/elsewhere", "/models/base-tiny", "another cpu", "tofu"] {
        assert!(told.contains(part), "{part}");
    }
    // What decides is in.
    let changes: [fn(&mut RunRecord); 5] = [
        |run| run.seed = 1,
        |run| run.base.files[0].sha256 = Digest::of(b"other"),
        |run| run.datasets[0].file.sha256 = Digest::of(b"other"),
        |run| drop(run.settings.insert("lora.r".into(), "8".into())),
        |run| drop(run.arithmetic.insert("precision".into(), "bf16".into())),
    ];
    for change in changes {
        let mut other = one.clone();
        change(&mut other);
        assert_ne!(Inputs::of_run(&other).digest(), Inputs::of_run(&one).digest());
    }
}
