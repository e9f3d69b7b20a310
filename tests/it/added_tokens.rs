//! Tokens that a run adds to the tokenizer of its base (`model.add_tokens`,
//! `model.add_special_tokens`): the vocabulary grows, and its new rows are trained.

use serde_json::{Value, json};
use snapbox::str;

use crate::common::adapters::{goes_on_to_the_same_bytes, numbers, tensors, with_config};
use crate::common::{Run, model_config, says};

const TOOL: &str = "model.add_tokens=[\"<tool>\"]";
const CALL: &str = "model.add_special_tokens=[\"<|call|>\"]";
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const ROWS: &str = "token_adapter.trainable_tokens_delta";
/// Rows of the base, and numbers of a row.
const BASE: usize = 362;
const WIDTH: usize = 32;

/// A base of which nothing but the data knows the tokens.
fn base(tied: bool) -> Run {
    let run = Run::new();
    let mut config = model_config();
    config["tie_word_embeddings"] = tied.into();
    config["vocab_size"] = BASE.into();
    run.model_folder("base", &config);
    let run = run.with_base();
    for name in ["data.jsonl", "validation.jsonl"] {
        let text = run.read(name).replace(" plus ", " <tool> ").replace(" is ", "<|call|>");
        run.write(name, &text);
    }
    run
}

fn train<'a>(config: &'a str, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let both = ["--set", TOOL, "--set", CALL, "--set", "eval.prompts=[\"What is 3 <tool> 4?\"]"];
    [&["train", config, "--quiet", "--set", name], &both[..], more].concat()
}

fn json_of(run: &Run, file: &str) -> Value {
    serde_json::from_str(&run.read(file)).unwrap()
}

fn answer(run: &Run, model: &str) -> String {
    let prompt = "What is 3 <tool> 4?";
    run.succeeds(&["generate", model, "--prompt", prompt, "--temperature", "0"])
}

/// Trains in one go and with stops, to the same bytes.
fn trained(run: &Run, config: &str, more: &[&str]) {
    goes_on_to_the_same_bytes(run, ["name=straight", "name=often"], |name, stop| {
        train(config, name, &[more, stop].concat())
    });
}

/// The tokenizer of an artifact has both, and reads them.
fn has_both(run: &Run, folder: &str) {
    let tokenizer = json_of(run, &format!("{folder}/tokenizer.json"));
    let tokens = tokenizer["added_tokens"].as_array().unwrap();
    let of = |text: &str| tokens.iter().find(|token| token["content"] == text).unwrap();
    assert_eq!((&of("<tool>")["id"], &of("<tool>")["special"]), (&json!(362), &json!(false)));
    assert_eq!((&of("<|call|>")["id"], &of("<|call|>")["special"]), (&json!(363), &json!(true)));
    let tokenizer = firebrand::data::Tokenizer::load(&run.path(folder)).unwrap();
    assert_eq!(tokenizer.encode_exactly("<tool><|call|>").unwrap().tokens, [362, 363]);
}

/// Of an adapter: what is saved, what merging makes of it, and what uses it.
fn adapter_works(tied: bool) {
    let run = base(tied);
    trained(&run, "lora.toml", &[]);
    let artifact = "checkpoints/straight/artifact";
    has_both(&run, artifact);
    let tables: &[&str] = if tied { &[EMBEDDING] } else { &[EMBEDDING, HEAD] };
    let config = json_of(&run, &format!("{artifact}/adapter_config.json"));
    let expected = match tied {
        true => json!([362, 363]),
        false => json!({"embed_tokens": [362, 363], "lm_head": [362, 363]}),
    };
    assert_eq!(config["trainable_token_indices"], expected);
    let saved = tensors(&run, artifact, "adapter_model.safetensors");
    let before = tensors(&run, "checkpoints/tiny/artifact", "model.safetensors");
    run.succeeds(&["merge", artifact, "--out", "wide", "--dtype", "f32"]);
    let wide = tensors(&run, "wide", "model.safetensors");
    assert_eq!(wide.len(), before.len());
    for table in tables {
        let rows = format!("base_model.model.{}.{ROWS}", table.strip_suffix(".weight").unwrap());
        assert_eq!(saved[&rows].shape, [2, WIDTH]);
        let (rows, base) = (numbers(&saved, &rows), numbers(&before, table));
        // They began as the mean of the others, and learnt apart from each other.
        let mean = |column: usize| {
            let column = base.iter().skip(column).step_by(WIDTH);
            column.map(|x| f64::from(*x)).sum::<f64>() / BASE as f64
        };
        let far = |row: &[f32]| {
            let apart = |(column, x): (usize, &f32)| (f64::from(*x) - mean(column)).abs();
            row.iter().enumerate().map(apart).fold(0.0, f64::max)
        };
        for row in rows.chunks(WIDTH) {
            assert!((1e-4..0.1).contains(&far(row)), "{table}: {}", far(row));
        }
        assert_ne!(rows[..WIDTH], rows[WIDTH..]);
        assert_eq!(wide[*table].shape, [BASE + 2, WIDTH]);
        assert_eq!(numbers(&wide, table), [base, rows].concat());
    }
    assert_eq!(json_of(&run, "wide/config.json")["vocab_size"], 364);
    has_both(&run, "wide");
    run.succeeds(&["merge", artifact, "--out", "merged"]);
    assert_eq!(answer(&run, "merged"), answer(&run, artifact));
    for model in [artifact, "merged"] {
        run.succeeds(&["verify", "--effect", model]);
    }
    // Merged, in a file of another format, and as it is read there.
    run.succeeds(&["export", "wide", "--type", "f32", "--out", "file"]);
    run.succeeds(&["export", artifact, "--type", "f32", "--out", "at-once"]);
    let texts = ["file/file-F32.gguf", "at-once/at-once-F32.gguf"].map(|file| answer(&run, file));
    assert_eq!(texts[0], texts[1]);

    // A run may start from it, and from no other one.
    let start = ["--set", "model.adapter=checkpoints/straight/artifact"];
    run.succeeds(&train("lora.toml", "name=second", &start));
    let without = ["train", "lora.toml", "--quiet", "--set", "name=other"];
    let refused = run.fails(2, &[&without[..], &start].concat());
    let expected = match tied {
        true => str![[r#"
error[adapter]: `trainable_token_indices` is [362,363] in the adapter, and null in the run
  at checkpoints/straight/artifact/adapter_config.json

hint: both must be the same: write it as the adapter has it

"#]],
        false => str![[r#"
error[adapter]: `trainable_token_indices` is {"embed_tokens":[362,363],"lm_head":[362,363]} in the adapter, and null in the run
  at checkpoints/straight/artifact/adapter_config.json

hint: both must be the same: write it as the adapter has it

"#]],
    };
    says(refused, expected);
    // Its data is another one in other tokens.
    run.succeeds(&[&without[..], &["--set", TOOL]].concat());
}

#[test]
fn an_adapter_of_a_tied_base_has_their_rows_and_is_merged_exactly() {
    adapter_works(true);
}

#[test]
fn an_output_head_of_its_own_has_rows_for_them_too() {
    adapter_works(false);
}

#[test]
fn a_whole_model_has_them() {
    let run = base(false);
    let more = ["--set", "model.base=checkpoints/tiny/artifact", "--set", "model.init=pretrained"];
    trained(&run, "tiny.toml", &more);
    let artifact = "checkpoints/straight/artifact";
    has_both(&run, artifact);
    assert_eq!(json_of(&run, &format!("{artifact}/config.json"))["vocab_size"], 364);
    let saved = tensors(&run, artifact, "model.safetensors");
    for table in [EMBEDDING, HEAD] {
        assert_eq!(saved[table].shape, [BASE + 2, WIDTH]);
    }
    answer(&run, artifact);
    run.succeeds(&["verify", "--effect", artifact]);
    // From random numbers, too.
    run.succeeds(&train("tiny.toml", "name=random", &[]));
    let random = tensors(&run, "checkpoints/random/artifact", "model.safetensors");
    assert_eq!(random[EMBEDDING].shape, [BASE + 2, WIDTH]);
}

#[test]
fn beside_modules_that_are_trained_whole_they_are_rows_of_these() {
    let run = base(false);
    let set = |modules: &'static str| ["--set", modules];
    trained(&run, "lora.toml", &set("lora.modules_to_save=[\"embed_tokens\", \"lm_head\"]"));
    let artifact = "checkpoints/straight/artifact";
    let saved = tensors(&run, artifact, "adapter_model.safetensors");
    run.succeeds(&["merge", artifact, "--out", "wide", "--dtype", "f32"]);
    let wide = tensors(&run, "wide", "model.safetensors");
    for table in [EMBEDDING, HEAD] {
        let name = format!("base_model.model.{table}");
        assert_eq!(saved[&name].shape, [BASE + 2, WIDTH]);
        assert_eq!(numbers(&wide, table), numbers(&saved, &name));
    }
    assert_eq!(json_of(&run, "wide/config.json")["vocab_size"], 364);
    // Rows of the head, where the embedding alone is trained whole.
    let more = set("lora.modules_to_save=[\"embed_tokens\"]");
    run.succeeds(&train("lora.toml", "name=one", &more));
    let saved = tensors(&run, "checkpoints/one/artifact", "adapter_model.safetensors");
    assert_eq!(saved[&format!("base_model.model.lm_head.{ROWS}")].shape, [2, WIDTH]);
    assert_eq!(saved[&format!("base_model.model.{EMBEDDING}")].shape, [BASE + 2, WIDTH]);
    answer(&run, "checkpoints/one/artifact");
}

#[test]
fn spare_rows_of_the_base_are_used_and_known_tokens_stay() {
    let run = with_config("vocab_size", 370.into());
    let known = "model.add_special_tokens=[\"<|im_end|>\"]";
    let plan = ["plan", "lora.toml", "--set", TOOL, "--set", known];
    let told = run.command(&plan).output().unwrap();
    let told = String::from_utf8(told.stderr).unwrap();
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("tokenizer")).collect();
    snapbox::assert_data_eq!(
        lines.join("\n"),
        str![[r#"
added to the tokenizer: `<tool>` (362); it has a row among the 370 of the base's embedding already
warning: tokens of the base's tokenizer already, used as they are: `<|im_end|>` (2); beside an adapter `lora.trainable_tokens` trains their rows
"#]]
    );
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", TOOL, "--set", "name=spare"]);
    let artifact = "checkpoints/spare/artifact";
    let config = json_of(&run, &format!("{artifact}/adapter_config.json"));
    assert_eq!(config["trainable_token_indices"], json!([362]));
    run.succeeds(&["merge", artifact, "--out", "merged"]);
    assert_eq!(json_of(&run, "merged/config.json")["vocab_size"], 370);
    let plan = |more: &[&str]| -> Value {
        let told = run.succeeds(&[&["plan", "lora.toml", "--json"], more].concat());
        serde_json::from_str(&told).unwrap()
    };
    let trained = |plan: &Value| plan["trainable_parameters"].as_u64().unwrap();
    assert_eq!(trained(&plan(&["--set", TOOL])), trained(&plan(&[])) + WIDTH as u64);
}

/// Rows of the first run's tokens are not given to other ones that have the same ids.
#[test]
fn a_start_adapter_has_the_same_tokens() {
    let run = base(true);
    run.succeeds(&train("lora.toml", "name=first", &["--set", "train.max_steps=1"]));
    let start = "model.adapter=checkpoints/first/artifact";
    run.succeeds(&train("lora.toml", "name=second", &["--set", start]));
    let turned = ["--set", "model.add_tokens=[\"<|call|>\"]"];
    let turned = [&turned[..], &["--set", "model.add_special_tokens=[\"<tool>\"]"]].concat();
    let all = [&["train", "lora.toml", "--quiet", "--set", "name=third"], &turned[..]].concat();
    run.fails_with(
        2,
        &[&all[..], &["--set", start]].concat(),
        str![[r#"
error[adapter]: the adapter was trained with other tokens than `<|call|>` (362)
  at checkpoints/first/artifact
  because there 362 is `<tool>`

hint: add the tokens that it has, in its order

"#]],
    );
}

#[test]
fn what_cannot_be_added_is_refused() {
    let run = base(true);
    let set = |set: &'static str| ["plan", "lora.toml", "--set", set];
    run.fails_with(
        2,
        &set("model.add_tokens=[\"<a>\", \"<b>\", \"<a>\"]"),
        str![[r#"
error[config]: the token `<a>` is to be added twice
  at lora.toml
  because `model.add_tokens` and `model.add_special_tokens` name each token once

"#]],
    );
    run.fails_with(
        2,
        &set("model.add_tokens=[\"\"]"),
        str![[r#"
error[config]: `model.add_tokens.0` must not be empty
  at --set model.add_tokens

"#]],
    );
    let long = format!("model.add_tokens=[\"{}\"]", "x".repeat(257));
    run.fails_with(2, &["plan", "lora.toml", "--set", &long], str![[r#"
error[config]: `model.add_tokens.0` must be a text of 1 to 256 bytes, not `"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"`
  at --set model.add_tokens

"#]]);
    let many: Vec<String> = (0..65_537).map(|number| format!("\"<{number}>\"")).collect();
    run.write(
        "many.toml",
        &run.read("lora.toml")
            .replace("[model]\n", &format!("[model]\nadd_tokens = [{}]\n", many.join(","))),
    );
    run.fails_with(
        2,
        &["plan", "many.toml"],
        str![[r#"
error[config]: 65537 tokens are too many to be added
  at many.toml
  because at most 65536 are

"#]],
    );
    let dpo = ["--set", "train.objective=dpo"];
    run.fails_with(2, &[&set(TOOL)[..], &dpo].concat(), str![[r#"
error[config]: `train.objective = "dpo"` cannot be used with this adapter
  at lora.toml
  because it compares with the base model, whose weights the adapter changes

hint: leave `lora.init_lora_weights`, `lora.modules_to_save`, `lora.bias`, trainable and added tokens, and `lm_head` and `embed_tokens` out

"#]]);
    // Whoever leaves rows out that the base does not have has no adapter for it.
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", TOOL, "--set", "name=tokens"]);
    let file = "checkpoints/tokens/artifact/adapter_config.json";
    let broken = run.read(file).replace("362", "363");
    run.write(file, &broken);
    run.fails_with(
        2,
        &["generate", "checkpoints/tokens", "--prompt", "x"],
        str![[r#"
error[adapter]: the adapter has no row 362 of `model.embed_tokens.weight`
  because its tokens go up to 363, the base has 362 rows

hint: is this the base that it was trained on?

"#]],
    );
}
