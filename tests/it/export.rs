//! What a finished model is turned into: a whole model, a GGUF file, a bill of materials. Files are
//! read back by a small reader of our own; `tests/reference/gguf_check.py` asks llama.cpp itself.

mod gguf;
mod granite;
mod jev;
mod llama_cpp;
mod memory;
mod merge;
mod provenance;
mod quantised;

use crate::common::{Run, case, cpu, repository, says};
use firebrand::files::Digest;
use firebrand::weights::{Element, TensorSpec, read_tensors, to_f32, write_safetensors};
use half::{bf16, f16};
use serde_json::{Value, json};
use snapbox::str;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// All tensors of a model directory in f32.
fn weights(directory: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".safetensors") {
            for (name, tensor) in read_tensors(directory, &name).unwrap().0 {
                all.insert(name, (tensor.shape, to_f32(tensor.element, &tensor.bytes)));
            }
        }
    }
    all
}

/// The weights of a base with an adapter added, computed the plain way.
fn adapted(base: &Path, adapter: &Path, scale: f64) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut all = weights(base);
    let factors = weights(adapter);
    for (key, (shape, a)) in &factors {
        let Some(name) = key.strip_suffix(".lora_A.weight") else { continue };
        let (_, b) = &factors[&format!("{name}.lora_B.weight")];
        let name = format!("{}.weight", name.strip_prefix("base_model.model.").unwrap());
        let (rank, inputs) = (shape[0], shape[1]);
        let (_, values) = all.get_mut(&name).unwrap();
        for (index, value) in values.iter_mut().enumerate() {
            let (row, column) = (index / inputs, index % inputs);
            let product =
                |k: usize| f64::from(b[row * rank + k]) * f64::from(a[k * inputs + column]);
            *value = (f64::from(*value) + scale * (0..rank).map(product).sum::<f64>()) as f32;
        }
    }
    all
}

/// A base in f32, and an adapter for it that changes much.
fn run_with_adapter() -> Run {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "train.learning_rate=0.05"]);
    run
}

/// One of the models of transformers, with a tokenizer that fits it.
fn foreign(run: &Run, name: &str, folder: &str) {
    fs::create_dir(run.path(folder)).unwrap();
    for entry in fs::read_dir(case(name)).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().contains("expected") {
            fs::copy(&path, run.path(folder).join(path.file_name().unwrap())).unwrap();
        }
    }
    let vocab: serde_json::Map<String, Value> =
        (0..90_u8).map(|number| (char::from(b'!' + number).to_string(), json!(number))).collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [{"id": 95, "content": "<|end|>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null, "post_processor": null, "decoder": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
            "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    run.write(&format!("{folder}/tokenizer.json"), &tokenizer.to_string());
    run.write(&format!("{folder}/tokenizer_config.json"), r#"{"eos_token": "<|end|>"}"#);
}
