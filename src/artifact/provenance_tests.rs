//! What is stated of the making of an artifact, in it and beside it.

use std::fs;

use super::*;
use crate::artifact::envelope::IN_TOTO;
use crate::artifact::keys::tests::known_key;
use crate::artifact::lineage::INPUTS_FILE;
use crate::artifact::lineage::tests::{entry, run};
use crate::artifact::signature::attestations_of;

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
        rollouts_log: None,
        checkpoints: vec![checkpoint(10), checkpoint(20)],
        resumed: vec![checkpoint(10)],
        reused: Vec::new(),
        gradient_check: None,
        result: None,
        changes: Vec::new(),
    }
}

/// That of [`run`] and [`outcome`].
pub(crate) fn lineage() -> Lineage {
    let run = run();
    Lineage { inputs: Inputs::of_run(&run), asked: Inputs::as_asked(&run), facts: outcome() }
}

#[test]
fn the_statement_holds_the_inputs_and_is_about_the_files() {
    let lineage = lineage();
    let subjects =
        ["b.json", "a.json", STATEMENT_FILE, signature::FILE, ".git/x", INPUTS_FILE].map(entry);
    let text = lineage.statement(&subjects);
    let value = crate::files::parse_json(text.as_bytes()).unwrap();
    let names: Vec<_> =
        value["subject"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a.json", "b.json", INPUTS_FILE]);
    assert_eq!(value["predicate"]["buildDefinition"], lineage.inputs.to_value());
    let details = &value["predicate"]["runDetails"];
    assert_eq!(details["builder"]["version"]["firebrand"], env!("CARGO_PKG_VERSION"));
    assert_eq!(details["byproducts"][0]["annotations"]["eval/perplexity"], "inf");
    assert_eq!(details["byproducts"].as_array().unwrap().len(), 1);
    for word in ["2026", "run-1", "step-000"] {
        assert!(!text.contains(word), "{word}");
    }
    let whole = crate::files::parse_json(lineage.provenance(&subjects).as_bytes()).unwrap();
    let details = &whole["predicate"]["runDetails"];
    assert_eq!(details["metadata"]["finishedOn"], "2026-10-20T10:02:07Z");
    assert_eq!(details["byproducts"][3]["annotations"]["role"], "resume-from");
    assert_eq!(whole["predicate"]["buildDefinition"], lineage.asked.to_value());
    assert_eq!(whole["subject"], value["subject"]);
}

#[test]
fn what_comparing_gradients_found_is_told_or_why_they_were_not_compared() {
    let told = |found: Value| {
        let gradient_check = Some((entry("gradient-check.json"), found));
        let all = RunFacts { gradient_check, ..outcome() }.of_sessions();
        all[0]["annotations"].clone()
    };
    let notes = json!({
        "role": "gradient-check", "tokens": "67", "tensors": "28", "device": "a card",
        "reference": "CPU, 2 threads",
    });
    let found = json!({
        "tokens": 67, "tensors": 28, "difference": 1e-6, "device": "a card",
        "reference": "CPU, 2 threads",
    });
    assert_eq!(told(found), notes);
    let notes = json!({"role": "gradient-check", "left_out": "it would take long"});
    assert_eq!(told(json!({"left_out": "it would take long"})), notes);
}

/// Signed or not, and whatever else is attested; one about other files is none of this artifact's.
#[test]
fn the_provenance_beside_is_the_one_about_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("artifact");
    fs::create_dir(&directory).unwrap();
    let (lineage, subjects) = (lineage(), ["a.json"].map(entry));
    let parsed = |text: &str| crate::files::parse_json(text.as_bytes()).unwrap();
    let statement = parsed(&lineage.statement(&subjects));
    assert_eq!(beside(&directory, &statement), None);
    let other = lineage.provenance(&["b.json"].map(entry));
    let whole = lineage.provenance(&subjects);
    fs::write(unsigned_of(&directory).unwrap(), &other).unwrap();
    assert_eq!(beside(&directory, &statement), None);
    fs::write(unsigned_of(&directory).unwrap(), &whole).unwrap();
    assert_eq!(beside(&directory, &statement), Some(parsed(&whole)));
    fs::remove_file(unsigned_of(&directory).unwrap()).unwrap();
    let line = |text: &str| {
        Bundle::sign(IN_TOTO, text.as_bytes().to_vec(), &known_key()).unwrap().to_json()
    };
    let lines = [line(&other), "no json".to_owned(), line(&whole)].join("\n");
    fs::write(attestations_of(&directory).unwrap(), lines).unwrap();
    assert_eq!(beside(&directory, &statement), Some(parsed(&whole)));
}
