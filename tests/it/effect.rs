//! What a model changes goes along with it, and is seen where it is loaded.

use std::fs;

use serde_json::Value;
use snapbox::str;

use crate::common::{Run, says};

const ARTIFACT: &str = "checkpoints/lora/artifact";

fn trained() -> Run {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    run
}

fn effect(run: &Run, folder: &str) -> Value {
    serde_json::from_str(&run.read(&format!("{folder}/effect.json"))).unwrap()
}

/// The line about the effect, and how the command ended.
fn checked(run: &Run, arguments: &[&str]) -> (String, Option<i32>) {
    let output = run.command(&[&["verify", "--effect"], arguments].concat()).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let line = told.lines().find(|line| line.contains("  effect  "));
    (line.unwrap_or(&told).to_owned() + "\n", output.status.code())
}

#[test]
fn an_adapter_states_what_it_changes_and_whoever_loads_it_sees_it() {
    let run = trained();
    let stated = effect(&run, ARTIFACT);
    let row = &stated["rows"][0];
    assert!(row["change"].as_f64().unwrap() > 1e-3, "{stated:#}");
    assert_ne!(row["with"]["sha256"], row["without"]["sha256"]);
    assert_eq!(row["with"]["top"].as_array().unwrap().len(), 5);
    assert_eq!(stated["arithmetic"], "f32");
    let (mut said, code) = checked(&run, &[ARTIFACT]);
    assert_eq!(code, Some(0), "{said}");
    // A base of the same shape with other weights.
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "seed=9", "--set", "name=nine"]);
    let (line, code) = checked(&run, &[ARTIFACT, "--base", "checkpoints/nine"]);
    assert_ne!(code, Some(0));
    said += &line;
    // A model that carries nothing.
    fs::remove_file(run.path(ARTIFACT).join("effect.json")).unwrap();
    said += &checked(&run, &[ARTIFACT]).0;
    says(
        said,
        str![[r#"
ok    effect             the scores that are stated, with it and without it, to the last bit; on 1 of the run's prompts, 29 tokens
-     effect             `model.safetensors` is not the base model that the adapter was trained on (`checkpoints/nine/artifact`)
-     effect             the model carries no `effect.json`, by which it could be checked

"#]],
    );
}

/// Signed as it is, and of no effect: the signature says who made it, and not that it does anything.
#[test]
fn an_adapter_that_does_nothing_or_something_else_is_caught() {
    let run = trained();
    run.succeeds(&["keygen", "k.pem"]);
    let path = run.path(ARTIFACT).join("adapter_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let header = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let signed = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        // The statement is about the weights that were made.
        for name in ["lineage.statement.json", "lineage.inputs.json"] {
            let _ = fs::remove_file(run.path(ARTIFACT).join(name));
        }
        let _ = fs::remove_file(run.path("checkpoints/lora/artifact.sigstore.jsonl"));
        run.succeeds(&["sign", ARTIFACT, "--key", "k.pem", "--force"]);
        checked(&run, &[ARTIFACT, "--key", "k.pub.pem"])
    };
    let mut silent = bytes.clone();
    silent[header..].fill(0);
    let (mut said, code) = signed(&silent);
    assert_eq!(code, Some(1), "{said}");
    let merge = ["merge", "checkpoints/lora", "--out", "merged"];
    said += &run.fails(1, &merge);
    let (line, code) = signed(&bytes);
    assert_eq!(code, Some(0), "{line}");
    run.succeeds(&merge);
    // The merged model states its own, beside the base.
    let merged = effect(&run, "merged");
    assert!(merged["rows"][0]["change"].as_f64().unwrap() > 1e-3, "{merged:#}");
    assert_eq!(checked(&run, &["merged"]).1, Some(0));
    let (line, code) = checked(&run, &["merged", "--base", "checkpoints/tiny"]);
    assert_eq!(code, Some(0), "{line}");
    said += &line;
    // Of a whole model there is what it computes.
    said += &checked(&run, &["checkpoints/tiny"]).0;
    // An adapter that learnt nothing is said to do nothing when it is made.
    let idle = ["--set", "train.learning_rate=1e-30", "--set", "name=idle", "--quiet"];
    said += &run.stderr_of(&[&["train", "lora.toml"], &idle[..]].concat());
    said += &checked(&run, &["checkpoints/idle"]).0;
    says(
        said,
        str![[r#"
FAIL  effect             row 1: the scores with it are not those that are stated
error[adapter]: the adapter does something else here than where it was made
  at checkpoints/lora/artifact/effect.json
  because row 1: the scores with it are not those that are stated

hint: its base is another one, or a file of it was changed; `--no-check` does not look
ok    effect             the scores that are stated, with it and without it, to the last bit; on 1 of the run's prompts, 29 tokens
ok    effect             the scores that are stated, with it alone, within [..] of the largest score; on 1 of the run's prompts, 29 tokens
warning: the adapter changes nothing: on the prompts, the model with it has the scores of its base, to the last bit
FAIL  effect             it states no effect: the scores are those of the base

"#]],
    );
}
