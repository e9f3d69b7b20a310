//! The example programs do what they say, on the CPU.

use crate::common::hub;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::common::{Run, repository};
use firebrand::weights::Shard;

/// `cargo test` builds the examples beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(built.exists() || built.with_extension("exe").exists(), "{built:?} was not built");
    built
}

fn run(name: &str, folder: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(example(name)).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn the_data_sets_and_the_tokenizer_are_those_that_the_examples_make() {
    for name in ["make_datasets", "train_tokenizer"] {
        let output = run(name, &repository("."), &["--check"]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn records_to_measure_with_are_the_same_each_time_and_never_repeat() {
    let folder = tempfile::tempdir().unwrap();
    for shape in ["messages", "text"] {
        let texts = ["a.jsonl", "b.jsonl"].map(|name| {
            let output = run("make_datasets", folder.path(), &[shape, "2", name]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::read_to_string(folder.path().join(name)).unwrap()
        });
        assert_eq!(texts[0], texts[1]);
        assert!((2_000_000..2_100_000).contains(&texts[0].len()), "{}", texts[0].len());
        let mut lines: Vec<&str> = texts[0].lines().collect();
        let all = lines.len();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), all);
        let record: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert!(record.get(shape).is_some(), "{}", lines[0]);
    }
    let output = run("make_datasets", folder.path(), &["text", "many", "c.jsonl"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn logits_and_gradients_are_written_for_other_programs() {
    let files = Run::new().with_base();
    files.succeeds(&["train", "lora.toml", "--quiet"]);
    let batches = files.succeeds(&["data", "lora.toml", "--json", "--rows", "3"]);
    files.write("batches.jsonl", &batches);
    for (name, model, tensor) in [
        ("logits", "checkpoints/tiny", "logits.0"),
        (
            "gradients",
            "checkpoints/lora",
            "grad.base_model.model.model.layers.1.mlp.up_proj.lora_B.weight",
        ),
    ] {
        let out = format!("{name}.safetensors");
        let output = run(name, &files.path("."), &[model, "batches.jsonl", &out]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let shard = Shard::read(&files.path("."), &out).unwrap();
        let tensors = shard.tensors().unwrap();
        let found = tensors.iter().find(|found| found.name == tensor);
        assert!(found.is_some_and(|found| !found.bytes.is_empty()), "{name} has no {tensor}");
    }
}

#[test]
fn conversations_are_rendered_for_other_programs() {
    let template = "{% for m in messages %}{{ m.role ~ m.content }};{% endfor %}\
        {{ raise_exception('no tools') if tools }}{{ 'go' if add_generation_prompt }}";
    let messages = serde_json::json!([{ "role": "user", "content": null }]);
    let input = serde_json::json!({
        "templates": [template, "{% if %}"],
        "conversations": [{ "messages": messages }, { "messages": messages, "tools": [{}] }],
        "special": { "bos_token": "<s>" },
    });
    let mut program = Command::new(example("render_templates"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[0]["text"], "userNone;");
    assert_eq!(lines[1]["text"], "userNone;go");
    assert!(lines[2]["refused"].as_str().unwrap().contains("no tools"), "{text}");
    assert!(lines[4]["refused"].as_str().unwrap().contains("not valid Jinja"), "{text}");
}

#[test]
fn a_repository_is_pulled_as_the_environment_says() {
    let hub = hub::Hub::start();
    let weights = vec![7; 5000];
    let files: [(&str, &[u8]); 4] = [
        ("config.json", b"{}"),
        ("model.safetensors", &weights),
        ("pytorch_model.bin", b"\x80\x02"),
        ("tokenizer.json", b"{}"),
    ];
    let commit = hub.add("models/o/n", "v1", &files);
    let folder = tempfile::tempdir().unwrap();
    let pull = |offline: &str, arguments: &[&str]| {
        Command::new(example("pull"))
            .args(arguments)
            .env_clear()
            .env("HF_HOME", folder.path().join("hf"))
            .env("HF_ENDPOINT", hub.endpoint())
            .env("HF_TOKEN", "hf_secret")
            .env("HF_HUB_OFFLINE", offline)
            .env("FIREBRAND_CACHE", folder.path().join("own"))
            .env("FIREBRAND_HUB_TIME_SCALE", "0.01")
            .output()
            .unwrap()
    };
    for offline in ["0", "1"] {
        let output = pull(offline, &["model", "o/n", "v1"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[1]["sha256"], hub::sha256_of(&weights));
        assert_eq!(lines[1]["downloaded"], offline == "0");
        let snapshot = folder.path().join("hf/hub/models--o--n/snapshots").join(&commit);
        let path = snapshot.join("model.safetensors");
        assert_eq!(lines[1]["path"], path.to_str().unwrap());
        assert_eq!(std::fs::read(path).unwrap(), weights);
    }
    assert!(hub.log().iter().all(|request| request.auth != request.path.starts_with("/_cdn/")));
    let output = pull("0", &["model", "o/n", "v2"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("no branch, tag or commit `v2`") && !text.contains("hf_secret"),
        "{text}"
    );
}
