//! What `plan` says that a run takes is near its peak.
//! `benches/memory.py` measures models of a middle size of all families.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use firebrand::model::{ModelJson, families};
use firebrand::weights::{Element, TensorSpec, write_safetensors};
use serde_json::{Value, json};

use crate::common::Run;

/// A model of 25 million numbers.
fn config(own: Value) -> Value {
    let mut config = json!({
        "vocab_size": 512, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 4, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
    });
    config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    config
}

/// A checkpoint `mid` with this configuration, in bfloat16.
fn checkpoint(config: &Value) -> Run {
    let run = Run::new();
    run.model_folder("mid", config);
    let description = families::describe(&ModelJson::from_value(config.clone())).unwrap();
    let element = Element::BF16;
    let specs = description.tensors().into_iter();
    let specs = specs.map(|(name, shape)| TensorSpec { name, element, shape }).collect();
    let file = run.path("mid/model.safetensors");
    write_safetensors(&file, specs, &BTreeMap::new(), |spec| {
        let one = |place: usize| ((spec.name.len() * 31 + place * 7919) % 1009) as f32 / 1009.0;
        Ok((0..spec.shape.iter().product()).map(|place| 0.1 * (one(place) - 0.5)).collect())
    })
    .unwrap();
    run.write(
        "run.toml",
        "[model]\nbase = \"mid\"\n[data]\nmax_seq_len = 128\npacking = true\n\
         [[data.train]]\npath = \"data.jsonl\"\n[lora]\nr = 8\nlora_alpha = 8\n\
         target_modules = \"all-linear\"\n[train]\nmax_steps = 1\nmicro_batch_size = 1\n\
         gradient_accumulation_steps = 1\nlearning_rate = 1e-3\n[checkpoint]\nreuse = \"never\"\n\
         [device]\nname = \"cpu\"\nthreads = 2\n",
    );
    run
}

fn json_of(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Bytes planned and bytes at the peak of a run with these settings.
fn planned_and_peak(run: &Run, name: &str, settings: &[&str]) -> (u64, u64) {
    let name_set = format!("name={name}");
    let mut set = vec!["--set", &name_set];
    settings.iter().for_each(|setting| set.extend(["--set", setting]));
    let plan = run.succeeds(&[&["plan", "run.toml", "--json"], &set[..]].concat());
    let plan: Value = serde_json::from_str(&plan).unwrap();
    run.succeeds(&[&["train", "run.toml", "--quiet"], &set[..]].concat());
    let timings = json_of(&run.path(&format!("checkpoints/{name}/timings.jsonl")));
    (plan["memory_bytes"].as_u64().unwrap(), timings["memory_bytes_peak"].as_u64().unwrap())
}

#[test]
fn the_estimate_is_near_the_peak() {
    let mut ratios = Vec::new();
    let gemma = json!({
        "model_type": "gemma3_text", "head_dim": 64, "query_pre_attn_scalar": 64,
        "sliding_window": 64,
    });
    let families = [("llama", json!({ "model_type": "llama" })), ("gemma", gemma)];
    for (family, own) in families {
        let run = checkpoint(&config(own));
        for (name, settings) in [
            ("f32", &["train.precision=f32"][..]),
            ("bf16", &["train.precision=mixed-bf16"]),
            ("again", &["train.precision=f32", "train.recompute=layers"]),
            ("int8", &["train.precision=mixed-bf16", "model.weight_format=int8"]),
            ("nf4", &["train.precision=mixed-bf16", "model.weight_format=nf4"]),
        ] {
            let (planned, peak) = planned_and_peak(&run, name, settings);
            ratios.push((family, name, planned as f64 / peak as f64));
        }
    }
    // Models of this size weigh as much as what a process has for itself, which systems decide,
    // and which grows where the machine is busy;
    // dense ones of a middle size are within a tenth (`benches/memory.py`).
    assert!(ratios.iter().all(|(.., ratio)| (0.6..=1.4).contains(ratio)), "{ratios:.2?}");
}
