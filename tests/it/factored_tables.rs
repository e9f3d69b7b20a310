//! Low-rank factors beside the embedding and an output head of its own (`lora.target_modules` with
//! `embed_tokens` and `lm_head`).

use snapbox::str;

use crate::common::adapters::{goes_on_to_the_same_bytes, likeliest, numbers, tensors, untied};
use crate::common::{Run, model_config};

const BOTH: &str = "lora.target_modules=[\"q_proj\", \"embed_tokens\", \"lm_head\"]";
const PREFIX: &str = "base_model.model.";

fn train<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let set = ["--set", name, "--set", BOTH, "--set", "lora.lora_dropout=0"];
    [&["train", "lora.toml", "--quiet"], &set[..], more].concat()
}

#[test]
fn they_are_saved_as_peft_has_them_go_on_to_the_same_bytes_and_are_merged() {
    let run = untied();
    goes_on_to_the_same_bytes(&run, ["name=straight", "name=often"], train);

    let artifact = "checkpoints/straight/artifact";
    let config: serde_json::Value =
        serde_json::from_str(&run.read(&format!("{artifact}/adapter_config.json"))).unwrap();
    let modules = serde_json::json!(["embed_tokens", "lm_head", "q_proj"]);
    assert_eq!(config["target_modules"], modules);
    let saved = tensors(&run, artifact, "adapter_model.safetensors");
    for (name, shape) in [
        ("lm_head.lora_A.weight", [4, 32]),
        ("lm_head.lora_B.weight", [512, 4]),
        ("model.embed_tokens.lora_embedding_A", [4, 512]),
        ("model.embed_tokens.lora_embedding_B", [32, 4]),
    ] {
        let name = format!("{PREFIX}{name}");
        assert_eq!(saved[&name].shape, shape, "{name}");
        assert!(numbers(&saved, &name).iter().any(|x| *x != 0.0), "{name} is trained");
    }
    run.succeeds(&["merge", artifact, "--out", "merged", "--dtype", "f32"]);
    let base = tensors(&run, "checkpoints/tiny/artifact", "model.safetensors");
    let merged = tensors(&run, "merged", "model.safetensors");
    let of = |name: &str| numbers(&saved, &format!("{PREFIX}{name}"));
    let (a, b) =
        (of("model.embed_tokens.lora_embedding_A"), of("model.embed_tokens.lora_embedding_B"));
    let (before, after) = ("model.embed_tokens.weight", "model.embed_tokens.weight");
    let (before, after) = (numbers(&base, before), numbers(&merged, after));
    for (at, (before, after)) in before.iter().zip(&after).enumerate() {
        let (token, column) = (at / 32, at % 32);
        let sum: f64 =
            (0..4).map(|k| f64::from(a[k * 512 + token]) * f64::from(b[column * 4 + k])).sum();
        // lora_alpha / r is 2.
        let expected = f64::from(*before) + 2.0 * sum;
        assert!((expected - f64::from(*after)).abs() < 1e-6, "{token} {column}");
    }
    let answer = |model: &str| likeliest(&run, model);
    assert_eq!(answer("merged"), answer(artifact));
    run.succeeds(&["verify", "--effect", artifact]);
    run.succeeds(&["verify", "--effect", "merged"]);
    run.succeeds(&["export", artifact, "--type", "f32", "--out", "file"]);
    assert_eq!(answer("file/file-F32.gguf"), answer(artifact));
    // A run may start from it.
    let start = ["--set", "model.adapter=checkpoints/straight/artifact"];
    run.succeeds(&train("name=second", &start));
    // Beside matrices in blocks of a file, too.
    run.succeeds(&["export", "checkpoints/tiny", "--type", "q8_0", "--out", "blocks"]);
    let blocks = ["--set", "model.base=blocks/blocks-Q8_0.gguf", "--set", "train.max_steps=1"];
    run.succeeds(&train("name=blocks", &blocks));
    run.succeeds(&["generate", "checkpoints/blocks", "--prompt", "What?", "--max-tokens", "4"]);
}

#[test]
fn where_they_cannot_stand_they_are_refused() {
    let run = untied();
    let mut messages = String::new();
    for more in [
        "lora.lora_dropout=0.1",
        "lora.use_dora=true",
        "lora.init_lora_weights=olora",
        "lora.layers_to_transform=[0]",
        "lora.trainable_token_indices=[1]",
        "lora.modules_to_save=[\"lm_head\"]",
        "lora.loraplus_lr_ratio=16",
        "train.objective=dpo",
    ] {
        messages += &run.fails(2, &train("name=refused", &["--set", more]));
    }
    run.model_folder("tied", &model_config());
    let tied = ["--set", "model.base=tied", "--set", "model.init=random"];
    messages += &run.fails(2, &train("name=refused", &tied));
    crate::common::says(
        messages,
        str![[r#"
error[adapter]: `embed_tokens` in `lora.target_modules` cannot have an adapter
  because `lora.lora_dropout` drops inputs of linear layers alone

hint: set `lora.lora_dropout = 0`
error[adapter]: `embed_tokens` in `lora.target_modules` cannot have an adapter
  because DoRA is of linear layers alone here
error[adapter]: `embed_tokens` in `lora.target_modules` cannot have an adapter
  because `lora.init_lora_weights` takes parts out of linear layers alone
error[adapter]: `embed_tokens` in `lora.target_modules` cannot have an adapter
  because `lora.layers_to_transform` names decoder layers, and it is none
error[adapter]: `embed_tokens` in `lora.target_modules` cannot have an adapter
  because all of it, or rows of it, are trained already
error[adapter]: `lm_head` in `lora.target_modules` cannot have an adapter
  because all of it, or rows of it, are trained already
error[adapter]: `embed_tokens` in `lora.target_modules` cannot have an adapter
  because LoRA+ has a learning rate of its own for embeddings in PEFT
error[config]: `train.objective = "dpo"` cannot be used with this adapter
  at lora.toml
  because it compares with the base model, whose weights the adapter changes

hint: leave `lora.init_lora_weights`, `lora.modules_to_save`, `lora.bias`, trainable and added tokens, and `lm_head` and `embed_tokens` out
error[adapter]: `embed_tokens` in `lora.target_modules` cannot have an adapter
  because the output head of this model is its embedding, which factors would untie

hint: train both with `lora.modules_to_save`, or rows with `lora.trainable_tokens`

"#]],
    );
    run.succeeds(&train("name=tables", &["--set", "train.max_steps=1"]));
    // Nor are those of an adapter from elsewhere merged into such a base.
    let other = Run::new().with_base();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let from = run.path(&format!("checkpoints/tables/artifact/{file}"));
        std::fs::create_dir_all(other.path("bare")).unwrap();
        std::fs::copy(from, other.path(&format!("bare/{file}"))).unwrap();
    }
    let merge = ["merge", "bare", "--base", "checkpoints/tiny", "--no-check", "--out", "no"];
    other.fails_with(
        2,
        &merge,
        str![[r#"
error[adapter]: `embed_tokens` in `lora.target_modules` cannot have an adapter
  at bare
  because the output head of this model is its embedding, which factors would untie

hint: train both with `lora.modules_to_save`, or rows with `lora.trainable_tokens`

"#]],
    );
    let export = ["export", "checkpoints/tables", "--format", "gguf-lora", "--out", "out"];
    run.fails_with(
        2,
        &export,
        str![[r#"
error[export]: llama.cpp cannot put this adapter beside a model
  at checkpoints/tables/artifact
  because it is saved with factors of embedding or head

hint: `--format gguf` writes its base with it

"#]],
    );
}
