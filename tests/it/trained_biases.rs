//! Biases that are trained beside an adapter (`lora.bias`).

use std::collections::BTreeSet;

use snapbox::str;

use crate::common::Run;
use crate::common::adapters::{goes_on_to_the_same_bytes, likeliest, with_config};
use firebrand::weights::{read_tensors, to_f32};

const LAYER: &str = "model.layers.1.self_attn";

/// A base with biases in its attention.
fn biased() -> Run {
    with_config("attention_bias", true.into())
}

fn train<'a>(name: &'a str, bias: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let targets = "lora.target_modules=[\"q_proj\", \"down_proj\"]";
    let set = ["--set", name, "--set", bias, "--set", targets];
    [&["train", "lora.toml", "--quiet"], &set[..], more].concat()
}

fn numbers(run: &Run, folder: &str, file: &str, name: &str) -> Vec<f32> {
    let (mut tensors, _) = read_tensors(&run.path(folder), file).unwrap();
    let tensor = tensors.remove(name).unwrap();
    to_f32(tensor.element, &tensor.bytes)
}

fn names_of_biases(run: &Run, artifact: &str) -> BTreeSet<String> {
    let (tensors, _) = read_tensors(&run.path(artifact), "adapter_model.safetensors").unwrap();
    tensors.into_keys().filter(|name| name.ends_with(".bias")).collect()
}

#[test]
fn they_are_saved_as_peft_has_them_go_on_to_the_same_bytes_and_are_merged() {
    let run = biased();
    for (choice, layers) in [("all", &["q_proj", "k_proj"][..]), ("lora_only", &["q_proj"])] {
        let [straight, often, second] =
            ["straight", "often", "second"].map(|name| format!("name={name}-{choice}"));
        let bias = format!("lora.bias={choice}");
        goes_on_to_the_same_bytes(&run, [&straight, &often], |name, more| train(name, &bias, more));
        let artifact = format!("checkpoints/straight-{choice}/artifact");

        let json = run.read(&format!("{artifact}/adapter_config.json"));
        let config: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(config["bias"], choice);
        let names = names_of_biases(&run, &artifact);
        // Of attention, in two layers; that of a layer with an adapter is within it.
        assert_eq!(names.len(), if choice == "all" { 2 * 4 } else { 2 });
        let wide = format!("wide-{choice}");
        run.succeeds(&["merge", &artifact, "--out", &wide, "--dtype", "f32"]);
        for layer in layers {
            let within = if *layer == "q_proj" { ".base_layer" } else { "" };
            let name = format!("base_model.model.{LAYER}.{layer}{within}.bias");
            assert!(names.contains(&name), "{name} in {names:?}");
            let saved = numbers(&run, &artifact, "adapter_model.safetensors", &name);
            let path = format!("{LAYER}.{layer}.bias");
            let before = numbers(&run, "checkpoints/tiny/artifact", "model.safetensors", &path);
            assert!(saved.iter().zip(&before).any(|(a, b)| (a - b).abs() > 1e-4), "{name}");
            assert_eq!(numbers(&run, &wide, "model.safetensors", &path), saved, "{name}");
        }
        let answer = |model: &str| likeliest(&run, model);
        assert_eq!(answer(&wide), answer(&artifact));
        run.succeeds(&["verify", "--effect", &artifact]);
        // A run may start from it.
        let start = format!("model.adapter={artifact}");
        run.succeeds(&train(&second, &bias, &["--set", &start, "--set", "train.max_steps=1"]));
    }
    let other = ["--set", "model.adapter=checkpoints/straight-all/artifact"];
    run.fails_with(
        2,
        &train("name=other", "lora.bias=lora_only", &other),
        str![[r#"
error[adapter]: `bias` is "all" in the adapter, and "lora_only" in the run
  at checkpoints/straight-all/artifact/adapter_config.json

hint: both must be the same: write it as the adapter has it

"#]],
    );
}

#[test]
fn where_they_cannot_be_trained_or_written_is_said() {
    let run = biased();
    let set = ["--set", "lora.target_modules=[\"down_proj\"]", "--set", "lora.bias=lora_only"];
    run.fails_with(
        2,
        &[&["train", "lora.toml"], &set[..]].concat(),
        str![[r#"
error[adapter]: `lora.bias = "lora_only"` has nothing to train
  because the layers with an adapter of this model have no biases

hint: leave it out

"#]],
    );
    run.succeeds(&train("name=biases", "lora.bias=all", &["--set", "train.max_steps=1"]));
    let export = |format: &'static str| {
        ["export", "checkpoints/biases", "--format", format, "--out", "out", "--no-check"]
    };
    run.fails_with(
        2,
        &export("gguf-lora"),
        str![[r#"
error[export]: llama.cpp cannot put this adapter beside a model
  at checkpoints/biases/artifact
  because it is saved with biases

hint: `--format gguf` writes its base with it

"#]],
    );
    run.fails_with(
        2,
        &export("vllm"),
        str![[r#"
error[export]: vLLM reads no adapter that is saved with biases
  at checkpoints/biases/artifact

hint: merge it: `firebrand merge`

"#]],
    );
}
