//! The example programs do what they say, on the CPU.

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use common::{Run, repository};
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
