//! Embedding and output head that are trained whole beside an adapter (`lora.modules_to_save`).

use snapbox::str;

use crate::common::Run;
use crate::common::adapters::{goes_on_to_the_same_bytes, likeliest, untied};
use firebrand::weights::{read_tensors, to_f32};

const BOTH: &str = "lora.modules_to_save=[\"embed_tokens\", \"lm_head\"]";

fn train<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "lora.toml", "--quiet", "--set", name, "--set", BOTH], more].concat()
}

fn numbers(run: &Run, folder: &str, file: &str, name: &str) -> Vec<f32> {
    let (mut tensors, _) = read_tensors(&run.path(folder), file).unwrap();
    let tensor = tensors.remove(name).unwrap();
    assert_eq!(tensor.shape, [512, 32], "{name}");
    to_f32(tensor.element, &tensor.bytes)
}

#[test]
fn they_are_saved_as_peft_has_them_go_on_to_the_same_bytes_and_are_merged() {
    let run = untied();
    goes_on_to_the_same_bytes(&run, ["name=straight", "name=often"], train);

    let artifact = "checkpoints/straight/artifact";
    let config: serde_json::Value =
        serde_json::from_str(&run.read(&format!("{artifact}/adapter_config.json"))).unwrap();
    assert_eq!(config["modules_to_save"], serde_json::json!(["embed_tokens", "lm_head"]));
    run.succeeds(&["merge", artifact, "--out", "merged", "--dtype", "f32"]);
    for path in ["model.embed_tokens.weight", "lm_head.weight"] {
        let of = |folder: &str, file: &str, name: &str| numbers(&run, folder, file, name);
        let saved = of(artifact, "adapter_model.safetensors", &format!("base_model.model.{path}"));
        let before = of("checkpoints/tiny/artifact", "model.safetensors", path);
        assert!(saved.iter().zip(&before).any(|(a, b)| (a - b).abs() > 1e-3), "{path} is trained");
        assert_eq!(of("merged", "model.safetensors", path), saved);
    }
    let answer = |model: &str| likeliest(&run, model);
    assert_eq!(answer("merged"), answer(artifact));
    // A run may start from it.
    let start = ["--set", "model.adapter=checkpoints/straight/artifact"];
    run.succeeds(&train("name=second", &start));
}

#[test]
fn what_cannot_be_trained_whole_is_refused() {
    let run = untied();
    let set = |set: &'static str| ["train", "lora.toml", "--quiet", "--set", set];
    run.fails_with(
        2,
        &set("lora.modules_to_save=[\"lm_hed\"]"),
        str![[r#"
error[adapter]: `lm_hed` in `lora.modules_to_save` cannot be trained whole

hint: did you mean `lm_head`?

"#]],
    );
    run.fails_with(
        2,
        &set("lora.modules_to_save=[\"q_proj\"]"),
        str![[r#"
error[adapter]: `q_proj` in `lora.modules_to_save` cannot be trained whole

hint: the embedding (`embed_tokens`) and the output head (`lm_head`) can

"#]],
    );
    run.fails_with(
        2,
        &train("name=dpo", &["--set", "train.objective=dpo"]),
        str![[r#"
error[config]: `train.objective = "dpo"` cannot be used with this adapter
  at lora.toml
  because it compares with the base model, whose weights the adapter changes

hint: leave `lora.init_lora_weights`, `lora.modules_to_save`, `lora.bias`, trainable and added tokens, and `lm_head` and `embed_tokens` out

"#]],
    );
}

#[test]
fn a_head_that_is_the_embedding_is_trained_with_it() {
    let run = Run::new().with_base();
    let set = ["--set", "name=tied", "--set", "lora.modules_to_save=[\"embed_tokens\"]"];
    run.succeeds(&[&["train", "lora.toml", "--quiet"], &set[..]].concat());
    let artifact = "checkpoints/tied/artifact";
    let config: serde_json::Value =
        serde_json::from_str(&run.read(&format!("{artifact}/adapter_config.json"))).unwrap();
    assert_eq!(config["modules_to_save"], serde_json::json!(["embed_tokens"]));
    assert_eq!(config["ensure_weight_tying"], true);
    // As PEFT has it: the same numbers under both names.
    let saved = |path: &str| {
        let name = format!("base_model.model.{path}");
        numbers(&run, artifact, "adapter_model.safetensors", &name)
    };
    let embedding = saved("model.embed_tokens.weight");
    assert_eq!(saved("lm_head.weight"), embedding);
    let base = "checkpoints/tiny/artifact";
    let before = numbers(&run, base, "model.safetensors", "model.embed_tokens.weight");
    assert!(embedding.iter().zip(&before).any(|(a, b)| (a - b).abs() > 1e-3), "it is trained");
    run.succeeds(&["merge", artifact, "--out", "merged", "--dtype", "f32"]);
    assert_eq!(
        numbers(&run, "merged", "model.safetensors", "model.embed_tokens.weight"),
        embedding
    );
    let (merged, _) = read_tensors(&run.path("merged"), "model.safetensors").unwrap();
    assert!(!merged.contains_key("lm_head.weight"));
    let answer = |model: &str| likeliest(&run, model);
    assert_eq!(answer("merged"), answer(artifact));
    // A run may start from it.
    let start = ["--set", "name=second", "--set", "model.adapter=checkpoints/tied/artifact"];
    run.succeeds(&[&["train", "lora.toml", "--quiet"], &set[2..], &start[..]].concat());

    // One that was trained apart from the other is none of this model.
    let file = run.path(artifact).join("adapter_model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let places: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let place = &places["base_model.model.lm_head.weight"]["data_offsets"][0];
    bytes[8 + header + place.as_u64().unwrap() as usize] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let refused = ["generate", artifact, "--prompt", "x", "--max-tokens", "1"];
    run.fails_with(
        2,
        &refused,
        str![[r#"
error[adapter]: the adapter's embedding and output head are not one
  at checkpoints/tied/artifact
  because those of its base are, and training one apart from the other unties them

hint: PEFT keeps them together with `ensure_weight_tying=True`

"#]],
    );
    // Nor is it merged, where no signature speaks about it first.
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::create_dir_all(run.path("bare")).unwrap();
        std::fs::copy(run.path(artifact).join(name), run.path("bare").join(name)).unwrap();
    }
    run.fails_with(
        2,
        &["merge", "bare", "--base", base, "--out", "other"],
        str![[r#"
error[adapter]: the adapter's embedding and output head are not one
  at bare
  because those of its base are, and training one apart from the other unties them

hint: PEFT keeps them together with `ensure_weight_tying=True`

"#]],
    );
}
