//! Tokens whose rows of the embedding are trained beside an adapter (`lora.trainable_tokens`,
//! `lora.trainable_token_indices`).

use std::collections::BTreeMap;

use snapbox::str;

use crate::common::Run;
use crate::common::adapters::{goes_on_to_the_same_bytes, likeliest, numbers, tensors, untied};
use firebrand::weights::{TensorSpec, write_safetensors};

const IM_START: &str = "lora.trainable_tokens=[\"<|im_start|>\"]";
const IM_END: &str = "lora.trainable_token_indices=[2]";
/// Numbers of a row.
const WIDTH: usize = 32;
const ROWS: &str = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta";
const EMBEDDING: &str = "model.embed_tokens.weight";

fn train<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let both = ["--set", IM_START, "--set", IM_END];
    [&["train", "lora.toml", "--quiet", "--set", name], &both[..], more].concat()
}

/// Trains in one go and with stops, merges, and goes on from the artifact.
fn works(run: &Run) {
    goes_on_to_the_same_bytes(run, ["name=straight", "name=often"], train);

    let artifact = "checkpoints/straight/artifact";
    let config: serde_json::Value =
        serde_json::from_str(&run.read(&format!("{artifact}/adapter_config.json"))).unwrap();
    assert_eq!(config["trainable_token_indices"], serde_json::json!([1, 2]));
    assert_eq!(config["modules_to_save"], serde_json::Value::Null);
    let saved = tensors(run, artifact, "adapter_model.safetensors");
    assert_eq!(saved[ROWS].shape, [2, WIDTH]);
    assert!(saved.keys().all(|name| name == ROWS || name.contains("lora_")));
    let rows = numbers(&saved, ROWS);

    let base = tensors(run, "checkpoints/tiny/artifact", "model.safetensors");
    let before = numbers(&base, EMBEDDING);
    let trained = WIDTH..3 * WIDTH;
    assert!(rows.iter().zip(&before[trained.clone()]).any(|(a, b)| (a - b).abs() > 1e-3));
    run.succeeds(&["merge", artifact, "--out", "wide", "--dtype", "f32"]);
    let mut expected = before.clone();
    expected[trained].copy_from_slice(&rows);
    let wide = tensors(run, "wide", "model.safetensors");
    assert_eq!(numbers(&wide, EMBEDDING), expected);
    assert_eq!(wide.len(), base.len());
    if base.contains_key("lm_head.weight") {
        assert_eq!(numbers(&wide, "lm_head.weight"), numbers(&base, "lm_head.weight"));
    }
    // The embedding of the base has 16 bits: what the adapter computes with are rounded rows.
    run.succeeds(&["merge", artifact, "--out", "merged"]);
    let answer = |model: &str| likeliest(run, model);
    assert_eq!(answer("merged"), answer(artifact));
    run.succeeds(&["verify", "--effect", artifact]);

    // A run may start from it, whichever way the tokens are named, and from no other one.
    let from = ["train", "lora.toml", "--quiet", "--set"];
    let start = ["--set", "model.adapter=checkpoints/straight/artifact", "--set"];
    let more = ["lora.trainable_token_indices=[1, 2]", "--set", "name=second"];
    run.succeeds(&[&from[..], &["train.max_steps=1"], &start, &more].concat());
    let other = [&from[..], &[IM_END], &start, &["name=other"]].concat();
    run.fails_with(
        2,
        &other,
        str![[r#"
error[adapter]: `trainable_token_indices` is [1,2] in the adapter, and [2] in the run
  at checkpoints/straight/artifact/adapter_config.json

hint: both must be the same: write it as the adapter has it

"#]],
    );
}

#[test]
fn they_are_saved_as_peft_has_them_go_on_to_the_same_bytes_and_are_merged() {
    works(&untied());
}

#[test]
fn an_output_head_that_is_the_embedding_has_the_same_rows() {
    let run = Run::new().with_base();
    works(&run);
    // A copy of the embedding in the files of the base is changed along with it.
    let base = run.path("checkpoints/tiny/artifact");
    let mut all = tensors(&run, "checkpoints/tiny/artifact", "model.safetensors");
    all.insert("lm_head.weight".to_owned(), all[EMBEDDING].clone());
    std::fs::create_dir_all(run.path("copied")).unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        std::fs::copy(base.join(file), run.path("copied").join(file)).unwrap();
    }
    let specs = all.iter().map(|(name, tensor)| TensorSpec {
        name: name.clone(),
        element: tensor.element,
        shape: tensor.shape.clone(),
    });
    let values = |spec: &TensorSpec| Ok(numbers(&all, &spec.name));
    let file = run.path("copied/model.safetensors");
    write_safetensors(&file, specs.collect(), &BTreeMap::new(), values).unwrap();
    let more = ["--set", "model.base=copied", "--set", "train.max_steps=1"];
    run.succeeds(&train("name=beside-copy", &more));
    run.succeeds(&["merge", "checkpoints/beside-copy/artifact", "--out", "both"]);
    let both = tensors(&run, "both", "model.safetensors");
    assert_eq!(both["lm_head.weight"].bytes, both[EMBEDDING].bytes);
    assert_ne!(both[EMBEDDING].bytes, all[EMBEDDING].bytes);
}

#[test]
fn blocks_of_a_file_are_numbers_where_rows_of_them_are_trained() {
    let run = Run::new().with_base();
    run.succeeds(&["export", "checkpoints/tiny", "--type", "q8_0", "--out", "out"]);
    let more = ["--set", "model.base=out/out-Q8_0.gguf"];
    run.succeeds(&train("name=blocks", &more));
    let saved = tensors(&run, "checkpoints/blocks/artifact", "adapter_model.safetensors");
    assert_eq!(saved[ROWS].shape, [2, WIDTH]);
    let answer = ["generate", "checkpoints/blocks", "--prompt", "What?", "--max-tokens", "4"];
    run.succeeds(&answer);
}

#[test]
fn the_plan_counts_them() {
    let run = Run::new().with_base();
    let plan = |set: &str| -> serde_json::Value {
        let told = run.succeeds(&["plan", "lora.toml", "--json", "--set", set]);
        serde_json::from_str(&told).unwrap()
    };
    let (without, with) = (plan("seed=1"), plan("lora.trainable_token_indices=[1, 2, 5]"));
    let trained = |plan: &serde_json::Value| plan["trainable_parameters"].as_u64().unwrap();
    assert_eq!(trained(&with), trained(&without) + 3 * WIDTH as u64);
}

#[test]
fn what_cannot_be_trained_or_written_is_refused() {
    let run = Run::new().with_base();
    let set = |set: &'static str| ["train", "lora.toml", "--quiet", "--set", set];
    run.fails_with(2, &set("lora.trainable_tokens=[\"<|im_strat|>\", \"tool\"]"), str![[r#"
error[adapter]: `<|im_strat|>` in `lora.trainable_tokens` is not a token of the base model's tokenizer
  at checkpoints/tiny/artifact

hint: did you mean `<|im_start|>`?

error[adapter]: `tool` in `lora.trainable_tokens` is not a token of the base model's tokenizer

hint: write a token as `tokenizer.json` has it, or its number in `lora.trainable_token_indices`

"#]]);
    run.fails_with(
        2,
        &set("lora.trainable_token_indices=[511, 512]"),
        str![[r#"
error[adapter]: the token 512 in `trainable_token_indices` has no row to train
  because the model's embedding has 512 rows

hint: `model.add_tokens` makes rows for tokens that the base does not have

"#]],
    );
    run.fails_with(
        2,
        &train("name=whole", &["--set", "lora.modules_to_save=[\"lm_head\"]"]),
        str![[r#"
error[adapter]: rows of the embedding are to be trained, and all of it is trained already
  because `lora.modules_to_save` names it, or the output head, which is the same

hint: leave out `lora.modules_to_save`, or the tokens

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
    run.succeeds(&train("name=tokens", &["--set", "train.max_steps=1"]));
    let export = |format: &'static str| {
        ["export", "checkpoints/tokens", "--format", format, "--out", "out", "--no-check"]
    };
    run.fails_with(
        2,
        &export("gguf-lora"),
        str![[r#"
error[export]: llama.cpp cannot put this adapter beside a model
  at checkpoints/tokens/artifact
  because it is saved with rows of the embedding

hint: `--format gguf` writes its base with it

"#]],
    );
    run.fails_with(
        2,
        &export("vllm"),
        str![[r#"
error[export]: vLLM reads no adapter that is saved with rows of the embedding
  at checkpoints/tokens/artifact

hint: merge it: `firebrand merge`

"#]],
    );
}
