//! What is to be loaded together, stated, signed and checked before it is loaded.

use crate::common::{Run, says};
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
