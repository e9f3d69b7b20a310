//! `scan` and `lineage` as whole commands: artifacts of tiny runs, and models made to do harm.

use snapbox::str;
use std::fs;
use std::path::Path;

use crate::common::{Run, repository, says};
use firebrand::files::Digest;
use serde_json::Value;

/// Runs a command that prints JSON; returns its exit code too.
fn json(run: &Run, arguments: &[&str]) -> (i32, Value) {
    let output = run.command(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let code = output.status.code().expect("an exit code");
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn rules(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["rule"].as_str().unwrap()).collect()
}

/// `pickle.dumps` of an object whose `__reduce__` calls `os.system("id")`.
const PICKLE: &[u8] = b"cposix\nsystem\np0\n(Vid\np1\ntp2\nRp3\n.";

#[test]
fn what_firebrand_makes_scans_clean() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    for path in ["checkpoints/tiny/artifact", "checkpoints/lora/artifact", "checkpoints"] {
        let (code, report) = json(&run, &["scan", path, "--json"]);
        assert_eq!((code, rules(&report).len()), (0, 0), "{report:#}");
        assert_eq!(report["verdict"], "clean");
    }
    let text = run.succeeds(&["scan", "checkpoints/tiny/artifact"]);
    assert_eq!(text, "nothing dangerous: 11 files, 0 dangers, 0 warnings, 0 notes\n");
    for path in ["checkpoints/base-tiny/artifact", "tests/fixtures", "tests/reference/tiny"] {
        run.succeeds(&["scan", repository(path).to_str().unwrap()]);
    }
}

#[test]
fn danger_ends_with_one_and_what_cannot_be_seen_with_two() {
    let run = Run::new();
    fs::write(run.path("base/model.safetensors"), PICKLE).unwrap();
    let output = run.command(&["scan", "base"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    says(
        &text,
        str![[r#"
danger   pickle              model.safetensors: it is a Python pickle of protocol 0 or 1 that imports `posix.system`; do not load it; get the weights as safetensors
danger   disguised           model.safetensors: it is a pickle, not safetensors; do not load this file, and tell its publisher
danger   safetensors         model.safetensors: the header is longer than the file; do not load this file; get it again from where it was published
DANGEROUS: 5 files, 3 dangers, 0 warnings, 0 notes

"#]],
    );
    says(text.lines().last().unwrap(), str!["DANGEROUS: 5 files, 3 dangers, 0 warnings, 0 notes"]);
    let (code, report) = json(&run, &["scan", "base/model.safetensors", "--json"]);
    assert_eq!((code, report["files"].as_u64()), (1, Some(1)));

    fs::write(run.path("base/model.safetensors"), "").unwrap();
    fs::remove_file(run.path("base/model.safetensors")).unwrap();
    fs::write(run.path("base/more.json"), "{").unwrap();
    let (code, report) = json(&run, &["scan", "base", "--json"]);
    assert_eq!((code, report["verdict"].as_str()), (2, Some("incomplete")));
    run.fails_with(
        2,
        &["scan", "nowhere"],
        str![[r#"
error[file]: cannot look at the path
  at nowhere
  because No such file or directory (os error 2)

"#]],
    );
}

#[test]
fn sarif_says_the_same() {
    let run = Run::new();
    fs::write(run.path("base/a b.bin"), PICKLE).unwrap();
    let (code, log) = json(&run, &["scan", "base", "--sarif"]);
    assert_eq!((code, log["version"].as_str()), (1, Some("2.1.0")));
    let result = &log["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "pickle");
    let place = &result["locations"][0]["physicalLocation"]["artifactLocation"];
    assert_eq!(place["uri"], "a%20b.bin");
}

/// The child that renders templates has limits of memory and time.
#[test]
#[cfg(unix)]
fn a_template_that_fills_the_memory_is_stopped() {
    let run = Run::new();
    run.write(
        "base/chat_template.jinja",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}\
         {% set ns.x = (ns.x ~ ns.x) | upper %}{% endfor %}{{ ns.x | length }}",
    );
    let (code, report) = json(&run, &["scan", "base", "--json"]);
    assert_eq!((code, rules(&report)), (1, vec!["template-bomb"]), "{report:#}");
}

#[test]
#[cfg(unix)]
fn links_and_pipes_are_told_and_not_opened() {
    let run = Run::new();
    std::os::unix::fs::symlink("/etc/passwd", run.path("base/notes.txt")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(run.path("base/pipe")).status();
    assert!(made.unwrap().success());
    let (code, report) = json(&run, &["scan", "base", "--json"]);
    assert_eq!((code, rules(&report)), (1, vec!["symlink", "special-file"]), "{report:#}");
}

#[test]
fn two_generations_are_a_tree_of_two_levels() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    let (code, tree) = json(&run, &["lineage", "checkpoints/lora", "--json"]);
    assert_eq!((code, tree["method"].as_str()), (0, Some("lora")), "{tree:#}");
    assert_eq!(tree["signature"], "verified");
    assert_eq!(tree["datasets"][0]["notes"]["rows"], "20");
    let parent = &tree["parent"];
    assert_eq!(
        (parent["found"].as_str(), parent["signature"].as_str()),
        (Some("same"), Some("verified"))
    );
    let bytes = fs::read(run.path("checkpoints/tiny/artifact/lineage.statement.json")).unwrap();
    assert_eq!(parent["statement"], Digest::of(&bytes).to_string());
    assert_eq!(parent["family"]["method"], "from-random-weights");
    assert!(parent["family"]["parent"].is_null());

    let text = run.succeeds(&["lineage", "checkpoints/lora/artifact"]);
    says(
        &text,
        str![[r#"
checkpoints/lora/artifact
  statement      sha256 [SHA256]
  signature      verified
  made by        lora
  time           [NOW] to [NOW]
  config         lora.toml, sha256 [HEX]
  device         backend flex, precision f32, name CPU, [DEVICE]; repeats to the bit
  seed           42
  programs       [..]
  tokenizer      tokenizer.json, sha256 [HEX]
  tokenizer      tokenizer_config.json, sha256 [HEX]
  chat-template  checkpoints/tiny/artifact/chat_template.jinja, sha256 [HEX]
  dataset        data.jsonl, sha256 [HEX], trust tofu, rows 20, size 2690, split train
  dataset        validation.jsonl, sha256 [HEX], trust tofu, rows 6, size 782, split validation
  numbers        eval_loss [NUMBER], eval_loss/step-0 [NUMBER], eval_loss/step-5 [NUMBER], target_tokens 143.0, tokens 647.0
  gradient-check  gradient-check.json, sha256 [HEX], device CPU, [DEVICE], reference CPU, [DEVICE], tensor operations, tokens [..], tensors 28
  checkpoint     step-00000002/MANIFEST.json, sha256 [HEX], step 2
  checkpoint     step-00000004/MANIFEST.json, sha256 [HEX], step 4
  checkpoint     step-00000005/MANIFEST.json, sha256 [HEX], step 5
  base           checkpoints/tiny/artifact
    config.json, sha256 [HEX], trust tofu, size 348
    model.safetensors, sha256 [HEX], trust tofu, size 72240
    checkpoints/tiny/artifact: the very one that was recorded
      statement      sha256 [SHA256]
      signature      verified
      made by        from-random-weights
      time           [NOW] to [NOW]
      config         tiny.toml, sha256 [HEX]
      device         backend flex, precision f32, name CPU, [DEVICE]; repeats to the bit
      seed           42
      programs       [..]
      tokenizer      tokenizer.json, sha256 [HEX]
      tokenizer      tokenizer_config.json, sha256 [HEX]
      chat-template  base/chat_template.jinja, sha256 [HEX]
      dataset        data.jsonl, sha256 [HEX], trust tofu, rows 20, size 2690, split train
      dataset        validation.jsonl, sha256 [HEX], trust tofu, rows 6, size 782, split validation
      numbers        eval_loss [NUMBER], eval_loss/step-0 [NUMBER], eval_loss/step-6 [NUMBER], target_tokens 312.0, tokens 1420.0
      gradient-check  gradient-check.json, sha256 [HEX], device CPU, [DEVICE], reference CPU, [DEVICE], tensor operations, tokens [..], tensors 20
      checkpoint     step-00000002/MANIFEST.json, sha256 [HEX], step 2
      checkpoint     step-00000004/MANIFEST.json, sha256 [HEX], step 4
      checkpoint     step-00000006/MANIFEST.json, sha256 [HEX], step 6
      base           base
        config.json, sha256 [HEX], trust tofu, size 348

"#]],
    );
    // From another folder as well.
    let output = run
        .command(&["lineage", "artifact", "--json"])
        .current_dir(run.path("checkpoints/lora"))
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("same"));
}

#[test]
fn a_merged_model_has_the_adapter_as_its_parent() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/lora", "--out", "merged"]);
    let (code, tree) = json(&run, &["lineage", "merged", "--json"]);
    assert_eq!((code, tree["method"].as_str()), (0, Some("merge")));
    let adapter = &tree["parent"]["family"];
    assert_eq!(adapter["method"], "lora", "{tree:#}");
    assert_eq!(adapter["parent"]["family"]["method"], "from-random-weights");
}

#[test]
fn a_parent_that_changed_or_is_gone_is_told() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    let statement = run.path("checkpoints/tiny/artifact/lineage.statement.json");
    let before = fs::read(&statement).unwrap();
    fs::write(&statement, [&before[..], b"\n"].concat()).unwrap();
    let (code, tree) = json(&run, &["lineage", "checkpoints/lora", "--json"]);
    assert_eq!((code, tree["parent"]["found"].as_str()), (1, Some("other")));
    let text = run.command(&["lineage", "checkpoints/lora"]).output().unwrap().stdout;
    says(
        String::from_utf8(text).unwrap(),
        str![[r#"
checkpoints/lora/artifact
  statement      sha256 [SHA256]
  signature      verified
  made by        lora
  time           [NOW] to [NOW]
  config         lora.toml, sha256 [HEX]
  device         backend flex, precision f32, name CPU, [DEVICE]; repeats to the bit
  seed           42
  programs       [..]
  tokenizer      tokenizer.json, sha256 [HEX]
  tokenizer      tokenizer_config.json, sha256 [HEX]
  chat-template  checkpoints/tiny/artifact/chat_template.jinja, sha256 [HEX]
  dataset        data.jsonl, sha256 [HEX], trust tofu, rows 20, size 2690, split train
  dataset        validation.jsonl, sha256 [HEX], trust tofu, rows 6, size 782, split validation
  numbers        eval_loss [NUMBER], eval_loss/step-0 [NUMBER], eval_loss/step-5 [NUMBER], target_tokens 143.0, tokens 647.0
  gradient-check  gradient-check.json, sha256 [HEX], device CPU, [DEVICE], reference CPU, [DEVICE], tensor operations, tokens [..], tensors 28
  checkpoint     step-00000002/MANIFEST.json, sha256 [HEX], step 2
  checkpoint     step-00000004/MANIFEST.json, sha256 [HEX], step 4
  checkpoint     step-00000005/MANIFEST.json, sha256 [HEX], step 5
  base           checkpoints/tiny/artifact
    config.json, sha256 [HEX], trust tofu, size 348
    model.safetensors, sha256 [HEX], trust tofu, size 72240
    artifact: NOT the one that was recorded
      `checkpoints/tiny/artifact` has another lineage than was recorded
      recorded       statement sha256 [SHA256]
                     signature verified at the time

"#]],
    );

    // The statement is the same, but another file is not.
    fs::write(&statement, &before).unwrap();
    run.write("checkpoints/tiny/artifact/config.json", "{}");
    let (code, tree) = json(&run, &["lineage", "checkpoints/lora", "--json"]);
    assert_eq!((code, tree["parent"]["family"]["signature"].as_str()), (1, Some("tampered")));

    fs::remove_dir_all(run.path("checkpoints/tiny")).unwrap();
    let (code, tree) = json(&run, &["lineage", "checkpoints/lora", "--json"]);
    assert_eq!((code, tree["parent"]["found"].as_str()), (0, Some("missing")));
}

#[test]
fn a_damaged_or_missing_lineage_is_an_error() {
    let run = Run::new().with_base();
    let path = Path::new("checkpoints/tiny/artifact/lineage.statement.json");
    let before = run.read(path.to_str().unwrap());
    let mut messages = String::new();
    for text in [
        "{",
        "{}",
        &before.replace("\"method\"", "\"way\""),
        &before.replace("\"digest\"", "\"hash\""),
        &before.replacen('{', "{\"_type\":\"x\",", 1),
    ] {
        run.write(path.to_str().unwrap(), text);
        let stderr = run.fails(2, &["lineage", "checkpoints/tiny/artifact"]);
        messages += &format!("{stderr}\n");
    }
    says(
        messages,
        str![[r#"
error[lineage]: the lineage is damaged
  at checkpoints/tiny/artifact/lineage.statement.json
  because not valid JSON
  because EOF while parsing an object at line 1 column 1

error[lineage]: the lineage is damaged: it is not an in-toto statement with SLSA provenance
  at checkpoints/tiny/artifact/lineage.statement.json

error[lineage]: the lineage is damaged: `method` is missing
  at checkpoints/tiny/artifact/lineage.statement.json

error[lineage]: the lineage is damaged: `resolvedDependencies` is not a list of files with digests
  at checkpoints/tiny/artifact/lineage.statement.json

error[lineage]: the lineage is damaged
  at checkpoints/tiny/artifact/lineage.statement.json
  because not valid JSON
  because the key `_type` appears twice at line 2 column 44


"#]],
    );
    fs::remove_file(run.path(path.to_str().unwrap())).unwrap();
    run.fails_with(
        2,
        &["lineage", "checkpoints/tiny"],
        str![[r#"
error[lineage]: there is no lineage: `lineage.statement.json` is not here
  at checkpoints/tiny/artifact

hint: artifacts that `firebrand train` and `merge` make have one

"#]],
    );
}
