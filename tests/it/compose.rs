//! What is to be loaded together, stated, signed and checked before it is loaded.

use crate::common::{Run, says};
use firebrand::weights::{read_tensors, to_f32};
use serde_json::Value;
use snapbox::str;

/// A base with two adapters of it, and what they make together.
fn composed() -> Run {
    let run = Run::new().with_base();
    for (name, seed) in [("first", "7"), ("second", "8")] {
        let [name, seed] = [format!("name={name}"), format!("seed={seed}")];
        run.succeeds(&["train", "lora.toml", "--quiet", "--set", &name, "--set", &seed]);
    }
    run.succeeds(&COMPOSE);
    run
}

const COMPOSE: [&str; 8] = [
    "compose",
    "all.json",
    "--base",
    "checkpoints/tiny",
    "--adapter",
    "checkpoints/first",
    "--adapter",
    "checkpoints/second",
];
const CHECK: [&str; 3] = ["compose", "all.json", "--check"];

/// What does not hold, and how it ended.
fn failing(run: &Run, more: &[&str]) -> String {
    let output = run.command(&[&CHECK[..], more].concat()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(output.status.code(), Some(i32::from(!failed.is_empty())), "{text}");
    failed.join("\n")
}

#[test]
fn what_was_composed_is_what_is_loaded() {
    let run = composed();
    let text = run.succeeds(&CHECK);
    says(
        text,
        str![[r#"
ok    statement   signature  signed by the key [HEX]
ok    base        files      11 files as stated
ok    adapters/1  files      11 files as stated
ok    adapters/1  signature  signed by key [HEX]
ok    adapters/1  lineage    2 data files
ok    adapters/1  base       trained on these 2 files of the base
ok    adapters/2  files      11 files as stated
ok    adapters/2  signature  signed by key [HEX]
ok    adapters/2  lineage    2 data files
ok    adapters/2  base       trained on these 2 files of the base
ok    adapters/2  tokenizer  tokenizer.json [HEX]
ok    statement   order      `checkpoints/first`, then `checkpoints/second` on `checkpoints/tiny` (none)

"#]],
    );
    let report: Value =
        serde_json::from_str(&run.succeeds(&[&CHECK[..], &["--json"]].concat())).unwrap();
    assert_eq!(report["holds"], true);
    // Parts may lie elsewhere, but in the order that is stated.
    std::fs::rename(run.path("checkpoints/tiny"), run.path("base-of-all")).unwrap();
    let places = ["--base", "base-of-all", "--adapter"];
    let [first, second] = ["checkpoints/first", "checkpoints/second"];
    assert_eq!(failing(&run, &[&places[..], &[first, "--adapter", second]].concat()), "");
    let turned = failing(&run, &[&places[..], &[second, "--adapter", first]].concat());
    assert_eq!(turned.lines().count(), 2, "{turned}");
    run.fails_with(
        2,
        &CHECK,
        str![[r#"
error[file]: the part is not here
  at checkpoints/tiny

hint: `--base` and `--adapter` name where parts lie on this machine

"#]],
    );
    let two = [&CHECK[..], &places[..], &[first]].concat();
    run.fails_with(
        2,
        &two,
        str![[r#"
error[usage]: 2 adapters are stated, and 1 are named

hint: name each with `--adapter`, in the order in which they are stated, or none

"#]],
    );
}

#[test]
fn every_part_that_is_another_is_found() {
    let run = composed();
    let damaged = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = run.path(file);
        let before = std::fs::read(&path).ok();
        let mut bytes = before.clone().unwrap_or_default();
        change(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let found = failing(&run, &[]);
        match before {
            Some(before) => std::fs::write(&path, before).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        assert!(!found.is_empty(), "{file}");
        found
    };
    let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    let base = damaged("checkpoints/tiny/artifact/model.safetensors", &flip);
    assert!(base.starts_with("FAIL  base        files      `model.safetensors` is "), "{base}");
    let adapter = damaged("checkpoints/second/artifact/adapter_model.safetensors", &flip);
    assert!(adapter.contains("adapters/2  files "), "{adapter}");
    assert!(adapter.contains("adapters/2  signature "), "{adapter}");
    let added = damaged("checkpoints/first/artifact/adapter_model.bin", &|bytes| bytes.push(0));
    assert!(added.contains("`adapter_model.bin` is there and not stated"), "{added}");
    // Another order, another name: the statement is not the one that was signed.
    let text = run.read("all.json");
    let mut bundle: Value = serde_json::from_str(&text).unwrap();
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let statement = String::from_utf8(engine.decode(payload).unwrap()).unwrap();
    let other = statement.replace("\"quantisation\":\"none\"", "\"quantisation\":\"nf4\"");
    assert_ne!(statement, other);
    bundle["dsseEnvelope"]["payload"] = engine.encode(other).into();
    run.write("all.json", &bundle.to_string());
    assert!(failing(&run, &[]).contains("did not sign this"), "{}", failing(&run, &[]));
    run.write("all.json", &text);
    assert_eq!(failing(&run, &[]), "");
    // Somebody else's key.
    run.succeeds(&["keygen", "other.pem"]);
    let found = failing(&run, &["--trusted-key", "other.pub.pem"]);
    assert!(found.contains("statement   signature"), "{found}");
}

#[test]
fn what_does_not_fit_together_is_not_composed() {
    let run = composed();
    run.fails_with(
        2,
        &COMPOSE,
        str![[r#"
error[exists]: refusing to replace what is already there
  at all.json

"#]],
    );
    // An adapter of another base.
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=else", "--set", "seed=9"]);
    let other = ["--base", "checkpoints/else", "--adapter", "checkpoints/first"];
    let call = [&["compose", "other.json"][..], &other].concat();
    run.fails_with(
        1,
        &call,
        str![[r#"
error[adapter]: these parts cannot be composed
  because adapters/1, base: it was trained on a base with another `model.safetensors`

"#]],
    );
    assert!(!run.path("other.json").exists());
    // One that says nothing of its making.
    std::fs::remove_file(run.path("checkpoints/first/artifact/lineage.inputs.json")).unwrap();
    let own = ["--base", "checkpoints/tiny", "--adapter", "checkpoints/first"];
    let call = [&["compose", "other.json"][..], &own].concat();
    run.fails_with(
        1,
        &call,
        str![[r#"
error[adapter]: these parts cannot be composed
  because adapters/1, signature: missing: `lineage.inputs.json`
  because adapters/1, lineage: nothing says how it was made
  because adapters/1, base: its lineage names no weights of a base

"#]],
    );
    let unsigned = [&["compose", "other.json"][..], &own, &["--no-sign"]].concat();
    run.fails_with(
        2,
        &unsigned,
        str![[r#"
error[usage]: a composition that nobody signs says nothing

hint: leave out `--no-sign`

"#]],
    );
}

#[test]
fn verify_checks_a_composition_with_its_parts() {
    let run = composed();
    let verdict = || {
        let output = run.command(&["verify", "all.json"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = verdict();
    assert_eq!((code, text), (Some(0), run.succeeds(&CHECK)), "the same as `compose --check`");
    let json = run.succeeds(&["verify", "all.json", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["holds"], true);
    let path = "checkpoints/first/artifact/adapter_config.json";
    run.write(path, &run.read(path).replace("\"lora_alpha\"", "\"lora_alphA\""));
    let (code, text) = verdict();
    assert_eq!(code, Some(1), "{text}");
    std::fs::rename(run.path("checkpoints/tiny"), run.path("elsewhere")).unwrap();
    run.fails_with(
        2,
        &["verify", "all.json"],
        str![[r#"
error[file]: the part is not here
  at checkpoints/tiny

hint: `--base` and `--adapter` name where parts lie on this machine

hint: `firebrand compose all.json --check --base DIR --adapter DIR …` says where

"#]],
    );
    run.fails_with(
        2,
        &["verify", "data.jsonl"],
        str![[r#"
error[signature]: nothing signs this file
  at data.jsonl
  because there is no data.jsonl.sigstore.json, and it is no composition

hint: `--bundle` names the bundle; for a model name its directory

"#]],
    );
}

/// The weights of a model as numbers, and their names.
fn weights(run: &Run, folder: &str) -> Vec<(String, Vec<f32>)> {
    let (tensors, _) = read_tensors(&run.path(folder), "model.safetensors").unwrap();
    let mut all: Vec<(String, Vec<f32>)> = tensors
        .into_iter()
        .map(|(name, tensor)| (name, to_f32(tensor.element, &tensor.bytes)))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn a_composition_is_merged_as_it_is_stated() {
    let run = composed();
    let merge = ["merge", "--composition", "all.json", "--dtype", "f32", "--out"];
    let said = run.stderr_of(&[&merge[..], &["both"]].concat());
    says(
        said,
        str![[r#"
warning: not compared with the adapter: several adapters are not run beside their base
in F32 it holds 100.0 % of the adapter's change to the weights
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify both

"#]],
    );
    run.succeeds(&["verify", "both"]);
    for name in ["first", "second"] {
        let adapter = format!("checkpoints/{name}");
        run.succeeds(&["merge", &adapter, "--no-check", "--dtype", "f32", "--out", name]);
    }
    // What both add to a weight is the sum of what each adds.
    let base = weights(&run, "checkpoints/tiny/artifact");
    let [first, second, both] = ["first", "second", "both"].map(|it| weights(&run, it));
    let mut changed = 0;
    for (number, (name, base)) in base.iter().enumerate() {
        let [first, second, both] = [&first, &second, &both].map(|all| &all[number].1);
        for (place, before) in base.iter().enumerate() {
            let sum = first[place] + (second[place] - before);
            assert!((both[place] - sum).abs() < 1e-6, "{name}: {} and {sum}", both[place]);
            changed += usize::from(both[place] != first[place] && both[place] != second[place]);
        }
    }
    assert!(changed > 1000, "{changed}");

    // The lineage names the statement, and the weights of both.
    let lineage = run.read("both/lineage.inputs.json");
    let digest = |path: &str| firebrand::files::hash_file(&run.path(path), "").unwrap().sha256;
    let weights_of = |name: &str| format!("checkpoints/{name}/artifact/adapter_model.safetensors");
    for file in ["all.json".to_owned(), weights_of("first"), weights_of("second")] {
        assert!(lineage.contains(&digest(&file).to_string()), "{file}: {lineage}");
    }
    let asked: Value = serde_json::from_str(&lineage).unwrap();
    let asked = &asked["externalParameters"]["overrides"]["merge.composition"];
    assert_eq!(asked, "all.json", "{lineage}");
    assert!(lineage.contains("adapters/2/adapter_model.safetensors"), "{lineage}");

    // One adapter by a composition is that adapter merged.
    let one = ["--base", "checkpoints/tiny", "--adapter", "checkpoints/first"];
    run.succeeds(&[&["compose", "one.json"][..], &one].concat());
    run.succeeds(&["merge", "--composition", "one.json", "--dtype", "f32", "--out", "alone"]);
    assert_eq!(weights(&run, "alone"), first);

    // Of an adapter that is not named nothing would be merged, and the lineage would name it.
    let [first, second] = ["checkpoints/first", "checkpoints/second"];
    for (named, count) in [(&[first][..], 1), (&[first, second, first][..], 3)] {
        let named = named.iter().flat_map(|adapter| ["--adapter", adapter]);
        let call: Vec<&str> = merge.into_iter().chain(["other"]).chain(named).collect();
        let said = run.fails(2, &call);
        let what = format!("error[usage]: 2 adapters are stated, and {count} are named\n");
        assert!(said.starts_with(&what), "{said}");
        assert!(!run.path("other").exists());
    }

    // It is checked before anything is made.
    let path = "checkpoints/second/artifact/adapter_model.safetensors";
    let mut bytes = std::fs::read(run.path(path)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(run.path(path), bytes).unwrap();
    let call = [&merge[..], &["other"]].concat();
    run.fails_with(
        1,
        &call,
        str![[r#"
error[adapter]: the composition does not hold
  at all.json
  because adapters/2, files: `adapter_model.safetensors` is [HEX], and [HEX] is stated
  because adapters/2, signature: changed: `adapter_model.safetensors`

"#]],
    );
    assert!(!run.path("other").exists());
    run.fails_with(
        2,
        &["merge", "--out", "other"],
        str![[r#"
error: the following required arguments were not provided:
  <ARTIFACT>

Usage: firebrand merge --out <DIR> <ARTIFACT>

For more information, try '--help'.

"#]],
    );
}
