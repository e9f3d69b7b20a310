//! A run of every family that was stopped ends in the bytes of one that was not.

use std::fs;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::Case;
use crate::common::{Run, assert_same_artifact};

/// Rows of the embedding of all stored cases.
const ROWS: u8 = 80;
const FIRST: u8 = b'!';
const FILES: [&str; 4] = [
    "metrics.jsonl",
    "step-00000006/adapter.safetensors",
    "step-00000006/optimizer.safetensors",
    "step-00000006/state.json",
];

/// A tokenizer with a token for each of some letters, of which the last one ends a text.
fn tokenizer() -> Value {
    let vocabulary: serde_json::Map<String, Value> = (0..ROWS - 1)
        .map(|number| (char::from(FIRST + number).to_string(), json!(number)))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true},
        "post_processor": null, "decoder": null,
        "added_tokens": [{"id": ROWS - 1, "content": "<|end|>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
            "byte_fallback": false, "vocab": vocabulary, "merges": []},
    })
}

/// Texts of five to 27 letters, of which several fit into a row.
fn texts() -> String {
    let letter = |place: usize| char::from(b'A' + u8::try_from(place % 26).unwrap());
    let text = |number: usize| -> String {
        (0..5 + 7 * number % 23).map(|place| letter(11 * number + place * place)).collect()
    };
    (0..24).map(|number| format!("{}\n", json!({"text": text(number)}))).collect()
}

/// What the adapter of a case stands beside, with dropout where there may be some.
fn config(case: &Case) -> String {
    let base = json!(case.folder.path());
    let beside = match case.json.get("lora") {
        None => "lora_dropout = 0.1\n".to_owned(),
        Some(lora) => ["target_modules", "target_parameters"]
            .map(|key| format!("{key} = {}\n", lora[key]))
            .concat(),
    };
    format!(
        "[model]\nbase = {base}\n[data]\nmax_seq_len = 48\npacking = true\n[[data.train]]\n\
         path = \"texts.jsonl\"\n[lora]\nr = 3\nlora_alpha = 6\n{beside}[train]\nmax_steps = 6\n\
         micro_batch_size = 2\nlearning_rate = 1e-2\n[checkpoint]\nreuse = \"never\"\n\
         [device]\nname = \"cpu\"\nthreads = 1\n"
    )
}

fn goes_on_to_the_same_bytes(case: &Case) {
    let run = Run::new();
    fs::write(case.folder.path().join("tokenizer.json"), tokenizer().to_string()).unwrap();
    let settings = json!({"eos_token": "<|end|>"}).to_string();
    fs::write(case.folder.path().join("tokenizer_config.json"), settings).unwrap();
    run.write("texts.jsonl", &texts());
    run.write("run.toml", &config(case));
    let train = |name: &str, more: &[&str]| {
        let name = format!("name={name}");
        run.succeeds(&[&["train", "run.toml", "--quiet", "--set", &name], more].concat());
    };
    train("straight", &[]);
    train("stopped", &["--stop-after-steps", "3"]);
    train("stopped", &[]);
    let [straight, stopped] =
        ["straight", "stopped"].map(|name| run.path("checkpoints").join(name));
    for file in FILES {
        let [one, other] = [&straight, &stopped].map(|of| fs::read(of.join(file)).unwrap());
        assert!(one == other, "{}: {file}", case.name);
    }
    assert_same_artifact(&stopped.join("artifact"), &straight.join("artifact"));
    // There was something left to train.
    let adapter =
        |step: u32| fs::read(stopped.join(format!("step-{step:08}/adapter.safetensors"))).unwrap();
    assert!(adapter(3) != adapter(6), "{}", case.name);
}

/// Adapters beside all that they can stand beside, in all stored variations.
#[test]
fn a_run_of_each_family_that_was_stopped_ends_in_the_same_bytes() {
    Case::all().par_iter().for_each(goes_on_to_the_same_bytes);
}
